// Winograd's bilinear algorithms F(2x2,3x3) and F(4x4,3x3), as transforms of a few vectors along one dimension. An
// output tile of m x m comes from an input tile of n x n, n = m + 2:
//
//   out = A^T [ (G g G^T) * (B^T d B) ] A,   * elementwise, summed over channels between the transforms
//
// One dimension of it evaluates polynomials at n - 1 points and infinity: 0, 1, -1 for m = 2; 0, a, -a, b, -b for m
// = 4. a = 21/32, b = 3/2 is where the error bound (conv_winograd.hpp) is nearly smallest, a fifth of what the usual 1
// and 2 give; all coefficients of A and B are exact in float32. Pairs of opposite points share their even and odd
// parts.
#pragma once
#include "lane_access.hpp"

namespace hominy::HOMINY_LEVEL {

template <int m>
struct winograd;

template <>
struct winograd<2> {
  static constexpr int n = 4;
  template <class V>
  static inline void input(const V (&d)[4], V (&t)[4]) {
    t[0] = d[0] - d[2];
    t[1] = d[2] + d[1];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
  }
  template <class V>
  static inline void output(const V (&t)[4], V (&out)[2]) {
    out[0] = t[0] + (t[1] + t[2]);
    out[1] = t[3] + (t[1] - t[2]);
  }
  // Without the scale of each point, which multiplies at the end.
  template <class V>
  static inline void weights(const V (&g)[3], V (&t)[4]) {
    const V even = g[0] + g[2];
    t[0] = g[0];
    t[1] = even + g[1];
    t[2] = even - g[1];
    t[3] = g[2];
  }
  static constexpr double scale[4] = {1, 0.5, 0.5, 1};
  // A and G^T, for the gradient of the weights.
  template <class V>
  static inline void gradient(const V (&d)[2], V (&t)[4]) {
    t[0] = d[0];
    t[1] = d[0] + d[1];
    t[2] = d[0] - d[1];
    t[3] = d[1];
  }
  template <class V>
  static inline void weights_gradient(const V (&t)[4], V (&g)[3]) {
    const V even = (t[1] + t[2]) * 0.5;
    g[0] = t[0] + even;
    g[1] = (t[1] - t[2]) * 0.5;
    g[2] = t[3] + even;
  }
};

template <>
struct winograd<4> {
  static constexpr int n = 6;
  static constexpr double a = 21.0 / 32, b = 1.5, aa = a * a, bb = b * b;
  template <class T, class V>
  static inline void input_of(const V (&d)[6], V (&t)[6]) {
    constexpr T sum = T(aa + bb), product = T(aa * bb);
    t[0] = d[0] * product + (d[4] - d[2] * sum);
    t[5] = d[1] * product + (d[5] - d[3] * sum);
    const V even_a = d[4] - d[2] * T(bb), odd_a = d[3] - d[1] * T(bb);
    t[1] = even_a + odd_a * T(a);
    t[2] = even_a - odd_a * T(a);
    const V even_b = d[4] - d[2] * T(aa), odd_b = d[3] - d[1] * T(aa);
    t[3] = even_b + odd_b * T(b);
    t[4] = even_b - odd_b * T(b);
  }
  template <class V>
  static inline void input(const V (&d)[6], V (&t)[6]) {
    input_of<decltype(d[0][0] + 0)>(d, t);
  }
  template <class T, class V>
  static inline void output_of(const V (&t)[6], V (&out)[4]) {
    const V even_a = t[1] + t[2], odd_a = t[1] - t[2], even_b = t[3] + t[4], odd_b = t[3] - t[4];
    out[0] = t[0] + (even_a + even_b);
    out[1] = odd_a * T(a) + odd_b * T(b);
    out[2] = even_a * T(aa) + even_b * T(bb);
    out[3] = odd_a * T(a * aa) + (t[5] + odd_b * T(b * bb));
  }
  template <class V>
  static inline void output(const V (&t)[6], V (&out)[4]) {
    output_of<decltype(t[0][0] + 0)>(t, out);
  }
  template <class V>
  static inline void weights(const V (&g)[3], V (&t)[6]) {
    t[0] = g[0];
    const V even_a = g[0] + g[2] * aa, even_b = g[0] + g[2] * bb;
    t[1] = even_a + g[1] * a;
    t[2] = even_a - g[1] * a;
    t[3] = even_b + g[1] * b;
    t[4] = even_b - g[1] * b;
    t[5] = g[2];
  }
  static constexpr double scale_a = 1 / (2 * aa * (aa - bb)), scale_b = 1 / (2 * bb * (bb - aa));
  static constexpr double scale[6] = {1 / (aa * bb), scale_a, scale_a, scale_b, scale_b, 1};
  template <class T, class V>
  static inline void gradient_of(const V (&d)[4], V (&t)[6]) {
    t[0] = d[0];
    t[5] = d[3];
    const V even_a = d[0] + d[2] * T(aa), odd_a = d[1] + d[3] * T(aa);
    t[1] = even_a + odd_a * T(a);
    t[2] = even_a - odd_a * T(a);
    const V even_b = d[0] + d[2] * T(bb), odd_b = d[1] + d[3] * T(bb);
    t[3] = even_b + odd_b * T(b);
    t[4] = even_b - odd_b * T(b);
  }
  template <class V>
  static inline void gradient(const V (&d)[4], V (&t)[6]) {
    gradient_of<decltype(d[0][0] + 0)>(d, t);
  }
  template <class V>
  static inline void weights_gradient(const V (&t)[6], V (&g)[3]) {
    const V even_a = (t[1] + t[2]) * scale_a, odd_a = (t[1] - t[2]) * scale_a;
    const V even_b = (t[3] + t[4]) * scale_b, odd_b = (t[3] - t[4]) * scale_b;
    g[0] = t[0] * scale[0] + (even_a + even_b);
    g[1] = odd_a * a + odd_b * b;
    g[2] = t[5] + (even_a * aa + even_b * bb);
  }
};

}  // namespace hominy::HOMINY_LEVEL
