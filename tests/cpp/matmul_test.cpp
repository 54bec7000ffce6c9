// Matrix products within the bound that matmul.hpp states, c (k + 2) u (|a| @ |b| + |bias|).
#include <math.h>

#include <algorithm>
#include <functional>

#include "test_array.hpp"

namespace test {
namespace {

constexpr const char* activation_names[] = {"none", "relu", "sigmoid", "tanh", "gelu", "silu"};

struct activated {
  real value, slope;  // slope: a Lipschitz constant, which carries the product's error over
  real ulps;          // of max(|value|, |x|), for the activation's own error
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

// Scratch of exactly the size asked for, with a guard behind it.
class workspace {
 public:
  explicit workspace(int64_t bytes) : array_(HOMINY_UINT8, {std::max<int64_t>(bytes, 0)}), bytes_(bytes) {}
  void* data() { return array_.data(); }
  int64_t bytes() const { return bytes_; }
  bool guards_intact() const { return array_.guards_intact(); }

 private:
  array array_;
  int64_t bytes_;
};

hominy_status multiply(const level& here, const hominy_tensor* a, const hominy_tensor* b, const hominy_tensor* bias,
                       int activation, const hominy_tensor* out) {
  workspace scratch(here.kernels->matmul_workspace_size(a, b, out));
  if (!check(scratch.bytes() >= 0, "workspace of %lld bytes", (long long)scratch.bytes())) return HOMINY_OVERFLOW;
  const hominy_status status =
      here.kernels->matmul(a, b, bias, hominy_activation(activation), out, scratch.data(), scratch.bytes());
  check(scratch.guards_intact(), "wrote outside the workspace");
  return status;
}

// a: (..., m, k), b: (..., k, n). Checks every element, or `samples` of them drawn at random (0: all).
void check_product(const array& a, const array& b, const array* bias, int activation, const array& out,
                   const std::string& what, int64_t samples = 0) {
  const size_t nd = a.shape().size();
  const int64_t m = a.shape()[nd - 2], k = a.shape()[nd - 1], n = b.shape()[nd - 1];
  const real u = unit_roundoff(a.dtype());
  if (!out.guards_intact()) {
    check(false, "%s: wrote outside its output", what.c_str());
    return;
  }
  random_numbers random(42);
  const int64_t count = samples > 0 ? std::min(samples, out.size()) : out.size();
  for (int64_t s = 0; s < count; ++s) {
    const int64_t at = samples > 0 ? random.below(out.size()) : s;
    const int64_t j = at % n, i = at / n % m, batch = at / n / m;
    real sum = bias ? (*bias)[j] : 0, magnitude = fabsl(sum);
    for (int64_t p = 0; p < k; ++p) {
      const real term = a[(batch * m + i) * k + p] * b[(batch * k + p) * n + j];
      sum += term;
      magnitude += fabsl(term);
    }
    // The header's c allows for levels without fused multiply-add, where each term is rounded twice.
    const real product_error = 1.01L * (real(k) + 3) * u * magnitude;
    const activated f = activate(activation, sum);
    const expectation e{f.value, isfinite(magnitude)
                                     ? f.slope * product_error + f.ulps * 2 * u * std::max(fabsl(f.value), fabsl(sum))
                                     : 0};
    if (!is_close(out, at, e)) {
      check(false, "%s: element (%lld, %lld) of batch %lld is %.17Lg, expected %.17Lg within %.3Lg", what.c_str(),
            (long long)i, (long long)j, (long long)batch, out[at], e.value, e.bound);
      return;
    }
  }
  check(true, "%s", what.c_str());
}

std::string describe(const array& a, const array& b, const array& out) {
  return text_of(a.shape()) + " @ " + text_of(b.shape()) + " " + name_of(a.kind()) + ", " + name_of(b.kind()) + " -> " +
         name_of(out.kind());
}

void run(const level& here, int32_t dtype, std::vector<int64_t> batch, int64_t m, int64_t k, int64_t n, layout from_a,
         layout from_b, layout to, bool with_bias, int activation, int64_t samples = 0) {
  const auto shape = [&](int64_t rows, int64_t columns) {
    std::vector<int64_t> all = batch;
    all.insert(all.end(), {rows, columns});
    return all;
  };
  array a(dtype, shape(m, k), from_a), b(dtype, shape(k, n), from_b), out(dtype, shape(m, n), to),
      bias(dtype, {n}, from_b);
  a.fill_uniform(1, -1, 1);
  b.fill_uniform(2, -1, 1);
  bias.fill_uniform(3, -1, 1);
  const std::string what = describe(a, b, out) + (with_bias ? " + bias, " : ", ") + activation_names[activation];
  if (!check_status(
          multiply(here, a, b, with_bias ? static_cast<const hominy_tensor*>(bias) : nullptr, activation, out),
          HOMINY_OK, what))
    return;
  check_product(a, b, with_bias ? &bias : nullptr, activation, out, what, samples);
  check(a.untouched() && b.untouched() && bias.untouched(), "%s: wrote to an input", what.c_str());
}

void sizes(const level& here, int32_t dtype) {
  const layout plain = layout::contiguous, flipped = layout::transposed;
  const int v = here.lanes(dtype);
  std::vector<int64_t> all = {0, 1, 2, v - 1, v, v + 1, 2 * v + 1, 23};
  if (!here.settings.quick) all.insert(all.end(), {3, 5, 4 * v - 1, 53});
  for (int64_t m : all)
    for (int64_t k : all)
      for (int64_t n : all) {
        run(here, dtype, {}, m, k, n, plain, plain, plain, (m + k + n) % 2, (m + 2 * k + 3 * n) % 6);
        if ((m + k + n) % 3 == 0) {
          run(here, dtype, {}, m, k, n, flipped, plain, plain, false, 0);
          run(here, dtype, {}, m, k, n, plain, flipped, plain, false, 0);
          run(here, dtype, {}, m, k, n, flipped, flipped, plain, true, 0);
        }
      }
}

void shapes(const level& here, int32_t dtype) {
  struct {
    int64_t m, k, n;
  } const all[] = {{1, 257, 1},   {1, 1, 509},    {509, 1, 1},   {1, 257, 263}, {263, 257, 1}, {2, 521, 67},
                   {67, 521, 2},  {8, 131, 257},  {32, 67, 257}, {257, 67, 8},  {257, 8, 257}, {129, 64, 65},
                   {64, 1031, 7}, {97, 101, 103}, {7, 2053, 5},  {1031, 5, 3},  {3, 5, 1031},  {200, 300, 150}};
  for (const auto& [m, k, n] : all)
    for (layout from_a : {layout::contiguous, layout::transposed})
      for (layout from_b : {layout::contiguous, layout::transposed})
        run(here, dtype, {}, m, k, n, from_a, from_b, layout::contiguous, (m + n) % 2, 0, 300);
  if (here.settings.quick) return;
  run(here, dtype, {}, 515, 519, 523, layout::contiguous, layout::contiguous, layout::contiguous, true, 1, 500);
  run(here, dtype, {}, 130, 4099, 70, layout::contiguous, layout::transposed, layout::contiguous, false, 0, 500);
  run(here, dtype, {}, 37, 41, 4099, layout::contiguous, layout::contiguous, layout::contiguous, true, 4, 500);
  run(here, dtype, {}, 4099, 41, 37, layout::transposed, layout::contiguous, layout::contiguous, true, 5, 500);
}

void layouts(const level& here, int32_t dtype) {
  for (layout from_a : input_layouts)
    for (layout from_b : input_layouts)
      for (layout to : output_layouts) {
        if (here.settings.quick && (int(from_a) + int(from_b) + int(to)) % 3) continue;
        run(here, dtype, {}, 13, 19, 21, from_a, from_b, to, true, 0);
        run(here, dtype, {}, 1, 19, 21, from_a, from_b, to, false, 0);
        run(here, dtype, {}, 21, 19, 1, from_a, from_b, to, false, 0);
        run(here, dtype, {3}, 5, 7, 9, from_a, from_b, to, false, 0);
      }
  for (int activation = 0; activation < 6; ++activation)
    for (bool with_bias : {false, true}) {
      run(here, dtype, {}, 29, 31, 37, layout::contiguous, layout::transposed, layout::contiguous, with_bias,
          activation);
      run(here, dtype, {}, 29, 0, 37, layout::contiguous, layout::contiguous, layout::strided, with_bias, activation);
      run(here, dtype, {}, 1, 31, 3, layout::contiguous, layout::transposed, layout::contiguous, with_bias, activation);
    }
}

void batches(const level& here, int32_t dtype) {
  const layout plain = layout::contiguous;
  run(here, dtype, {4}, 3, 5, 7, plain, plain, plain, false, 0);
  run(here, dtype, {2, 3}, 17, 5, 19, plain, plain, plain, true, 1);
  run(here, dtype, {2, 1, 3}, 5, 17, 9, layout::transposed, layout::ragged, plain, false, 0);
  run(here, dtype, {0}, 3, 5, 7, plain, plain, plain, false, 0);
  run(here, dtype, {2, 0, 3}, 3, 5, 7, plain, plain, plain, false, 0);
  run(here, dtype, {61}, 1, 8, 1, plain, plain, plain, false, 0);
  run(here, dtype, {5}, 64, 33, 65, plain, plain, plain, false, 0, 300);
  // Stride 0 in the batch: one matrix for all, on either side.
  run(here, dtype, {4}, 6, 5, 7, layout::broadcast_first, plain, plain, false, 0);
  run(here, dtype, {4}, 6, 5, 7, plain, layout::broadcast_first, plain, false, 0);
  run(here, dtype, {3, 4}, 40, 50, 60, plain, layout::broadcast_first, plain, true, 0, 300);
  std::vector<int64_t> deep(HOMINY_MAX_NDIM - 2, 1);
  deep[3] = 2, deep[17] = 3;
  run(here, dtype, deep, 3, 4, 5, plain, plain, plain, false, 0);
}

void special_values(const level& here, int32_t dtype) {
  for (real odd : {real(INFINITY), real(-INFINITY), real(NAN)})
    for (int64_t m : {1, 2, 13, 30}) {
      const int64_t k = 11, n = 37;
      array a(dtype, {m, k}), b(dtype, {k, n}), out(dtype, {m, n});
      // Zeros everywhere else in that row and column: 0 times infinity is NaN and must not be skipped.
      a.fill([&](int64_t i) { return i % k == 3 ? 0 : 0.5L; });
      b.fill([&](int64_t i) { return i == 3 * n + n / 2 ? odd : 0.25L; });
      check_status(multiply(here, a, b, nullptr, 0, out), HOMINY_OK, "odd value in b");
      for (int64_t i = 0; i < m * n; ++i)
        check(i % n == n / 2 ? isnan(out[i]) : out[i] == 1.25L, "b holds %Lg: element %lld is %Lg", odd, (long long)i,
              out[i]);
      a.fill([&](int64_t i) { return i == (m - 1) * k + k - 1 ? odd : 0.5L; });
      b.fill([&](int64_t) { return 0.25L; });
      check_status(multiply(here, a, b, nullptr, 0, out), HOMINY_OK, "odd value in a");
      for (int64_t i = 0; i < m * n; ++i)
        check(i / n == m - 1 ? (isnan(odd) ? isnan(out[i]) : out[i] == odd) : out[i] == 0.125L * k,
              "a holds %Lg: element %lld is %Lg", odd, (long long)i, out[i]);
    }
}

void refusals(const level& here, int32_t dtype) {
  const hominy_kernels& kernels = *here.kernels;
  array a(dtype, {2, 4, 5}), b(dtype, {2, 5, 6}), out(dtype, {2, 4, 6}), bias(dtype, {6});
  array scratch(HOMINY_UINT8, {1 << 20});
  a.fill_uniform(1, -1, 1);
  b.fill_uniform(2, -1, 1);
  bias.fill_uniform(3, -1, 1);
  const auto attempt = [&](const hominy_tensor* left, const hominy_tensor* right, const hominy_tensor* added,
                           int activation, const hominy_tensor* to, hominy_status expected, const std::string& what) {
    const int64_t asked = kernels.matmul_workspace_size(left, right, to);
    check(asked <= scratch.size(), "%s: asks for a workspace of %lld bytes", what.c_str(), (long long)asked);
    check_refused(kernels.matmul(left, right, added, hominy_activation(activation), to, scratch.data(), scratch.size()),
                  {expected}, out, what);
  };
  for (const auto& bad : bad_tensors(a))
    attempt(&bad.tensor, b, bias, 0, out, bad.expected, std::string("a has ") + bad.what);
  for (const auto& bad : bad_tensors(b))
    attempt(a, &bad.tensor, bias, 0, out, bad.expected, std::string("b has ") + bad.what);
  for (const auto& bad : bad_tensors(out))
    attempt(a, b, bias, 0, &bad.tensor, bad.expected, std::string("out has ") + bad.what);
  for (const auto& bad : bad_tensors(bias))
    attempt(a, b, &bad.tensor, 0, out, bad.expected, std::string("bias has ") + bad.what);
  for (int code : {-1, 6, INT32_MAX}) attempt(a, b, bias, code, out, HOMINY_BAD_VALUE, "unknown activation");
  array vector(dtype, {5}), inner(dtype, {2, 4, 6}), rows(dtype, {2, 3, 6}), columns(dtype, {2, 4, 7});
  attempt(vector, b, nullptr, 0, out, HOMINY_BAD_SHAPE, "a is a vector");
  attempt(a, vector, nullptr, 0, out, HOMINY_BAD_SHAPE, "b is a vector");
  attempt(a, a, nullptr, 0, out, HOMINY_BAD_SHAPE, "inner dimensions differ");
  attempt(a, b, nullptr, 0, rows, HOMINY_BAD_SHAPE, "out has too few rows");
  attempt(a, b, nullptr, 0, columns, HOMINY_BAD_SHAPE, "out has too many columns");
  attempt(a, b, inner, 0, out, HOMINY_BAD_SHAPE, "bias is not a vector");
  const hominy_tensor huge = overflowing(a);
  attempt(&huge, &huge, nullptr, 0, &huge, HOMINY_OVERFLOW, "2^93 elements");

  // Every byte less than asked for is too little.
  array big_a(dtype, {70, 1024}), big_b(dtype, {1024, 200}),
      big_out(dtype, {70, 200});  // a's rows collide in the cache
  const int64_t asked = kernels.matmul_workspace_size(big_a, big_b, big_out);
  check(asked > 0, "rows 4 KB apart are packed");
  for (int64_t given : {int64_t(0), asked - 1, int64_t(-1)})
    check_refused(kernels.matmul(big_a, big_b, nullptr, HOMINY_ACTIVATION_NONE, big_out, scratch.data(), given),
                  {HOMINY_NO_WORKSPACE}, big_out, "workspace of " + std::to_string(given) + " bytes");
}

void threads_and_alignment(const level& here, int32_t dtype) {
  struct {
    std::vector<int64_t> batch;
    int64_t m, k, n;
  } const all[] = {{{}, 257, 131, 263}, {{}, 1, 1031, 1033}, {{}, 8, 521, 523}, {{}, 1031, 64, 67}, {{}, 67, 2053, 61},
                   {{}, 521, 67, 9},    {{9}, 33, 65, 35},   {{130}, 8, 8, 8},  {{}, 70, 784, 129}};
  const std::pair<layout, layout> layouts[] = {{layout::contiguous, layout::contiguous},
                                               {layout::transposed, layout::contiguous},
                                               {layout::contiguous, layout::transposed}};
  for (const auto& [batch, m, k, n] : all)
    for (const auto& [kind, kind_b] : layouts) {
      if (here.settings.quick && m * k * n > 5000000) continue;
      const auto shape = [&, &batch = batch](int64_t rows, int64_t columns) {
        std::vector<int64_t> s = batch;
        s.insert(s.end(), {rows, columns});
        return s;
      };
      array a(dtype, shape(m, k), kind), b(dtype, shape(k, n), kind_b), out(dtype, shape(m, n));
      a.fill_uniform(1, -1, 1);
      b.fill_uniform(2, -1, 1);
      same_bits_for_any_number_of_threads(describe(a, b, out).c_str(), [&] {
        multiply(here, a, b, nullptr, 0, out);
        return out.bits();
      });
      if (kind == layout::transposed || kind_b == layout::transposed) continue;
      array shifted_a(dtype, shape(m, k), layout::misaligned), shifted_b(dtype, shape(k, n), layout::misaligned);
      array shifted_out(dtype, shape(m, n), layout::misaligned);
      shifted_a.fill_uniform(1, -1, 1);
      shifted_b.fill_uniform(2, -1, 1);
      multiply(here, shifted_a, shifted_b, nullptr, 0, shifted_out);
      check(shifted_out.bits() == out.bits(), "%s: other bits when misaligned", describe(a, b, out).c_str());
    }
}

}  // namespace

void matmul_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("matmul sizes", sizes);
    group("matmul shapes", shapes);
    group("matmul layouts", layouts);
    group("matmul batches", batches);
    group("matmul special values", special_values);
    group("matmul refusals", refusals);
    group("matmul threads and alignment", threads_and_alignment);
  }
}

}  // namespace test
