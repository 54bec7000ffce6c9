// Elementwise kernels: every operation against libm in long double, any layout, special values, aliases, refusals.
#include <math.h>

#include <algorithm>
#include <limits>

#include "test_array.hpp"

namespace test {
namespace {

constexpr real infinity = std::numeric_limits<real>::infinity();
constexpr real nan = std::numeric_limits<real>::quiet_NaN();
constexpr real inverse_sqrt_2 = 0.707106781186547524400844362104849039L;
constexpr real sqrt_2_over_pi = 0.797884560802865355879892119868763737L;
constexpr real inverse_sqrt_2_pi = 0.398942280401432677939946059934381868L;

// ---- References: value(x, p, q), and the bound in ulps of `scale` ---------------------------------------------------

real sigmoid(real x) { return x >= 0 ? 1 / (1 + expl(-x)) : expl(x) / (1 + expl(x)); }
real relu(real x) { return isnan(x) ? x : x > 0 ? x : 0; }
real softplus(real x, real beta, real threshold) {
  const real z = beta * x;
  if (z > threshold) return x;
  return (z > 0 ? z + log1pl(expl(-z)) : log1pl(expl(z))) / beta;
}
real normal_cdf(real x) { return 0.5L * erfcl(-x * inverse_sqrt_2); }
real tanh_argument(real x) { return sqrt_2_over_pi * (x + 0.044715L * x * x * x); }

struct reference {
  real value;
  real ulps;        // 0: exact
  real scale = 0;   // what the ulps are of, if not of the value
  real factor = 0;  // what multiplies an intermediate result, whose underflow it magnifies
};

reference unary_reference(int operation, real x, real p, real q) {
  switch (operation) {
    case HOMINY_UNARY_negative: return {-x, 0};
    case HOMINY_UNARY_absolute: return {fabsl(x), 0};
    case HOMINY_UNARY_sign: return {isnan(x) ? x : real((x > 0) - (x < 0)), 0};
    case HOMINY_UNARY_square: return {x * x, 0.5L};
    case HOMINY_UNARY_sqrt: return {sqrtl(x), 0.5L};
    case HOMINY_UNARY_rsqrt: return {1 / sqrtl(x), 2};
    case HOMINY_UNARY_reciprocal: return {1 / x, 0.5L};
    case HOMINY_UNARY_exp: return {expl(x), 2};
    case HOMINY_UNARY_expm1: return {expm1l(x), 3};
    case HOMINY_UNARY_log: return {logl(x), 2};
    case HOMINY_UNARY_log1p: return {log1pl(x), 3};
    case HOMINY_UNARY_tanh: return {tanhl(x), 3};
    case HOMINY_UNARY_sigmoid: return {sigmoid(x), 4};
    case HOMINY_UNARY_erf: return {erfl(x), 3};
    case HOMINY_UNARY_floor: return {floorl(x), 0};
    case HOMINY_UNARY_ceil: return {ceill(x), 0};
    case HOMINY_UNARY_round: return {rintl(x), 0};
    case HOMINY_UNARY_relu: return {relu(x), 0};
    case HOMINY_UNARY_leaky_relu: return {x > 0 ? x : p * x, 1};
    case HOMINY_UNARY_elu: return {x > 0 ? x : p * expm1l(x), 4};
    case HOMINY_UNARY_silu: return {x == -infinity ? nan : x * sigmoid(x), 5, 0, fabsl(x)};
    case HOMINY_UNARY_gelu: return {x == -infinity ? nan : x * normal_cdf(x), 5, fabsl(x)};
    case HOMINY_UNARY_gelu_tanh: return {x == -infinity ? nan : 0.5L * x * (1 + tanhl(tanh_argument(x))), 5, fabsl(x)};
    case HOMINY_UNARY_softplus: return {softplus(x, p, q), 6};
    case HOMINY_UNARY_softsign: return {x / (1 + fabsl(x)), 1.5L};
    case HOMINY_UNARY_clamp: return {isnan(x) ? x : x < p ? p : x > q ? q : x, 0};
  }
  return {nan, 0};
}

reference binary_reference(int operation, real a, real b, real p, real q) {
  const real g = a, x = b, y = b;  // the names of backward operations
  switch (operation) {
    case HOMINY_BINARY_add: return {a + b, 0.5L};
    case HOMINY_BINARY_subtract: return {a - b, 0.5L};
    case HOMINY_BINARY_multiply: return {a * b, 0.5L};
    case HOMINY_BINARY_divide: return {a / b, 0.5L};
    case HOMINY_BINARY_power: return {powl(a, b), 4};
    case HOMINY_BINARY_maximum: return {isnan(a) || isnan(b) ? nan : std::max(a, b), 0};
    case HOMINY_BINARY_minimum: return {isnan(a) || isnan(b) ? nan : std::min(a, b), 0};
    case HOMINY_BINARY_binary_cross_entropy: {
      const real with = -b * std::max(logl(a), real(-100)), without = (b - 1) * std::max(log1pl(-a), real(-100));
      return {a >= 0 && a <= 1 ? with + without : nan, 4, fabsl(with) + fabsl(without)};
    }
    case HOMINY_BINARY_binary_cross_entropy_backward: return {(a - b) / std::max(a * (1 - a), real(1e-12L)), 3};
    case HOMINY_BINARY_absolute_backward: return {x > 0 ? g : x < 0 ? -g : x * g, 0};
    case HOMINY_BINARY_tanh_backward: return {g * (1 - y * y), 3, fabsl(g) * (1 + y * y)};
    case HOMINY_BINARY_sigmoid_backward: return {g * y * (1 - y), 3, fabsl(g * y) * (1 + fabsl(y))};
    case HOMINY_BINARY_relu_backward: return {y > 0 ? g : 0, 0};
    case HOMINY_BINARY_leaky_relu_backward: return {x > 0 ? g : p * g, 1};
    case HOMINY_BINARY_elu_backward: return {x > 0 ? g : g * p * expl(x), 4};
    case HOMINY_BINARY_silu_backward: {
      const real s = sigmoid(x);
      return {g * s * (1 + x * (1 - s)), 8, fabsl(g) * s * (1 + fabsl(x))};
    }
    case HOMINY_BINARY_gelu_backward: {
      const real density = inverse_sqrt_2_pi * expl(-0.5L * x * x);
      return {g * (normal_cdf(x) + x * density), 8, fabsl(g) * (1 + fabsl(x) * density * (1 + x * x))};
    }
    case HOMINY_BINARY_gelu_tanh_backward: {
      const real t = tanhl(tanh_argument(x)), slope = sqrt_2_over_pi * (1 + 3 * 0.044715L * x * x);
      return {g * (0.5L * (1 + t) + 0.5L * x * (1 - t * t) * slope), 8,
              fabsl(g) * (1 + fabsl(x) * slope * std::min(real(1), 2 * (1 - fabsl(t))) +
                          (fabsl(x) < 6 ? fabsl(x) * slope : 0))};
    }
    case HOMINY_BINARY_softplus_backward: return {p * x > q ? g : g * sigmoid(p * x), 5, fabsl(g) * (1 + fabsl(p * x))};
    case HOMINY_BINARY_clamp_backward: return {x >= p && x <= q ? g : 0, 0};
  }
  return {nan, 0};
}

expectation bounded(const reference& r, int32_t dtype) {
  const real scale = std::max(fabsl(r.value), r.scale);
  if (!isfinite(scale)) return {r.value, 0};
  // An ulp is at most two roundoffs of the value.
  return {r.value, r.ulps * 2 * unit_roundoff(dtype) * scale + r.factor * subnormal_step(dtype)};
}

struct parameters {
  double p, q;
};
parameters parameters_of_unary(int operation) {
  switch (operation) {
    case HOMINY_UNARY_leaky_relu: return {0.125, 0};
    case HOMINY_UNARY_elu: return {1.5, 0};
    case HOMINY_UNARY_softplus: return {2, 20};
    case HOMINY_UNARY_clamp: return {-1.25, 2.5};
    default: return {0, 0};
  }
}
parameters parameters_of_binary(int operation) {
  switch (operation) {
    case HOMINY_BINARY_leaky_relu_backward: return {0.125, 0};
    case HOMINY_BINARY_elu_backward: return {1.5, 0};
    case HOMINY_BINARY_softplus_backward: return {2, 20};
    case HOMINY_BINARY_clamp_backward: return {-1.25, 2.5};
    default: return {0, 0};
  }
}

// Where the operation is defined: [low, high] to draw from.
struct domain {
  double low, high;
};
domain domain_of_unary(int operation) {
  switch (operation) {
    case HOMINY_UNARY_sqrt:
    case HOMINY_UNARY_rsqrt:
    case HOMINY_UNARY_log: return {1e-3, 50};
    case HOMINY_UNARY_log1p: return {-0.999, 50};
    default: return {-12, 12};
  }
}

std::pair<domain, domain> domain_of_binary(int operation) {
  switch (operation) {
    case HOMINY_BINARY_power: return {{0.01, 20}, {-4, 4}};
    case HOMINY_BINARY_binary_cross_entropy:
    case HOMINY_BINARY_binary_cross_entropy_backward: return {{0, 1}, {0, 1}};
    default: return {{-3, 3}, {-4, 4}};
  }
}

#define NAME(name) #name,
const char* const unary_names[] = {HOMINY_UNARY_OPERATIONS(NAME)};
const char* const binary_names[] = {HOMINY_BINARY_OPERATIONS(NAME)};
const char* const compare_names[] = {HOMINY_COMPARE_OPERATIONS(NAME)};
#undef NAME

std::string describe(const char* operation, const array& out, const array& x) {
  return std::string(operation) + " " + name_of_dtype(x.dtype()) + " " + text_of(out.shape()) + " " +
         name_of(x.kind()) + " -> " + name_of(out.kind());
}

// Shapes for one size n: a vector, and n in each place of a matrix, and more dimensions than can be merged.
std::vector<std::vector<int64_t>> shapes_of(int64_t n) { return {{n}, {3, n}, {n, 2}, {2, n, 3}}; }

// ---- Tests ----------------------------------------------------------------------------------------------------------

void unary_values(const level& here, int32_t dtype) {
  for (int operation = 0; operation < HOMINY_UNARY_COUNT; ++operation) {
    const auto [p, q] = parameters_of_unary(operation);
    const auto [low, high] = domain_of_unary(operation);
    const auto run = [&](const std::vector<int64_t>& shape, layout from, layout to) {
      array x(dtype, shape, from), out(dtype, shape, to);
      x.fill_uniform(uint64_t(operation + 1), low, high);
      const std::string what = describe(unary_names[operation], out, x);
      if (!check_status(here.kernels->unary(hominy_unary(operation), x, p, q, out), HOMINY_OK, what)) return;
      check_elements(out, what,
                     [&, p = p, q = q](int64_t i) { return bounded(unary_reference(operation, x[i], p, q), dtype); });
      check(x.untouched(), "%s: wrote to its input", what.c_str());
    };
    for (int64_t n : here.sizes(dtype)) run({n}, layout::contiguous, layout::contiguous);
    // Layouts do not depend on the operation: all of them for two, a few for the others.
    const bool all = operation == HOMINY_UNARY_negative || operation == HOMINY_UNARY_exp;
    for (layout from : input_layouts)
      for (layout to : output_layouts)
        if (all || (int(from) + int(to)) % 8 == operation % 8) run({5, 2, 13}, from, to);
    run({}, layout::contiguous, layout::misaligned);
  }
}

void unary_special_values(const level& here, int32_t dtype) {
  const bool single = dtype == HOMINY_FLOAT32;
  const real least = single ? 0x1p-149L : 0x1p-1074L, smallest_normal = single ? 0x1p-126L : 0x1p-1022L;
  const real largest = single ? 0x1.fffffep127L : 0x1.fffffffffffffp1023L;
  // clang-format off
  const std::vector<real> values = {
      0.0L, -0.0L, infinity, -infinity, nan, 1, -1, 0.5L, -0.5L, 1.5L, 2.5L, -2.5L,
      least, -least, smallest_normal, -smallest_normal, largest, -largest, 1e-10L, -1e-10L,
      20, -20, 50, -50, 87, 89, -87, -89, -104, 105, 700, -700, 710, -740,
      0x1p23L, 0x1p24L + 2, -0x1p23L, 0x1p52L, 9, -9, 3.9L, -3.9L, 6.1L, -6.1L};
  // clang-format on
  for (int operation = 0; operation < HOMINY_UNARY_COUNT; ++operation) {
    const auto [p, q] = parameters_of_unary(operation);
    array x(dtype, {int64_t(values.size())}), out(dtype, {int64_t(values.size())});
    x.fill([&](int64_t i) { return values[size_t(i)]; });
    const std::string name = unary_names[operation];
    check_status(here.kernels->unary(hominy_unary(operation), x, p, q, out), HOMINY_OK, name + " of special values");
    for (int64_t i = 0; i < x.size(); ++i) {
      const real value = x[i];
      // silu and gelu of -infinity: the formula says NaN (-infinity times 0), the limit says 0; either will do.
      if (value == -infinity && (out[i] == 0 || isnan(out[i])) &&
          (operation == HOMINY_UNARY_silu || operation == HOMINY_UNARY_gelu || operation == HOMINY_UNARY_gelu_tanh)) {
        check(true, "limit");
        continue;
      }
      const expectation e = bounded(unary_reference(operation, value, p, q), dtype);
      check(is_close(out, i, e), "%s %s(%.9Lg) is %.17Lg, expected %.17Lg within %.3Lg", name_of_dtype(dtype),
            name.c_str(), value, out[i], e.value, e.bound);
    }
  }
}

void binary_values(const level& here, int32_t dtype) {
  for (int operation = 0; operation < HOMINY_BINARY_COUNT; ++operation) {
    const auto [p, q] = parameters_of_binary(operation);
    const auto run = [&](const std::vector<int64_t>& shape, layout from_a, layout from_b, layout to) {
      array a(dtype, shape, from_a), b(dtype, shape, from_b), out(dtype, shape, to);
      const auto [first, second] = domain_of_binary(operation);
      a.fill_uniform(uint64_t(operation + 1), first.low, first.high);
      b.fill_uniform(uint64_t(operation + 100), second.low, second.high);
      const std::string what = describe(binary_names[operation], out, a) + " with " + name_of(from_b);
      if (!check_status(here.kernels->binary(hominy_binary(operation), a, b, p, q, out), HOMINY_OK, what)) return;
      check_elements(out, what, [&, p = p, q = q](int64_t i) {
        return bounded(binary_reference(operation, a[i], b[i], p, q), dtype);
      });
      check(a.untouched() && b.untouched(), "%s: wrote to an input", what.c_str());
    };
    for (int64_t n : here.sizes(dtype)) run({n}, layout::contiguous, layout::contiguous, layout::contiguous);
    const bool all = operation == HOMINY_BINARY_add && !here.settings.quick;
    for (layout from_a : input_layouts)
      for (layout from_b : input_layouts)
        for (layout to : output_layouts)
          if (all || (int(from_a) * 3 + int(from_b) * 5 + int(to)) % 17 == operation)
            run({5, 2, 13}, from_a, from_b, to);
    run({}, layout::contiguous, layout::contiguous, layout::misaligned);
  }
}

void binary_special_values(const level& here, int32_t dtype) {
  const real values[] = {0.0L, -0.0L, 1, -1, 2, -2, 3, 0.5L, -0.5L, 1e30L, -1e30L, infinity, -infinity, nan};
  const int64_t n = sizeof values / sizeof *values;
  for (int operation = HOMINY_BINARY_add; operation <= HOMINY_BINARY_minimum; ++operation) {
    array a(dtype, {n, n}), b(dtype, {n, n}), out(dtype, {n, n});
    a.fill([&](int64_t i) { return values[i / n]; });
    b.fill([&](int64_t i) { return values[i % n]; });
    check_status(here.kernels->binary(hominy_binary(operation), a, b, 0, 0, out), HOMINY_OK, binary_names[operation]);
    for (int64_t i = 0; i < n * n; ++i) {
      const expectation e = bounded(binary_reference(operation, a[i], b[i], 0, 0), dtype);
      check(is_close(out, i, e), "%s %s(%.3Lg, %.3Lg) is %.9Lg, expected %.9Lg", name_of_dtype(dtype),
            binary_names[operation], a[i], b[i], out[i], e.value);
    }
  }
}

void compare_and_where(const level& here, int32_t dtype) {
  const auto expected = [](int operation, real a, real b) {
    switch (operation) {
      case HOMINY_COMPARE_equal: return a == b;
      case HOMINY_COMPARE_not_equal: return a != b;
      case HOMINY_COMPARE_less: return a < b;
      case HOMINY_COMPARE_less_equal: return a <= b;
      case HOMINY_COMPARE_greater: return a > b;
      default: return a >= b;
    }
  };
  // Few distinct values, so that equality happens; NaN is equal to nothing.
  const auto value = [](uint64_t seed) {
    return [random = random_numbers(seed)](int64_t) mutable {
      const int64_t v = random.below(6);
      return v == 5 ? nan : v == 4 ? -0.0L : real(v);
    };
  };
  const auto run = [&](const std::vector<int64_t>& shape, layout from_a, layout from_b, layout to) {
    array a(dtype, shape, from_a), b(dtype, shape, from_b);
    a.fill(value(3));
    b.fill(value(4));
    for (int operation = 0; operation < HOMINY_COMPARE_COUNT; ++operation) {
      array out(HOMINY_BOOL, shape, to);
      const std::string what = describe(compare_names[operation], out, a) + " with " + name_of(from_b);
      check_status(here.kernels->compare(hominy_compare(operation), a, b, out), HOMINY_OK, what);
      check_elements(out, what, [&](int64_t i) { return expectation{real(expected(operation, a[i], b[i])), 0}; });
    }
    array condition(HOMINY_BOOL, shape, from_b), out(dtype, shape, to);
    condition.fill([random = random_numbers(5)](int64_t) mutable { return real(random.below(2)); });
    const std::string what = describe("where", out, a) + " with " + name_of(from_b);
    check_status(here.kernels->where(condition, a, b, out), HOMINY_OK, what);
    check_elements(out, what, [&](int64_t i) { return expectation{condition[i] != 0 ? a[i] : b[i], 0}; });
  };
  for (int64_t n : here.sizes(dtype))
    for (const auto& shape : shapes_of(n)) run(shape, layout::contiguous, layout::contiguous, layout::contiguous);
  for (layout from_a : input_layouts)
    for (layout from_b : input_layouts)
      for (layout to : output_layouts)
        if ((int(from_a) + 3 * int(from_b) + int(to)) % 5 == 0) run({3, 4, 7}, from_a, from_b, to);
}

void copies(const level& here) {
  for (int32_t dtype = HOMINY_BOOL; dtype <= HOMINY_FLOAT64; ++dtype) {
    const auto run = [&](const std::vector<int64_t>& shape, layout from, layout to) {
      array x(dtype, shape, from), out(dtype, shape, to);
      random_numbers random{uint64_t(dtype + 7)};
      for (int64_t i = 0; i < x.size(); ++i)
        for (int64_t b = 0; b < size_of_dtype(dtype); ++b)
          x.address(i)[b] = dtype == HOMINY_BOOL ? uint8_t(random.below(2)) : uint8_t(random.bits());
      const std::string what = describe("copy", out, x);
      check_status(here.kernels->copy(x, out), HOMINY_OK, what);
      check(out.bits() == x.bits() && out.guards_intact(), "%s", what.c_str());
    };
    for (int64_t n : {0, 1, 3, 7, 8, 15, 16, 17, 63, 64, 65, 97})
      for (const auto& shape : shapes_of(n)) run(shape, layout::contiguous, layout::contiguous);
    for (layout from : input_layouts)
      for (layout to : output_layouts) {
        run({3, 5, 7}, from, to);
        run({19, 37}, from, to);
        run({2, 3, 1, 2, 5}, from, to);
      }
  }
}

void aliases(const level& here, int32_t dtype) {
  for (layout kind : output_layouts) {
    const std::vector<int64_t> shape = {3, 4, 19};
    const std::string suffix = std::string(" in place, ") + name_of_dtype(dtype) + " " + name_of(kind);
    {
      array x(dtype, shape, kind), before(dtype, shape);
      x.fill_uniform(1, -2, 2);
      before.fill([&](int64_t i) { return x[i]; });
      check_status(here.kernels->unary(HOMINY_UNARY_tanh, x, 0, 0, x), HOMINY_OK, "tanh" + suffix);
      check_elements(x, "tanh" + suffix,
                     [&](int64_t i) { return bounded(unary_reference(HOMINY_UNARY_tanh, before[i], 0, 0), dtype); });
    }
    for (int target = 0; target < 3; ++target) {  // out is a, is b, is both
      array a(dtype, shape, kind), b(dtype, shape, kind), before_a(dtype, shape), before_b(dtype, shape);
      array& other = target == 2 ? a : b;
      a.fill_uniform(1, -2, 2);
      b.fill_uniform(2, -2, 2);
      before_a.fill([&](int64_t i) { return a[i]; });
      before_b.fill([&](int64_t i) { return other[i]; });
      array& out = target == 1 ? b : a;
      check_status(here.kernels->binary(HOMINY_BINARY_subtract, a, other, 0, 0, out), HOMINY_OK, "subtract" + suffix);
      check_elements(out, "subtract" + suffix, [&](int64_t i) {
        return bounded(binary_reference(HOMINY_BINARY_subtract, before_a[i], before_b[i], 0, 0), dtype);
      });
    }
  }
}

void refusals(const level& here, int32_t dtype) {
  const hominy_kernels& k = *here.kernels;
  const std::string name = name_of_dtype(dtype);
  array a(dtype, {4, 5}), b(dtype, {4, 5}), out(dtype, {4, 5}), truth(HOMINY_BOOL, {4, 5});
  a.fill_uniform(1, -1, 1);
  b.fill_uniform(2, -1, 1);
  const auto unary = HOMINY_UNARY_exp;
  const auto binary = HOMINY_BINARY_add;
  for (const auto& bad : bad_tensors(a)) {
    const std::string what = name + " " + bad.what;
    // A wrong dtype may also be seen as a second one, a wrong shape as one that does not fit.
    check_refused(k.unary(unary, &bad.tensor, 0, 0, out), {bad.expected}, out, "unary: x has " + what);
    check_refused(k.unary(unary, a, 0, 0, &bad.tensor), {bad.expected}, out, "unary: out has " + what);
    check_refused(k.binary(binary, &bad.tensor, b, 0, 0, out), {bad.expected}, out, "binary: a has " + what);
    check_refused(k.binary(binary, a, &bad.tensor, 0, 0, out), {bad.expected}, out, "binary: b has " + what);
    check_refused(k.binary(binary, a, b, 0, 0, &bad.tensor), {bad.expected}, out, "binary: out has " + what);
    check_refused(k.compare(HOMINY_COMPARE_less, &bad.tensor, b, truth), {bad.expected}, truth,
                  "compare: a has " + what);
    check_refused(k.compare(HOMINY_COMPARE_less, a, &bad.tensor, truth), {bad.expected}, truth,
                  "compare: b has " + what);
    check_refused(k.where(truth, &bad.tensor, b, out), {bad.expected}, out, "where: a has " + what);
    check_refused(k.where(truth, a, &bad.tensor, out), {bad.expected}, out, "where: b has " + what);
    check_refused(k.where(truth, a, b, &bad.tensor), {bad.expected}, out, "where: out has " + what);
    check_refused(k.copy(&bad.tensor, out), {bad.expected}, out, "copy: x has " + what);
  }
  check_refused(k.compare(HOMINY_COMPARE_less, a, b, out), {HOMINY_BAD_DTYPE}, out, "compare: out is not bool");
  check_refused(k.where(a, a, b, out), {HOMINY_BAD_DTYPE}, out, "where: condition is not bool");
  for (int code : {-1, 1000, INT32_MAX}) {
    check_refused(k.unary(hominy_unary(code), a, 0, 0, out), {HOMINY_BAD_VALUE}, out, "unary: unknown operation");
    check_refused(k.binary(hominy_binary(code), a, b, 0, 0, out), {HOMINY_BAD_VALUE}, out, "binary: unknown operation");
    check_refused(k.compare(hominy_compare(code), a, b, truth), {HOMINY_BAD_VALUE}, truth,
                  "compare: unknown operation");
  }
  check_refused(k.unary(HOMINY_UNARY_COUNT, a, 0, 0, out), {HOMINY_BAD_VALUE}, out, "unary: the count as operation");
  const hominy_tensor huge = overflowing(out), huge_truth = overflowing(truth);
  check_refused(k.unary(unary, &huge, 0, 0, &huge), {HOMINY_OVERFLOW}, out, "unary: 2^93 elements");
  check_refused(k.binary(binary, &huge, &huge, 0, 0, &huge), {HOMINY_OVERFLOW}, out, "binary: 2^93 elements");
  check_refused(k.compare(HOMINY_COMPARE_less, &huge, &huge, &huge_truth), {HOMINY_OVERFLOW}, truth,
                "compare: 2^93 elements");
  check_refused(k.where(&huge_truth, &huge, &huge, &huge), {HOMINY_OVERFLOW}, out, "where: 2^93 elements");
  check_refused(k.copy(&huge, &huge), {HOMINY_OVERFLOW}, out, "copy: 2^93 elements");
}

// Large enough to be shared among threads.
void threads_and_alignment(const level& here, int32_t dtype) {
  const std::vector<int64_t> shape = {37, here.settings.quick ? 1009 : 10007};
  for (layout kind : {layout::contiguous, layout::transposed}) {
    array a(dtype, shape, kind), b(dtype, shape), out(dtype, shape), truth(HOMINY_BOOL, shape);
    a.fill_uniform(1, -3, 3);
    b.fill_uniform(2, -3, 3);
    same_bits_for_any_number_of_threads("unary", [&] {
      here.kernels->unary(HOMINY_UNARY_gelu, a, 0, 0, out);
      return out.bits();
    });
    same_bits_for_any_number_of_threads("binary", [&] {
      here.kernels->binary(HOMINY_BINARY_gelu_backward, a, b, 0, 0, out);
      return out.bits();
    });
    same_bits_for_any_number_of_threads("compare", [&] {
      here.kernels->compare(HOMINY_COMPARE_less, a, b, truth);
      return truth.bits();
    });
    same_bits_for_any_number_of_threads("where", [&] {
      here.kernels->where(truth, a, b, out);
      return out.bits();
    });
    same_bits_for_any_number_of_threads("copy", [&] {
      here.kernels->copy(a, out);
      return out.bits();
    });
    check(out.bits() == a.bits() && out.guards_intact(), "copy of a large %s array", name_of(kind));
  }
  // A lane's bits depend on its value alone: not on where a vector happens to begin.
  array straight(dtype, {1009}), shifted(dtype, {1009}, layout::misaligned), spread(dtype, {1009}, layout::strided);
  for (array* x : {&straight, &shifted, &spread}) x->fill_uniform(6, -4, 4);
  for (int operation = 0; operation < HOMINY_UNARY_COUNT; ++operation) {
    const auto [p, q] = parameters_of_unary(operation);
    const auto bits_of = [&, p = p, q = q](const array& x) {
      array out(dtype, {1009}, x.kind());
      here.kernels->unary(hominy_unary(operation), x, p, q, out);
      return out.bits();
    };
    const auto expected = bits_of(straight);
    check(bits_of(shifted) == expected, "%s: other bits when misaligned", unary_names[operation]);
    check(bits_of(spread) == expected, "%s: other bits when strided", unary_names[operation]);
  }
}

}  // namespace

void elementwise_test(const level& here) {
  const std::string isa = here.kernels->isa;
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = " " + isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("unary", unary_values);
    group("unary special values", unary_special_values);
    group("binary", binary_values);
    group("binary special values", binary_special_values);
    group("compare, where", compare_and_where);
    group("elementwise in place", aliases);
    group("elementwise refusals", refusals);
    group("elementwise threads and alignment", threads_and_alignment);
  }
  begin_group("copy " + isa);
  copies(here);
  end_group();
}

}  // namespace test
