// What the tests of convolution share: geometries, the formula of hominy.h, and calls through the table in every
// layout.
//
// Most values are small integers, whose sums are exact: there every algorithm must give the very same numbers, in any
// order. Else the bounds of the algorithms' headers hold.
#pragma once
#include <math.h>

#include <algorithm>
#include <memory>

#include "guarded_bytes.hpp"

namespace test::convolutions {

using sizes = std::vector<int64_t>;

enum operand { of_x, of_weight, of_y };
inline constexpr hominy_conv_direction directions[] = {HOMINY_CONV_FORWARD, HOMINY_CONV_INPUT_GRADIENT,
                                                       HOMINY_CONV_WEIGHT_GRADIENT};
inline constexpr const char* direction_names[] = {"forward", "input gradient", "weight gradient"};
inline constexpr operand results[] = {of_y, of_x, of_weight};  // by direction
inline constexpr hominy_conv_algorithm algorithms[] = {HOMINY_CONV_AUTO, HOMINY_CONV_PRODUCT, HOMINY_CONV_DEPTHWISE,
                                                       HOMINY_CONV_GROUPED};
inline constexpr const char* algorithm_names[] = {"auto", "product", "depthwise", "grouped", "winograd2", "winograd4"};
inline constexpr const char* activation_names[] = {"none", "relu", "sigmoid", "tanh", "gelu", "silu"};

inline bool is_winograd(hominy_conv_algorithm a) { return a == HOMINY_CONV_WINOGRAD2 || a == HOMINY_CONV_WINOGRAD4; }

struct activated {
  real value, slope, ulps;  // slope: a Lipschitz constant; ulps: its own error, of max(|value|, |x|)
};
inline activated activate(int activation, real x) {
  switch (activation) {
    case HOMINY_ACTIVATION_RELU: return {isnan(x) ? x : x > 0 ? x : 0, 1, 0};
    case HOMINY_ACTIVATION_SIGMOID: return {1 / (1 + expl(-x)), 0.25L, 4};
    case HOMINY_ACTIVATION_TANH: return {tanhl(x), 1, 4};
    case HOMINY_ACTIVATION_GELU: return {0.5L * x * erfcl(-x * 0.707106781186547524400844362104849039L), 1.13L, 5};
    case HOMINY_ACTIVATION_SILU: return {x / (1 + expl(-x)), 1.1L, 5};
    default: return {x, 1, 0};
  }
}

struct channels {
  int64_t in, out;  // of all groups; -1: any of them
};

struct geometry {
  int64_t batch, groups, in_channels, out_channels;  // channels of one group
  sizes size, kernel, stride, padding, dilation, out;

