// Channel norm (batch, group and instance norm), forward and backward, within the bounds that normalization.hpp states.
#include "normalization_reference.hpp"

namespace test {
namespace {

// (N, C, S) in memory as it is, or with channels last, (N, S, C); either in any layout.
class volume {
 public:
  volume(int32_t dtype, const std::vector<int64_t>& shape, layout kind = layout::contiguous, bool channels_last = false)
      : shape_(shape), last_(channels_last), memory_(dtype, in_memory(shape, channels_last), kind) {
    view_ = memory_.tensor();
    if (!last_) return;
    std::swap(view_.shape[1], view_.shape[2]);
    std::swap(view_.strides[1], view_.strides[2]);
  }
  operator const hominy_tensor*() const { return &view_; }
  const array& memory() const { return memory_; }
  // An element's number in C order of (N, C, S), from that of the memory's order, and back.
  int64_t logical(int64_t i) const { return last_ ? turned(i, shape_[2], shape_[1]) : i; }
  int64_t physical(int64_t i) const { return last_ ? turned(i, shape_[1], shape_[2]) : i; }
  void fill(const std::vector<real>& values) {
    memory_.fill([&](int64_t i) { return values[size_t(logical(i))]; });
  }
  void fill_uniform(uint64_t seed, double low, double high) {
    std::vector<real> values(size_t(memory_.size()));
    random_numbers random(seed);
    for (real& each : values) each = random.uniform(low, high);
    fill(values);
  }
  std::vector<real> values() const {
    std::vector<real> all(size_t(memory_.size()));
    for (size_t i = 0; i < all.size(); ++i) all[i] = memory_[physical(int64_t(i))];
    return all;
  }
  void check_values(const std::string& what, const std::vector<expectation>& expected) const {
    check_elements(memory_, what, [&](int64_t i) { return expected[size_t(logical(i))]; });
  }

 private:
  static std::vector<int64_t> in_memory(const std::vector<int64_t>& s, bool last) {
    return last ? std::vector<int64_t>{s[0], s[2], s[1]} : s;
  }
  // (n, a, b) -> (n, b, a)
  static int64_t turned(int64_t i, int64_t a, int64_t b) { return i / (a * b) * (a * b) + i % b * a + i / b % a; }

