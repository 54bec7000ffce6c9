// Layer norm, forward and backward, within the bounds that normalization.hpp states.
#include <numeric>

#include "normalization_reference.hpp"

namespace test {
namespace {

reference reference_of_rows(const array& x, const array& weight, const array& bias, int options, double eps) {
  const int64_t rows = x.shape()[0], columns = x.shape()[1];
  reference known;
  for (int64_t i = 0; i < x.size(); ++i) {
    known.statistic_of.push_back(i / columns);
    known.parameter_of.push_back(i % columns);
  }
  known.statistics = rows;
  known.parameters = columns;
  known.shared = real(std::max<int64_t>(columns, 1));
  known.summed = real(rows);
  known.u = unit_roundoff(x.dtype());
  known.epsilon = eps;
  known.about_zero = options & with_rms;
  known.x = values_of(x);
  if (options & with_weight) known.weight = values_of(weight);
  if (options & with_bias) known.bias = values_of(bias);
  return known;
}

// One call of layer_norm_backward with the results of bits 0, 1 and 2 of `needs`.
hominy_status rows_backward(const level& here, const hominy_tensor* gradient, const hominy_tensor* x,
                            const hominy_tensor* weight, const hominy_tensor* mean, const hominy_tensor* rstd,
                            const hominy_tensor* out, const hominy_tensor* of_weight, const hominy_tensor* of_bias,
                            int needs) {
  workspace scratch(needs & 6 ? here.kernels->layer_norm_workspace_size(x) : 0);
  return here.kernels->layer_norm_backward(gradient, x, weight, mean, rstd, given_if(needs & 1, out),
                                           given_if(needs & 2, of_weight), given_if(needs & 4, of_bias),
                                           needs & 6 ? scratch.data() : nullptr, scratch.bytes());
}

struct row_case {
  int64_t rows, columns;
  layout from = layout::contiguous, of_gradient = layout::contiguous, to = layout::contiguous;
  int options = with_weight | with_bias;
  int needs = 7;
  double low = -3, high = 5;
  bool balanced = false;  // mean about 0, and one element that is 0: nothing but the mean's rounding is left of it
};

void check_rows(const level& here, int32_t dtype, const row_case& c) {
  const hominy_kernels& k = *here.kernels;
  const int64_t m = c.rows, n = c.columns;
  const bool rms = c.options & with_rms;
  array x(dtype, {m, n}, c.from), weight(dtype, {n}), bias(dtype, {n}), out(dtype, {m, n}, c.to);
  array mean(dtype, {m}), rstd(dtype, {m});
  x.fill_uniform(1, c.low, c.high);
  if (c.balanced) {
    auto values = values_of(x);
    for (int64_t row = 0; row < m; ++row) {
      real* const first = &values[size_t(row * n)];
      first[0] = 0;
      first[1] = -std::accumulate(first + 2, first + n, real(0));
    }
    x.fill([&](int64_t i) { return values[size_t(i)]; });
  }
  weight.fill_uniform(2, -2, 2);
  bias.fill_uniform(3, -2, 2);
  const hominy_tensor* scale = given_if(c.options & with_weight, weight);
  const hominy_tensor* offset = given_if(c.options & with_bias, bias);
  const std::string what = std::string(rms ? "rms norm " : "layer norm ") + text_of({m, n}) + " options " +
                           std::to_string(c.options) + " " + name_of(c.from) + " -> " + name_of(c.to);

  reference known = reference_of_rows(x, weight, bias, c.options, epsilon);
  const auto expected = known.forward();
  if (!check_status(k.layer_norm(rms, x, scale, offset, epsilon, out, given_if(!rms, mean), rstd), HOMINY_OK, what))
    return;
  check_list(out, what, expected.out);
  if (!rms) check_list(mean, what + " mean", expected.mean);
  if (n > 0) check_list(rstd, what + " rstd", expected.rstd);
  check(x.untouched() && weight.untouched() && bias.untouched(), "%s: wrote to an input", what.c_str());

  array same(dtype, {m, n}, c.to), mean_too(dtype, {m}), rstd_too(dtype, {m});
  same.fill([&](int64_t i) { return x[i]; });
  k.layer_norm(rms, same, scale, offset, epsilon, same, given_if(!rms, mean_too), rstd_too);
  check_list(same, what + " in place", expected.out);
  check(c.from != c.to || same.bits() == out.bits(), "%s: other bits in place", what.c_str());

  // From numbers as the forward gives them, but of our own.
  mean.fill([&](int64_t i) { return expected.mean[size_t(i)].value; });
  rstd.fill([&](int64_t i) { return expected.rstd[size_t(i)].value; });
  array gradient(dtype, {m, n}, c.of_gradient), of_x(dtype, {m, n}, c.to), of_weight(dtype, {n});
  array of_bias(dtype, {n});
  gradient.fill_uniform(4, -2, 2);
  known.gradient = values_of(gradient);
  known.mean = rms ? std::vector<real>(size_t(m), 0) : values_of(mean);
  known.rstd = values_of(rstd);
  const auto slopes = known.backward();
  const std::string back = what + " backward, gradient " + name_of(c.of_gradient) + " needs " + std::to_string(c.needs);
  const hominy_tensor* center = given_if(!rms, mean);
  if (!check_status(rows_backward(here, gradient, x, scale, center, rstd, of_x, of_weight, of_bias, c.needs), HOMINY_OK,
                    back))
    return;
  if (c.needs & 1) check_list(of_x, back, slopes.out);
  if (c.needs & 2) check_list(of_weight, back + " weight", slopes.weight);
  if (c.needs & 4) check_list(of_bias, back + " bias", slopes.bias);
  check(x.untouched() && weight.untouched() && gradient.untouched() && mean.untouched() && rstd.untouched(),
        "%s: wrote to an input", back.c_str());
  if (!(c.needs & 1)) return;
  array over_gradient(dtype, {m, n}, c.to);
  over_gradient.fill([&](int64_t i) { return gradient[i]; });
  rows_backward(here, over_gradient, x, scale, center, rstd, over_gradient, of_weight, of_bias, c.needs);
  check_list(over_gradient, back + " over the gradient", slopes.out);
  if (c.needs & 2) check_list(of_weight, back + " over the gradient, weight", slopes.weight);
  same.fill([&](int64_t i) { return x[i]; });
  rows_backward(here, gradient, same, scale, center, rstd, same, of_weight, of_bias, c.needs);
  check_list(same, back + " over x", slopes.out);
  if (c.needs & 2) check_list(of_weight, back + " over x, weight", slopes.weight);
}

void row_values(const level& here, int32_t dtype) {
  const bool quick = here.settings.quick;
  const auto run = [&](row_case c) { check_rows(here, dtype, c); };
  const auto of_size = [](int64_t rows, int64_t columns, int options = with_weight | with_bias) {
    row_case c{rows, columns};
    c.options = options;
    return c;
  };
  for (int64_t n : here.sizes(dtype))
    for (int options : {0, 1, 2, 3, 5}) {
      run(of_size(3, n, options));
      if (options == 3 || options == 5) run(of_size(n, 3, options));
    }
  for (int64_t n : {2047, 2048, 2049, 4111})
    for (int options : {3, 5})
      if (!quick || n == 2049) run(of_size(2, n, options));
  run(of_size(0, 3));
  run(of_size(0, 0));
  run(of_size(1, 1));
  run(of_size(quick ? 301 : 2003, 17));
  run(of_size(quick ? 67 : 131, quick ? 65 : 257));
  if (!quick) run(of_size(2, 10007)), run(of_size(2, 10007, with_rms));
  int step = 0;
  for (layout from : input_layouts)
    for (layout to : output_layouts)
      for (int options : {3, 5, 0, 1})
        for (int needs = 1; needs < 8; ++needs) {
          if (++step % (quick ? 9 : 3)) continue;
          row_case c{4, 19};
          c.from = from;
          c.to = to;
          c.of_gradient = step % 4 ? from : input_layouts[step / 4 % 8];
          c.options = options;
          c.needs = needs;
          run(c);
        }
  row_case nothing{4, 19};
  nothing.needs = 0;
  run(nothing);
}

// Means far from 0 beside the spread, and rows without any spread.
void row_extremes(const level& here, int32_t dtype) {
  for (int64_t n : {1, 7, 64, 1003, 2503})
    for (int options : {0, 3, 5})
      for (auto [low, high] : {std::pair{1e4 - 1.7, 1e4 + 1.7},
                               {-1e4 - 1.7, -1e4 + 1.7},
                               {1e6 - 17, 1e6 + 17},
                               {0.1, 0.1},
                               {12345.6, 12345.6},
                               {0.0, 0.0},
                               {-1e-9, 1e-9},
                               {-1e9, 1e9}}) {
        if (here.settings.quick && n > 1003) continue;
        row_case c{3, n};
        c.options = options;
        c.low = low;
        c.high = high;
        check_rows(here, dtype, c);
      }
  for (int64_t n : {3, 4, 5, 7, 16, 33, 100, 1003}) {
    row_case c{11, n};
    c.balanced = true;
    check_rows(here, dtype, c);
  }
  // NaN and infinity reach their row and no other.
  const int64_t n = 2 * here.lanes(dtype) + 3;
  for (int rms = 0; rms < 2; ++rms)
    for (real odd : {nan, std::numeric_limits<real>::infinity(), -std::numeric_limits<real>::infinity()})
      for (int64_t place : {int64_t(0), n / 2, n - 1}) {
        array x(dtype, {3, n}), plain(dtype, {3, n}), out(dtype, {3, n}), untainted(dtype, {3, n});
        array mean(dtype, {3}), rstd(dtype, {3});
        plain.fill_uniform(1, -3, 5);
        x.fill([&](int64_t i) { return i == n + place ? odd : plain[i]; });
        here.kernels->layer_norm(rms, plain, nullptr, nullptr, epsilon, untainted, given_if(!rms, mean), rstd);
        check_status(here.kernels->layer_norm(rms, x, nullptr, nullptr, epsilon, out, given_if(!rms, mean), rstd),
                     HOMINY_OK, "odd value");
        bool right = isnan(out[n + place]);
        for (int64_t i = 0; i < 3 * n; ++i)
          right = right && (i / n == 1 ? isnan(out[i]) || (rms && !isnan(odd) && out[i] == 0) || i == n + place
                                       : out[i] == untainted[i]);
        check(right, "%Lg at %lld, rms %d", odd, (long long)place, rms);
      }
}

void row_refusals(const level& here, int32_t dtype) {
  const hominy_kernels& k = *here.kernels;
  array x(dtype, {4, 5}), weight(dtype, {5}), bias(dtype, {5}), out(dtype, {4, 5}), mean(dtype, {4}), rstd(dtype, {4});
  array gradient(dtype, {4, 5}), of_weight(dtype, {5}), of_bias(dtype, {5}), scratch(HOMINY_UINT8, {1 << 20});
  for (array* each : {&x, &weight, &bias, &gradient}) each->fill_uniform(1, -1, 1);
  const auto forward = [&](const hominy_tensor* from, const hominy_tensor* scale, const hominy_tensor* offset,
                           const hominy_tensor* to, const hominy_tensor* of_mean, const hominy_tensor* of_rstd,
                           hominy_status expected, const std::string& what) {
    const hominy_status status = k.layer_norm(0, from, scale, offset, epsilon, to, of_mean, of_rstd);
    check_refused(status, {expected, HOMINY_BAD_SHAPE}, out, "layer_norm: " + what);
    check(mean.untouched() && rstd.untouched(), "layer_norm: %s: wrote statistics", what.c_str());
  };
  const auto backward = [&](const hominy_tensor* g, const hominy_tensor* from, const hominy_tensor* scale,
                            const hominy_tensor* center, const hominy_tensor* of_rstd, const hominy_tensor* to,
                            const hominy_tensor* to_weight, const hominy_tensor* to_bias, hominy_status expected,
                            const std::string& what) {
    const int64_t asked = k.layer_norm_workspace_size(from);
    check(asked <= scratch.size(), "%s: asks for a workspace of %lld bytes", what.c_str(), (long long)asked);
    const hominy_status status =
        k.layer_norm_backward(g, from, scale, center, of_rstd, to, to_weight, to_bias, scratch.data(), scratch.size());
    check_refused(status, {expected, HOMINY_BAD_SHAPE}, out, "layer_norm_backward: " + what);
    check(of_weight.untouched() && of_bias.untouched(), "layer_norm_backward: %s: wrote a list", what.c_str());
  };
  for (const auto& bad : bad_tensors(x)) {
    const std::string what = std::string(" has ") + bad.what;
    const hominy_tensor* t = &bad.tensor;
    forward(t, weight, bias, out, mean, rstd, bad.expected, "x" + what);
    forward(x, weight, bias, t, mean, rstd, bad.expected, "out" + what);
    backward(t, x, weight, mean, rstd, out, of_weight, of_bias, bad.expected, "gradient" + what);
    backward(gradient, t, weight, mean, rstd, out, of_weight, of_bias, bad.expected, "x" + what);
    backward(gradient, x, weight, mean, rstd, t, of_weight, of_bias, bad.expected, "out" + what);
  }
  for (const auto& bad : bad_tensors(weight)) {
    const std::string what = std::string(" has ") + bad.what;
    const hominy_tensor* t = &bad.tensor;
    forward(x, t, bias, out, mean, rstd, bad.expected, "weight" + what);
    forward(x, weight, t, out, mean, rstd, bad.expected, "bias" + what);
    backward(gradient, x, t, mean, rstd, out, of_weight, of_bias, bad.expected, "weight" + what);
    backward(gradient, x, weight, mean, rstd, out, t, of_bias, bad.expected, "weight_gradient" + what);
    backward(gradient, x, weight, mean, rstd, out, of_weight, t, bad.expected, "bias_gradient" + what);
  }
  for (const auto& bad : bad_tensors(mean)) {
    const std::string what = std::string(" has ") + bad.what;
    const hominy_tensor* t = &bad.tensor;
    forward(x, weight, bias, out, t, rstd, bad.expected, "mean" + what);
    forward(x, weight, bias, out, mean, t, bad.expected, "rstd" + what);
    backward(gradient, x, weight, t, rstd, out, of_weight, of_bias, bad.expected, "mean" + what);
    backward(gradient, x, weight, mean, t, out, of_weight, of_bias, bad.expected, "rstd" + what);
  }
  array cube(dtype, {4, 5, 1}), flat(dtype, {20}), wide(dtype, {4, 6}), wide_list(dtype, {6});
  forward(cube, weight, bias, cube, mean, rstd, HOMINY_BAD_SHAPE, "three dimensions");
  forward(flat, weight, bias, flat, mean, rstd, HOMINY_BAD_SHAPE, "one dimension");
  forward(x, weight, bias, wide, mean, rstd, HOMINY_BAD_SHAPE, "out is wider");
  backward(wide, x, weight, mean, rstd, out, of_weight, of_bias, HOMINY_BAD_SHAPE, "gradient is wider");
  forward(x, wide_list, bias, out, mean, rstd, HOMINY_BAD_SHAPE, "weight is longer");

  // Sizes whose product is beyond int64; nothing is read.
  hominy_tensor huge = overflowing(x), list = huge;
  huge.ndim = 2;
  huge.shape[0] = huge.shape[1] = int64_t(1) << 40;
  list.ndim = 1;
  list.shape[0] = huge.shape[0];
  list.strides[0] = size_of_dtype(dtype);
  k.layer_norm_workspace_size(&huge);
  check_refused(k.layer_norm(0, &huge, &list, &list, epsilon, &huge, &list, &list), {HOMINY_OVERFLOW}, x,
                "layer_norm: 2^80 elements");
  check_refused(k.layer_norm_backward(&huge, &huge, &list, &list, &list, &huge, &list, &list, scratch.data(), 1 << 20),
                {HOMINY_OVERFLOW}, x, "layer_norm_backward: 2^80 elements");

  array big(dtype, {301, 67}), big_out(dtype, {301, 67}), list_of_rows(dtype, {301}), scale(dtype, {67}),
      to(dtype, {67});
  big.fill_uniform(1, -1, 1);
  list_of_rows.fill_uniform(2, 1, 2);
  scale.fill_uniform(3, 1, 2);
  const int64_t asked = k.layer_norm_workspace_size(big);
  if (asked > 0)
    for (int64_t bytes : {int64_t(0), asked - 1, int64_t(-1)}) {
      const hominy_status status = k.layer_norm_backward(big, big, scale, list_of_rows, list_of_rows, big_out, to,
                                                         nullptr, scratch.data(), bytes);
      check_refused(status, {HOMINY_NO_WORKSPACE}, big_out, "workspace of " + std::to_string(bytes) + " bytes");
      check(to.untouched(), "workspace of %lld bytes: wrote a list", (long long)bytes);
    }

  // Lists with gaps: refused, or right.
  array with_gaps(dtype, {5}, layout::strided);
  with_gaps.fill([&](int64_t i) { return weight[i]; });
  const hominy_status status = k.layer_norm(0, x, with_gaps, nullptr, epsilon, out, mean, rstd);
  if (status == HOMINY_OK)
    check_list(out, "weight with gaps", reference_of_rows(x, weight, bias, with_weight, epsilon).forward().out);
  else
    check_refused(status, {HOMINY_BAD_SHAPE}, out, "weight with gaps");
}

void row_threads_and_alignment(const level& here, int32_t dtype) {
  const bool quick = here.settings.quick;
  for (auto [m, n] : {std::pair<int64_t, int64_t>{61, quick ? 131 : 1501}, {quick ? 1009 : 2003, 33}, {3, 10007}})
    for (layout kind : {layout::contiguous, layout::transposed})
      for (int rms = 0; rms < 2; ++rms) {
        if (m != 61 && (rms || quick || kind == layout::transposed)) continue;
        array x(dtype, {m, n}, kind), g(dtype, {m, n}, kind), out(dtype, {m, n}, kind), weight(dtype, {n});
        array mean(dtype, {m}), rstd(dtype, {m}), of_weight(dtype, {n}), of_bias(dtype, {n});
        x.fill_uniform(1, -3, 5);
        g.fill_uniform(2, -2, 2);
        weight.fill_uniform(3, -2, 2);
        same_bits_for_any_number_of_threads("layer_norm", [&] {
          here.kernels->layer_norm(rms, x, weight, weight, epsilon, out, given_if(!rms, mean), rstd);
          auto bits = out.bits();
          if (!rms) append(bits, mean.bits());
          append(bits, rstd.bits());
          return bits;
        });
        same_bits_for_any_number_of_threads("layer_norm_backward", [&] {
          rows_backward(here, g, x, weight, given_if(!rms, mean), rstd, out, of_weight, of_bias, 7);
          auto bits = out.bits();
          append(bits, of_weight.bits());
          append(bits, of_bias.bits());
          return bits;
        });
      }
  for (int64_t n : {5, 67, 301})
    for (int rms = 0; rms < 2; ++rms) {
      const int64_t m = 5;
      array x(dtype, {m, n}), g(dtype, {m, n}), weight(dtype, {n}), list(dtype, {m});
      x.fill_uniform(1, -3, 5);
      g.fill_uniform(2, -2, 2);
      weight.fill_uniform(3, -2, 2);
      list.fill_uniform(4, 0.5, 2);
      same_bits_for_any_alignment("layer_norm", [&](int64_t shift) {
        const int64_t other = shift * 5 % 64;
        const shifted from(dtype, {m, n}, shift, x.bits()), scale(dtype, {n}, other / 8 * 8, weight.bits());
        const shifted to(dtype, {m, n}, other), mean(dtype, {m}, shift / 8 * 8), rstd(dtype, {m}, shift / 8 * 8);
        here.kernels->layer_norm(rms, from, scale, scale, epsilon, to, given_if(!rms, mean), rstd);
        check(to.guards_intact() && mean.guards_intact() && rstd.guards_intact(), "layer_norm: wrote outside");
        auto bits = to.bits();
        if (!rms) append(bits, mean.bits());
        append(bits, rstd.bits());
        return bits;
      });
      same_bits_for_any_alignment("layer_norm_backward", [&](int64_t shift) {
        const int64_t other = shift * 5 % 64;
        const shifted from(dtype, {m, n}, shift, x.bits()), gradient(dtype, {m, n}, shift * 3 % 64, g.bits());
        const shifted scale(dtype, {n}, other / 8 * 8, weight.bits()), rstd(dtype, {m}, shift / 8 * 8, list.bits());
        const shifted to(dtype, {m, n}, other), of_weight(dtype, {n}, shift / 8 * 8),
            of_bias(dtype, {n}, other / 8 * 8);
        rows_backward(here, gradient, from, scale, given_if(!rms, rstd), rstd, to, of_weight, of_bias, 7);
        check(to.guards_intact() && of_weight.guards_intact() && of_bias.guards_intact(), "backward: wrote outside");
        auto bits = to.bits();
        append(bits, of_weight.bits());
        append(bits, of_bias.bits());
        return bits;
      });
    }
}

}  // namespace

void layer_norm_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("layer_norm", row_values);
    group("layer_norm extremes", row_extremes);
    group("layer_norm refusals", row_refusals);
    group("layer_norm threads and alignment", row_threads_and_alignment);
  }
}

}  // namespace test
