// Convolutions in their three directions, by every algorithm but Winograd's (conv_winograd_test.cpp), against the
// formula of hominy.h within the bounds that the algorithms' headers state. Most values are small integers, whose sums
// are exact: there every algorithm must give the very same numbers, in any order.
#include <math.h>

#include <algorithm>
#include <memory>

#include "test_array.hpp"

namespace test {
namespace {

using sizes = std::vector<int64_t>;

enum operand { of_x, of_weight, of_y };
constexpr hominy_conv_direction directions[] = {HOMINY_CONV_FORWARD, HOMINY_CONV_INPUT_GRADIENT,
                                                HOMINY_CONV_WEIGHT_GRADIENT};
constexpr const char* direction_names[] = {"forward", "input gradient", "weight gradient"};
constexpr operand results[] = {of_y, of_x, of_weight};  // by direction
constexpr hominy_conv_algorithm algorithms[] = {HOMINY_CONV_AUTO, HOMINY_CONV_PRODUCT, HOMINY_CONV_DEPTHWISE,
                                                HOMINY_CONV_GROUPED};
constexpr const char* algorithm_names[] = {"auto", "product", "depthwise", "grouped", "winograd2", "winograd4"};
constexpr const char* activation_names[] = {"none", "relu", "sigmoid", "tanh", "gelu", "silu"};

bool is_winograd(hominy_conv_algorithm a) { return a == HOMINY_CONV_WINOGRAD2 || a == HOMINY_CONV_WINOGRAD4; }

struct activated {
  real value, slope, ulps;  // slope: a Lipschitz constant; ulps: its own error, of max(|value|, |x|)
};
activated activate(int activation, real x) {
  switch (activation) {
    case HOMINY_ACTIVATION_RELU: return {isnan(x) ? x : x > 0 ? x : 0, 1, 0};
    case HOMINY_ACTIVATION_SIGMOID: return {1 / (1 + expl(-x)), 0.25L, 4};
    case HOMINY_ACTIVATION_TANH: return {tanhl(x), 1, 4};
    case HOMINY_ACTIVATION_GELU: return {0.5L * x * erfcl(-x * 0.707106781186547524400844362104849039L), 1.13L, 5};
    case HOMINY_ACTIVATION_SILU: return {x / (1 + expl(-x)), 1.1L, 5};
    default: return {x, 1, 0};
  }
}

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
  std::string text() const {
    return text_of(shape(of_x)) + " * " + text_of(shape(of_weight)) + " -> " + text_of(shape(of_y)) + " groups " +
           std::to_string(groups) + " stride " + text_of(stride) + " padding " + text_of(padding) + " dilation " +
           text_of(dilation);
  }
  int64_t multiplications() const {
    return batch * groups * in_channels * out_channels * product_of(out) * product_of(kernel);
  }
};

// Padded alike on both sides; `more`: what out has beyond that (or less).
geometry convolution(int64_t batch, int64_t groups, int64_t in_channels, int64_t out_channels, sizes size, sizes kernel,
                     sizes stride = {}, sizes padding = {}, sizes dilation = {}, sizes more = {}) {
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
  bool in_place = false;           // the residual is the output's memory
  int asking = 0;                  // the number of threads while the workspace's size is asked for; 0: as it is
  std::vector<bool> may_be_nan{};  // elements where a NaN is right, too
};

enum class numbers { integers, uniform };

// A geometry with its values and what must come of them.
class problem {
 public:
  problem(const level& here, int32_t dtype, geometry g, numbers kind, uint64_t seed = 1, const placement& at = {})
      : here_(here), dtype_(dtype), g_(std::move(g)), kind_(kind) {
    for (operand o : {of_x, of_weight, of_y}) {
      values_[o] = draw(g_.shape(o), at.operands[o], seed + uint64_t(o));
      residual_[o] = draw(g_.shape(o), at.residual, seed + 3);
      bias_[o] = draw({g_.shape(o)[1]}, at.bias, seed + 4);
    }
  }

  const geometry& shape() const { return g_; }
  std::vector<double>& values(operand o) { return values_[o]; }

