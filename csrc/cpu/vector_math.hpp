// Elementary functions on vec<T>, float and double, without a libm call: one formula per function serves both types and
// every ISA level; what differs is the table of coefficients and the few lines that a wider ISA has an instruction for.
//
// A lane's result depends on that lane alone, so full vectors and masked tails give the same bits. Infinities, NaN,
// signed zeros and subnormals behave as in libm. Each name shadows a libm name: call them as exp<float>(x).
//
// Largest errors seen in ulp, float over all 2^32 arguments (silu and without FMA: every 7th), double over 2 million
// (in brackets: without FMA, where it differs):
//
//           exp    expm1        log          log1p  tanh   sigmoid  erf          silu
//   float   0.99   1.45 (1.48)  0.86         1.50   1.21   2.00     1.03 (1.32)  2.4
//   double  1.00   1.99 (2.10)  0.75 (0.88)  1.33   1.20   2.00     1.08 (1.26)  2.4
//
// gelu: 4 ulp for x > -1, 14 in float's left tail, 50 (70) in double's.
// docs/kernels/elementwise.md derives the formulas and says how this was measured.
#pragma once
#include <math.h>

#include "vector.hpp"

namespace hominy::HOMINY_LEVEL {

// ---------------------------------------------------------------------------------------------------------------------
// Formats
// ---------------------------------------------------------------------------------------------------------------------

template <class T>
struct format;

template <>
struct format<float> {
  static constexpr int mantissa_bits = 23;
  static constexpr int32_t bias = 127;
  using unsigned_integer = uint32_t;
  static constexpr int32_t sign_bit = INT32_MIN;
  static constexpr float smallest_normal = 0x1p-126f;
  static constexpr float integer_grid = 0x1.8p23f;  // adding and subtracting it rounds |x| < 2^22 to an integer
  static constexpr float integer_from = 0x1p23f;    // every |x| >= this is an integer
};

template <>
struct format<double> {
  static constexpr int mantissa_bits = 52;
  static constexpr int64_t bias = 1023;
  using unsigned_integer = uint64_t;
  static constexpr int64_t sign_bit = INT64_MIN;
  static constexpr double smallest_normal = 0x1p-1022;
  static constexpr double integer_grid = 0x1.8p52;
  static constexpr double integer_from = 0x1p52;
};

template <class T>
inline mask_vec<T> bits_of(vec<T> x) {
  return (mask_vec<T>)x;
}
template <class T>
inline vec<T> from_bits(mask_vec<T> bits) {
  return (vec<T>)bits;
}

// The sign bit of each lane, and nothing else.
template <class T>
inline mask_vec<T> sign_bits(vec<T> x) {
  return bits_of<T>(x) & format<T>::sign_bit;
}
// x, which is not negative, with these sign bits.
template <class T>
inline vec<T> with_sign(vec<T> x, mask_vec<T> sign) {
  return from_bits<T>(bits_of<T>(x) | sign);
}

template <class T>
inline vec<T> absolute(vec<T> x) {
  return from_bits<T>(bits_of<T>(x) & ~format<T>::sign_bit);
}

template <class T>
inline bool any_lane(mask_vec<T> mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8((__m256i)mask) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_epi8((__m128i)mask) != 0;
#else
  typedef uint64_t halves __attribute__((vector_size(vector_bytes)));
  const halves h = (halves)mask;
  return (h[0] | h[1]) != 0;
#endif
}

// The smaller (larger) of x and a bound; NaN stays NaN. One instruction on x86, whose MIN and MAX return the second
// operand when either is NaN.
template <class T>
inline vec<T> at_most(vec<T> x, vec<T> bound) {
  return bound < x ? bound : x;
}
template <class T>
inline vec<T> at_least(vec<T> x, vec<T> bound) {
  return bound > x ? bound : x;
}
#if defined(__AVX512F__)
// The unmasked intrinsics of GCC 12 read a variable that they leave unset, and warn of it.
constexpr int all_lanes = -1;
template <>
inline vec<float> at_most<float>(vec<float> x, vec<float> bound) {
  return (vec<float>)_mm512_maskz_min_ps(all_lanes, (__m512)bound, (__m512)x);
}
template <>
inline vec<double> at_most<double>(vec<double> x, vec<double> bound) {
  return (vec<double>)_mm512_maskz_min_pd(all_lanes, (__m512d)bound, (__m512d)x);
}
template <>
inline vec<float> at_least<float>(vec<float> x, vec<float> bound) {
  return (vec<float>)_mm512_maskz_max_ps(all_lanes, (__m512)bound, (__m512)x);
}
template <>
inline vec<double> at_least<double>(vec<double> x, vec<double> bound) {
  return (vec<double>)_mm512_maskz_max_pd(all_lanes, (__m512d)bound, (__m512d)x);
}
#elif defined(__AVX2__)
template <>
inline vec<float> at_most<float>(vec<float> x, vec<float> bound) {
  return (vec<float>)_mm256_min_ps((__m256)bound, (__m256)x);
}
template <>
inline vec<double> at_most<double>(vec<double> x, vec<double> bound) {
  return (vec<double>)_mm256_min_pd((__m256d)bound, (__m256d)x);
}
template <>
inline vec<float> at_least<float>(vec<float> x, vec<float> bound) {
  return (vec<float>)_mm256_max_ps((__m256)bound, (__m256)x);
}
template <>
inline vec<double> at_least<double>(vec<double> x, vec<double> bound) {
  return (vec<double>)_mm256_max_pd((__m256d)bound, (__m256d)x);
}
#elif defined(__SSE2__)
template <>
inline vec<float> at_most<float>(vec<float> x, vec<float> bound) {
  return (vec<float>)_mm_min_ps((__m128)bound, (__m128)x);
}
template <>
inline vec<double> at_most<double>(vec<double> x, vec<double> bound) {
  return (vec<double>)_mm_min_pd((__m128d)bound, (__m128d)x);
}
template <>
inline vec<float> at_least<float>(vec<float> x, vec<float> bound) {
  return (vec<float>)_mm_max_ps((__m128)bound, (__m128)x);
}
template <>
inline vec<double> at_least<double>(vec<double> x, vec<double> bound) {
  return (vec<double>)_mm_max_pd((__m128d)bound, (__m128d)x);
}
#endif

template <class T>
inline vec<T> sqrt(vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (vec<T>)_mm512_maskz_sqrt_ps(all_lanes, (__m512)x);
  else
    return (vec<T>)_mm512_maskz_sqrt_pd(all_lanes, (__m512d)x);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return (vec<T>)_mm256_sqrt_ps((__m256)x);
  else
    return (vec<T>)_mm256_sqrt_pd((__m256d)x);
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 4)
    return (vec<T>)_mm_sqrt_ps((__m128)x);
  else
    return (vec<T>)_mm_sqrt_pd((__m128d)x);
#else
  for (int i = 0; i < lanes<T>; i++) x[i] = T(sizeof(T) == 4 ? ::sqrtf(float(x[i])) : ::sqrt(double(x[i])));
  return x;
#endif
}

