// Softmax and log-softmax, forward and backward, within the bounds that softmax.hpp states.
#include <math.h>

#include <limits>

#include "test_array.hpp"

namespace test {
namespace {

constexpr real infinity = std::numeric_limits<real>::infinity();

// Visits each row along `axis`: visit(numbers of its elements in C order).
template <class Visit>
void for_each_row(const std::vector<int64_t>& shape, int axis, Visit visit) {
  int64_t inner = 1, outer = 1;
  const int64_t n = shape[size_t(axis)];
  for (size_t d = 0; d < shape.size(); ++d)
    if (int(d) != axis) (int(d) < axis ? outer : inner) *= shape[d];
  std::vector<int64_t> row(static_cast<size_t>(n));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      for (int64_t c = 0; c < n; ++c) row[size_t(c)] = (o * n + c) * inner + i;
      visit(row);
    }
}

std::vector<expectation> expected_forward(const array& x, int axis, bool logarithm) {
  std::vector<expectation> all(size_t(x.size()), expectation{0, 0});
  const real u = unit_roundoff(x.dtype());
  for_each_row(x.shape(), axis, [&](const std::vector<int64_t>& row) {
    const real n = real(row.size());
    real largest = -infinity, sum = 0;
    for (int64_t i : row) largest = fmaxl(largest, x[i]);
    for (int64_t i : row) sum += expl(x[i] - largest);
    for (int64_t i : row) {
      const real distance = largest - x[i];
      expectation& e = all[size_t(i)];
      if (logarithm) {
        e.value = -distance - logl(sum);
        e.bound = (2 * distance + 2 * fabsl(e.value) + 48 + n / 32) * u;
      } else {
        e.value = expl(-distance) / sum;
        e.bound = (distance + 48 + n / 32) * u * e.value;
      }
    }
  });
  return all;
}

std::vector<expectation> expected_backward(const array& gradient, const array& y, int axis, bool logarithm) {
  std::vector<expectation> all(size_t(y.size()), expectation{0, 0});
  const real u = unit_roundoff(y.dtype());
  for_each_row(y.shape(), axis, [&](const std::vector<int64_t>& row) {
    const real factor = (50 + real(row.size()) / 32) * u;
    real sum = 0, magnitude = 0;
    for (int64_t i : row) {
      const real term = logarithm ? gradient[i] : gradient[i] * y[i];
      sum += term;
      magnitude += fabsl(term);
    }
    for (int64_t i : row) {
      const real p = logarithm ? expl(y[i]) : y[i], g = gradient[i];
      all[size_t(i)] = logarithm ? expectation{g - p * sum, factor * (fabsl(g) + p * (1 + fabsl(y[i])) * magnitude)}
                                 : expectation{p * (g - sum), factor * p * (fabsl(g) + magnitude)};
    }
  });
  return all;
}

void values(const level& here, int32_t dtype) {
  const auto run = [&](const std::vector<int64_t>& shape, layout from, layout to, int axis, double range) {
    for (int logarithm = 0; logarithm < 2; ++logarithm) {
      array x(dtype, shape, from), y(dtype, shape, to);
      x.fill_uniform(uint64_t(axis + 1), -range, range);
      const std::string what = std::string(logarithm ? "log_softmax " : "softmax ") + text_of(shape) + " along " +
                               std::to_string(axis) + " " + name_of(from) + " -> " + name_of(to);
      if (!check_status(here.kernels->softmax(logarithm, x, axis, y), HOMINY_OK, what)) continue;
      const auto expected = expected_forward(x, axis, logarithm);
      check_elements(y, what, [&](int64_t i) { return expected[size_t(i)]; });

      array gradient(dtype, shape, from), out(dtype, shape, to);
      gradient.fill_uniform(7, -2, 2);
      if (!check_status(here.kernels->softmax_backward(logarithm, gradient, y, axis, out), HOMINY_OK, what)) continue;
      const auto expected_gradient = expected_backward(gradient, y, axis, logarithm);
      check_elements(out, what + " backward", [&](int64_t i) { return expected_gradient[size_t(i)]; });
      check(x.untouched() && gradient.untouched(), "%s: wrote to an input", what.c_str());

      // In place.
      array same(dtype, shape, to);
      same.fill([&](int64_t i) { return x[i]; });
      here.kernels->softmax(logarithm, same, axis, same);
      check(same.bits() == y.bits() || from != to, "%s: other bits in place", what.c_str());
      check_elements(same, what + " in place", [&](int64_t i) { return expected[size_t(i)]; });
      array gradient_too(dtype, shape, to);
      gradient_too.fill([&](int64_t i) { return gradient[i]; });
      here.kernels->softmax_backward(logarithm, gradient_too, y, axis, gradient_too);
      check_elements(gradient_too, what + " backward in place",
                     [&](int64_t i) { return expected_gradient[size_t(i)]; });
    }
  };
  for (int64_t n : here.sizes(dtype)) {
    run({n}, layout::contiguous, layout::contiguous, 0, 5);
    run({n, 3}, layout::contiguous, layout::contiguous, 0, 5);
    run({3, n}, layout::contiguous, layout::contiguous, 1, 5);
    run({3, n}, layout::contiguous, layout::contiguous, 0, 5);
    run({2, n, 5}, layout::contiguous, layout::contiguous, 1, 80);
  }
  for (layout from : input_layouts)
    for (layout to : output_layouts)
      for (int axis = 0; axis < 3; ++axis) run({3, 5, 19}, from, to, axis, 5);
  run({0, 5}, layout::contiguous, layout::contiguous, 1, 5);
  run({5, 0}, layout::contiguous, layout::contiguous, 1, 5);
}

void special_values(const level& here, int32_t dtype) {
  const int64_t n = 2 * here.lanes(dtype) + 3;
  for (int logarithm = 0; logarithm < 2; ++logarithm) {
    const auto run = [&](real odd, real others, int64_t place) {
      array x(dtype, {n});
      x.fill([&](int64_t i) { return i == place ? odd : others; });
      array y(dtype, {n});
      check_status(here.kernels->softmax(logarithm, x, 0, y), HOMINY_OK, "softmax");
      return std::vector<real>{y[place], y[place == 0 ? 1 : 0]};
    };
    const real zero = logarithm ? -infinity : 0;
    for (int64_t place : {int64_t(0), n / 2, n - 1}) {
      auto y = run(-infinity, 1, place);
      check(y[0] == zero && isfinite(y[1]), "-infinity has probability 0 (%Lg, %Lg)", y[0], y[1]);
      y = run(infinity, 1, place);
      check(isnan(y[0]), "+infinity gives NaN (%Lg, %Lg)", y[0], y[1]);
      y = run(NAN, 1, place);
      check(isnan(y[0]) && isnan(y[1]), "NaN reaches the whole row (%Lg, %Lg)", y[0], y[1]);
      y = run(3, -infinity, place);
      check(y[0] == (logarithm ? 0 : 1) && y[1] == zero, "one finite number takes all (%Lg, %Lg)", y[0], y[1]);
      y = run(-infinity, -infinity, place);
      check(isnan(y[0]) && isnan(y[1]), "nothing but -infinity gives NaN (%Lg, %Lg)", y[0], y[1]);
      const real large = dtype == HOMINY_FLOAT32 ? 3e38L : 1.7e308L;
      y = run(large, -large, place);
      check(y[0] == (logarithm ? 0 : 1) && !isnan(y[1]), "no overflow between extremes (%Lg, %Lg)", y[0], y[1]);
      y = run(large, large, place);
      check(isfinite(y[0]) && y[0] == y[1], "equal large numbers share equally (%Lg, %Lg)", y[0], y[1]);
    }
  }
}

void refusals(const level& here, int32_t dtype) {
  const hominy_kernels& k = *here.kernels;
  array x(dtype, {4, 5}), g(dtype, {4, 5}), out(dtype, {4, 5});
  x.fill_uniform(1, -1, 1);
  g.fill_uniform(2, -1, 1);
  for (const auto& bad : bad_tensors(x)) {
    const std::string what = bad.what;
    check_refused(k.softmax(0, &bad.tensor, 1, out), {bad.expected}, out, "softmax: x has " + what);
    check_refused(k.softmax(0, x, 1, &bad.tensor), {bad.expected}, out, "softmax: out has " + what);
    check_refused(k.softmax_backward(0, &bad.tensor, x, 1, out), {bad.expected}, out, "backward: gradient has " + what);
    check_refused(k.softmax_backward(0, g, &bad.tensor, 1, out), {bad.expected}, out, "backward: y has " + what);
    check_refused(k.softmax_backward(0, g, x, 1, &bad.tensor), {bad.expected}, out, "backward: out has " + what);
  }
  for (int axis : {-1, 2, 31, 1000, INT32_MIN, INT32_MAX}) {
    const std::string what = "axis " + std::to_string(axis);
    check_refused(k.softmax(0, x, axis, out), {HOMINY_BAD_VALUE, HOMINY_BAD_SHAPE}, out, "softmax: " + what);
    check_refused(k.softmax_backward(0, g, x, axis, out), {HOMINY_BAD_VALUE, HOMINY_BAD_SHAPE}, out,
                  "backward: " + what);
  }
  const hominy_tensor huge = overflowing(x);
  check_refused(k.softmax(0, &huge, 1, &huge), {HOMINY_OVERFLOW}, x, "softmax: 2^93 elements");
  check_refused(k.softmax_backward(0, &huge, &huge, 1, &huge), {HOMINY_OVERFLOW}, x, "backward: 2^93 elements");
}

void threads_and_alignment(const level& here, int32_t dtype) {
  const int64_t n = here.settings.quick ? 301 : 1501;
  for (int axis = 0; axis < 2; ++axis)
    for (int logarithm = 0; logarithm < 2; ++logarithm) {
      array x(dtype, {173, n}), g(dtype, {173, n}), y(dtype, {173, n}), out(dtype, {173, n});
      x.fill_uniform(1, -4, 4);
      g.fill_uniform(2, -4, 4);
      same_bits_for_any_number_of_threads("softmax", [&] {
        here.kernels->softmax(logarithm, x, axis, y);
        return y.bits();
      });
      same_bits_for_any_number_of_threads("softmax_backward", [&] {
        here.kernels->softmax_backward(logarithm, g, y, axis, out);
        return out.bits();
      });
      array straight(dtype, {7, 101}), shifted(dtype, {7, 101}, layout::misaligned);
      array one(dtype, {7, 101}), other(dtype, {7, 101}, layout::misaligned);
      straight.fill_uniform(5, -4, 4);
      shifted.fill_uniform(5, -4, 4);
      here.kernels->softmax(logarithm, straight, axis, one);
      here.kernels->softmax(logarithm, shifted, axis, other);
      check(one.bits() == other.bits(), "softmax along %d: other bits when misaligned", axis);
    }
}

}  // namespace

void softmax_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("softmax", values);
    group("softmax special values", special_values);
    group("softmax refusals", refusals);
    group("softmax threads and alignment", threads_and_alignment);
  }
}

}  // namespace test