  sizes shape(operand which) const {
    const bool weight = which == of_weight;
    sizes s = {weight ? groups * out_channels : batch, weight          ? in_channels
                                                       : which == of_x ? groups * in_channels
                                                                       : groups * out_channels};
    const sizes& space = which == of_x ? size : weight ? kernel : out;
    s.insert(s.end(), space.begin(), space.end());
    return s;
  }
  // Those that the i-th element of an operand meets.
  channels channels_of(operand which, int64_t i) const {
    if (which == of_x) return {i / product_of(size) % (groups * in_channels), -1};
    if (which == of_y) return {-1, i / product_of(out) % (groups * out_channels)};
    const int64_t row = i / product_of(kernel), filter = row / in_channels;
    return {filter / out_channels * in_channels + row % in_channels, filter};
  }
  int64_t group_of(channels c) const { return c.in < 0 ? c.out / out_channels : c.in / in_channels; }
  std::string text() const {
    return text_of(shape(of_x)) + " * " + text_of(shape(of_weight)) + " -> " + text_of(shape(of_y)) + " groups " +
           std::to_string(groups) + " stride " + text_of(stride) + " padding " + text_of(padding) + " dilation " +
           text_of(dilation);
  }
  int64_t multiplications() const {
    if (product_of(size) == 0) return 0;
    return batch * groups * in_channels * out_channels * product_of(out) * product_of(kernel);
  }
};

// Padded alike on both sides; `more`: what out has beyond that (or less).
inline geometry convolution(int64_t batch, int64_t groups, int64_t in_channels, int64_t out_channels, sizes size,
                            sizes kernel, sizes stride = {}, sizes padding = {}, sizes dilation = {}, sizes more = {}) {
  const size_t nd = size.size();
  if (stride.empty()) stride.assign(nd, 1);
  if (padding.empty()) padding.assign(nd, 0);
  if (dilation.empty()) dilation.assign(nd, 1);
  if (more.empty()) more.assign(nd, 0);
  sizes out(nd);
  for (size_t d = 0; d < nd; ++d) {
    const int64_t room = size[d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1;
    out[d] = std::max<int64_t>((room < 0 ? 0 : room / stride[d] + 1) + more[d], 0);
  }
  return {batch, groups, in_channels, out_channels, size, kernel, stride, padding, dilation, out};
}

// visit(y, weight, x): the numbers, in C order, of the elements of each product of the formula with x inside its space.
template <class Visit>
void for_each_term(const geometry& g, Visit visit) {
  int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1}, kernel[3] = {1, 1, 1};
  int64_t stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1}, padding[3] = {};
  const size_t nd = g.size.size();
  for (size_t d = 0; d < nd; ++d) {
    const size_t to = 3 - nd + d;
    in[to] = g.size[d], out[to] = g.out[d], kernel[to] = g.kernel[d];
    stride[to] = g.stride[d], dilation[to] = g.dilation[d], padding[to] = g.padding[d];
  }
  const int64_t in_volume = in[0] * in[1] * in[2], out_volume = out[0] * out[1] * out[2];
  const int64_t taps = kernel[0] * kernel[1] * kernel[2];
  const int64_t pairs = g.in_channels * g.out_channels;
  for (int64_t i = 0; i < g.batch * g.groups * pairs; ++i) {
    const int64_t image = i / pairs, group = image % g.groups, o = i % pairs / g.in_channels, c = i % g.in_channels;
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t weight = ((group * g.out_channels + o) * g.in_channels + c) * taps + t;
      const int64_t t0 = t / kernel[2] / kernel[1], t1 = t / kernel[2] % kernel[1], t2 = t % kernel[2];
      for (int64_t p0 = 0; p0 < out[0]; ++p0) {
        const int64_t x0 = p0 * stride[0] + t0 * dilation[0] - padding[0];
        if (x0 < 0 || x0 >= in[0]) continue;
        for (int64_t p1 = 0; p1 < out[1]; ++p1) {
          const int64_t x1 = p1 * stride[1] + t1 * dilation[1] - padding[1];
          if (x1 < 0 || x1 >= in[1]) continue;
          const int64_t y = (image * g.out_channels + o) * out_volume + (p0 * out[1] + p1) * out[2];
          const int64_t x = (image * g.in_channels + c) * in_volume + (x0 * in[1] + x1) * in[2];
          for (int64_t p2 = 0; p2 < out[2]; ++p2) {
            const int64_t x2 = p2 * stride[2] + t2 * dilation[2] - padding[2];
            if (x2 >= 0 && x2 < in[2]) visit(y + p2, weight, x + x2);
          }
        }
      }
    }
  }
}

// Where operands lie. One that repeats elements (stride 0) is told to the problem, which draws fitting values.
struct placement {
  layout operands[3] = {}, residual = layout::contiguous, bias = layout::contiguous;
};

struct call {
  hominy_conv_direction direction = HOMINY_CONV_FORWARD;
  hominy_conv_algorithm algorithm = HOMINY_CONV_AUTO;
  placement at = {};
  bool bias = false, residual = false;
  hominy_activation activation = HOMINY_ACTIVATION_NONE;
  bool exact = false;
  bool packed = false;             // weights packed ahead
  int asking = 0;                  // the number of threads while the workspace's size is asked for; 0: as it is
  std::vector<bool> may_be_nan{};  // elements where a NaN is right, too
};

// Memory that kernels may rely on nothing in: every float of it is a NaN.
struct nans : guarded_bytes {
  explicit nans(int64_t bytes) : guarded_bytes(0, bytes) { memset(data(), 0xff, size_t(bytes)); }
};