// Half to even.
template <class T>
inline vec<T> round(vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (vec<T>)_mm512_maskz_roundscale_ps(all_lanes, (__m512)x, 8);
  else
    return (vec<T>)_mm512_maskz_roundscale_pd(all_lanes, (__m512d)x, 8);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return (vec<T>)_mm256_round_ps((__m256)x, 8);
  else
    return (vec<T>)_mm256_round_pd((__m256d)x, 8);
#else
  const vec<T> size = absolute<T>(x), grid = broadcast<T>(format<T>::integer_from);
  const vec<T> rounded = with_sign<T>((size + grid) - grid, sign_bits<T>(x));
  return size < grid ? rounded : x;
#endif
}

template <class T>
inline vec<T> floor(vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (vec<T>)_mm512_maskz_roundscale_ps(all_lanes, (__m512)x, 9);
  else
    return (vec<T>)_mm512_maskz_roundscale_pd(all_lanes, (__m512d)x, 9);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return (vec<T>)_mm256_round_ps((__m256)x, 9);
  else
    return (vec<T>)_mm256_round_pd((__m256d)x, 9);
#else
  const vec<T> nearest = round<T>(x);
  return nearest > x ? nearest - 1 : nearest;  // never turns a -0.0 round: it is not above x
#endif
}

template <class T>
inline vec<T> ceil(vec<T> x) {
  return -floor<T>(-x);
}

// ---------------------------------------------------------------------------------------------------------------------
// Polynomials and powers of two
// ---------------------------------------------------------------------------------------------------------------------

