// vec<T>: the SIMD layer. GNU vector extensions carry the arithmetic (+ - * / and comparisons work on a vec as on a
// scalar; `a * b + c` becomes a fused multiply-add under -ffp-contract=fast), so one kernel source serves every ISA
// level. Intrinsics appear in this file and in vector_math.hpp alone, where the extension has no word for the thing.
//
// The whole cpu/ folder is compiled once per level, with HOMINY_LEVEL naming the namespace that holds its code.
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#ifndef HOMINY_LEVEL
#error "HOMINY_LEVEL must name the ISA level this file is compiled for"
#endif

namespace hominy::HOMINY_LEVEL {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int vector_registers = 32;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
constexpr int vector_registers = 16;
#elif defined(__aarch64__)
constexpr int vector_bytes = 16;
constexpr int vector_registers = 32;
#else
constexpr int vector_bytes = 16;
constexpr int vector_registers = 16;
#endif

template <class T>
constexpr int lanes = vector_bytes / int(sizeof(T));

template <class T>
struct vector_of {
  typedef T type __attribute__((vector_size(vector_bytes)));
  typedef T unaligned __attribute__((vector_size(vector_bytes), aligned(1), may_alias));
};
template <class T>
using vec = typename vector_of<T>::type;

// The integer of T's width; comparisons of vec<T> give vec<mask_of<T>> with all bits of a lane set or clear.
template <class T>
struct integer_of;
template <>
struct integer_of<float> {
  using type = int32_t;
};
template <>
struct integer_of<double> {
  using type = int64_t;
};
template <>
struct integer_of<int32_t> {
  using type = int32_t;
};
template <>
struct integer_of<int64_t> {
  using type = int64_t;
};
template <class T>
using mask_vec = vec<typename integer_of<T>::type>;

template <class T>
inline vec<T> load(const T* p) {
  return *reinterpret_cast<const typename vector_of<T>::unaligned*>(p);
}
template <class T>
inline void store(T* p, vec<T> v) {
  *reinterpret_cast<typename vector_of<T>::unaligned*>(p) = v;
}
template <class T>
inline vec<T> broadcast(T x) {
  return x - vec<T>{};  // compilers drop this, but not x + 0, which turns -0.0 round
}
template <class T>
inline vec<T> select(mask_vec<T> condition, vec<T> yes, vec<T> no) {
  return condition ? yes : no;
}

// The first `n` lanes (0 <= n <= lanes); the others are 0 and nothing beyond is touched.
template <class T>
inline vec<T> load_partial(const T* p, int64_t n) {
  vec<T> v{};
  memcpy(&v, p, size_t(n) * sizeof(T));
  return v;
}
template <class T>
inline void store_partial(T* p, vec<T> v, int64_t n) {
  memcpy(p, &v, size_t(n) * sizeof(T));
}
#if defined(__AVX512F__)
template <>
inline vec<float> load_partial(const float* p, int64_t n) {
  return (vec<float>)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1u), p);
}
template <>
inline vec<double> load_partial(const double* p, int64_t n) {
  return (vec<double>)_mm512_maskz_loadu_pd(__mmask8((1u << n) - 1u), p);
}
template <>
inline void store_partial(float* p, vec<float> v, int64_t n) {
  _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1u), (__m512)v);
}
template <>
inline void store_partial(double* p, vec<double> v, int64_t n) {
  _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1u), (__m512d)v);
}
#elif defined(__AVX2__)
inline __m256i lanes_below_32(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m256i lanes_below_64(int64_t n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
template <>
inline vec<float> load_partial(const float* p, int64_t n) {
  return (vec<float>)_mm256_maskload_ps(p, lanes_below_32(n));
}
template <>
inline vec<double> load_partial(const double* p, int64_t n) {
  return (vec<double>)_mm256_maskload_pd(p, lanes_below_64(n));
}
template <>
inline void store_partial(float* p, vec<float> v, int64_t n) {
  _mm256_maskstore_ps(p, lanes_below_32(n), (__m256)v);
}
template <>
inline void store_partial(double* p, vec<double> v, int64_t n) {
  _mm256_maskstore_pd(p, lanes_below_64(n), (__m256d)v);
}
#endif

// Lanes [low, high), 0 <= low, high <= lanes, made once for many vectors: load_range gives 0 in the others and
// store_range leaves them, and neither touches their memory.
template <class T>
struct lane_range {
#if defined(__AVX512F__)
  __mmask16 mask;
  lane_range(int64_t low, int64_t high)
      : mask(__mmask16(low < high ? ((1u << high) - 1u) & ~((1u << low) - 1u) : 0u)) {}
#else
  int64_t low, count;
  lane_range(int64_t low, int64_t high) : low(low), count(low < high ? high - low : 0) {}
#endif
};
template <class T>
inline vec<T> load_range(const T* p, lane_range<T> range) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (vec<T>)_mm512_maskz_loadu_ps(range.mask, p);
  else
    return (vec<T>)_mm512_maskz_loadu_pd(__mmask8(range.mask), p);
#else
  if (range.count == lanes<T>) return load(p);
  vec<T> v{};
  memcpy((T*)&v + range.low, p + range.low, size_t(range.count) * sizeof(T));
  return v;
#endif
}
template <class T>
inline void store_range(T* p, vec<T> v, lane_range<T> range) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_ps(p, range.mask, (__m512)v);
  else
    _mm512_mask_storeu_pd(p, __mmask8(range.mask), (__m512d)v);
#else
  if (range.count == lanes<T>) return store(p, v);
  memcpy(p + range.low, (const T*)&v + range.low, size_t(range.count) * sizeof(T));
#endif
}

// The 64-bit products of the lower halves of 64-bit lanes.
inline vec<uint64_t> multiply_lower_halves(vec<uint64_t> a, vec<uint64_t> b) {
#if defined(__AVX512F__)
  return (vec<uint64_t>)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);  // GCC 12 warns of the plain one
#elif defined(__AVX2__)
  return (vec<uint64_t>)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (vec<uint64_t>)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

// A store of one vector past the caches, to an address aligned to vector_bytes; finish_streaming() orders such stores
// before what another thread is told next. Plain stores where the ISA has none.
inline void store_streaming(char* p, vec<int8_t> v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#elif defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
#else
  store<int8_t>(reinterpret_cast<int8_t*>(p), v);
#endif
}
inline void finish_streaming() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template <class T>
inline T minimum_of(T a, T b) {
  return a < b ? a : b;
}
template <class T>
inline T maximum_of(T a, T b) {
  return a > b ? a : b;
}

}  // namespace hominy::HOMINY_LEVEL
