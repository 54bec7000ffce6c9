// What each elementwise operation computes: one functor an operation, under the name that the lists of hominy.h give
// it. `apply` works on vectors; p and q are the operation's parameters. Error bounds: docs/kernels/elementwise.md.
#pragma once
#include "vector_math.hpp"

namespace hominy::HOMINY_LEVEL {

namespace vector_math = hominy::HOMINY_LEVEL;  // whose functions have the same names as the functors

// How much work an element is. `grain`: elements of one task; `unroll`: vectors of one round of the loop.
struct arithmetic {
  static constexpr int64_t grain = 32768;
  static constexpr int unroll = 4;
};
struct transcendental {
  static constexpr int64_t grain = 8192;
  static constexpr int unroll = 1;
};

namespace unary_operation {

template <class T>
struct negative : arithmetic {
  static vec<T> apply(vec<T> x, T, T) { return -x; }
};
template <class T>
struct absolute : arithmetic {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::absolute<T>(x); }
};
template <class T>
struct sign : arithmetic {
  static vec<T> apply(vec<T> x, T, T) {
    const vec<T> one = broadcast<T>(1);
    return select<T>(x > 0, one, select<T>(x < 0, -one, x + 0));  // x + 0: NaN, and no -0.0
  }
};
template <class T>
struct square : arithmetic {
  static vec<T> apply(vec<T> x, T, T) { return x * x; }
};
template <class T>
struct sqrt : transcendental {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::sqrt<T>(x); }
};
template <class T>
struct rsqrt : transcendental {
  static vec<T> apply(vec<T> x, T, T) { return 1 / vector_math::sqrt<T>(x); }
};
template <class T>
struct reciprocal : arithmetic {
  static vec<T> apply(vec<T> x, T, T) { return 1 / x; }
};
template <class T>
struct exp : transcendental {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::exp<T>(x); }
};
template <class T>
struct expm1 : transcendental {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::expm1<T>(x); }
};
template <class T>
struct log : transcendental {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::log<T>(x); }
};
template <class T>
struct log1p : transcendental {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::log1p<T>(x); }
};
template <class T>
struct tanh : transcendental {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::tanh<T>(x); }
};
template <class T>
struct sigmoid : transcendental {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::sigmoid<T>(x); }
};
template <class T>
struct erf : transcendental {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::erf<T>(x); }
};
template <class T>
struct floor : arithmetic {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::floor<T>(x); }
};
template <class T>
struct ceil : arithmetic {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::ceil<T>(x); }
};
template <class T>
struct round : arithmetic {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::round<T>(x); }
};
template <class T>
struct relu : arithmetic {
  static vec<T> apply(vec<T> x, T, T) { return at_least<T>(x, vec<T>{}); }
};
template <class T>
struct leaky_relu : arithmetic {
  static vec<T> apply(vec<T> x, T slope, T) { return select<T>(x > 0, x, slope * x); }
};
template <class T>
struct elu : transcendental {
  static vec<T> apply(vec<T> x, T alpha, T) { return select<T>(x > 0, x, alpha * vector_math::expm1<T>(x)); }
};
template <class T>
struct softsign : arithmetic {
  static vec<T> apply(vec<T> x, T, T) { return x / (1 + vector_math::absolute<T>(x)); }
};
template <class T>
struct silu : transcendental {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::silu<T>(x); }
};
template <class T>
struct gelu : transcendental {
  static vec<T> apply(vec<T> x, T, T) { return vector_math::gelu<T>(x); }
};

// tanh's form of gelu is x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3): no cancellation in 1 + tanh(u).
constexpr double gelu_slope = 1.5957691216057307118;  // 2 sqrt(2 / pi)
constexpr double gelu_cubic = 0.044715;
template <class T>
struct gelu_tanh : transcendental {
  static vec<T> apply(vec<T> x, T, T) {
    return x * vector_math::sigmoid<T>(T(gelu_slope) * x * (1 + T(gelu_cubic) * x * x));
  }
};

// log(1 + exp(s)) / beta for s = beta x, as (max(s, 0) + log1p(exp(-|s|))) / beta; x itself above the threshold.
template <class T>
struct softplus : transcendental {
  static vec<T> apply(vec<T> x, T beta, T threshold) {
    const vec<T> scaled = beta * x;
    const vec<T> y =
        at_least<T>(scaled, vec<T>{}) + vector_math::log1p<T>(vector_math::exp<T>(-vector_math::absolute<T>(scaled)));
    return select<T>(scaled > threshold, x, y / beta);
  }
};
template <class T>
struct clamp : arithmetic {
  static vec<T> apply(vec<T> x, T low, T high) {
    return at_most<T>(at_least<T>(x, broadcast<T>(low)), broadcast<T>(high));
  }
};

}  // namespace unary_operation