// c[0] + c[1] x + ... by Horner's rule: loops over many elements overlap enough of these chains to keep the
// multipliers busy. Long ones are split into even and odd powers, two chains of half the length.
template <class T, int terms>
inline vec<T> polynomial(vec<T> x, const T (&c)[terms]) {
  constexpr int step = terms > 10 ? 2 : 1;
  const vec<T> power = step == 2 ? x * x : x;
  vec<T> sum[step];
#pragma GCC unroll 2
  for (int k = 0; k < step; k++) {
    sum[k] = broadcast<T>(c[terms - 1 - k]);
#pragma GCC unroll 32
    for (int i = terms - 1 - k - step; i >= 0; i -= step) sum[k] = sum[k] * power + c[i];
  }
  if constexpr (step == 1) return sum[0];
  // c[0] is in the chain of even powers
  constexpr int even = (terms - 1) % 2;
  return sum[1 - even] * x + sum[even];
}

// Nearest integer of |x| < 2^22 (2^51).
template <class T>
inline vec<T> nearest_integer(vec<T> x) {
  return (x + format<T>::integer_grid) - format<T>::integer_grid;
}

// 2^n for integral n whose power is a normal number.
template <class T>
inline vec<T> power_of_two(vec<T> n) {
  // The sum's low bits are n + bias; the shift makes them the exponent.
  return from_bits<T>(bits_of<T>(n + (format<T>::integer_grid + T(format<T>::bias))) << format<T>::mantissa_bits);
}

