// Winograd's convolution within the error bound that conv_winograd.hpp states, on random and on adversarial values.
#include <math.h>

#include <algorithm>

#include "guarded_bytes.hpp"

namespace test {
namespace {

// Images (N, C, H, W) whose channels or whose positions of a row are neighbours; `kind` says where the elements lie.
class images {
 public:
  images(int32_t dtype, std::vector<int64_t> shape, bool channels_last, layout kind)
      : shape_(shape), last_(channels_last), memory_(dtype, in_memory(shape, channels_last), kind) {
    tensor_ = memory_.tensor();
    if (!channels_last) return;
    const int order[4] = {0, 3, 1, 2};
    for (int d = 0; d < 4; ++d) {
      tensor_.shape[d] = memory_.tensor().shape[order[d]];
      tensor_.strides[d] = memory_.tensor().strides[order[d]];
    }
  }
  operator const hominy_tensor*() const { return &tensor_; }
  int64_t size(int d) const { return shape_[size_t(d)]; }
  // The number of an element in memory_.
  int64_t at(int64_t n, int64_t c, int64_t y, int64_t x) const {
    return last_ ? ((n * size(2) + y) * size(3) + x) * size(1) + c : ((n * size(1) + c) * size(2) + y) * size(3) + x;
  }
  real operator()(int64_t n, int64_t c, int64_t y, int64_t x) const { return memory_[at(n, c, y, x)]; }
  array& memory() { return memory_; }
  const array& memory() const { return memory_; }