enum class numbers { integers, uniform };

// A geometry with its values and what must come of them.
class problem {
 public:
  problem(const level& here, int32_t dtype, geometry g, numbers kind, uint64_t seed = 1, const placement& at = {})
      : here_(here), dtype_(dtype), g_(std::move(g)), kind_(kind) {
    for (operand o : {of_x, of_weight, of_y}) {
      operands_[o].values = draw(g_.shape(o), at.operands[o], seed + uint64_t(o));
      residual_[o].values = draw(g_.shape(o), at.residual, seed + 3);
      bias_[o].values = draw({g_.shape(o)[1]}, at.bias, seed + 4);
    }
  }

  const geometry& shape() const { return g_; }
  std::vector<double>& values(operand o) { return operands_[o].values; }

  // Calls and checks. False: the algorithm named does not compute this, and has refused it. `known`: the result's bits
  // as they must be, and `than` whose they are.
  bool run(const call& c, std::vector<unsigned char>* bits = nullptr, const std::vector<unsigned char>* known = nullptr,
           const char* than = "") {
    const hominy_kernels& k = *here_.kernels;
    const operand result = results[c.direction];
    array out(dtype_, g_.shape(result), c.at.operands[result]);
    const array& bias = input(bias_[result], {out.shape()[1]}, c.at.bias);
    const array& residual = input(residual_[result], out.shape(), c.at.residual);
    const array* operands[3];
    for (operand o : {of_x, of_weight, of_y})
      operands[o] = o == result ? &out : &input(operands_[o], g_.shape(o), c.at.operands[o]);
    const array &x = *operands[of_x], &weight = *operands[of_weight], &y = *operands[of_y];

    const hominy_conv settings = settings_of(c);
    last_ = k.conv_algorithm(c.direction, x, weight, y, &settings);
    const std::string what = describe(c);
    const auto do_conv = [&](const void* packed, const guarded_bytes& scratch) {
      return k.conv(c.direction, x, weight, y, c.bias ? bias : nothing, c.residual ? residual : nothing, packed,
                    &settings, scratch.data(), scratch.size());
    };
    const bool computes = c.algorithm == HOMINY_CONV_AUTO || last_ == c.algorithm;
    if (!computes && g_.multiplications() > 0) {
      check_refused(do_conv(nullptr, nans(1 << 12)), {HOMINY_BAD_VALUE}, out, what + ": not computed");
      return false;
    }

    const int threads = hominy::num_threads();
    if (c.asking) hominy::set_num_threads(c.asking);
    const int64_t asked = k.conv_workspace_size(c.direction, x, weight, y, &settings);
    hominy::set_num_threads(threads);
    if (!check(asked >= 0 && asked < most_scratch, "%s: workspace of %lld bytes", what.c_str(), (long long)asked))
      return true;
    const nans scratch(asked);
    const int64_t wanted = c.packed ? k.conv_packed_size(c.direction, x, weight, y, &settings) : 0;
    if (!check(wanted >= 0 && wanted < most_scratch, "%s: packs %lld bytes", what.c_str(), (long long)wanted))
      return true;
    const nans packed(wanted);
    std::vector<unsigned char> before;
    if (c.packed) {
      check_status(k.conv_pack(c.direction, x, weight, y, &settings, packed.data()), HOMINY_OK, what + ": packing");
      check(packed.guards_intact(), "%s: wrote outside the packed weights", what.c_str());
      before.assign(packed.data(), packed.data() + wanted);
    }
    if (!check_status(do_conv(wanted > 0 ? packed.data() : nullptr, scratch), HOMINY_OK, what)) return true;
    check(scratch.guards_intact(), "%s: wrote outside the workspace", what.c_str());
    check(std::equal(before.begin(), before.end(), packed.data()) && packed.guards_intact(),
          "%s: wrote to packed weights", what.c_str());
    for (operand o : {of_x, of_weight, of_y})
      if (o != result) check(operands[o]->untouched(), "%s: wrote to an input", what.c_str());
    check(bias.untouched() && residual.untouched(), "%s: wrote to bias or residual", what.c_str());
    if (known)
      check(out.bits() == *known && out.guards_intact(), "%s: other bits than %s", what.c_str(), than);
    else
      check_elements(out, what, [&](int64_t i) { return expected(c, i, out[i]); });
    if (bits) *bits = out.bits();
    return true;
  }