  // False: the algorithm named does not compute this call, and refused it as it should.
  bool run(const call& c, std::vector<unsigned char>* bits = nullptr) {
    const hominy_kernels& k = *here_.kernels;
    const operand result = results[c.direction];
    array x(dtype_, g_.shape(of_x), c.at.operands[of_x]), y(dtype_, g_.shape(of_y), c.at.operands[of_y]),
        weight(dtype_, g_.shape(of_weight), c.at.operands[of_weight]);
    array* const operands[3] = {&x, &weight, &y};
    for (operand o : {of_x, of_weight, of_y})
      if (o != result) fill(*operands[o], values_[o]);
    array& out = *operands[result];
    array bias(dtype_, {out.shape()[1]}, c.at.bias), other(dtype_, out.shape(), c.at.residual);
    fill(bias, bias_[result]);
    array& residual = c.in_place ? out : other;
    fill(residual, residual_[result]);

    const hominy_conv settings = settings_of(c);
    last_ = k.conv_algorithm(c.direction, x, weight, y, &settings);
    const std::string what = describe(c);
    const auto do_conv = [&](const void* packed, array& scratch, int64_t bytes) {
      return k.conv(c.direction, x, weight, y, c.bias ? bias : nothing, c.residual ? residual : nothing, packed,
                    &settings, scratch.data(), bytes);
    };
    if (c.algorithm != HOMINY_CONV_AUTO && last_ != c.algorithm) {
      array scratch(HOMINY_UINT8, {1 << 12});
      check_refused(do_conv(nullptr, scratch, scratch.size()), {HOMINY_BAD_VALUE}, out, what + ": does not compute it");
      return false;
    }

    const int threads = hominy::num_threads();
    if (c.asking) hominy::set_num_threads(c.asking);
    const int64_t asked = k.conv_workspace_size(c.direction, x, weight, y, &settings);
    hominy::set_num_threads(threads);
    if (!check(asked >= 0 && asked < most_scratch, "%s: workspace of %lld bytes", what.c_str(), (long long)asked))
      return true;
    array scratch(HOMINY_UINT8, {asked});
    const int64_t wanted = c.packed ? k.conv_packed_size(c.direction, x, weight, y, &settings) : 0;
    if (!check(wanted >= 0 && wanted < most_scratch, "%s: packs %lld bytes", what.c_str(), (long long)wanted))
      return true;
    array packed(HOMINY_UINT8, {wanted});
    std::vector<unsigned char> before;
    if (c.packed) {
      check_status(k.conv_pack(c.direction, x, weight, y, &settings, packed.data()), HOMINY_OK, what + ": packing");
      check(packed.guards_intact(), "%s: wrote outside the packed weights", what.c_str());
      before = packed.bits();
    }
    if (!check_status(do_conv(wanted > 0 ? packed.data() : nullptr, scratch, asked), HOMINY_OK, what)) return true;
    check(scratch.guards_intact(), "%s: wrote outside the workspace", what.c_str());
    if (c.packed) check(packed.bits() == before && packed.guards_intact(), "%s: wrote to packed weights", what.c_str());
    for (operand o : {of_x, of_weight, of_y})
      if (o != result) check(operands[o]->untouched(), "%s: wrote to an input", what.c_str());
    check(bias.untouched() && (c.in_place || residual.untouched()), "%s: wrote to bias or residual", what.c_str());
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
    if (c.residual) text += c.in_place ? "; residual in place" : std::string("; residual ") + name_of(c.at.residual);
    if (c.activation) text += std::string("; ") + activation_names[c.activation];
    if (c.packed) text += "; packed";
    if (c.exact) text += "; exact";
    return text;
  }

  static constexpr int64_t most_scratch = int64_t(1) << 28;

 private:
  static constexpr const hominy_tensor* nothing = nullptr;
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

  static void fill(array& a, const std::vector<double>& values) {
    a.fill([&](int64_t i) { return values[size_t(i)]; });
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
    std::vector<Wide> value(values_[result].size()), magnitude(value.size());
    const double *x = values_[of_x].data(), *weight = values_[of_weight].data(), *y = values_[of_y].data();
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
      all->terms.assign(values_[result].size(), 0);
      if (dtype_ == HOMINY_FLOAT64 && kind_ == numbers::uniform)
        add_up<real>(result, *all);
      else
        add_up<double>(result, *all);
    }
    return *all;
  }

  // 8 times the direct algorithm's bound on products of the largest image elements with all weights: no less than
  // Winograd's own wherever AUTO chooses it.
  real winograd_bound(operand result, int64_t i) const {
    const auto largest = [](const std::vector<double>& all) {
      double most = 0;
      for (double v : all) most = std::max(most, fabs(v));
      return real(most);
    };
    const int64_t taps = product_of(g_.kernel), positions = product_of(g_.out);
    const int64_t channels = g_.in_channels, filters = g_.out_channels;  // one group
    real sum = 0;
    if (result == of_weight) {
      for (int64_t n = 0; n < g_.batch; ++n)
        for (int64_t p = 0; p < positions; ++p)
          sum += fabs(values_[of_y][size_t((n * filters + i / taps / channels) * positions + p)]);
      return 8 * 1.01L * real(g_.batch * positions + 5) * largest(values_[of_x]) * sum;
    }
    const int64_t volume = result == of_y ? positions : product_of(g_.size),
                  depth = result == of_y ? channels : filters;
    const int64_t channel = i / volume % (result == of_y ? filters : channels);
    for (int64_t other = 0; other < depth; ++other)
      for (int64_t t = 0; t < taps; ++t)
        sum += fabs(values_[of_weight][size_t(
            (result == of_y ? channel * channels + other : other * channels + channel) * taps + t)]);
    return 8 * 1.01L * real(9 * depth + 5) * largest(values_[result == of_y ? of_x : of_y]) * sum;
  }

