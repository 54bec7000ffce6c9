// Cross entropy, forward and backward: PyTorch's formula in long double, bad targets, ignored rows.
#include <math.h>

#include <limits>

#include "test_array.hpp"

namespace test {
namespace {

constexpr int64_t ignored = -100;

struct problem {
  array logits, target, weight;
  bool weighted;
  double smoothing;
  int64_t rows, classes;

  problem(int32_t dtype, int64_t n, int64_t c, layout kind, bool with_weight, double label_smoothing, double range = 6)
      : logits(dtype, {n, c}, kind),
        target(HOMINY_INT64, {n}, kind),
        weight(dtype, {c}, kind),
        weighted(with_weight),
        smoothing(label_smoothing),
        rows(n),
        classes(c) {
    logits.fill_uniform(1, -range, range);
    weight.fill_uniform(2, 0.25, 2);
    target.fill([&, random = random_numbers(3)](int64_t) mutable {
      return random.below(5) == 0 || classes == 0 ? real(ignored) : real(random.below(classes));
    });
  }
  const hominy_tensor* weight_or_null() const { return weighted ? static_cast<const hominy_tensor*>(weight) : nullptr; }
  real weight_of(int64_t c) const { return weighted ? weight[c] : 1; }
  bool is_ignored(int64_t n) const { return target[n] == ignored; }
  real logit(int64_t n, int64_t c) const { return logits[n * classes + c]; }
  real largest(int64_t n) const {
    real m = logit(n, 0);
    for (int64_t c = 1; c < classes; ++c) m = fmaxl(m, logit(n, c));
    return m;
  }
  real logsumexp(int64_t n) const {
    const real m = largest(n);
    real sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += expl(logit(n, c) - m);
    return m + logl(sum);
  }

  expectation loss(int64_t n, real u) const {
    if (is_ignored(n)) return {0, 0};
    const int64_t t = int64_t(target[n]);
    const real lse = logsumexp(n), m = largest(n), s = smoothing, slack = 52 + real(classes) / 32;
    real value = (1 - s) * weight_of(t) * (lse - logit(n, t));
    real magnitude = (1 - s) * weight_of(t) * (m - logit(n, t) + (lse - m) + slack);
    for (int64_t c = 0; c < classes && s != 0; ++c) {
      value += s / real(classes) * weight_of(c) * (lse - logit(n, c));
      magnitude +=
          s / real(classes) * weight_of(c) * (m - logit(n, c) + (lse - m) + slack + (weighted ? real(classes) / 4 : 0));
    }
    return {value, 2 * u * (magnitude + fabsl(value))};
  }