// Backward operations: g is the gradient, y or x what the forward kept.
namespace binary_operation {

template <class T>
struct add : arithmetic {
  static vec<T> apply(vec<T> a, vec<T> b, T, T) { return a + b; }
};
template <class T>
struct subtract : arithmetic {
  static vec<T> apply(vec<T> a, vec<T> b, T, T) { return a - b; }
};
template <class T>
struct multiply : arithmetic {
  static vec<T> apply(vec<T> a, vec<T> b, T, T) { return a * b; }
};
template <class T>
struct divide : arithmetic {
  static vec<T> apply(vec<T> a, vec<T> b, T, T) { return a / b; }
};
template <class T>
struct power : transcendental {
  static vec<T> apply(vec<T> a, vec<T> b, T, T) {
    // One libm call a lane: its many special cases are not worth a second copy.
    T base[lanes<T>], exponent[lanes<T>];
    store<T>(base, a);
    store<T>(exponent, b);
    for (int i = 0; i < lanes<T>; i++)
      if constexpr (sizeof(T) == 4)
        base[i] = ::powf(base[i], exponent[i]);
      else
        base[i] = ::pow(base[i], exponent[i]);
    return load<T>(base);
  }
};
template <class T>
struct maximum : arithmetic {
  static vec<T> apply(vec<T> a, vec<T> b, T, T) { return select<T>(b != b, b, at_least<T>(a, b)); }
};
template <class T>
struct minimum : arithmetic {
  static vec<T> apply(vec<T> a, vec<T> b, T, T) { return select<T>(b != b, b, at_most<T>(a, b)); }
};
// log1p(-x) and not log(1 - x), which loses a small x. NaN where x is no probability.
template <class T>
struct binary_cross_entropy : transcendental {
  static vec<T> apply(vec<T> x, vec<T> y, T, T) {
    const vec<T> least = broadcast<T>(-100);
    const vec<T> log_x = at_least<T>(vector_math::log<T>(x), least);
    const vec<T> log_rest = at_least<T>(vector_math::log1p<T>(-x), least);
    return (y - 1) * log_rest - y * log_x;
  }
};
template <class T>
struct binary_cross_entropy_backward : arithmetic {
  static vec<T> apply(vec<T> x, vec<T> y, T, T) { return (x - y) / at_least<T>(x * (1 - x), broadcast<T>(T(1e-12))); }
};
template <class T>
struct absolute_backward : arithmetic {
  static vec<T> apply(vec<T> g, vec<T> x, T, T) { return g * unary_operation::sign<T>::apply(x, 0, 0); }
};
template <class T>
struct tanh_backward : arithmetic {
  static vec<T> apply(vec<T> g, vec<T> y, T, T) { return g * (1 - y * y); }
};
template <class T>
struct sigmoid_backward : arithmetic {
  static vec<T> apply(vec<T> g, vec<T> y, T, T) { return g * y * (1 - y); }
};
template <class T>
struct relu_backward : arithmetic {
  static vec<T> apply(vec<T> g, vec<T> y, T, T) { return select<T>(y > 0, g, vec<T>{}); }
};
template <class T>
struct leaky_relu_backward : arithmetic {
  static vec<T> apply(vec<T> g, vec<T> x, T slope, T) { return select<T>(x > 0, g, slope * g); }
};
template <class T>
struct elu_backward : transcendental {
  static vec<T> apply(vec<T> g, vec<T> x, T alpha, T) {
    return select<T>(x > 0, g, g * (alpha * vector_math::exp<T>(x)));
  }
};

// s (1 + x (1 - s)) with s = sigmoid(x) and 1 - s each from e = exp(-|x|), so that both keep their relative accuracy.
template <class T>
struct silu_backward : transcendental {
  static vec<T> apply(vec<T> g, vec<T> x, T, T) {
    const vec<T> e = vector_math::exp<T>(-vector_math::absolute<T>(x));
    const vec<T> larger = 1 / (1 + e), smaller = e * larger;
    const vec<T> s = select<T>(x < 0, smaller, larger), rest = select<T>(x < 0, larger, smaller);
    return g * (s + s * rest * x);
  }
};

// P(X < x) + x density(x)
template <class T>
struct gelu_backward : transcendental {
  static vec<T> apply(vec<T> g, vec<T> x, T, T) {
    const auto [cumulative, density] = normal<T>(x);
    return g * (cumulative + density * x);
  }
};

// s + x s (1 - s) 2 u'(x), s = sigmoid(2 u(x)): beyond |x| = 32 the second term is 0, but its last factor infinite.
template <class T>
struct gelu_tanh_backward : transcendental {
  static vec<T> apply(vec<T> g, vec<T> x, T, T) {
    constexpr T slope = T(unary_operation::gelu_slope), cubic = T(unary_operation::gelu_cubic);
    const vec<T> bounded = at_least<T>(at_most<T>(x, broadcast<T>(32)), broadcast<T>(-32));
    const vec<T> square = bounded * bounded;
    const vec<T> e = vector_math::exp<T>(-vector_math::absolute<T>(slope * bounded * (1 + cubic * square)));
    const vec<T> larger = 1 / (1 + e), smaller = e * larger;
    const vec<T> s = select<T>(x < 0, smaller, larger);
    return g * (s + bounded * smaller * larger * (slope * (1 + 3 * cubic * square)));
  }
};
template <class T>
struct softplus_backward : transcendental {
  static vec<T> apply(vec<T> g, vec<T> x, T beta, T threshold) {
    const vec<T> scaled = beta * x;
    return select<T>(scaled > threshold, g, g * vector_math::sigmoid<T>(scaled));
  }
};
template <class T>
struct clamp_backward : arithmetic {
  static vec<T> apply(vec<T> g, vec<T> x, T low, T high) { return select<T>((x >= low) & (x <= high), g, vec<T>{}); }
};

}  // namespace binary_operation

namespace compare_operation {

template <class T>
struct equal {
  static mask_vec<T> apply(vec<T> a, vec<T> b) { return a == b; }
};
template <class T>
struct not_equal {
  static mask_vec<T> apply(vec<T> a, vec<T> b) { return a != b; }
};
template <class T>
struct less {
  static mask_vec<T> apply(vec<T> a, vec<T> b) { return a < b; }
};
template <class T>
struct less_equal {
  static mask_vec<T> apply(vec<T> a, vec<T> b) { return a <= b; }
};
template <class T>
struct greater {
  static mask_vec<T> apply(vec<T> a, vec<T> b) { return a > b; }
};
template <class T>
struct greater_equal {
  static mask_vec<T> apply(vec<T> a, vec<T> b) { return a >= b; }
};

}  // namespace compare_operation

}  // namespace hominy::HOMINY_LEVEL