  expectation expected(const call& c, int64_t i, real got) {
    const operand result = results[c.direction];
    const sums& all = sums_of(result);
    real value = all.value[size_t(i)], magnitude = all.magnitude[size_t(i)];
    if (!c.may_be_nan.empty() && c.may_be_nan[size_t(i)] && isnan(got)) return {got, 0};
    const auto add = [&](real v) { value += v, magnitude += fabsl(v); };
    if (c.bias) {
      const int64_t channels = int64_t(bias_[result].size()), volume = int64_t(values_[result].size());
      add(bias_[result][size_t(i / (volume / g_.batch / channels) % channels)]);
    }
    if (c.residual) add(residual_[result][size_t(i)]);
    const real u = unit_roundoff(dtype_);
    const bool once = last_ == HOMINY_CONV_PRODUCT;
    real bound =
        (once ? 1.01L : 2) * real(all.terms[size_t(i)] + (result == of_weight && once ? 2 : 3)) * u * magnitude;
    if (is_winograd(last_))
      bound = u * (winograd_bound(result, i) + 3 * magnitude);
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
  std::vector<double> values_[3], residual_[3], bias_[3];  // by operand
  std::unique_ptr<sums> sums_[3];
  hominy_conv_algorithm last_ = HOMINY_CONV_AUTO;
};

placement all_of(layout kind) { return {{kind, kind, kind}, kind, layout::contiguous}; }

// All directions and algorithms; bias, residual and activation come and go with `step`.
void every_way(problem& p, int step, const std::vector<placement>& places) {
  for (hominy_conv_direction direction : directions)
    for (const placement& at : places) {
      const bool gradient = direction == HOMINY_CONV_WEIGHT_GRADIENT;
      call c{direction, HOMINY_CONV_AUTO, at};
      c.bias = !gradient && step % 2;
      c.residual = !gradient && step % 3 == 0;
      c.activation = !gradient && step % 5 == 0 ? HOMINY_ACTIVATION_RELU : HOMINY_ACTIVATION_NONE;
      ++step;
      std::vector<unsigned char> of_auto, bits, again;
      p.run(c, &of_auto);
      const hominy_conv_algorithm chosen = p.algorithm();
      for (hominy_conv_algorithm algorithm : algorithms) {
        c.algorithm = algorithm;
        c.packed = false;
        c.exact = algorithm == HOMINY_CONV_AUTO;
        if (!p.run(c, &bits)) continue;
        if (c.exact) check(!is_winograd(p.algorithm()), "%s: not exact", p.describe(c).c_str());
        if (algorithm == chosen) check(bits == of_auto, "%s: other bits than auto", p.describe(c).c_str());
        if (gradient) continue;
        c.packed = true;
        p.run(c, &again);
        check(again == bits, "%s: other bits than unpacked", p.describe(c).c_str());
      }
    }
}

// Edges of vectors and tiles, and everything that geometry can do.
std::vector<geometry> geometries(const level& here, int32_t dtype) {
  const int64_t v = here.lanes(dtype);
  std::vector<geometry> all = {
      // Products: 1x1, strided, from and to one channel, one position.
      convolution(2, 1, 5, 7, {7, 9}, {1, 1}),
      convolution(1, 1, v + 1, 2 * v + 1, {5, 3}, {1, 1}),
      convolution(2, 1, 3, v - 1, {6, 7}, {1, 1}, {2, 3}),
      convolution(1, 1, 9, 3, {1, 1}, {1, 1}),
      convolution(3, 1, 2 * v, v, {1, 1}, {1, 1}, {}, {1, 1}),
      convolution(1, 1, 1, 1, {1, 1}, {3, 3}, {}, {1, 1}),
      convolution(1, 1, 1, 1, {4 * v + 3}, {1}),
      // 3x3 and its neighbours.
      convolution(1, 1, v - 1, v + 1, {6, v - 1}, {3, 3}, {}, {1, 1}),
      convolution(1, 1, v + 1, v - 1, {5, v + 1}, {3, 3}, {}, {1, 1}),
      convolution(2, 1, 3, v, {3, 2 * v + 1}, {3, 3}),
      convolution(2, 1, v, 2 * v + 1, {9, 8}, {3, 3}, {2, 2}, {1, 1}),
      convolution(1, 1, 3, 17, {23, 25}, {7, 7}, {2, 2}, {3, 3}),
      convolution(1, 1, 1, 16, {12, 12}, {5, 5}, {}, {2, 2}),
      convolution(2, 1, 4, 6, {8, 8}, {4, 4}, {2, 2}, {1, 1}),
      convolution(1, 1, 2, 3, {11, 5}, {1, 7}, {}, {0, 3}),
      convolution(1, 1, 2, 3, {5, 11}, {7, 1}, {}, {3, 0}),
      convolution(1, 1, 3, 2, {40, 1}, {3, 1}, {}, {1, 0}),
      // Kernels larger than the input, padding larger than the kernel, strides beyond it, dilation.
      convolution(2, 1, 3, 4, {3, 2}, {5, 7}, {}, {2, 4}),
      convolution(1, 1, 2, 5, {2, 3}, {2, 2}, {}, {5, 4}),
      convolution(1, 1, 2, 5, {2, 3}, {2, 2}, {3, 2}, {7, 9}),
      convolution(1, 1, 4, 3, {13, 17}, {2, 2}, {5, 4}),
      convolution(1, 1, 4, 3, {13, 17}, {2, 1}, {7, 19}, {1, 3}),
      convolution(2, 1, 3, 5, {9, 14}, {3, 3}, {}, {2, 2}, {2, 2}),
      convolution(1, 1, 3, 5, {11, 14}, {3, 2}, {2, 3}, {3, 4}, {3, 5}),
      convolution(1, 1, 2, 2, {4, 5}, {3, 3}, {}, {9, 8}, {8, 6}),
      // Windows that lie past the end, and elements that no window reads.
      convolution(1, 1, 2, 3, {5, 6}, {3, 3}, {}, {1, 1}, {}, {4, 9}),
      convolution(2, 1, 2, 3, {5, 6}, {3, 3}, {2, 2}, {0, 0}, {}, {7, 3}),
      convolution(1, 1, 3, 2, {9, 8}, {3, 3}, {}, {1, 1}, {}, {-5, -6}),
      // Groups, and one channel a group.
      convolution(2, 3, 2, 5, {5, 7}, {3, 3}, {}, {1, 1}),
      convolution(1, 2, v + 1, v - 1, {4, 5}, {3, 3}, {2, 1}, {1, 1}),
      convolution(2, 8, 4, 4, {6, v + 1}, {3, 3}, {}, {1, 1}),
      convolution(1, 4, 8, 8, {7, 7}, {3, 3}, {2, 2}, {1, 1}),
      convolution(1, 5, 3, 2, {6, 5}, {1, 1}),
      convolution(1, 3, 2, 3, {7, 9}, {3, 2}, {2, 1}, {4, 5}, {2, 3}),
      convolution(2, v - 1, 1, 1, {7, v + 1}, {3, 3}, {}, {1, 1}),
      convolution(1, v + 1, 1, 1, {8, 2 * v - 1}, {3, 3}, {2, 2}, {1, 1}),
      convolution(1, 2 * v + 1, 1, 1, {9, 9}, {5, 5}, {}, {2, 2}),
      convolution(1, v, 1, 1, {9, 2 * v + 2}, {5, 5}, {2, 2}, {2, 2}),
      convolution(2, 5, 1, 3, {6, 11}, {3, 3}, {}, {1, 1}),
      convolution(1, 5, 1, 2, {6, 11}, {5, 5}, {2, 2}, {0, 1}),
      convolution(1, 6, 1, 1, {2, 2}, {5, 5}, {}, {2, 2}),
      convolution(1, 6, 1, 1, {2, 1}, {3, 3}, {}, {4, 3}),
      convolution(1, 6, 1, 1, {5, 6}, {3, 3}, {1, 2}, {2, 0}),
      convolution(1, 3, 1, 1, {9, 9}, {3, 3}, {}, {1, 1}, {}, {3, 2}),
      convolution(1, 3, 1, 1, {9, 9}, {5, 5}, {2, 2}, {2, 2}, {}, {-2, 4}),
      convolution(1, 7, 1, 1, {9, 10}, {7, 7}, {}, {3, 3}),
      convolution(1, 7, 1, 2, {9, 10}, {3, 3}, {}, {2, 2}, {2, 2}),
      convolution(1, 3, 1, 1, {3, 40 * v + 1}, {3, 3}, {}, {1, 1}),
      // One and three dimensions.
      convolution(2, 1, 5, 9, {4 * v + 1}, {9}, {}, {4}),
      convolution(1, 1, v, v, {37}, {5}, {3}, {2}, {2}),
      convolution(2, v + 1, 1, 1, {19}, {3}, {}, {1}),
      convolution(1, 3, 2, 2, {19}, {4}, {2}, {0}),
      convolution(1, 1, 3, 7, {4, 5, 6}, {3, 3, 3}, {}, {1, 1, 1}),
      convolution(2, 1, 2, 5, {5, 4, 7}, {2, 3, 1}, {2, 1, 3}, {1, 2, 0}, {2, 1, 1}),
      convolution(1, 4, 1, 2, {4, 5, 6}, {3, 3, 3}, {}, {1, 1, 1}),
      convolution(1, 2, 3, 2, {3, 4, 5}, {2, 2, 2}, {1, 2, 1}, {1, 1, 2}, {1, 1, 2}),
      convolution(1, 1, 2, 2, {1, 5, 6}, {3, 3, 3}, {}, {1, 1, 1}),
      // Strides and steps beyond what planes can be packed for.
      convolution(1, 3, 1, 1, {200, 3}, {3, 3}, {65, 1}, {1, 1}),
      convolution(1, 2, 2, 2, {3, 200}, {3, 2}, {1, 70}, {1, 1}, {1, 3}),
      convolution(1, 2, 2, 2, {5}, {2}, {4096}, {8192}),
      convolution(1, 2, 1, 1, {5, 4}, {2, 2}, {300, 500}, {900, 500}),
      convolution(1, 2, 2, 1, {5, 4}, {3, 3}, {}, {1000, 2000}, {1000, 2000}),
      convolution(1, 2, 1, 1, {5, 4}, {3, 3}, {}, {int64_t(1) << 20, int64_t(1) << 30},
                  {int64_t(1) << 20, int64_t(1) << 30}),
      convolution(1, 1, 3, 2, {5, 4}, {3, 3}, {}, {int64_t(1) << 40, int64_t(1) << 20},
                  {int64_t(1) << 40, int64_t(1) << 20}),
  };
  // Nothing: no image, no channels, no space, no taps.
  for (int64_t groups : {1, 2}) {
    all.push_back(convolution(0, groups, 2, 3, {4, 5}, {3, 3}, {}, {1, 1}));
    all.push_back(convolution(2, groups, 0, 3, {4, 5}, {3, 3}, {}, {1, 1}));
    all.push_back(convolution(2, groups, 2, 0, {4, 5}, {3, 3}, {}, {1, 1}));
    all.push_back(convolution(2, groups, 1, 1, {0, 5}, {3, 3}, {}, {2, 1}));
    all.push_back(convolution(2, groups, 2, 3, {0, 0}, {3, 3}, {}, {1, 1}));
    all.push_back(convolution(2, groups, 1, 1, {2, 5}, {3, 3}));
    all.push_back(convolution(2, groups, 2, 3, {4}, {7}));
    all.push_back(convolution(2, groups, 1, 2, {4, 5}, {0, 3}, {}, {0, 1}));
  }
  if (here.settings.quick) return all;
  all.push_back(convolution(1, 1, 3, 1, {1 << 17}, {3}, {}, {1}));
  all.push_back(convolution(1, 2, 1, 1, {1 << 18}, {3}, {}, {1}));
  all.push_back(convolution(1, 1, 65, 131, {17, 19}, {3, 3}, {}, {1, 1}));
  all.push_back(convolution(7, 1, 33, 70, {13, 14}, {3, 3}, {2, 2}, {1, 1}));
  all.push_back(convolution(3, 8, 16, 16, {15, 15}, {3, 3}, {}, {1, 1}));
  all.push_back(convolution(2, 67, 1, 1, {29, 31}, {5, 5}, {}, {2, 2}));
  all.push_back(convolution(1, 1, 17, 35, {7, 8, 9}, {3, 3, 3}, {}, {1, 1, 1}));
  return all;
}

// Sums short enough to be exact in float32 when their terms are integers are also a bound of the work.
geometry random_geometry(random_numbers& random, int64_t lanes, int64_t most_work) {
  const auto pick = [&](std::initializer_list<int64_t> from) {
    return from.begin()[random.below(int64_t(from.size()))];
  };
  for (;;) {
    const int64_t nd = 1 + random.below(3), groups = pick({1, 1, 1, 2, 3, 4, lanes - 1, lanes + 1});
    const int64_t in = pick({1, 1, 2, 3, 5, lanes - 1, lanes, lanes + 1}),
                  out = pick({1, 1, 2, 3, 7, lanes, lanes + 1});
    sizes size, kernel, stride, padding, dilation, more;
    for (int64_t d = 0; d < nd; ++d) {
      size.push_back(1 + random.below(nd == 1 ? 5 * lanes : nd == 2 ? 15 : 7));
      kernel.push_back(1 + random.below(nd == 3 ? 3 : 5));
      stride.push_back(1 + random.below(random.below(3) ? 2 : 6));
      dilation.push_back(random.below(3) ? 1 : 1 + random.below(4));
      padding.push_back(random.below(4) ? random.below(kernel.back()) : random.below(9));
      more.push_back(random.below(4) ? 0 : random.below(6) - 2);
    }
    const geometry g = convolution(1 + random.below(3), groups, in, out, size, kernel, stride, padding, dilation, more);
    if (g.multiplications() <= most_work) return g;
  }
}

void shapes(const level& here, int32_t dtype) {
  const placement rows, pixels = all_of(layout::channels_last);
  int step = 0;
  for (const geometry& g : geometries(here, dtype)) {
    // A 3d product in emulated long double takes its time.
    problem p(here, dtype, g, ++step % 3 && g.multiplications() < 20000 ? numbers::uniform : numbers::integers);
    every_way(p, step, {rows, pixels});
  }
  random_numbers random(uint64_t(here.lanes(dtype)));
  for (int i = 0; i < (here.settings.quick ? 40 : 600); ++i) {
    const geometry g = random_geometry(random, here.lanes(dtype), here.settings.quick ? 20000 : 400000);
    problem p(here, dtype, g, i % 8 ? numbers::integers : numbers::uniform, uint64_t(i));
    every_way(p, i, {i % 2 ? rows : pixels});
  }
}

// What each algorithm is there for, it computes; what it is not for, it leaves.
void choices(const level& here, int32_t dtype) {
  const auto computes = [&](hominy_conv_algorithm algorithm, const geometry& g) {
    bool all = true;
    for (hominy_conv_direction direction : directions) {
      problem p(here, dtype, g, numbers::integers);
      all = p.run({direction, algorithm}) && all;
    }
    return all;
  };
  for (int64_t multiplier : {1, 2, 5})
    for (int64_t stride : {1, 2, 3})
      check(computes(HOMINY_CONV_DEPTHWISE, convolution(1, 6, 1, multiplier, {7, 8}, {3, 3}, {stride, stride}, {1, 1})),
            "depthwise: refuses stride %d, multiplier %d", int(stride), int(multiplier));
  check(!computes(HOMINY_CONV_DEPTHWISE, convolution(1, 3, 2, 2, {7, 8}, {3, 3})), "depthwise: takes two channels");
  check(computes(HOMINY_CONV_GROUPED, convolution(1, 4, 4, 4, {7, 8}, {3, 3}, {}, {1, 1})), "grouped: refuses 4x4");
  check(computes(HOMINY_CONV_GROUPED, convolution(1, 4, 8, 8, {5, 6}, {3, 3}, {}, {1, 1})), "grouped: refuses 8x8");
  check(computes(HOMINY_CONV_GROUPED, convolution(1, 3, 2, 3, {4, 5, 6}, {2, 3, 2}, {2, 1, 2}, {1, 1, 1}, {1, 2, 1})),
        "grouped: refuses three dimensions");
  for (hominy_conv_algorithm winograd : {HOMINY_CONV_WINOGRAD2, HOMINY_CONV_WINOGRAD4})
    for (const geometry& g : {convolution(1, 1, 4, 4, {6, 6}, {3, 2}), convolution(1, 1, 4, 4, {6, 6}, {3, 3}, {2, 1}),
                              convolution(1, 1, 4, 4, {8, 8}, {3, 3}, {}, {}, {1, 2}),
                              convolution(1, 1, 4, 4, {9}, {3}), convolution(1, 1, 4, 4, {6, 6}, {5, 5}),
                              convolution(1, 1, 2, 2, {4, 6, 6}, {3, 3, 3}), convolution(1, 1, 4, 4, {6, 6}, {1, 1})})
      check(!computes(winograd, g), "%s: takes %s", algorithm_names[winograd], g.text().c_str());
}

// By each algorithm that computes it.
const std::vector<geometry>& typical() {
  static const std::vector<geometry> all = {convolution(2, 1, 5, 19, {6, 9}, {3, 3}, {}, {1, 1}),
                                            convolution(2, 1, 9, 7, {5, 7}, {1, 1}),
                                            convolution(2, 1, 3, 5, {8, 9}, {3, 2}, {2, 1}, {2, 1}),
                                            convolution(2, 9, 1, 1, {6, 9}, {3, 3}, {}, {1, 1}),
                                            convolution(2, 5, 1, 2, {7, 8}, {5, 5}, {2, 2}, {2, 2}),
                                            convolution(2, 4, 3, 4, {6, 7}, {3, 3}, {}, {1, 1}),
                                            convolution(2, 2, 3, 3, {17}, {4}, {3}, {2}),
                                            convolution(2, 1, 2, 3, {3, 4, 5}, {2, 3, 2}, {}, {1, 1, 1})};
  return all;
}

void layouts(const level& here, int32_t dtype) {
  std::vector<layout> in(std::begin(input_layouts), std::end(input_layouts)),
      out(std::begin(output_layouts), std::end(output_layouts));
  for (std::vector<layout>* all : {&in, &out}) {
    all->push_back(layout::channels_last);
    all->push_back(layout::channels_last_sliced);
  }
  int step = 0;
  for (const geometry& g : typical())
    for (hominy_conv_direction direction : directions)
      for (size_t a = 0; a < in.size(); ++a)
        for (size_t b = 0; b < out.size(); ++b) {
          const size_t other = size_t(++step) % in.size();
          if (here.settings.quick && step % 5) continue;
          placement at;
          at.operands[results[direction]] = out[b];
          at.operands[direction == HOMINY_CONV_FORWARD ? of_x : of_y] = in[a];
          at.operands[direction == HOMINY_CONV_WEIGHT_GRADIENT ? of_x : of_weight] = in[other];
          at.residual = in[(other + a) % in.size()];
          at.bias = in[(other + b) % 8];
          problem p(here, dtype, g, step % 4 ? numbers::integers : numbers::uniform, uint64_t(step), at);
          for (hominy_conv_algorithm algorithm : algorithms) {
            call c{direction, algorithm, at};
            c.residual = direction != HOMINY_CONV_WEIGHT_GRADIENT;
            c.bias = c.residual && step % 3;
            c.packed = c.residual && step % 2;
            p.run(c);
          }
        }
}

void stores(const level& here, int32_t dtype) {
  for (const geometry& g : typical()) {
    problem p(here, dtype, g, numbers::uniform);
    for (hominy_conv_direction direction : {HOMINY_CONV_FORWARD, HOMINY_CONV_INPUT_GRADIENT})
      for (hominy_conv_algorithm algorithm : algorithms)
        for (layout kind : {layout::contiguous, layout::channels_last, layout::ragged})
          for (int activation = 0; activation < 6; ++activation)
            for (int how = 0; how < 6; ++how) {
              if (here.settings.quick && (activation + how + int(kind)) % 4) continue;
              call c{direction, algorithm, all_of(kind)};
              c.bias = how % 2;
              c.residual = how > 1;
              c.in_place = how > 3;
              c.activation = hominy_activation(activation);
              if (!p.run(c)) how = 6;
            }
  }
}

void threads_and_alignment(const level& here, int32_t dtype) {
  std::vector<geometry> all = {convolution(3, 1, 11, 37, {13, 15}, {3, 3}, {}, {1, 1}),
                               convolution(1, 1, 67, 71, {9, 10}, {1, 1}),
                               convolution(2, 1, 3, 33, {29, 31}, {7, 7}, {2, 2}, {3, 3}),
                               convolution(2, 1, 64, 32, {9, 7}, {3, 3}, {}, {1, 1}),
                               convolution(9, 1, 5, 6, {8, 8}, {3, 3}, {}, {1, 1}),
                               convolution(3, 35, 1, 1, {15, 17}, {3, 3}, {}, {1, 1}),
                               convolution(2, 19, 1, 2, {16, 17}, {5, 5}, {2, 2}, {2, 2}),
                               convolution(2, 1, 1, 1, {150, 70}, {3, 3}, {}, {1, 1}),
                               convolution(2, 8, 4, 6, {13, 14}, {3, 3}, {}, {1, 1}),
                               convolution(3, 1, 9, 8, {300}, {9}, {}, {4}),
                               convolution(1, 1, 5, 17, {7, 8, 9}, {3, 3, 3}, {}, {1, 1, 1})};
  if (!here.settings.quick) {
    all.push_back(convolution(8, 1, 64, 64, {14, 14}, {3, 3}, {}, {1, 1}));
    all.push_back(convolution(8, 1, 128, 96, {28, 28}, {1, 1}));
    all.push_back(convolution(8, 96, 1, 1, {28, 28}, {3, 3}, {}, {1, 1}));
  }
  const int before = hominy::num_threads();
  for (const geometry& g : all) {
    problem p(here, dtype, g, numbers::uniform);
    for (hominy_conv_direction direction : directions)
      for (hominy_conv_algorithm algorithm : algorithms)
        for (bool last : {false, true}) {
          call c{direction, algorithm, all_of(last ? layout::channels_last : layout::contiguous)};
          if (here.settings.quick && algorithm == HOMINY_CONV_GROUPED && last) continue;
          hominy::set_num_threads(1);
          std::vector<unsigned char> alone, bits;
          if (!p.run(c, &alone)) continue;
          for (int threads : {2, 3, 4}) {
            hominy::set_num_threads(threads);
            c.asking = threads == 4 ? 1 : 0;
            p.run(c, &bits);
            check(bits == alone, "%s: other bits with %d threads%s", p.describe(c).c_str(), threads,
                  c.asking ? " in the workspace of one" : "");
          }
          c.asking = 4;
          hominy::set_num_threads(1);
          p.run(c, &bits);
          check(bits == alone, "%s: other bits in the workspace of four threads", p.describe(c).c_str());
          if (last) continue;
          c.at = all_of(layout::misaligned);
          p.run(c, &bits);
          check(bits == alone, "%s: other bits when misaligned", p.describe(c).c_str());
        }
    hominy::set_num_threads(before);
  }
}

// An infinity or a NaN reaches the elements whose sums it is a term of, and no other. An element whose window meets
// padding there may be NaN (0 times infinity) or not.
void special_values(const level& here, int32_t dtype) {
  for (const geometry& g : typical())
    for (hominy_conv_direction direction : directions)
      for (int round = 0; round < 6; ++round)
        for (layout kind : {layout::contiguous, layout::channels_last}) {
          const real odd = round % 3 == 0 ? real(NAN) : round % 3 == 1 ? real(INFINITY) : -real(INFINITY);
          const operand result = results[direction];
          const operand slides = direction == HOMINY_CONV_INPUT_GRADIENT ? of_y : of_x;  // meets no padding
          const operand other = direction == HOMINY_CONV_WEIGHT_GRADIENT ? of_y : of_weight;
          const operand changed = round < 3 ? slides : other;
          problem p(here, dtype, g, numbers::integers, uint64_t(round + 6 * int(kind)));
          random_numbers random(uint64_t(round + 6 * int(kind) + 100));
          const int64_t at = random.below(int64_t(p.values(changed).size()));
          p.values(changed)[size_t(at)] = double(odd);
          call c{direction, HOMINY_CONV_AUTO, all_of(kind)};
          c.exact = true;
          c.bias = direction != HOMINY_CONV_WEIGHT_GRADIENT && round % 2;
          c.activation = c.bias && kind == layout::contiguous ? HOMINY_ACTIVATION_RELU : HOMINY_ACTIVATION_NONE;
          if (changed == other) {
            const int64_t taps = product_of(g.kernel), positions = product_of(g.out);
            const int64_t filter =
                other == of_weight ? at / taps / g.in_channels : at / positions % (g.groups * g.out_channels);
            const int64_t channel = filter / g.out_channels * g.in_channels + at / taps % g.in_channels;
            const int64_t count = int64_t(p.values(result).size());
            for (int64_t i = 0; i < count; ++i)
              c.may_be_nan.push_back(result == of_weight ? i / taps / g.in_channels == filter
                                     : result == of_y ? i / positions % (g.groups * g.out_channels) == filter
                                                      : i / product_of(g.size) % (g.groups * g.in_channels) == channel);
          }
          for (hominy_conv_algorithm algorithm : algorithms) {
            c.algorithm = algorithm;
            p.run(c);
          }
        }
}

void refusals(const level& here, int32_t dtype) {
  const hominy_kernels& k = *here.kernels;
  const geometry g = convolution(2, 2, 2, 3, {5, 6}, {3, 3}, {2, 1}, {1, 1});
  array scratch(HOMINY_UINT8, {1 << 20}), packed(HOMINY_UINT8, {1 << 16});
  for (hominy_conv_direction direction : directions) {
    const operand result = results[direction];
    const bool gradient = direction == HOMINY_CONV_WEIGHT_GRADIENT;
    array x(dtype, g.shape(of_x)), weight(dtype, g.shape(of_weight)), y(dtype, g.shape(of_y));
    array bias(dtype, {g.shape(result)[1]}), residual(dtype, g.shape(result));
    for (array* a : {&x, &weight, &y, &bias, &residual}) a->fill_uniform(1, -1, 1);
    const hominy_tensor* const none = nullptr;
    const hominy_conv good{{2, 1, 0}, {1, 1, 0}, {1, 1, 0}, 2, HOMINY_CONV_AUTO, HOMINY_ACTIVATION_NONE, 0};

    // All entries get the call; what `conv_pack` sees of the mistake, it refuses, too.
    const auto attempt = [&](hominy_conv_direction d, const hominy_tensor* tx, const hominy_tensor* tw,
                             const hominy_tensor* ty, const hominy_tensor* added, const hominy_tensor* beside,
                             const hominy_conv& settings, std::vector<hominy_status> allowed, const std::string& why) {
      const std::string what = std::string(direction_names[direction]) + ": " + why;
      k.conv_algorithm(d, tx, tw, ty, &settings);
      check(k.conv_workspace_size(d, tx, tw, ty, &settings) <= scratch.size(), "%s: a huge workspace", what.c_str());
      check(k.conv_packed_size(d, tx, tw, ty, &settings) <= packed.size(), "%s: packs too much", what.c_str());
      const hominy_status status =
          k.conv(d, tx, tw, ty, added, beside, nullptr, &settings, scratch.data(), scratch.size());
      for (const array* a : {&x, &weight, &y}) check_refused(status, allowed, *a, what);
      if (added || beside || settings.activation || gradient) return;
      check(k.conv_pack(d, tx, tw, ty, &settings, packed.data()) != HOMINY_OK, "%s: packs weights", what.c_str());
      check(packed.untouched(), "%s: wrote packed weights", what.c_str());
    };
    for (const auto& bad : bad_tensors(x))
      attempt(direction, &bad.tensor, weight, y, none, none, good, {bad.expected}, std::string("x has ") + bad.what);
    for (const auto& bad : bad_tensors(weight))
      attempt(direction, x, &bad.tensor, y, none, none, good, {bad.expected}, std::string("weight has ") + bad.what);
    for (const auto& bad : bad_tensors(y))
      attempt(direction, x, weight, &bad.tensor, none, none, good, {bad.expected}, std::string("out has ") + bad.what);
    if (!gradient) {
      for (const auto& bad : bad_tensors(bias))
        attempt(direction, x, weight, y, &bad.tensor, none, good, {bad.expected}, std::string("bias has ") + bad.what);
      for (const auto& bad : bad_tensors(residual))
        attempt(direction, x, weight, y, none, &bad.tensor, good, {bad.expected},
                std::string("residual has ") + bad.what);
      attempt(direction, x, weight, y, residual, none, good, {HOMINY_BAD_SHAPE}, "bias of four dimensions");
      attempt(direction, x, weight, y, none, bias, good, {HOMINY_BAD_SHAPE}, "residual of one dimension");
    }

    // Dimensions and sizes that do not fit.
    const auto resized = [](const array& a, int d, int64_t size) {
      hominy_tensor t = a.tensor();
      t.shape[d] = size;
      return t;
    };
    const auto of_dimensions = [](const array& a, int32_t ndim) {
      hominy_tensor t = a.tensor();
      for (int d = t.ndim; d < ndim; ++d) t.shape[d] = 1, t.strides[d] = 0;
      t.ndim = ndim;
      return t;
    };
    for (int d = 0; d < 2; ++d)
      for (int64_t size : {-1, 0, 1, 3, 5, 1000}) {
        if (size == g.shape(of_weight)[size_t(d)]) continue;
        const std::string text = " has " + std::to_string(size) + " in dimension " + std::to_string(d);
        const hominy_tensor wrong_x = resized(x, d, size), wrong_w = resized(weight, d, size),
                            wrong_y = resized(y, d, size);
        attempt(direction, &wrong_x, weight, y, none, none, good, {HOMINY_BAD_SHAPE}, "x" + text);
        attempt(direction, x, &wrong_w, y, none, none, good, {HOMINY_BAD_SHAPE}, "weight" + text);
        attempt(direction, x, weight, &wrong_y, none, none, good, {HOMINY_BAD_SHAPE}, "out" + text);
      }
    for (int32_t ndim : {0, 1, 2, 3, 5, 6, HOMINY_MAX_NDIM}) {
      const hominy_tensor wrong_x = of_dimensions(x, ndim), wrong_w = of_dimensions(weight, ndim),
                          wrong_y = of_dimensions(y, ndim);
      const std::string text = " of " + std::to_string(ndim) + " dimensions";
      attempt(direction, &wrong_x, weight, y, none, none, good, {HOMINY_BAD_SHAPE}, "x" + text);
      attempt(direction, x, &wrong_w, y, none, none, good, {HOMINY_BAD_SHAPE}, "weight" + text);
      attempt(direction, x, weight, &wrong_y, none, none, good, {HOMINY_BAD_SHAPE}, "out" + text);
      if (ndim < 3 || ndim > 5)
        attempt(direction, &wrong_x, &wrong_w, &wrong_y, none, none, good, {HOMINY_BAD_SHAPE}, "all" + text);
    }

    // Settings.
    const auto refuse = [&](const char* why, std::vector<hominy_status> allowed, auto change) {
      hominy_conv settings = good;
      change(settings);
      attempt(direction, x, weight, y, none, none, settings, allowed, why);
    };
    for (int d = 0; d < 2; ++d) {
      for (int64_t wrong : {int64_t(0), int64_t(-1), INT64_MIN}) {
        refuse("stride below 1", {HOMINY_BAD_VALUE}, [&](hominy_conv& s) { s.stride[d] = wrong; });
        refuse("dilation below 1", {HOMINY_BAD_VALUE}, [&](hominy_conv& s) { s.dilation[d] = wrong; });
      }
      for (int64_t wrong : {int64_t(-1), INT64_MIN})
        refuse("negative padding", {HOMINY_BAD_VALUE}, [&](hominy_conv& s) { s.padding[d] = wrong; });
      refuse("dilation too large", {HOMINY_OVERFLOW, HOMINY_BAD_VALUE},
             [&](hominy_conv& s) { s.dilation[d] = INT64_MAX; });
      refuse("stride too large", {HOMINY_OVERFLOW, HOMINY_BAD_VALUE}, [&](hominy_conv& s) { s.stride[d] = INT64_MAX; });
    }
    for (int64_t wrong : {int64_t(0), int64_t(-1), int64_t(-2), int64_t(3), int64_t(4), INT64_MAX, INT64_MIN})
      refuse("groups that do not fit", {wrong < 1 ? HOMINY_BAD_VALUE : HOMINY_BAD_SHAPE, HOMINY_BAD_SHAPE},
             [&](hominy_conv& s) { s.groups = wrong; });
    for (int wrong : {-1, 6, 7, INT32_MAX})
      refuse("unknown algorithm", {HOMINY_BAD_VALUE},
             [&](hominy_conv& s) { s.algorithm = hominy_conv_algorithm(wrong); });
    for (int wrong : {-1, 6, 7, INT32_MAX})
      refuse("unknown activation", {HOMINY_BAD_VALUE},
             [&](hominy_conv& s) { s.activation = hominy_activation(wrong); });
    for (int wrong : {-1, 3, INT32_MAX})
      attempt(hominy_conv_direction(wrong), x, weight, y, none, none, good, {HOMINY_BAD_VALUE}, "unknown direction");
    for (hominy_conv_algorithm wrong : {HOMINY_CONV_DEPTHWISE, HOMINY_CONV_WINOGRAD2, HOMINY_CONV_WINOGRAD4})
      refuse("an algorithm that does not compute this", {HOMINY_BAD_VALUE},
             [&](hominy_conv& s) { s.algorithm = wrong; });

    // 2^93 elements; and 2^61, whose bytes are too many.
    hominy_tensor huge = overflowing(x);
    hominy_conv plain = good;
    plain.stride[0] = plain.groups = 1;
    attempt(direction, &huge, &huge, &huge, none, none, plain, {HOMINY_OVERFLOW}, "2^93 elements");
    hominy_tensor large = huge, one = huge;
    large.shape[0] = 1, large.shape[1] = 1, large.shape[2] = INT64_MAX / 2;
    one.shape[0] = one.shape[1] = one.shape[2] = 1;
    attempt(direction, &large, &one, &large, none, none, plain, {HOMINY_OVERFLOW}, "2^62 elements");
    attempt(direction, &large, &large, &one, none, none, plain, {HOMINY_OVERFLOW}, "2^62 taps");

    // Every byte less than asked for is too little.
    for (hominy_conv_algorithm algorithm : {HOMINY_CONV_PRODUCT, HOMINY_CONV_GROUPED}) {
      hominy_conv settings = good;
      settings.algorithm = algorithm;
      const int before = hominy::num_threads();
      for (int threads : {1, 4}) {
        hominy::set_num_threads(1);
        const int64_t asked = k.conv_workspace_size(direction, x, weight, y, &settings);
        hominy::set_num_threads(threads);
        if (asked > 0)
          for (int64_t given : {int64_t(0), asked - 1, int64_t(-1)})
            check_refused(k.conv(direction, x, weight, y, none, none, nullptr, &settings, scratch.data(), given),
                          {HOMINY_NO_WORKSPACE},
                          *(result == of_x ? &x
                            : gradient     ? &weight
                                           : &y),
                          std::string(algorithm_names[algorithm]) + " in a workspace of " + std::to_string(given));
      }
      hominy::set_num_threads(before);
    }
  }
}

}  // namespace

void conv_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("conv shapes", shapes);
    group("conv choices", choices);
    group("conv layouts", layouts);
    group("conv stores", stores);
    group("conv threads and alignment", threads_and_alignment);
    group("conv special values", special_values);
    group("conv refusals", refusals);
  }
}

}  // namespace test
