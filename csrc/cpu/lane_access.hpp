// Vectors whose lanes lie any stride apart in memory, whose last lanes do not exist, or that become one scalar.
#pragma once
#include "matmul_pack.hpp"  // index_list, pick_lanes

namespace hominy::HOMINY_LEVEL {

template <class T>
inline T load_scalar(const char* p) {
  T value;
  memcpy(&value, p, sizeof value);
  return value;
}
template <class T>
inline void store_scalar(char* p, T value) {
  memcpy(p, &value, sizeof value);
}

// All bits set in the first n lanes.
template <class T>
inline mask_vec<T> first_lanes(int64_t n) {
  mask_vec<T> lane;
  for (int i = 0; i < lanes<T>; ++i) lane[i] = i;
  return lane < mask_vec<T>{} + typename integer_of<T>::type(n);
}

// A list, not a loop: the compiler builds the vector in registers instead of storing lanes and loading them as one.
template <class T, int... lane>
inline vec<T> gather_lanes(const char* p, int64_t stride, index_list<lane...>) {
  return vec<T>{load_scalar<T>(p + lane * stride)...};
}

// A vector of elements `stride` bytes apart; `unit`: they are neighbours.
template <class T, bool unit>
inline vec<T> load_lanes(const char* p, int64_t stride) {
  if constexpr (unit)
    return load(reinterpret_cast<const T*>(p));
  else
    return gather_lanes<T>(p, stride, typename indices_below<lanes<T>>::type{});
}

// The same where only `n` elements exist (n may be negative, or a vector and more): `padding` in the other lanes.
template <class T, bool unit>
inline vec<T> load_padded(const char* p, int64_t stride, int64_t n, T padding) {
  if (n >= lanes<T>) return load_lanes<T, unit>(p, stride);
  if (n < 0) n = 0;
  if constexpr (unit)
    return select<T>(first_lanes<T>(n), load_partial(reinterpret_cast<const T*>(p), n), broadcast(padding));
  vec<T> v = broadcast(padding);
  for (int64_t i = 0; i < n; ++i) v[i] = load_scalar<T>(p + i * stride);
  return v;
}

// The first n lanes of v, all of them where n is a vector and more.
template <class T, bool unit>
inline void store_lanes(char* p, int64_t stride, vec<T> v, int64_t n) {
  if constexpr (unit) {
    if (n >= lanes<T>)
      store(reinterpret_cast<T*>(p), v);
    else
      store_partial(reinterpret_cast<T*>(p), v, n);
  } else {
    for (int64_t i = 0; i < lanes<T> && i < n; ++i) store_scalar<T>(p + i * stride, v[i]);
  }
}

// A loop over n elements as whole vectors and what is left: f(first element, count), count a `whole` or a number, which
// load_count and store_count take. Lanes beyond the end are 0.
struct whole {};
template <class T, class F>
inline void for_vectors(int64_t n, F f) {
  int64_t i = 0;
  for (; i + lanes<T> <= n; i += lanes<T>) f(i, whole{});
  if (i < n) f(i, n - i);
}
template <class T, bool unit>
inline vec<T> load_count(const char* p, int64_t stride, whole) {
  return load_lanes<T, unit>(p, stride);
}
template <class T, bool unit>
inline vec<T> load_count(const char* p, int64_t stride, int64_t n) {
  return load_padded<T, unit>(p, stride, n, T(0));
}
template <class T, class Count>
inline vec<T> load_count(const T* p, Count count) {
  return load_count<T, true>(reinterpret_cast<const char*>(p), sizeof(T), count);
}
template <class T, bool unit>
inline void store_count(char* p, int64_t stride, vec<T> v, whole) {
  store_lanes<T, unit>(p, stride, v, lanes<T>);
}
template <class T, bool unit>
inline void store_count(char* p, int64_t stride, vec<T> v, int64_t n) {
  store_lanes<T, unit>(p, stride, v, n);
}
template <class T, class Count>
inline void store_count(T* p, vec<T> v, Count count) {
  store_count<T, true>(reinterpret_cast<char*>(p), sizeof(T), v, count);
}

// All lanes in one, by halves; combine(a, b) takes vectors of any width.
template <class T, int count>
struct short_vector {
  typedef T type __attribute__((vector_size(count * sizeof(T))));
};
template <class T, int count = lanes<T>, class Combine>
inline T combine_lanes(typename short_vector<T, count>::type v, Combine combine) {
  if constexpr (count == 1) {
    return v[0];
  } else {
    typename short_vector<T, count / 2>::type low, high;
    memcpy(&low, &v, sizeof low);
    memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
    return combine_lanes<T, count / 2>(combine(low, high), combine);
  }
}
template <class T>
inline T sum_lanes(vec<T> v) {
  return combine_lanes<T>(v, [](auto a, auto b) { return a + b; });
}
template <class T>
inline T largest_lane(vec<T> v) {
  return combine_lanes<T>(v, [](auto a, auto b) { return a > b ? a : b; });
}

// Lane r of the result is all lanes of rows[r] in one: the cost of three combinations a row, where one row after the
// other takes log2(lanes) that wait for each other. `rows` is overwritten.
template <class T, int step = lanes<T> / 2, class Combine>
inline vec<T> combine_rows(vec<T> (&rows)[lanes<T>], Combine combine) {
  using all = typename indices_below<lanes<T>>::type;
#pragma GCC unroll 16
  for (int i = 0; i < step; ++i)
    rows[i] = combine(pick_lanes<T, step, 0>(rows[i], rows[i + step], all{}),
                      pick_lanes<T, step, step>(rows[i], rows[i + step], all{}));
  if constexpr (step > 1)
    return combine_rows<T, step / 2>(rows, combine);
  else
    return rows[0];
}

}  // namespace hominy::HOMINY_LEVEL
