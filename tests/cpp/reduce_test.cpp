// Reductions over every subset of axes, and the index of the largest or smallest element.
#include <math.h>

#include <limits>

#include "test_array.hpp"

namespace test {
namespace {

constexpr real infinity = std::numeric_limits<real>::infinity();
constexpr real nan = std::numeric_limits<real>::quiet_NaN();

#define NAME(name) #name,
const char* const names[] = {HOMINY_REDUCE_OPERATIONS(NAME)};
#undef NAME

std::vector<int64_t> reduced_shape(std::vector<int64_t> shape, unsigned axes) {
  for (size_t d = 0; d < shape.size(); ++d)
    if (axes >> d & 1) shape[d] = 1;
  return shape;
}

// For each element of x (in C order) the number of the output element that it goes to.
std::vector<int64_t> destinations(const std::vector<int64_t>& shape, unsigned axes) {
  std::vector<int64_t> all(size_t(product_of(shape)));
  for (size_t i = 0; i < all.size(); ++i) {
    int64_t rest = int64_t(i), destination = 0, step = 1;
    for (size_t d = shape.size(); d-- > 0; rest /= shape[d])
      if (!(axes >> d & 1)) destination += rest % shape[d] * step, step *= shape[d];
    all[i] = destination;
  }
  return all;
}

// What each output should be. `n` elements go to each; sums of magnitudes give the bound that reduce.hpp states.
std::vector<expectation> expected_of(int operation, const array& x, unsigned axes) {
  const real u = unit_roundoff(x.dtype());
  const std::vector<int64_t> to = destinations(x.shape(), axes);
  const int64_t outputs = product_of(reduced_shape(x.shape(), axes));
  const bool product = operation == HOMINY_REDUCE_prod;
  std::vector<real> result(size_t(outputs), product ? 1 : 0), magnitude(size_t(outputs), 0), count(size_t(outputs), 0);
  std::vector<real> lost(size_t(outputs), 0);  // what the running sums rounded away (Kahan, in Neumaier's form)
  for (int64_t i = 0; i < x.size(); ++i) {
    const size_t o = size_t(to[size_t(i)]);
    const real value = x[i];
    const bool first = count[o]++ == 0;
    magnitude[o] += fabsl(value);
    if (operation == HOMINY_REDUCE_sum || operation == HOMINY_REDUCE_mean) {
      const real sum = result[o] + value;
      lost[o] += fabsl(result[o]) >= fabsl(value) ? (result[o] - sum) + value : (value - sum) + result[o];
      result[o] = sum;
    } else if (product)
      result[o] *= value;
    else if (first || isnan(value) ||
             (!isnan(result[o]) && (operation == HOMINY_REDUCE_amax ? value > result[o] : value < result[o])))
      result[o] = value;
  }
  std::vector<expectation> all(size_t(outputs), expectation{0, 0});
  for (size_t o = 0; o < all.size(); ++o) {
    real& bound = all[o].bound;
    all[o].value = result[o];
    if (operation == HOMINY_REDUCE_sum || operation == HOMINY_REDUCE_mean) {
      if (isfinite(result[o])) all[o].value += lost[o];
      bound = (24 + log2l(count[o] + 1)) * u * magnitude[o];
      if (operation == HOMINY_REDUCE_mean) {
        all[o].value /= count[o];
        bound = bound / count[o] + 2 * u * fabsl(all[o].value);
      }
    } else if (product) {
      bound = count[o] * u * fabsl(result[o]) * 1.01L;
    }
    if (!isfinite(bound)) bound = 0;
  }
  return all;
}

void values(const level& here, int32_t dtype) {
  const auto run = [&](const std::vector<int64_t>& shape, layout from, layout to, unsigned axes) {
    for (int operation = 0; operation < HOMINY_REDUCE_COUNT; ++operation) {
      array x(dtype, shape, from), out(dtype, reduced_shape(shape, axes), to);
      if (operation == HOMINY_REDUCE_prod)
        x.fill_uniform(3, 0.9, 1.1);
      else
        x.fill_uniform(3, -1, 1.5);
      const std::string what = std::string(names[operation]) + " " + text_of(shape) + " -> " + text_of(out.shape()) +
                               " " + name_of(from) + " -> " + name_of(to);
      const bool empty_extremum = x.size() == 0 && out.size() > 0 && operation >= HOMINY_REDUCE_amax;
      const hominy_status status = here.kernels->reduce(hominy_reduce(operation), x, out);
      if (empty_extremum) {
        check_refused(status, {HOMINY_BAD_SHAPE}, out, what);
        continue;
      }
      if (!check_status(status, HOMINY_OK, what)) continue;
      const auto expected = expected_of(operation, x, axes);
      check_elements(out, what, [&](int64_t i) { return expected[size_t(i)]; });
      check(x.untouched(), "%s: wrote to its input", what.c_str());
    }
  };
  for (int64_t n : here.sizes(dtype)) {
    run({n}, layout::contiguous, layout::contiguous, 1);
    run({n}, layout::contiguous, layout::contiguous, 0);
    for (unsigned axes = 0; axes < 4; ++axes) {
      run({n, 5}, layout::contiguous, layout::contiguous, axes);
      run({5, n}, layout::contiguous, layout::contiguous, axes);
    }
  }
  for (layout from : input_layouts)
    for (layout to : output_layouts)
      for (unsigned axes = 0; axes < 16; ++axes)
        if (!here.settings.quick || (int(from) + int(to) + axes) % 5 == 0) run({3, 4, 5, 7}, from, to, axes);
  for (unsigned axes = 0; axes < 8; ++axes) {
    run({2, 0, 3}, layout::contiguous, layout::contiguous, axes);
    run({33, 47, 19}, layout::contiguous, layout::contiguous, axes);
    run({33, 47, 19}, layout::transposed, layout::misaligned, axes);
  }
  run({}, layout::contiguous, layout::contiguous, 0);
  run({1, 1, 1}, layout::contiguous, layout::contiguous, 5);
  run({2, 1, 2, 1, 2, 1, 3, 1, 2}, layout::ragged, layout::contiguous, 0x155);
}

void special_values(const level& here, int32_t dtype) {
  const int64_t n = 2 * here.lanes(dtype) + 3;
  // One odd value at each place of an otherwise finite row.
  for (real odd : {infinity, -infinity, nan})
    for (int64_t place = 0; place < n; ++place)
      for (int operation = 0; operation < HOMINY_REDUCE_COUNT; ++operation) {
        array x(dtype, {n}), out(dtype, {1});
        x.fill([&](int64_t i) { return i == place ? odd : real(0.5L + real(i % 3)); });
        const std::string what = std::string(names[operation]) + " with an odd value at " + std::to_string(place);
        check_status(here.kernels->reduce(hominy_reduce(operation), x, out), HOMINY_OK, what);
        const auto expected = expected_of(operation, x, 1);
        check_elements(out, what, [&](int64_t i) { return expected[size_t(i)]; });
      }
  array all_infinite(dtype, {n}), out(dtype, {1});
  all_infinite.fill([](int64_t) { return -infinity; });
  here.kernels->reduce(HOMINY_REDUCE_amax, all_infinite, out);
  check(out[0] == -infinity, "amax of nothing but -infinity is %Lg", out[0]);
  // A sum's bound holds where a running sum's would not: a million equal numbers.
  const int64_t many = here.settings.quick ? 100003 : 1000003;
  array ones(dtype, {many});
  ones.fill([](int64_t) { return 0.1L; });
  here.kernels->reduce(HOMINY_REDUCE_sum, ones, out);
  const auto expected = expected_of(HOMINY_REDUCE_sum, ones, 1);
  check_elements(out, "sum of many", [&](int64_t) { return expected[0]; });
}

void arg_reduce_values(const level& here, int32_t dtype) {
  const auto run = [&](const std::vector<int64_t>& shape, layout from, layout to, int axis, bool with_nan) {
    for (int smallest = 0; smallest < 2; ++smallest) {
      array x(dtype, shape, from), out(HOMINY_INT64, reduced_shape(shape, 1u << axis), to);
      random_numbers random(uint64_t(axis) + 9);
      // Few distinct values: ties everywhere.
      x.fill([&](int64_t) { return with_nan && random.below(23) == 0 ? nan : real(random.below(7)) - 3; });
      const std::string what = std::string(smallest ? "argmin " : "argmax ") + text_of(shape) + " along " +
                               std::to_string(axis) + " " + name_of(from) + " -> " + name_of(to);
      if (!check_status(here.kernels->arg_reduce(smallest, x, axis, out), HOMINY_OK, what)) continue;
      const auto to_output = destinations(shape, 1u << axis);
      int64_t step = 1;  // in C order, between neighbours along the axis
      for (size_t d = size_t(axis) + 1; d < shape.size(); ++d) step *= shape[d];
      std::vector<real> best(size_t(out.size())), index(size_t(out.size()), -1);
      for (int64_t i = 0; i < x.size(); ++i) {
        const size_t o = size_t(to_output[size_t(i)]);
        const real value = x[i];
        const bool better = isnan(value) ? !isnan(best[o]) : smallest ? value < best[o] : value > best[o];
        if (index[o] < 0 || better) best[o] = value, index[o] = real(i / step % shape[size_t(axis)]);
      }
      check_elements(out, what, [&](int64_t i) { return expectation{index[size_t(i)], 0}; });
    }
  };
  for (int64_t n : here.sizes(dtype)) {
    if (n == 0) continue;
    for (bool with_nan : {false, true}) {
      run({n}, layout::contiguous, layout::contiguous, 0, with_nan);
      run({n, 6}, layout::contiguous, layout::contiguous, 0, with_nan);
      run({6, n}, layout::contiguous, layout::contiguous, 1, with_nan);
    }
  }
  for (layout from : input_layouts)
    for (layout to : output_layouts)
      for (int axis = 0; axis < 3; ++axis) run({4, 19, 5}, from, to, axis, (int(from) + int(to)) % 2 == 0);
  run({0, 5}, layout::contiguous, layout::contiguous, 1, false);
}

void refusals(const level& here, int32_t dtype) {
  const hominy_kernels& k = *here.kernels;
  array x(dtype, {4, 5}), out(dtype, {4, 1}), index(HOMINY_INT64, {4, 1});
  x.fill_uniform(1, -1, 1);
  for (const auto& bad : bad_tensors(x)) {
    check_refused(k.reduce(HOMINY_REDUCE_sum, &bad.tensor, out), {bad.expected}, out,
                  std::string("reduce: x has ") + bad.what);
    if (bad.expected == HOMINY_BAD_DTYPE && (bad.tensor.dtype == HOMINY_FLOAT32 || bad.tensor.dtype == HOMINY_FLOAT64))
      continue;  // the output is int64 whatever x is
    check_refused(k.arg_reduce(0, &bad.tensor, 1, index), {bad.expected}, index,
                  std::string("arg_reduce: x has ") + bad.what);
  }
  for (const auto& bad : bad_tensors(out))
    check_refused(k.reduce(HOMINY_REDUCE_sum, x, &bad.tensor), {bad.expected}, out,
                  std::string("reduce: out has ") + bad.what);
  check_refused(k.arg_reduce(0, x, 1, out), {HOMINY_BAD_DTYPE}, out, "arg_reduce: out is not int64");
  check_refused(k.arg_reduce(0, x, 0, index), {HOMINY_BAD_SHAPE}, index, "arg_reduce: out reduced along another axis");
  for (int axis : {-1, 2, 31, 1000, INT32_MIN, INT32_MAX})
    check_refused(k.arg_reduce(0, x, axis, index), {HOMINY_BAD_VALUE, HOMINY_BAD_SHAPE}, index,
                  "arg_reduce: axis " + std::to_string(axis));
  for (int code : {-1, int(HOMINY_REDUCE_COUNT), INT32_MAX})
    check_refused(k.reduce(hominy_reduce(code), x, out), {HOMINY_BAD_VALUE}, out, "reduce: unknown operation");
  array narrow(dtype, {4, 2});
  check_refused(k.reduce(HOMINY_REDUCE_sum, x, narrow), {HOMINY_BAD_SHAPE}, narrow, "reduce: out is neither 1 nor x's");
  array empty(dtype, {4, 0});
  check_refused(k.arg_reduce(0, empty, 1, index), {HOMINY_BAD_SHAPE}, index, "arg_reduce of nothing");
  const hominy_tensor huge = overflowing(x);
  hominy_tensor one = huge;
  for (int d = 0; d < 3; ++d) one.shape[d] = 1;
  check_refused(k.reduce(HOMINY_REDUCE_sum, &huge, &one), {HOMINY_OVERFLOW}, x, "reduce: 2^93 elements");
  one.shape[0] = one.shape[1] = huge.shape[0];
  one.dtype = HOMINY_INT64;
  check_refused(k.arg_reduce(0, &huge, 2, &one), {HOMINY_OVERFLOW}, x, "arg_reduce: 2^93 elements");
}

void threads_and_alignment(const level& here, int32_t dtype) {
  const int64_t n = here.settings.quick ? 401 : 1999;
  for (layout kind : {layout::contiguous, layout::transposed})
    for (unsigned axes = 1; axes < 4; ++axes) {
      array x(dtype, {211, n}, kind), out(dtype, reduced_shape({211, n}, axes));
      x.fill_uniform(axes, -1, 1);
      for (int operation = 0; operation < HOMINY_REDUCE_COUNT; ++operation)
        same_bits_for_any_number_of_threads(names[operation], [&] {
          here.kernels->reduce(hominy_reduce(operation), x, out);
          return out.bits();
        });
      if (axes == 3) continue;
      array index(HOMINY_INT64, reduced_shape({211, n}, axes));
      same_bits_for_any_number_of_threads("arg_reduce", [&] {
        here.kernels->arg_reduce(0, x, axes == 1 ? 0 : 1, index);
        return index.bits();
      });
    }
  for (unsigned axes = 1; axes < 4; ++axes) {
    array straight(dtype, {37, 101}), shifted(dtype, {37, 101}, layout::misaligned);
    array one(dtype, reduced_shape({37, 101}, axes)), other(dtype, reduced_shape({37, 101}, axes), layout::misaligned);
    straight.fill_uniform(5, -1, 1);
    shifted.fill_uniform(5, -1, 1);
    here.kernels->reduce(HOMINY_REDUCE_sum, straight, one);
    here.kernels->reduce(HOMINY_REDUCE_sum, shifted, other);
    check(one.bits() == other.bits(), "sum over axes %u: other bits when misaligned", axes);
  }
}

}  // namespace

void reduce_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("reduce", values);
    group("reduce special values", special_values);
    group("arg_reduce", arg_reduce_values);
    group("reduce refusals", refusals);
    group("reduce threads and alignment", threads_and_alignment);
  }
}

}  // namespace test