  // What computed the last call.
  hominy_conv_algorithm algorithm() const { return last_; }

  std::string describe(const call& c) const {
    std::string text = std::string(direction_names[c.direction]) + " " + algorithm_names[c.algorithm];
    if (c.algorithm == HOMINY_CONV_AUTO) text += std::string(" = ") + algorithm_names[last_];
    text += " " + g_.text();
    for (operand o : {of_x, of_weight, of_y}) text += std::string(o ? ", " : "; ") + name_of(c.at.operands[o]);
    if (c.bias) text += std::string("; bias ") + name_of(c.at.bias);
    if (c.residual) text += std::string("; residual ") + name_of(c.at.residual);
    if (c.activation) text += std::string("; ") + activation_names[c.activation];
    if (c.packed) text += "; packed";
    if (c.exact) text += "; exact";
    return text;
  }

  static constexpr int64_t most_scratch = int64_t(1) << 28;

 private:
  static constexpr const hominy_tensor* nothing = nullptr;
  struct drawn {
    std::vector<double> values;
    mutable std::unique_ptr<array> arrays[int(layout::channels_last_sliced) + 1];
  };
  struct sums {
    std::vector<real> value, magnitude;
    std::vector<int32_t> terms;
  };

  std::vector<double> draw(const sizes& shape, layout kind, uint64_t seed) const {
    array a(dtype_, shape, kind);
    random_numbers random(seed);
    a.fill([&](int64_t) { return kind_ == numbers::integers ? real(random.below(9) - 4) : random.uniform(-1, 1); });
    std::vector<double> values(static_cast<size_t>(a.size()));
    for (int64_t i = 0; i < a.size(); ++i) values[size_t(i)] = double(a[i]);
    return values;
  }

  // The array of these values in this layout; kernels leave it as it is, so all calls share it.
  const array& input(const drawn& from, const sizes& shape, layout kind) {
    std::unique_ptr<array>& a = from.arrays[int(kind)];
    if (!a) {
      a = std::make_unique<array>(dtype_, shape, kind);
      a->fill([&](int64_t i) { return from.values[size_t(i)]; });
    }
    return *a;
  }

  hominy_conv settings_of(const call& c) const {
    hominy_conv settings;
    for (size_t d = 0; d < 3; ++d) {  // entries past the dimensions of space mean nothing
      const bool is_used = d < g_.size.size();
      settings.stride[d] = is_used ? g_.stride[d] : 0;
      settings.padding[d] = is_used ? g_.padding[d] : -1;
      settings.dilation[d] = is_used ? g_.dilation[d] : INT64_MIN;
    }
    settings.groups = g_.groups;
    settings.algorithm = c.algorithm;
    settings.activation = c.activation;
    settings.exact = c.exact ? 256 : 0;
    return settings;
  }

  // float32 products are exact in float64, and its own rounding is far below float32's.
  template <class Wide>
  void add_up(operand result, sums& all) const {
    std::vector<Wide> value(operands_[result].values.size()), magnitude(value.size());
    const double *x = operands_[of_x].values.data(), *weight = operands_[of_weight].values.data(),
                 *y = operands_[of_y].values.data();
    Wide *to = value.data(), *sizes = magnitude.data();
    int32_t* terms = all.terms.data();
    const auto add = [&](int64_t i, double a, double b) {
      const Wide term = Wide(a) * Wide(b);
      to[i] += term;
      sizes[i] += term < 0 ? -term : term;
      ++terms[i];
    };
    switch (result) {
      case of_x: for_each_term(g_, [&](int64_t i, int64_t j, int64_t l) { add(l, y[i], weight[j]); }); break;
      case of_weight: for_each_term(g_, [&](int64_t i, int64_t j, int64_t l) { add(j, y[i], x[l]); }); break;
      case of_y: for_each_term(g_, [&](int64_t i, int64_t j, int64_t l) { add(i, weight[j], x[l]); }); break;
    }
    all.value.assign(value.begin(), value.end());
    all.magnitude.assign(magnitude.begin(), magnitude.end());
  }
  const sums& sums_of(operand result) {
    std::unique_ptr<sums>& all = sums_[result];
    if (!all) {
      all = std::make_unique<sums>();
      all->terms.assign(operands_[result].values.size(), 0);
      if (dtype_ == HOMINY_FLOAT64 && kind_ == numbers::uniform)
        add_up<real>(result, *all);
      else
        add_up<double>(result, *all);
    }
    return *all;
  }