  // From the kernel's own (rounded) logsumexp, as the backward kernel has it.
  expectation gradient(int64_t n, int64_t c, real g, real lse, real u) const {
    if (is_ignored(n)) return {0, 0};
    const int64_t t = int64_t(target[n]);
    const real s = smoothing, p = expl(logit(n, c) - lse);
    real total = 0;
    for (int64_t k = 0; k < classes; ++k) total += weight_of(k);
    const real scale = (1 - s) * weight_of(t) + s / real(classes) * total;
    const real subtracted = (c == t ? (1 - s) * weight_of(t) : 0) + s / real(classes) * weight_of(c);
    const real bound =
        fabsl(g) * u *
        ((fabsl(lse) + 2 * fabsl(logit(n, c) - lse) + 16 + (weighted && s != 0 ? real(classes) / 4 : 0)) * scale * p +
         8 * subtracted);
    return {g * (scale * p - subtracted), 2 * bound};
  }
};

void values(const level& here, int32_t dtype) {
  const real u = unit_roundoff(dtype);
  const auto run = [&](int64_t rows, int64_t classes, layout from, layout to, bool weighted, double smoothing) {
    const problem given(dtype, rows, classes, from, weighted, smoothing);
    array losses(dtype, {rows}, to), logsumexp(dtype, {rows}, to), gradient(dtype, {rows}, from);
    array out(dtype, {rows, classes}, to);
    const std::string what = "cross_entropy (" + std::to_string(rows) + "," + std::to_string(classes) + ") " +
                             name_of(from) + " -> " + name_of(to) + (weighted ? " weighted" : "") + " smoothing " +
                             std::to_string(smoothing);
    if (!check_status(here.kernels->cross_entropy(given.logits, given.target, given.weight_or_null(), ignored,
                                                  smoothing, losses, logsumexp),
                      HOMINY_OK, what))
      return;
    check_elements(losses, what, [&](int64_t n) { return given.loss(n, u); });
    bool close = logsumexp.guards_intact();
    for (int64_t n = 0; n < rows && classes > 0; ++n) {
      const real exact = given.logsumexp(n);
      const real bound = 2 * u * (fabsl(exact) + 52 + real(classes) / 32);
      if (!given.is_ignored(n)) close = close && is_close(logsumexp, n, {exact, bound});
    }
    check(close, "%s: logsumexp", what.c_str());

    gradient.fill_uniform(9, -2, 2);
    if (!check_status(here.kernels->cross_entropy_backward(gradient, given.logits, given.target, given.weight_or_null(),
                                                           ignored, smoothing, logsumexp, out),
                      HOMINY_OK, what + " backward"))
      return;
    check_elements(out, what + " backward", [&](int64_t i) {
      const int64_t n = i / classes;
      return given.gradient(n, i % classes, gradient[n], logsumexp[n], u);
    });
    check(given.logits.untouched() && given.target.untouched() && given.weight.untouched() && gradient.untouched(),
          "%s: wrote to an input", what.c_str());
    if (from != to) return;
    here.kernels->cross_entropy_backward(gradient, given.logits, given.target, given.weight_or_null(), ignored,
                                         smoothing, logsumexp, given.logits);
    check(given.logits.bits() == out.bits(), "%s: backward in place", what.c_str());
  };
  for (int64_t classes : here.sizes(dtype))
    for (bool weighted : {false, true})
      for (double smoothing : {0.0, 0.1}) {
        if (classes == 0) continue;
        run(7, classes, layout::contiguous, layout::contiguous, weighted, smoothing);
        run(1, classes, layout::contiguous, layout::contiguous, weighted, smoothing);
      }
  for (int64_t rows : {0, 1, 2, 17, 64}) run(rows, 10, layout::contiguous, layout::contiguous, true, 0.2);
  run(0, 0, layout::contiguous, layout::contiguous, false, 0);
  for (layout from : input_layouts)
    for (layout to : output_layouts)
      for (bool weighted : {false, true}) run(9, 11, from, to, weighted, 0.1);
  run(5, 23, layout::contiguous, layout::contiguous, true, 1.0);
}

void large_logits(const level& here, int32_t dtype) {
  array logits(dtype, {2, 3}), target(HOMINY_INT64, {2}), losses(dtype, {2}), logsumexp(dtype, {2}), out(dtype, {2, 3});
  array gradient(dtype, {2});
  const real rows[] = {1000, 0, -1000, -3e38L, 5, -INFINITY};
  logits.fill([&](int64_t i) { return rows[i]; });
  target.fill([](int64_t n) { return real(n); });
  gradient.fill([](int64_t) { return 1.0L; });
  check_status(here.kernels->cross_entropy(logits, target, nullptr, ignored, 0, losses, logsumexp), HOMINY_OK, "large");
  check(losses[0] == 0 && losses[1] == 0, "certain classes cost nothing: %Lg, %Lg", losses[0], losses[1]);
  check_status(here.kernels->cross_entropy_backward(gradient, logits, target, nullptr, ignored, 0, logsumexp, out),
               HOMINY_OK, "large");
  for (int64_t i = 0; i < 6; ++i) check(out[i] == 0, "and pull at nothing: %Lg", out[i]);
  // A target whose class is impossible costs infinity, whatever ignored rows hold.
  target.fill([](int64_t n) { return n == 0 ? real(ignored) : 2.0L; });
  logits.set(0, NAN);
  check_status(here.kernels->cross_entropy(logits, target, nullptr, ignored, 0, losses, logsumexp), HOMINY_OK, "large");
  check(losses[0] == 0 && losses[1] == INFINITY, "%Lg, %Lg: expected 0 (ignored), infinity", losses[0], losses[1]);
  check_status(here.kernels->cross_entropy_backward(gradient, logits, target, nullptr, ignored, 0, logsumexp, out),
               HOMINY_OK, "large");
  for (int64_t c = 0; c < 3; ++c) check(out[c] == 0, "an ignored row of NaN has gradient %Lg", out[c]);
}

void bad_targets(const level& here, int32_t dtype) {
  for (int64_t bad : {int64_t(-1), int64_t(5), int64_t(1) << 40, INT64_MIN, INT64_MAX, ignored - 1})
    for (int64_t place : {0, 3, 6}) {
      problem given(dtype, 7, 5, layout::contiguous, true, 0.1);
      given.target.set(place, 0);
      memcpy(given.target.address(place), &bad, sizeof bad);
      array losses(dtype, {7}), logsumexp(dtype, {7}), gradient(dtype, {7}), out(dtype, {7, 5});
      gradient.fill_uniform(1, -1, 1);
      logsumexp.fill_uniform(1, 1, 2);
      const std::string what = "target " + std::to_string(bad);
      check_status(
          here.kernels->cross_entropy(given.logits, given.target, given.weight, ignored, 0.1, losses, logsumexp),
          HOMINY_BAD_INDEX, what);
      check_status(here.kernels->cross_entropy_backward(gradient, given.logits, given.target, given.weight, ignored,
                                                        0.1, logsumexp, out),
                   HOMINY_BAD_INDEX, what + " backward");
      check(losses.guards_intact() && logsumexp.guards_intact() && out.guards_intact(), "%s: wrote outside",
            what.c_str());
    }
  // ignore_index may itself be a class, or anything else.
  problem given(dtype, 3, 5, layout::contiguous, false, 0);
  given.target.fill([](int64_t n) { return real(n); });
  array losses(dtype, {3}), logsumexp(dtype, {3});
  check_status(here.kernels->cross_entropy(given.logits, given.target, nullptr, 1, 0, losses, logsumexp), HOMINY_OK,
               "ignore_index 1");
  check(losses[0] > 0 && losses[1] == 0 && losses[2] > 0, "only the row of ignore_index is ignored");
}

void refusals(const level& here, int32_t dtype) {
  const hominy_kernels& k = *here.kernels;
  const problem good(dtype, 4, 5, layout::contiguous, true, 0);
  array losses(dtype, {4}), logsumexp(dtype, {4}), gradient(dtype, {4}), out(dtype, {4, 5}), vector(dtype, {4});
  gradient.fill_uniform(1, -1, 1);
  const auto forward = [&](const hominy_tensor* logits, const hominy_tensor* target, const hominy_tensor* weight,
                           double smoothing, const hominy_tensor* to, const hominy_tensor* sums, hominy_status expected,
                           const std::string& what) {
    check_refused(k.cross_entropy(logits, target, weight, ignored, smoothing, to, sums), {expected}, losses, what);
    check(logsumexp.untouched(), "%s: wrote to logsumexp", what.c_str());
  };
  const auto backward = [&](const hominy_tensor* g, const hominy_tensor* logits, const hominy_tensor* target,
                            const hominy_tensor* weight, const hominy_tensor* sums, const hominy_tensor* to,
                            hominy_status expected, const std::string& what) {
    check_refused(k.cross_entropy_backward(g, logits, target, weight, ignored, 0, sums, to), {expected}, out, what);
  };
  for (const auto& bad : bad_tensors(good.logits)) {
    forward(&bad.tensor, good.target, good.weight, 0, losses, logsumexp, bad.expected,
            std::string("cross_entropy: logits has ") + bad.what);
    backward(gradient, &bad.tensor, good.target, good.weight, logsumexp, out, bad.expected,
             std::string("backward: logits has ") + bad.what);
    backward(gradient, good.logits, good.target, good.weight, logsumexp, &bad.tensor, bad.expected,
             std::string("backward: out has ") + bad.what);
  }
  for (const auto& bad : bad_tensors(vector)) {
    const std::string what = bad.what;
    forward(good.logits, good.target, good.weight, 0, &bad.tensor, logsumexp, bad.expected, "losses has " + what);
    forward(good.logits, good.target, good.weight, 0, losses, &bad.tensor, bad.expected, "logsumexp has " + what);
    backward(&bad.tensor, good.logits, good.target, good.weight, logsumexp, out, bad.expected, "gradient has " + what);
    backward(gradient, good.logits, good.target, good.weight, &bad.tensor, out, bad.expected, "logsumexp has " + what);
  }
  for (const auto& bad : bad_tensors(good.weight))
    forward(good.logits, good.target, &bad.tensor, 0, losses, logsumexp, bad.expected,
            std::string("weight has ") + bad.what);
  array wrong_type(HOMINY_INT32, {4});
  forward(good.logits, wrong_type, good.weight, 0, losses, logsumexp, HOMINY_BAD_DTYPE, "target is int32");
  backward(gradient, good.logits, wrong_type, good.weight, logsumexp, out, HOMINY_BAD_DTYPE, "target is int32");
  array longer(HOMINY_INT64, {5});
  forward(good.logits, longer, good.weight, 0, losses, logsumexp, HOMINY_BAD_SHAPE, "target is longer");
  backward(gradient, good.logits, longer, good.weight, logsumexp, out, HOMINY_BAD_SHAPE, "target is longer");
  for (double smoothing : {-0.1, 1.1, double(NAN), double(INFINITY)})
    forward(good.logits, good.target, good.weight, smoothing, losses, logsumexp, HOMINY_BAD_VALUE,
            "label smoothing " + std::to_string(smoothing));
}

void threads_and_alignment(const level& here, int32_t dtype) {
  const int64_t rows = here.settings.quick ? 301 : 2003;
  const problem given(dtype, rows, 67, layout::contiguous, true, 0.1),
      shifted(dtype, rows, 67, layout::misaligned, true, 0.1);
  array losses(dtype, {rows}), logsumexp(dtype, {rows}), gradient(dtype, {rows}), out(dtype, {rows, 67});
  gradient.fill_uniform(4, -1, 1);
  same_bits_for_any_number_of_threads("cross_entropy", [&] {
    here.kernels->cross_entropy(given.logits, given.target, given.weight, ignored, 0.1, losses, logsumexp);
    return losses.bits();
  });
  same_bits_for_any_number_of_threads("cross_entropy_backward", [&] {
    here.kernels->cross_entropy_backward(gradient, given.logits, given.target, given.weight, ignored, 0.1, logsumexp,
                                         out);
    return out.bits();
  });
  array other(dtype, {rows}, layout::misaligned), other_sums(dtype, {rows}, layout::misaligned);
  here.kernels->cross_entropy(shifted.logits, shifted.target, shifted.weight, ignored, 0.1, other, other_sums);
  check(other.bits() == losses.bits() && other_sums.bits() == logsumexp.bits(), "other bits when misaligned");
}

}  // namespace

void loss_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("cross_entropy", values);
    group("cross_entropy large logits", large_logits);
    group("cross_entropy bad targets", bad_targets);
    group("cross_entropy refusals", refusals);
    group("cross_entropy threads and alignment", threads_and_alignment);
  }
}

}  // namespace test