  std::vector<int64_t> shape_;
  bool last_;
  array memory_;
  hominy_tensor view_;
};

struct channel_case {
  std::vector<int64_t> shape;
  int64_t groups = 0;
  bool channels_last = false, gradient_last = false, out_last = false;
  layout from = layout::contiguous, of_gradient = layout::contiguous, to = layout::contiguous;
  int options = with_weight | with_bias;
  bool fixed = false;
  int needs = 7;
  double low = -3, high = 5;
};

int64_t statistics_of(const channel_case& c) { return c.groups ? c.shape[0] * c.groups : c.shape[1]; }

reference reference_of_channels(const channel_case& c, int32_t dtype) {
  const int64_t items = c.shape[0], channels = c.shape[1], positions = c.shape[2];
  const int64_t of_group = c.groups ? channels / c.groups : 1;
  reference known;
  for (int64_t n = 0; n < items; ++n)
    for (int64_t d = 0; d < channels; ++d)
      for (int64_t s = 0; s < positions; ++s) {
        known.statistic_of.push_back(c.groups ? n * c.groups + d / of_group : d);
        known.parameter_of.push_back(d);
      }
  known.statistics = statistics_of(c);
  known.parameters = channels;
  known.shared = real((c.groups ? of_group : items) * positions);
  known.summed = real(items * positions);
  known.u = unit_roundoff(dtype);
  known.epsilon = epsilon;
  known.fixed = c.fixed;
  return known;
}

hominy_status normalize_channels(const level& here, const hominy_tensor* x, const hominy_tensor* weight,
                                 const hominy_tensor* bias, int64_t groups, bool fixed, const hominy_tensor* mean,
                                 const hominy_tensor* variance, const hominy_tensor* out) {
  workspace scratch(here.kernels->channel_norm_workspace_size(x, groups));
  return here.kernels->channel_norm(x, weight, bias, groups, epsilon, fixed, mean, variance, out, scratch.data(),
                                    scratch.bytes());
}

hominy_status channels_backward(const level& here, const hominy_tensor* gradient, const hominy_tensor* x,
                                const hominy_tensor* weight, const hominy_tensor* mean, const hominy_tensor* variance,
                                int64_t groups, bool fixed, const hominy_tensor* out, const hominy_tensor* of_weight,
                                const hominy_tensor* of_bias, int needs) {
  workspace scratch(here.kernels->channel_norm_workspace_size(x, groups));
  return here.kernels->channel_norm_backward(gradient, x, weight, mean, variance, groups, epsilon, fixed,
                                             given_if(needs & 1, out), given_if(needs & 2, of_weight),
                                             given_if(needs & 4, of_bias), scratch.data(), scratch.bytes());
}

void check_channels(const level& here, int32_t dtype, const channel_case& c) {
  const int64_t channels = c.shape[1], statistics = statistics_of(c);
  volume x(dtype, c.shape, c.from, c.channels_last), out(dtype, c.shape, c.to, c.out_last);
  array weight(dtype, {channels}), bias(dtype, {channels});
  array mean(dtype, {statistics}), variance(dtype, {statistics});
  x.fill_uniform(1, c.low, c.high);
  weight.fill_uniform(2, -2, 2);
  bias.fill_uniform(3, -2, 2);
  if (c.fixed) {
    mean.fill_uniform(4, -1, 2);
    variance.fill_uniform(5, 0.5, 3);
  }
  const hominy_tensor* scale = given_if(c.options & with_weight, weight);
  const hominy_tensor* offset = given_if(c.options & with_bias, bias);
  const std::string what = "channel norm " + text_of(c.shape) + " groups " + std::to_string(c.groups) + " options " +
                           std::to_string(c.options) + (c.fixed ? " fixed " : " ") + name_of(c.from) +
                           (c.channels_last ? " channels last -> " : " -> ") + name_of(c.to) +
                           (c.out_last ? " channels last" : "");

  reference known = reference_of_channels(c, dtype);
  known.x = x.values();
  if (scale) known.weight = values_of(weight);
  if (offset) known.bias = values_of(bias);
  if (c.fixed) known.mean = values_of(mean), known.variance = values_of(variance);
  const auto expected = known.forward();
  if (!check_status(normalize_channels(here, x, scale, offset, c.groups, c.fixed, mean, variance, out), HOMINY_OK,
                    what))
    return;
  out.check_values(what, expected.out);
  if (c.fixed) {
    check(mean.untouched() && variance.untouched(), "%s: wrote to fixed statistics", what.c_str());
  } else {
    check_list(mean, what + " mean", expected.mean);
    check_list(variance, what + " variance", expected.variance);
    for (int64_t s = 0; s < statistics; ++s)
      if (variance[s] < 0) check(false, "%s: variance %Lg", what.c_str(), variance[s]);
  }
  check(x.memory().untouched() && weight.untouched() && bias.untouched(), "%s: wrote to an input", what.c_str());

  volume same(dtype, c.shape, c.to, c.out_last);
  same.fill(known.x);
  normalize_channels(here, same, scale, offset, c.groups, c.fixed, mean, variance, same);
  same.check_values(what + " in place", expected.out);

  if (!c.fixed) {
    mean.fill([&](int64_t i) { return expected.mean[size_t(i)].value; });
    variance.fill([&](int64_t i) { return expected.variance[size_t(i)].value; });
  }
  known.mean = values_of(mean);
  known.rstd.clear();
  for (int64_t s = 0; s < statistics; ++s) known.rstd.push_back(1 / sqrtl(variance[s] + real(epsilon)));
  volume gradient(dtype, c.shape, c.of_gradient, c.gradient_last), of_x(dtype, c.shape, c.to, c.out_last);
  array of_weight(dtype, {channels}), of_bias(dtype, {channels});
  gradient.fill_uniform(6, -2, 2);
  known.gradient = gradient.values();
  const auto slopes = known.backward();
  const std::string back = what + " backward, gradient " + name_of(c.of_gradient) +
                           (c.gradient_last ? " channels last" : "") + " needs " + std::to_string(c.needs);
  const auto run = [&](const volume& g, const volume& input, const volume& to) {
    return channels_backward(here, g, input, scale, mean, variance, c.groups, c.fixed, to, of_weight, of_bias, c.needs);
  };
  if (!check_status(run(gradient, x, of_x), HOMINY_OK, back)) return;
  const bool with_slope = c.needs & 2 && product_of(c.shape) > 0;
  if (c.needs & 1) of_x.check_values(back, slopes.out);
  if (with_slope) check_list(of_weight, back + " weight", slopes.weight);
  if (c.needs & 4) check_list(of_bias, back + " bias", slopes.bias);
  check(x.memory().untouched() && weight.untouched() && gradient.memory().untouched() && mean.untouched() &&
            variance.untouched(),
        "%s: wrote to an input", back.c_str());
  if (!(c.needs & 1)) return;
  volume over_gradient(dtype, c.shape, c.to, c.out_last);
  over_gradient.fill(known.gradient);
  run(over_gradient, x, over_gradient);
  over_gradient.check_values(back + " over the gradient", slopes.out);
  if (with_slope) check_list(of_weight, back + " over the gradient, weight", slopes.weight);
  same.fill(known.x);
  run(gradient, same, same);
  same.check_values(back + " over x", slopes.out);
  if (with_slope) check_list(of_weight, back + " over x, weight", slopes.weight);
}

// Groups that `channels` can be divided into: by channel over the batch, all, some, each alone.
std::vector<int64_t> groups_of(int64_t channels) {
  std::vector<int64_t> all = {0, 1};
  for (int64_t groups : {2, 3})
    if (channels % groups == 0 && channels > groups) all.push_back(groups);
  if (channels > 1) all.push_back(channels);
  return all;
}

void channel_values(const level& here, int32_t dtype) {
  const bool quick = here.settings.quick;
  const auto run = [&](const std::vector<int64_t>& shape, bool last) {
    for (int64_t groups : groups_of(shape[1])) {
      if (product_of(shape) > 2000 && groups == 1 && shape[1] > 2) continue;
      channel_case c{shape, groups};
      c.channels_last = c.gradient_last = c.out_last = last;
      check_channels(here, dtype, c);
      c.fixed = true;
      if (product_of(shape) < 700) check_channels(here, dtype, c);
    }
  };
  for (int64_t n : here.sizes(dtype))
    for (bool last : {false, true}) {
      run({2, 4, n}, last);
      run({2, n, 2}, last);
      if (quick && last) continue;
      run({n, 4, 1}, last);
      run({n, 3, 2}, last);
    }
  run({1, 1, 1}, false);
  run({0, 4, 3}, false);
  run({2, 4, 0}, false);
  run({0, 0, 0}, false);
  for (bool last : {false, true}) {
    run({quick ? 70 : 300, 8, 1}, last);
    run({2, 12, quick ? 49 : 99}, last);
    run({1, 2, 2049}, last);
    if (quick) continue;
    run({2, 4, 2500}, last);
    run({33, 4, 17}, last);
    run({2, 33, 35}, last);
    run({1501, 2, 3}, last);
    run({1, 1, 10007}, last);
  }
  for (int64_t groups : {0, 2})
    for (int options = 0; options < 4; ++options)
      for (int needs = 0; needs < 8; ++needs)
        for (bool fixed : {false, true}) {
          channel_case c{{3, 4, 7}, groups};
          c.options = options;
          c.needs = needs;
          c.fixed = fixed;
          c.channels_last = c.gradient_last = c.out_last = needs & 1;
          check_channels(here, dtype, c);
        }
}

void channel_layouts(const level& here, int32_t dtype) {
  int step = 0;
  for (layout from : input_layouts)
    for (layout to : output_layouts)
      for (int last = 0; last < 8; ++last)
        for (int64_t groups : {0, 2, 4}) {
          if (here.settings.quick ? ++step % 11 != 0 : ++step % 5 > 1) continue;
          channel_case c{{3, 4, 6 + step % 12}, groups};
          c.from = from;
          c.to = to;
          c.of_gradient = input_layouts[step % 13 % 8];
          c.channels_last = last & 1;
          c.gradient_last = last >> 1 & 1;
          c.out_last = last >> 2 & 1;
          c.fixed = step % 7 == 0;
          check_channels(here, dtype, c);
        }
}

void channel_extremes(const level& here, int32_t dtype) {
  const std::vector<int64_t> shapes[] = {{3, 2, 67}, {7, 4, 1}, {1, 2, 2051}, {2, 2, 1}};
  for (const auto& shape : shapes)
    for (bool last : {false, true})
      for (auto [low, high] : {std::pair{1e4 - 1.7, 1e4 + 1.7},
                               {-1e4 - 1.7, -1e4 + 1.7},
                               {1e6 - 17, 1e6 + 17},
                               {0.1, 0.1},
                               {12345.6, 12345.6},
                               {0.0, 0.0},
                               {-1e-9, 1e-9},
                               {-1e9, 1e9}})
        for (int64_t groups : groups_of(shape[1])) {
          channel_case c{shape, groups};
          c.channels_last = c.gradient_last = c.out_last = last;
          c.low = low;
          c.high = high;
          check_channels(here, dtype, c);
        }
  // NaN reaches what shares its statistic and nothing else.
  for (int64_t groups : {0, 2})
    for (bool last : {false, true}) {
      volume x(dtype, {2, 4, 9}, layout::contiguous, last), out(dtype, {2, 4, 9}, layout::contiguous, last);
      array mean(dtype, {4}), variance(dtype, {4});
      std::vector<real> values(72, 0);
      for (size_t i = 0; i < values.size(); ++i) values[i] = real(i % 7);
      values[9 + 4] = nan;  // item 0, channel 1
      x.fill(values);
      check_status(normalize_channels(here, x, nullptr, nullptr, groups, false, mean, variance, out), HOMINY_OK, "NaN");
      const auto got = out.values();
      bool right = true;
      for (size_t i = 0; i < got.size(); ++i) {
        const size_t channel = i / 9 % 4, item = i / 36;
        const bool touched = groups ? item == 0 && channel < 2 : channel == 1;
        right = right && bool(isnan(got[i])) == touched;
      }
      check(right, "NaN stays in its group, groups %lld, channels last %d", (long long)groups, last);
    }
}

void channel_refusals(const level& here, int32_t dtype) {
  const hominy_kernels& k = *here.kernels;
  for (int64_t groups : {0, 2}) {
    const int64_t statistics = groups ? 3 * groups : 4;
    array x(dtype, {3, 4, 5}), weight(dtype, {4}), bias(dtype, {4}), out(dtype, {3, 4, 5}), mean(dtype, {statistics});
    array variance(dtype, {statistics}), gradient(dtype, {3, 4, 5}), of_weight(dtype, {4}), of_bias(dtype, {4});
    array scratch(HOMINY_UINT8, {1 << 20});
    for (array* each : {&x, &weight, &bias, &gradient}) each->fill_uniform(1, -1, 1);
    const auto forward = [&](const hominy_tensor* from, const hominy_tensor* scale, const hominy_tensor* offset,
                             const hominy_tensor* center, const hominy_tensor* square, const hominy_tensor* to,
                             hominy_status expected, const std::string& what) {
      const int64_t asked = k.channel_norm_workspace_size(from, groups);
      check(asked <= scratch.size(), "%s: asks for a workspace of %lld bytes", what.c_str(), (long long)asked);
      for (int fixed = 0; fixed < 2; ++fixed) {
        const hominy_status status = k.channel_norm(from, scale, offset, groups, epsilon, fixed, center, square, to,
                                                    scratch.data(), scratch.size());
        check_refused(status, {expected, HOMINY_BAD_SHAPE}, out, "channel_norm: " + what);
        check(mean.untouched() && variance.untouched(), "channel_norm: %s: wrote statistics", what.c_str());
      }
    };
    const auto backward = [&](const hominy_tensor* g, const hominy_tensor* from, const hominy_tensor* scale,
                              const hominy_tensor* center, const hominy_tensor* square, const hominy_tensor* to,
                              const hominy_tensor* to_weight, const hominy_tensor* to_bias, hominy_status expected,
                              const std::string& what) {
      const hominy_status status = k.channel_norm_backward(g, from, scale, center, square, groups, epsilon, 0, to,
                                                           to_weight, to_bias, scratch.data(), scratch.size());
      check_refused(status, {expected, HOMINY_BAD_SHAPE}, out, "channel_norm_backward: " + what);
      check(of_weight.untouched() && of_bias.untouched(), "channel_norm_backward: %s: wrote a list", what.c_str());
    };
    for (const auto& bad : bad_tensors(x)) {
      const std::string what = std::string(" has ") + bad.what;
      const hominy_tensor* t = &bad.tensor;
      forward(t, weight, bias, mean, variance, out, bad.expected, "x" + what);
      forward(x, weight, bias, mean, variance, t, bad.expected, "out" + what);
      backward(t, x, weight, mean, variance, out, of_weight, of_bias, bad.expected, "gradient" + what);
      backward(gradient, t, weight, mean, variance, out, of_weight, of_bias, bad.expected, "x" + what);
      backward(gradient, x, weight, mean, variance, t, of_weight, of_bias, bad.expected, "out" + what);
    }
    for (const auto& bad : bad_tensors(weight)) {
      const std::string what = std::string(" has ") + bad.what;
      const hominy_tensor* t = &bad.tensor;
      forward(x, t, bias, mean, variance, out, bad.expected, "weight" + what);
      forward(x, weight, t, mean, variance, out, bad.expected, "bias" + what);
      backward(gradient, x, t, mean, variance, out, of_weight, of_bias, bad.expected, "weight" + what);
      backward(gradient, x, weight, mean, variance, out, t, of_bias, bad.expected, "weight_gradient" + what);
      backward(gradient, x, weight, mean, variance, out, of_weight, t, bad.expected, "bias_gradient" + what);
    }
    for (const auto& bad : bad_tensors(mean)) {
      const std::string what = std::string(" has ") + bad.what;
      const hominy_tensor* t = &bad.tensor;
      forward(x, weight, bias, t, variance, out, bad.expected, "mean" + what);
      forward(x, weight, bias, mean, t, out, bad.expected, "variance" + what);
      backward(gradient, x, weight, t, variance, out, of_weight, of_bias, bad.expected, "mean" + what);
      backward(gradient, x, weight, mean, t, out, of_weight, of_bias, bad.expected, "variance" + what);
    }
    array flat(dtype, {12, 5}), deep(dtype, {3, 4, 5, 1}), turned(dtype, {3, 5, 4});
    forward(flat, weight, bias, mean, variance, flat, HOMINY_BAD_SHAPE, "two dimensions");
    forward(deep, weight, bias, mean, variance, deep, HOMINY_BAD_SHAPE, "four dimensions");
    forward(x, weight, bias, mean, variance, turned, HOMINY_BAD_SHAPE, "out is turned");
    backward(turned, x, weight, mean, variance, out, of_weight, of_bias, HOMINY_BAD_SHAPE, "gradient is turned");

    for (int64_t wrong : {int64_t(-1), int64_t(3), int64_t(8), INT64_MIN, INT64_MAX}) {
      const std::string what = std::to_string(wrong) + " groups";
      k.channel_norm_workspace_size(x, wrong);
      check_refused(k.channel_norm(x, weight, bias, wrong, epsilon, 0, mean, variance, out, scratch.data(), 1 << 20),
                    {HOMINY_BAD_VALUE, HOMINY_BAD_SHAPE}, out, what);
      check_refused(k.channel_norm_backward(gradient, x, weight, mean, variance, wrong, epsilon, 0, out, of_weight,
                                            of_bias, scratch.data(), 1 << 20),
                    {HOMINY_BAD_VALUE, HOMINY_BAD_SHAPE}, out, what + " backward");
    }

    const hominy_tensor huge = overflowing(x);
    hominy_tensor list = huge;
    list.ndim = 1;
    list.strides[0] = size_of_dtype(dtype);
    hominy_tensor of_groups = list;
    if (groups) of_groups.shape[0] *= groups;
    k.channel_norm_workspace_size(&huge, groups);
    check_refused(
        k.channel_norm(&huge, &list, &list, groups, epsilon, 0, &of_groups, &of_groups, &huge, scratch.data(), 1 << 20),
        {HOMINY_OVERFLOW}, x, "channel_norm: 2^93 elements");
    check_refused(k.channel_norm_backward(&huge, &huge, &list, &of_groups, &of_groups, groups, epsilon, 0, &huge, &list,
                                          &list, scratch.data(), 1 << 20),
                  {HOMINY_OVERFLOW}, x, "channel_norm_backward: 2^93 elements");

    for (bool last : {false, true}) {
      volume big(dtype, {7, 6, 67}, layout::contiguous, last), to(dtype, {7, 6, 67}, layout::contiguous, last);
      array list_of_channels(dtype, {6}), center(dtype, {groups ? 7 * groups : 6});
      array square(dtype, {groups ? 7 * groups : 6}), slopes(dtype, {6});
      big.fill_uniform(1, -1, 1);
      list_of_channels.fill_uniform(2, 1, 2);
      const int64_t asked = k.channel_norm_workspace_size(big, groups);
      if (asked <= 0) continue;
      for (int64_t bytes : {int64_t(0), asked - 1, int64_t(-1)}) {
        const std::string what = "workspace of " + std::to_string(bytes) + " bytes";
        check_refused(k.channel_norm(big, list_of_channels, nullptr, groups, epsilon, 0, center, square, to,
                                     scratch.data(), bytes),
                      {HOMINY_NO_WORKSPACE}, to.memory(), what);
        check(center.untouched() && square.untouched(), "%s: wrote statistics", what.c_str());
        check_refused(k.channel_norm_backward(big, big, list_of_channels, center, square, groups, epsilon, 0, to,
                                              slopes, slopes, scratch.data(), bytes),
                      {HOMINY_NO_WORKSPACE}, to.memory(), what);
        check(slopes.untouched(), "%s: wrote a list", what.c_str());
      }
    }
  }
}

void channel_threads_and_alignment(const level& here, int32_t dtype) {
  const bool quick = here.settings.quick;
  const auto forward = [&](const hominy_tensor* x, const hominy_tensor* weight, int64_t groups, const auto& mean,
                           const auto& variance, const hominy_tensor* out) {
    normalize_channels(here, x, weight, weight, groups, false, mean, variance, out);
    auto bits = mean.bits();
    append(bits, variance.bits());
    return bits;
  };
  struct {
    std::vector<int64_t> shape, groups;
  } const all[] = {{{9, 16, quick ? 65 : 131}, {0, 2, 16}},
                   {{quick ? 501 : 2003, 8, 1}, {0}},
                   {{2, 4, 5003}, {0, 1}},
                   {{1, 300, 131}, {300}}};
  for (const auto& [shape, some_groups] : all)
    for (bool last : {false, true})
      for (int64_t groups : some_groups) {
        if (quick && (shape[0] < 9 || groups > 2)) continue;
        const int64_t channels = shape[1], statistics = groups ? shape[0] * groups : channels;
        volume x(dtype, shape, layout::contiguous, last), g(dtype, shape, layout::contiguous, last);
        volume out(dtype, shape, layout::contiguous, last);
        array weight(dtype, {channels}), mean(dtype, {statistics}), variance(dtype, {statistics});
        array of_weight(dtype, {channels}), of_bias(dtype, {channels});
        x.fill_uniform(1, -3, 5);
        g.fill_uniform(2, -2, 2);
        weight.fill_uniform(3, -2, 2);
        same_bits_for_any_number_of_threads("channel_norm", [&] {
          auto bits = forward(x, weight, groups, mean, variance, out);
          append(bits, out.memory().bits());
          return bits;
        });
        same_bits_for_any_number_of_threads("channel_norm_backward", [&] {
          channels_backward(here, g, x, weight, mean, variance, groups, false, out, of_weight, of_bias, 7);
          auto bits = out.memory().bits();
          append(bits, of_weight.bits());
          append(bits, of_bias.bits());
          return bits;
        });
      }
  for (const auto& shape : {std::vector<int64_t>{2, 6, 35}, {3, 34, 5}})
    for (bool last : {false, true})
      for (int64_t groups : {0, 2}) {
        const int64_t channels = shape[1], statistics = groups ? shape[0] * groups : channels;
        volume x(dtype, shape, layout::contiguous, last), g(dtype, shape, layout::contiguous, last);
        array weight(dtype, {channels}), center(dtype, {statistics}), square(dtype, {statistics});
        x.fill_uniform(1, -3, 5);
        g.fill_uniform(2, -2, 2);
        weight.fill_uniform(3, -2, 2);
        center.fill_uniform(4, -1, 2);
        square.fill_uniform(5, 0.5, 2);
        // The volume's own view, at another place.
        const auto moved = [&](const shifted& memory) {
          hominy_tensor view = *static_cast<const hominy_tensor*>(x);
          view.data = static_cast<const hominy_tensor*>(memory)->data;
          return view;
        };
        same_bits_for_any_alignment("channel_norm", [&](int64_t shift) {
          const int64_t other = shift * 5 % 64;
          const shifted from(dtype, shape, shift, x.memory().bits()), to(dtype, shape, other);
          const shifted scale(dtype, {channels}, other / 8 * 8, weight.bits()),
              mean(dtype, {statistics}, shift / 8 * 8);
          const shifted variance(dtype, {statistics}, other / 8 * 8);
          const hominy_tensor view = moved(from), out = moved(to);
          auto bits = forward(&view, scale, groups, mean, variance, &out);
          append(bits, to.bits());
          check(to.guards_intact() && mean.guards_intact() && variance.guards_intact(), "channel_norm: wrote outside");
          return bits;
        });
        same_bits_for_any_alignment("channel_norm_backward", [&](int64_t shift) {
          const int64_t other = shift * 5 % 64;
          const shifted from(dtype, shape, shift, x.memory().bits()),
              slopes(dtype, shape, 3 * shift % 64, g.memory().bits());
          const shifted to(dtype, shape, other), scale(dtype, {channels}, other / 8 * 8, weight.bits());
          const shifted mean(dtype, {statistics}, shift / 8 * 8, center.bits());
          const shifted variance(dtype, {statistics}, other / 8 * 8, square.bits());
          const shifted of_weight(dtype, {channels}, shift / 8 * 8), of_bias(dtype, {channels}, other / 8 * 8);
          const hominy_tensor view = moved(from), gradient = moved(slopes), out = moved(to);
          channels_backward(here, &gradient, &view, scale, mean, variance, groups, false, &out, of_weight, of_bias, 7);
          check(to.guards_intact() && of_weight.guards_intact() && of_bias.guards_intact(), "backward: wrote outside");
          auto bits = to.bits();
          append(bits, of_weight.bits());
          append(bits, of_bias.bits());
          return bits;
        });
      }
}

}  // namespace

void channel_norm_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("channel_norm", channel_values);
    group("channel_norm layouts", channel_layouts);
    group("channel_norm extremes", channel_extremes);
    group("channel_norm refusals", channel_refusals);
    group("channel_norm threads and alignment", channel_threads_and_alignment);
  }
}

}  // namespace test