 private:
  static std::vector<int64_t> in_memory(const std::vector<int64_t>& s, bool last) {
    return last ? std::vector<int64_t>{s[0], s[2], s[3], s[1]} : s;
  }
  std::vector<int64_t> shape_;
  bool last_;
  array memory_;
  hominy_tensor tensor_;
};

struct geometry {
  int64_t batch, in_channels, out_channels, height, width, top, left, bottom, right;  // of x, and its padding
  std::string text() const {
    std::string s;
    for (int64_t v : {batch, in_channels, out_channels, height, width, top, left, bottom, right})
      s += std::to_string(v) + ",";
    return "(" + s + ")";
  }
};

enum class values { random, positive, signs, uneven };
const char* name_of(values v) {
  static const char* const names[] = {"random", "positive", "signs", "uneven"};
  return names[int(v)];
}
real value_of(values kind, random_numbers& random, int64_t channel) {
  const real u = random.uniform(-1, 1);
  switch (kind) {
    case values::random: return u + random.uniform(-1, 1) + random.uniform(-1, 1);
    case values::positive: return u > 0 ? u : 0;
    case values::signs: return u > 0 ? 1.9999999 : -1.9999999;  // all mantissa bits set
    case values::uneven: return ldexpl(u, int(channel * 7 % 23) - 11);
  }
  return 0;
}

// A (roundings + l + k - 1): the factor in the bound.
real amplification(const level& here, int32_t dtype, int tile, int64_t channels) {
  const bool fused = std::string(here.kernels->isa) != "baseline", narrow = dtype == HOMINY_FLOAT32;
  const real a = tile == 2 ? 16 : 157.31L;
  real roundings = tile == 2 ? (narrow  ? 7
                                : fused ? 12
                                        : 14)
                             : (narrow  ? (fused ? 9.32L : 12.06L)
                                : fused ? 14.32L
                                        : 19.06L);
  if (!fused) roundings += 1;
  for (int64_t k = 1; k <= 8; ++k) {
    const real bound = a * (roundings + real((channels + k - 1) / k + k - 1));
    if (bound <= 8 * real(9 * channels + 2)) return bound;
  }
  const int64_t l = std::min<int64_t>(channels, 16);
  return a * (roundings + real(l + (channels + l - 1) / l - 1));
}

hominy_conv settings_of(const geometry& g, int tile) {
  hominy_conv settings{};
  for (int d = 0; d < 3; ++d) settings.stride[d] = settings.dilation[d] = 1;
  settings.padding[0] = g.top;
  settings.padding[1] = g.left;
  settings.groups = 1;
  settings.algorithm = tile == 2 ? HOMINY_CONV_WINOGRAD2 : HOMINY_CONV_WINOGRAD4;
  return settings;
}

struct example {
  geometry g;
  int tile;
  bool backward, last, bias, residual;
  hominy_activation activation = HOMINY_ACTIVATION_NONE;
  layout kind = layout::contiguous;
  values numbers = values::random;
};

void run_example(const level& here, int32_t dtype, const example& e) {
  const geometry& g = e.g;
  const int64_t out_height = g.height + g.top + g.bottom - 2, out_width = g.width + g.left + g.right - 2;
  images x(dtype, {g.batch, g.in_channels, g.height, g.width}, e.last, e.kind);
  images y(dtype, {g.batch, g.out_channels, out_height, out_width}, e.last, e.kind);
  array weight(dtype, {g.out_channels, g.in_channels, 3, 3}, e.kind);
  images &from = e.backward ? y : x, &to = e.backward ? x : y;
  images residual(dtype, {g.batch, to.size(1), to.size(2), to.size(3)}, e.last != (g.batch > 1), e.kind);
  array bias(dtype, {to.size(1)}, layout::strided);

  random_numbers random(uint64_t(g.width + g.in_channels));
  for (int64_t n = 0; n < g.batch; ++n)
    for (int64_t c = 0; c < from.size(1); ++c)
      for (int64_t i = 0; i < from.size(2); ++i)
        for (int64_t j = 0; j < from.size(3); ++j)
          from.memory().set(from.at(n, c, i, j), value_of(e.numbers, random, c));
  weight.fill([&](int64_t i) {
    const int64_t c = e.backward ? i / 9 / g.in_channels : i / 9 % g.in_channels;
    return value_of(e.numbers == values::positive ? values::random : e.numbers, random,
                    e.numbers == values::uneven ? -c : c);
  });
  residual.memory().fill_uniform(5, -3, 3);
  bias.fill_uniform(6, -3, 3);

  hominy_conv settings = settings_of(g, e.tile);
  settings.activation = e.activation;
  const hominy_conv_direction direction = e.backward ? HOMINY_CONV_INPUT_GRADIENT : HOMINY_CONV_FORWARD;
  const std::string what = "winograd" + std::to_string(e.tile) + (e.backward ? " back " : " ") + g.text() +
                           (e.last ? " channels-last " : " ") + name_of(e.kind) + " " + name_of(e.numbers);

  const auto run = [&](bool packs) {
    const hominy_kernels& k = *here.kernels;
    guarded_bytes scratch(0, k.conv_workspace_size(direction, x, weight, y, &settings));
    guarded_bytes packed(0, packs ? k.conv_packed_size(direction, x, weight, y, &settings) : 0);
    if (packs) check_status(k.conv_pack(direction, x, weight, y, &settings, packed.data()), HOMINY_OK, what);
    const hominy_status status =
        k.conv(direction, x, weight, y, e.bias ? static_cast<const hominy_tensor*>(bias) : nullptr,
               e.residual ? static_cast<const hominy_tensor*>(residual) : nullptr, packs ? packed.data() : nullptr,
               &settings, scratch.data(), scratch.size());
    check_status(status, HOMINY_OK, what);
    check(scratch.guards_intact() && packed.guards_intact(), "%s: wrote outside its scratch", what.c_str());
    return to.memory().bits();
  };
  const std::vector<unsigned char> alone = run(false);
  check(run(true) == alone, "%s: other bits with weights packed ahead", what.c_str());
  if (e.residual) same_bits_for_any_number_of_threads(what.c_str(), [&] { return run(false); });

  // Largest inputs of a tile, then the formula; element by element of the result.
  const int64_t channels = from.size(1), n = e.tile + 2;
  const int64_t top = e.backward ? 2 - g.top : g.top, left = e.backward ? 2 - g.left : g.left;
  const real u = unit_roundoff(dtype), factor = 1.01L * amplification(here, dtype, e.tile, channels) * u;
  const auto input = [&](int64_t image, int64_t c, int64_t i, int64_t j) {
    return i >= 0 && j >= 0 && i < from.size(2) && j < from.size(3) ? from(image, c, i, j) : real(0);
  };
  std::vector<expectation> expected(size_t(to.memory().size()));
  for (int64_t image = 0; image < g.batch; ++image)
    for (int64_t y0 = 0; y0 < to.size(2); y0 += e.tile)
      for (int64_t x0 = 0; x0 < to.size(3); x0 += e.tile) {
        std::vector<real> tile(size_t(channels * n * n)), largest(static_cast<size_t>(channels));
        for (int64_t c = 0; c < channels; ++c)
          for (int64_t i = 0; i < n; ++i)
            for (int64_t j = 0; j < n; ++j) {
              const real v = input(image, c, y0 + i - top, x0 + j - left);
              tile[size_t((c * n + i) * n + j)] = v;
              largest[size_t(c)] = std::max(largest[size_t(c)], fabsl(v));
            }
        for (int64_t o = 0; o < to.size(1); ++o) {
          std::vector<real> sums(size_t(e.tile * e.tile));
          real magnitude = 0;
          for (int64_t c = 0; c < channels; ++c) {
            real w[9], all = 0;
            for (int t = 0; t < 9; ++t) {
              w[t] = e.backward ? weight[(c * g.in_channels + o) * 9 + 8 - t] : weight[(o * g.in_channels + c) * 9 + t];
              all += fabsl(w[t]);
            }
            magnitude += largest[size_t(c)] * all;
            for (int64_t i = 0; i < e.tile; ++i)
              for (int64_t j = 0; j < e.tile; ++j)
                for (int t = 0; t < 9; ++t)
                  sums[size_t(i * e.tile + j)] += w[t] * tile[size_t((c * n + i + t / 3) * n + j + t % 3)];
          }
          for (int64_t i = 0; i < std::min<int64_t>(e.tile, to.size(2) - y0); ++i)
            for (int64_t j = 0; j < std::min<int64_t>(e.tile, to.size(3) - x0); ++j) {
              const real sum = sums[size_t(i * e.tile + j)];
              const real b = e.bias ? bias[o] : 0, r = e.residual ? residual(image, o, y0 + i, x0 + j) : 0;
              expectation& at = expected[size_t(to.at(image, o, y0 + i, x0 + j))];
              at.value = sum + b + r;
              at.bound = factor * magnitude + 3 * u * (fabsl(sum) + fabsl(b) + fabsl(r));
              if (e.activation == HOMINY_ACTIVATION_RELU) at.value = std::max(at.value, real(0));
              if (e.activation == HOMINY_ACTIVATION_TANH) {
                at.value = tanhl(at.value);
                at.bound += 8 * u;
              }
            }
        }
      }
  check_elements(to.memory(), what, [&](int64_t i) { return expected[size_t(i)]; });
}

// A (roundings + l + k - 1) for sums over tiles.
real weight_amplification(const level& here, int32_t dtype, int tile, int64_t positions, int64_t tiles) {
  const bool fused = std::string(here.kernels->isa) != "baseline", narrow = dtype == HOMINY_FLOAT32;
  const real a = tile == 2 ? 16 : 157.31L;
  real roundings = tile == 2 ? (narrow ? 4 : 11) : (narrow ? (fused ? 7.32L : 10.75L) : fused ? 18.32L : 22.9L);
  if (!fused) roundings += 1;
  const real allowed = 8 * real(positions + 2);  // runs are cut until the bound is below it, where they can
  for (int64_t k = 1; k <= 8; ++k)
    if (a * (roundings + real((tiles + k - 1) / k + k - 1)) <= allowed) return allowed;
  const int64_t l = std::min<int64_t>(tiles, 16);
  return std::max(allowed, a * (roundings + real(l + (tiles + l - 1) / l - 1)));
}

void run_weight_gradient(const level& here, int32_t dtype, const geometry& g, int tile, bool last, layout kind,
                         values numbers) {
  const int64_t out_height = g.height + g.top + g.bottom - 2, out_width = g.width + g.left + g.right - 2;
  images x(dtype, {g.batch, g.in_channels, g.height, g.width}, last, kind);
  images y(dtype, {g.batch, g.out_channels, out_height, out_width}, last, kind);
  array weight(dtype, {g.out_channels, g.in_channels, 3, 3}, kind);
  random_numbers random(uint64_t(g.width * g.batch));
  for (images* from : {&x, &y})
    for (int64_t i = 0; i < from->memory().size(); ++i) from->memory().set(i, value_of(numbers, random, 0));
  const hominy_conv settings = settings_of(g, tile);
  const hominy_kernels& k = *here.kernels;
  const std::string what = "winograd" + std::to_string(tile) + " weights " + g.text() +
                           (last ? " channels-last " : " ") + name_of(kind) + " " + name_of(numbers);
  same_bits_for_any_number_of_threads(what.c_str(), [&] {
    guarded_bytes scratch(0, k.conv_workspace_size(HOMINY_CONV_WEIGHT_GRADIENT, x, weight, y, &settings));
    const hominy_status status = k.conv(HOMINY_CONV_WEIGHT_GRADIENT, x, weight, y, nullptr, nullptr, nullptr, &settings,
                                        scratch.data(), scratch.size());
    check_status(status, HOMINY_OK, what);
    check(scratch.guards_intact(), "%s: wrote outside its scratch", what.c_str());
    return weight.bits();
  });

  const int64_t down = (out_height + tile - 1) / tile, across = (out_width + tile - 1) / tile;
  const real factor =
      1.01L * unit_roundoff(dtype) *
      weight_amplification(here, dtype, tile, g.batch * out_height * out_width, g.batch * down * across);
  const auto input = [&](int64_t n, int64_t c, int64_t i, int64_t j) {
    return i >= 0 && j >= 0 && i < g.height && j < g.width ? x(n, c, i, j) : real(0);
  };
  std::vector<expectation> expected(size_t(weight.size()), expectation{0, 0});
  for (int64_t n = 0; n < g.batch; ++n)
    for (int64_t y0 = 0; y0 < out_height; y0 += tile)
      for (int64_t x0 = 0; x0 < out_width; x0 += tile)
        for (int64_t c = 0; c < g.in_channels; ++c) {
          real largest = 0;
          for (int64_t i = 0; i < tile + 2; ++i)
            for (int64_t j = 0; j < tile + 2; ++j)
              largest = std::max(largest, fabsl(input(n, c, y0 + i - g.top, x0 + j - g.left)));
          for (int64_t o = 0; o < g.out_channels; ++o)
            for (int64_t i = y0; i < std::min(y0 + tile, out_height); ++i)
              for (int64_t j = x0; j < std::min(x0 + tile, out_width); ++j)
                for (int t = 0; t < 9; ++t) {
                  expectation& at = expected[size_t((o * g.in_channels + c) * 9 + t)];
                  at.value += y(n, o, i, j) * input(n, c, i + t / 3 - g.top, j + t % 3 - g.left);
                  at.bound += factor * largest * fabsl(y(n, o, i, j));
                }
        }
  check_elements(weight, what, [&](int64_t i) { return expected[size_t(i)]; });
}

void refusals(const level& here) {
  images x(HOMINY_FLOAT32, {1, 4, 6, 6}, false, layout::contiguous),
      y(HOMINY_FLOAT32, {1, 4, 6, 6}, false, layout::contiguous);
  array weight(HOMINY_FLOAT32, {4, 4, 3, 3});
  hominy_conv settings = settings_of({1, 4, 4, 6, 6, 1, 1, 1, 1}, 4);
  const auto algorithm = [&] { return here.kernels->conv_algorithm(HOMINY_CONV_FORWARD, x, weight, y, &settings); };
  check(algorithm() == HOMINY_CONV_WINOGRAD4, "3x3 at stride 1 is refused");
  settings.dilation[0] = 2;
  check(algorithm() != HOMINY_CONV_WINOGRAD4, "dilation is accepted");
  settings.dilation[0] = 1;
  settings.stride[1] = 2;
  check(algorithm() != HOMINY_CONV_WINOGRAD4, "stride 2 is accepted");
}

}  // namespace

void conv_winograd_test(const level& here) {
  const bool quick = here.settings.quick;
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    begin_group(std::string("conv_winograd ") + here.kernels->isa + " " + name_of_dtype(dtype));
    const geometry geometries[] = {
        {1, 1, 1, 1, 1, 1, 1, 1, 1},    {2, 3, 5, 4, 4, 1, 1, 1, 1},  {2, 17, 9, 7, 13, 1, 1, 1, 1},
        {1, 18, 33, 5, 31, 0, 2, 1, 0}, {3, 5, 40, 9, 3, 2, 0, 0, 2}, {1, 2, 3, 3, 70, 2, 2, 2, 2},
        {9, 16, 3, 8, 8, 1, 1, 1, 1},   {1, 64, 4, 7, 7, 1, 1, 1, 1}, {30, 1, 2, 16, 16, 1, 1, 1, 1}};
    for (int tile : {2, 4})
      for (int backward = 0; backward < 2; ++backward)
        for (int last = 0; last < 2; ++last) {
          for (const geometry& g : geometries) {
            const bool adds = g.in_channels % 2 == 0;
            run_example(here, dtype, {g, tile, backward != 0, last != 0, adds, g.batch > 1});
          }
          const geometry odd{2, 7, 19, 6, 11, 1, 1, 1, 1};
          for (layout kind : {layout::misaligned, layout::ragged})
            run_example(here, dtype, {odd, tile, backward != 0, last != 0, true, true, HOMINY_ACTIVATION_RELU, kind});
          run_example(here, dtype, {odd, tile, backward != 0, last != 0, true, false, HOMINY_ACTIVATION_TANH});
          const std::vector<int64_t> depths = quick ? std::vector<int64_t>{64} : std::vector<int64_t>{16, 64, 100, 300};
          for (int64_t depth : depths)
            for (values numbers : {values::random, values::positive, values::signs, values::uneven}) {
              const geometry deep{1, backward ? 3 : depth, backward ? depth : 3, 6, 9, 1, 1, 1, 1};
              run_example(here, dtype,
                          {deep, tile, backward != 0, last != 0, false, false, HOMINY_ACTIVATION_NONE,
                           layout::contiguous, numbers});
            }
        }
    end_group();
  }
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    begin_group(std::string("conv_winograd weights ") + here.kernels->isa + " " + name_of_dtype(dtype));
    const geometry geometries[] = {{1, 1, 1, 1, 1, 1, 1, 1, 1},   {2, 3, 5, 4, 4, 1, 1, 1, 1},
                                   {2, 17, 9, 7, 13, 1, 1, 1, 1}, {3, 5, 40, 9, 3, 2, 0, 0, 2},
                                   {8, 2, 260, 6, 6, 1, 1, 1, 1}, {1, 1, 2, 150, 170, 1, 2, 0, 1}};
    for (int tile : {2, 4})
      for (int last = 0; last < 2; ++last) {
        for (const geometry& g : geometries)
          run_weight_gradient(here, dtype, g, tile, last != 0, layout::contiguous, values::random);
        const geometry odd{2, 7, 19, 6, 11, 1, 1, 1, 1};
        for (layout kind : {layout::misaligned, layout::ragged})
          run_weight_gradient(here, dtype, odd, tile, last != 0, kind, values::positive);
        for (values numbers : {values::positive, values::signs})
          run_weight_gradient(here, dtype, {4, 2, 3, 14, 13, 1, 1, 1, 1}, tile, last != 0, layout::contiguous, numbers);
      }
    end_group();
  }
  begin_group(std::string("conv_winograd refusals ") + here.kernels->isa);
  refusals(here);
  end_group();
}

}  // namespace test