// y 2^n, rounded once, for |y| of about 1 and integral n as far as the result may overflow or vanish.
template <class T>
inline vec<T> scale(vec<T> y, vec<T> n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (vec<T>)_mm512_maskz_scalef_ps(all_lanes, (__m512)y, (__m512)n);
  else
    return (vec<T>)_mm512_maskz_scalef_pd(all_lanes, (__m512d)y, (__m512d)n);
#else
  const vec<T> half = nearest_integer<T>(n * T(0.5));
  return y * power_of_two<T>(half) * power_of_two<T>(n - half);
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// Coefficients. Minimax fits (Remez exchange in 40-digit arithmetic, weighted for the relative error of the whole
// function, then rounded to the format); the exponent after each is log2 of the error that remains.
// ---------------------------------------------------------------------------------------------------------------------

template <class T>
struct coefficients;

template <>
struct coefficients<float> {
  // ln 2 = high + low; high has trailing zeros so that n * high is exact
  static constexpr float log2_e = 0x1.715476p0f, ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
  static constexpr float exp_below = -104.0f, exp_above = 89.0f;     // beyond: 0 and infinity
  static constexpr float expm1_below = -18.0f;                       // beyond: -1
  static constexpr float tanh_above = 10.0f, sigmoid_above = 20.0f;  // beyond: 1
  // expm1(r) = r + r^2 Q(r), |r| <= ln2 / 2: 2^-28
  static constexpr float expm1[] = {0x1p-1f,        0x1.55552cp-3f,  0x1.555502p-5f,
                                    0x1.1156c2p-7f, 0x1.6d2d62p-10f, 0x1.3896f6p-13f};
  // log1p(f) = f - f^2 / 2 + f^3 P(f), sqrt(1/2) - 1 <= f <= sqrt(2) - 1: 2^-28
  static constexpr float log1p[] = {0x1.555548p-2f,  -0x1.000006p-2f, 0x1.99a4b6p-3f,  -0x1.555c4ep-3f, 0x1.233768p-3f,
                                    -0x1.fc21e2p-4f, 0x1.e6f048p-4f,  -0x1.de3cd4p-4f, 0x1.1458c6p-4f};
  // erf(x) = x + x P(x^2), |x| <= 1: 2^-28
  static constexpr float erf[] = {0x1.06eba8p-3f, -0x1.81273ep-2f, 0x1.ce2cf8p-4f, -0x1.b7f90ep-6f,
                                  0x1.5405b4p-8f, -0x1.a3f71p-11f, 0x1.496a5ep-14f};
  // tanh(x) = x + x z H(z), z = x^2, |x| <= tanh_near: 2^-27
  static constexpr float tanh_near = 0.625f;
  static constexpr float tanh[] = {-0x1.55553ap-2f, 0x1.1107acp-3f, -0x1.b83a1p-5f, 0x1.51c5c2p-6f, -0x1.733f28p-8f};
  // exp(z^2) erfc(z) = t + t v C(v), t = 1 / (1 + erfcx_pole z), v = 1 - t, z >= 0: 2^-23.4, less for small z
  static constexpr float erfcx_pole = 0.4f, erf_above = 4.0f;
  static constexpr float erfcx[] = {-0x1.d229b8p+0f, 0x1.9bafacp+0f,  -0x1.de9dd8p-2f, -0x1.0ece64p-2f, 0x1.d3617ep-4f,
                                    0x1.dd0176p-4f,  -0x1.7b0bc2p-6f, -0x1.0e174cp-4f, 0x1.d9123ap-6f};
  static constexpr float normal_above = 15.0f;  // beyond: the normal distribution's tail is 0
};

template <>
struct coefficients<double> {
  static constexpr double log2_e = 0x1.71547652b82fep0, ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
  static constexpr double exp_below = -746.0, exp_above = 710.0;
  static constexpr double expm1_below = -40.0;
  static constexpr double tanh_above = 22.0, sigmoid_above = 40.0;
  // as above: 2^-59
  static constexpr double expm1[] = {
      0x1p-1,
      0x1.5555555555559p-3,
      0x1.555555555555cp-5,
      0x1.111111110f3e8p-7,
      0x1.6c16c16c118aep-10,
      0x1.a01a01b11ef2cp-13,
      0x1.a01a01c711ad5p-16,
      0x1.71ddf4f8dffa5p-19,
      0x1.27e4845355205p-22,
      0x1.af64fd0a0112bp-26,
      0x1.2013681f9c39fp-29,
  };
  // 2 atanh(s) = 2 s + s z A(z), z = s^2, s = f / (2 + f): 2^-58
  static constexpr double atanh[] = {
      0x1.555555555557cp-1, 0x1.99999999849e5p-2, 0x1.2492493f97054p-2, 0x1.c71c52cae46e0p-3,
      0x1.7466466264793p-3, 0x1.399d392aa6e77p-3, 0x1.2f510420adb7bp-3,
  };
  // as above: 2^-56
  static constexpr double erf[] = {
      0x1.06eba8214db69p-3,  -0x1.812746b0379e6p-2,  0x1.ce2f21a042b20p-4,  -0x1.b82ce3128499dp-6,
      0x1.565bcd0db02f8p-8,  -0x1.c02db3d8ed58ap-11, 0x1.f9a321a1236d6p-14, -0x1.f4d1df39b11a5p-17,
      0x1.b9def1a2c0a54p-20, -0x1.5f1d36e86cd70p-23, 0x1.f7a413ac76592p-27, -0x1.386ac508ad17fp-30,
      0x1.0579b549b58b2p-34,
  };
  // as above: 2^-57
  static constexpr double tanh_near = 0.625;
  static constexpr double tanh[] = {
      -0x1.5555555555554p-2,  0x1.1111111110e00p-3,  -0x1.ba1ba1b9e31a3p-5,  0x1.664f487388214p-6,
      -0x1.226e330e6e991p-7,  0x1.d6d360d75bd37p-9,  -0x1.7d9c67f6a75e2p-10, 0x1.350c669736b45p-11,
      -0x1.f114bb58ddafdp-13, 0x1.8007c561098dcp-14, -0x1.fa20432ad3636p-16, 0x1.9460c9581afdep-18,
  };
  // as above: 2^-52, less for small z
  static constexpr double erfcx_pole = 0.3125, erf_above = 6.0;
  static constexpr double erfcx[] = {
      -0x1.4e2f21a042befp+1, 0x1.012d0755802d4p+2,  -0x1.e191b43ef1279p+1, 0x1.d386774e751f9p+0,  0x1.ab5ce0dad0a0dp-6,
      -0x1.dd6e3ca3d6052p-2, 0x1.a94350a13e182p-5,  0x1.13962221f4ae4p-3,  -0x1.417c33bbbfa24p-8, -0x1.37d9ecd0d628bp-5,
      -0x1.f19190411a647p-6, 0x1.3d149ac690687p-4,  -0x1.3d940ac5c2d4bp-3, 0x1.487f00df3eeaep-2,  -0x1.0464aa9ad0340p-1,
      0x1.3e54ab2dc9fc1p-1,  -0x1.2f6d7e262d934p-1, 0x1.b337ac4b32941p-2,  -0x1.bd081756dd35ep-3, 0x1.2f0dcd5e9c33bp-4,
      -0x1.ea93940803a66p-7, 0x1.646209ac3362ep-10,
  };
  static constexpr double normal_above = 39.0;
};

// ---------------------------------------------------------------------------------------------------------------------
// Exponentials
// ---------------------------------------------------------------------------------------------------------------------

// expm1(r) for |r| <= ln2 / 2
template <class T>
inline vec<T> expm1_polynomial(vec<T> r) {
  return r + r * r * polynomial<T>(r, coefficients<T>::expm1);
}

// x = n ln2 + r and p = expm1(r), for x that exp_below and exp_above bound.
template <class T>
struct exp_reduction {
  vec<T> n, p;
};
template <class T>
inline exp_reduction<T> reduce_exp(vec<T> x) {
  using constant = coefficients<T>;
  const vec<T> n = nearest_integer<T>(x * constant::log2_e);
  return {n, expm1_polynomial<T>((x - n * constant::ln2_high) - n * constant::ln2_low)};
}

template <class T>
inline vec<T> exp(vec<T> x) {
  using constant = coefficients<T>;
  x = at_least<T>(at_most<T>(x, broadcast<T>(constant::exp_above)), broadcast<T>(constant::exp_below));
  const auto [n, p] = reduce_exp<T>(x);
  return scale<T>(1 + p, n);
}

// expm1(x) / 2 from x = n ln2 + r: halved, so that 2^n stays finite. n >= -64.
template <class T>
inline vec<T> half_expm1(const exp_reduction<T>& x) {
  const vec<T> half_power = power_of_two<T>(x.n - 1);
  return half_power * x.p + (half_power - T(0.5));
}

template <class T>
inline vec<T> expm1(vec<T> x) {
  using constant = coefficients<T>;
  const auto reduction =
      reduce_exp<T>(at_least<T>(at_most<T>(x, broadcast<T>(constant::exp_above)), broadcast<T>(constant::expm1_below)));
  // With n = 0, p is the result; halving a subnormal would lose a bit. r^2 of -0.0 loses the sign: restored.
  const vec<T> y = select<T>(reduction.n == 0, reduction.p, 2 * half_expm1<T>(reduction));
  return with_sign<T>(y, sign_bits<T>(x));
}

// exp(x) + 1 from x = n ln2 + r, rounded about once: 2^n p + (2^n + 1). |n| < bias.
template <class T>
inline vec<T> exp_plus_1(const exp_reduction<T>& x) {
  const vec<T> power = power_of_two<T>(x.n);
  return power * x.p + (power + 1);
}

// 1 - 2 / (exp(2 |x|) + 1), which loses digits to cancellation near 0: a polynomial there.
template <class T>
inline vec<T> tanh(vec<T> x) {
  using constant = coefficients<T>;
  const vec<T> size = absolute<T>(x), square = x * x;
  const vec<T> far = 1 - 2 / exp_plus_1<T>(reduce_exp<T>(2 * at_most<T>(size, broadcast<T>(constant::tanh_above))));
  const vec<T> near = x + x * square * polynomial<T>(square, constant::tanh);
  return with_sign<T>(select<T>(size < constant::tanh_near, near, far), sign_bits<T>(x));
}

// 1 / (1 + exp(-x)) = fraction 2^exponent, x bounded. Where -x = n ln2 + r is large, exp(-x) overflows before the
// result vanishes, so the fraction is expanded by 2^-n: 2^-n / (2^-n + 1 + expm1(r)).
template <class T>
struct sigmoid_parts {
  vec<T> fraction, exponent;
};
template <class T>
inline sigmoid_parts<T> split_sigmoid(vec<T> x) {
  const auto [n, p] = reduce_exp<T>(-at_most<T>(x, broadcast<T>(coefficients<T>::sigmoid_above)));
  const vec<T> power = power_of_two<T>(at_least<T>(-n, broadcast<T>(T(-100))));
  // smaller terms first: one rounding that counts
  const vec<T> one = broadcast<T>(1);
  return {1 / (at_least<T>(power, one) + (at_most<T>(power, one) + p)), -n};
}

template <class T>
inline vec<T> sigmoid(vec<T> x) {
  const auto [fraction, exponent] = split_sigmoid<T>(at_least<T>(x, broadcast<T>(coefficients<T>::exp_below)));
  return scale<T>(fraction, exponent);
}

// ---------------------------------------------------------------------------------------------------------------------
// Logarithms
// ---------------------------------------------------------------------------------------------------------------------

template <class T>
using unsigned_vec = vec<typename format<T>::unsigned_integer>;

// A positive, normal u is 2^e (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2): e + bias.
template <class T>
inline unsigned_vec<T> biased_exponent(vec<T> u) {
  using integer = typename format<T>::unsigned_integer;
  constexpr integer sqrt_half = sizeof(T) == 4 ? integer(0x3f3504f3u) : integer(0x3fe6a09e667f3bcdull);
  return ((unsigned_vec<T>)u + ((integer(format<T>::bias) << format<T>::mantissa_bits) - sqrt_half)) >>
         format<T>::mantissa_bits;
}
template <class T>
inline vec<T> exponent_of(unsigned_vec<T> biased) {
  // or-ed into the mantissa of 2^mantissa_bits, the integer becomes a float
  const vec<T> grid = broadcast<T>(format<T>::integer_from);
  return (vec<T>)(biased | (unsigned_vec<T>)grid) - (format<T>::integer_from + T(format<T>::bias));
}
// u 2^-e by the bits: exact while u and the result are normal, and for any u where e = 0.
template <class T>
inline vec<T> remove_exponent(vec<T> u, unsigned_vec<T> biased) {
  return (vec<T>)((unsigned_vec<T>)u - ((biased - format<T>::bias) << format<T>::mantissa_bits));
}

// log1p(f) - f
inline vec<float> log1p_minus_argument(vec<float> f) {
  return f * f * (f * polynomial<float>(f, coefficients<float>::log1p) - 0.5f);
}
inline vec<double> log1p_minus_argument(vec<double> f) {
  // The plain polynomial would take degree 20.
  const vec<double> half_square = 0.5 * f * f, s = f / (2 + f), z = s * s;
  return s * (half_square + z * polynomial<double>(z, coefficients<double>::atanh)) - half_square;
}

// e ln2 + log1p(f)
template <class T>
inline vec<T> assemble_log(vec<T> e, vec<T> f) {
  using constant = coefficients<T>;
  const vec<T> sum = e * constant::ln2_high + f;
  const vec<T> rounding = (e * constant::ln2_high - sum) + f;  // exact: e ln2_high is, and it is 0 or larger than f
  return sum + (rounding + (e * constant::ln2_low + log1p_minus_argument(f)));
}
// y = log(u), but for the u that have no exponent.
template <class T>
inline vec<T> mend_log(vec<T> y, vec<T> u) {
  const vec<T> infinity = broadcast<T>(T(INFINITY));
  const vec<T> special = select<T>(u == 0, -infinity, select<T>(u < 0, broadcast<T>(T(NAN)), u));
  return select<T>((u > 0) & (u < infinity), y, special);
}

// Vectors with a subnormal or special lane are rare and take a second pass, which gives ordinary lanes the same bits.
template <class T>
inline vec<T> log(vec<T> x) {
  const auto log_of_normal = [](vec<T> u, T lifted) {
    const unsigned_vec<T> biased = biased_exponent<T>(u);
    return assemble_log<T>(exponent_of<T>(biased) - lifted, remove_exponent<T>(u, biased) - 1);
  };
  const vec<T> y = log_of_normal(x, 0);
  const mask_vec<T> ordinary = (x >= format<T>::smallest_normal) & (x < T(INFINITY));
  if (__builtin_expect(!any_lane<T>(~ordinary), 1)) return y;
  constexpr int lift = format<T>::mantissa_bits + 1;
  const vec<T> lifted = log_of_normal(x * T(1ull << lift), T(lift));
  return mend_log<T>(select<T>(x < format<T>::smallest_normal, lifted, y), x);
}

// The exponent comes from the rounded u = 1 + x, but f from x itself: 2^-e (1 + x) - 1 = 2^-e x + (2^-e - 1), where
// only the last sum rounds.
template <class T>
inline vec<T> log1p(vec<T> x) {
  const vec<T> u = 1 + x;
  const unsigned_vec<T> biased = biased_exponent<T>(u);
  const vec<T> e = exponent_of<T>(biased);
  const vec<T> power = power_of_two<T>(at_least<T>(-e, broadcast<T>(T(-100))));
  const vec<T> f = remove_exponent<T>(x, biased) + (power - 1);
  return with_sign<T>(mend_log<T>(assemble_log<T>(e, f), u), sign_bits<T>(x));
}

// ---------------------------------------------------------------------------------------------------------------------
// The error function and the normal distribution
// ---------------------------------------------------------------------------------------------------------------------

// exp(z^2) erfc(z) for z = unit * x >= 0
template <class T>
inline vec<T> erfcx(vec<T> x, double unit = 1) {
  // v = 1 - t, but not so computed: t's rounding error would come back nearly three times as large
  const vec<T> scaled = T(coefficients<T>::erfcx_pole * unit) * x, t = 1 / (1 + scaled), v = scaled * t;
  return t + t * v * polynomial<T>(v, coefficients<T>::erfcx);
}

template <class T>
inline vec<T> erf(vec<T> x) {
  using constant = coefficients<T>;
  const vec<T> size = at_most<T>(absolute<T>(x), broadcast<T>(constant::erf_above));
  const vec<T> near = x + x * polynomial<T>(x * x, constant::erf);
  const vec<T> far = 1 - exp<T>(-size * size) * erfcx<T>(size);
  return select<T>(size < 1, near, with_sign<T>(far, sign_bits<T>(x)));
}

// a b - product, the rounding error of product = a b.
template <class T>
inline vec<T> product_error(vec<T> a, vec<T> b, vec<T> product) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (vec<T>)_mm512_fmsub_ps((__m512)a, (__m512)b, (__m512)product);
  else
    return (vec<T>)_mm512_fmsub_pd((__m512d)a, (__m512d)b, (__m512d)product);
#elif defined(__FMA__)
  if constexpr (sizeof(T) == 4)
    return (vec<T>)_mm256_fmsub_ps((__m256)a, (__m256)b, (__m256)product);
  else
    return (vec<T>)_mm256_fmsub_pd((__m256d)a, (__m256d)b, (__m256d)product);
#elif defined(__aarch64__)
  for (int i = 0; i < lanes<T>; i++)
    product[i] = T(sizeof(T) == 4 ? __builtin_fmaf(a[i], b[i], -product[i]) : __builtin_fma(a[i], b[i], -product[i]));
  return product;
#else
  // Dekker: halves of the mantissa, whose products are exact
  constexpr auto upper = ~((typename integer_of<T>::type(1) << (format<T>::mantissa_bits / 2 + 1)) - 1);
  const vec<T> a_high = from_bits<T>(bits_of<T>(a) & upper), b_high = from_bits<T>(bits_of<T>(b) & upper);
  const vec<T> a_low = a - a_high, b_low = b - b_high;
  return a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low);