  // 8 times the direct algorithm's bound on products of the largest image element with all weights, by channel of the
  // result (of the weights: by filter): no less than Winograd's own wherever AUTO chooses it.
  const std::vector<real>& winograd_bounds(operand result) {
    std::vector<real>& bounds = winograd_[result];
    if (!bounds.empty()) return bounds;
    const operand image = result == of_y ? of_x : of_y, other = result == of_weight ? of_x : of_weight;
    const std::vector<double>& spread = operands_[result == of_weight ? of_y : other].values;  // summed by channel
    real largest = 0;
    for (double v : operands_[result == of_weight ? of_x : image].values) largest = std::max(largest, real(fabs(v)));
    const int64_t channels = g_.in_channels, filters = g_.out_channels;  // of one group
    const int64_t depth =
        result == of_weight ? g_.batch * product_of(g_.out) : 9 * (result == of_y ? channels : filters);
    bounds.assign(size_t(g_.groups * (result == of_x ? channels : filters)), 0);
    const int64_t step = result == of_weight ? product_of(g_.out) : product_of(g_.kernel);
    for (int64_t i = 0; i < int64_t(spread.size()); ++i) {
      const int64_t channel = result == of_weight ? i / step % (g_.groups * filters)
                              : result == of_y    ? i / step / channels
                                                  : i / step / channels / filters * channels + i / step % channels;
      bounds[size_t(channel)] += 8 * 1.01L * real(depth + 5) * largest * fabs(spread[size_t(i)]);
    }
    return bounds;
  }

  // Of the weights: the filter.
  int64_t channel_of(operand result, int64_t i) const {
    const channels c = g_.channels_of(result, i);
    return result == of_x ? c.in : c.out;
  }

  expectation expected(const call& c, int64_t i, real got) {
    const operand result = results[c.direction];
    const sums& all = sums_of(result);
    real value = all.value[size_t(i)], magnitude = all.magnitude[size_t(i)];
    if (!c.may_be_nan.empty() && c.may_be_nan[size_t(i)] && isnan(got)) return {got, 0};
    const auto add = [&](real v) { value += v, magnitude += fabsl(v); };
    if (c.bias) add(bias_[result].values[size_t(channel_of(result, i))]);
    if (c.residual) add(residual_[result].values[size_t(i)]);
    if (kind_ == numbers::integers && c.activation == HOMINY_ACTIVATION_NONE && !is_winograd(last_)) return {value, 0};
    const real u = unit_roundoff(dtype_);
    const bool once = last_ == HOMINY_CONV_PRODUCT;
    real bound =
        (once ? 1.01L : 2) * real(all.terms[size_t(i)] + (result == of_weight && once ? 2 : 3)) * u * magnitude;
    if (is_winograd(last_))
      bound = u * (winograd_bounds(result)[size_t(channel_of(result, i))] + 3 * magnitude);
    else if (kind_ == numbers::integers)
      bound = 0;
    const activated f = activate(c.activation, value);
    if (!isfinite(magnitude)) return {f.value, 0};
    return {f.value, f.slope * bound + f.ulps * 2 * u * std::max(fabsl(f.value), fabsl(value))};
  }

  const level& here_;
  int32_t dtype_;
  geometry g_;
  numbers kind_;
  drawn operands_[3], residual_[3], bias_[3];  // by operand
  std::unique_ptr<sums> sums_[3];
  std::vector<real> winograd_[3];
  hominy_conv_algorithm last_ = HOMINY_CONV_AUTO;
};

}  // namespace test::convolutions