#endif
}

// exp(-x^2 / 2), |x| <= normal_above. The square's rounding error, up to 2^6 ulp of the result, stays out of it: the
// reduced argument comes from the exact product.
template <class T>
inline vec<T> exp_minus_half_square(vec<T> x) {
  using constant = coefficients<T>;
  const vec<T> half = T(0.5) * x;
  const vec<T> n = nearest_integer<T>(x * half * constant::log2_e);
  const vec<T> r = product_error<T>(x, half, n * constant::ln2_high) - n * constant::ln2_low;
  return scale<T>(1 + expm1_polynomial<T>(-r), -n);
}

// The standard normal distribution: P(X < x) and its density. P keeps its relative accuracy in the left tail.
template <class T>
struct normal_distribution {
  vec<T> cumulative, density;
};
template <class T>
inline normal_distribution<T> normal(vec<T> x) {
  const vec<T> size = at_most<T>(absolute<T>(x), broadcast<T>(coefficients<T>::normal_above));
  const vec<T> e = exp_minus_half_square<T>(size);
  const vec<T> tail = T(0.5) * e * erfcx<T>(size, 0.70710678118654752440);
  return {select<T>(x < 0, tail, 1 - tail), e * T(0.39894228040143267794)};
}

template <class T>
inline vec<T> gelu(vec<T> x) {
  return x * normal<T>(x).cumulative;
}
// x sigmoid(x), scaled once: below -87 sigmoid(x) has lost bits that the product still has. NaN at -inf, as -inf * 0.
template <class T>
inline vec<T> silu(vec<T> x) {
  const vec<T> below = broadcast<T>(coefficients<T>::exp_below - 16);
  const vec<T> bounded = select<T>(x < below, below, x);
  const auto [fraction, exponent] = split_sigmoid<T>(bounded);
  return scale<T>(bounded * fraction, exponent) + at_most<T>(x, vec<T>{}) * 0;
}

}  // namespace hominy::HOMINY_LEVEL
