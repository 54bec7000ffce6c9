// What softmax and cross entropy ask of a row first: its largest element m, and the sum of exp(x - m).
//
// c(n), the additions that any element of a sum goes through: rows min(n/2, 256) + n/2048 (a block of 2048 in 4
// vectors, of 2 lanes at worst), columns 32 + n/32.
#pragma once
#include "lane_access.hpp"
#include "vector_math.hpp"

namespace hominy::HOMINY_LEVEL {

constexpr int64_t softmax_block = 2048;  // elements of a row that are read twice, the second time from L1

// The largest of n elements; where there are NaN, any element or -infinity.
template <class T, bool unit>
inline T largest_of_block(const char* x, int64_t stride, int64_t n) {
  constexpr int64_t step = 4 * lanes<T>;
  const vec<T> nothing = broadcast(T(-INFINITY));
  vec<T> most[4] = {nothing, nothing, nothing, nothing};
  int64_t i = 0;
  for (; i + step <= n; i += step)
    for (int v = 0; v < 4; ++v)
      most[v] = at_least<T>(load_lanes<T, unit>(x + (i + v * lanes<T>)*stride, stride), most[v]);
  for (; i < n; i += lanes<T>)
    most[0] = at_least<T>(load_padded<T, unit>(x + i * stride, stride, n - i, T(-INFINITY)), most[0]);
  return largest_lane<T>(at_least<T>(at_least<T>(most[0], most[1]), at_least<T>(most[2], most[3])));
}

// Applies f(vector, first element, count of elements) to n elements of x and sums what it gives. The padding of the
// last vector is for f to make a 0 of.
template <class T, bool unit, class F>
inline T sum_of_block(const char* x, int64_t stride, int64_t n, T padding, F f) {
  constexpr int64_t step = 4 * lanes<T>;
  vec<T> sum[4] = {};
  int64_t i = 0;
  for (; i + step <= n; i += step)
    for (int v = 0; v < 4; ++v) {
      const int64_t at = i + v * lanes<T>;
      sum[v] = sum[v] + f(load_lanes<T, unit>(x + at * stride, stride), at, int64_t(lanes<T>));
    }
  for (; i < n; i += lanes<T>)
    sum[0] = sum[0] + f(load_padded<T, unit>(x + i * stride, stride, n - i, padding), i, n - i);
  return sum_lanes<T>((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

template <class T>
struct exp_statistics {
  T largest;
  T sum;  // of exp(x - largest); NaN where the row holds NaN or +infinity, or -infinity alone
};

// The logarithm of one element, by the vector's formula.
template <class T>
inline T log_of(T x) {
  return log<T>(broadcast(x))[0];
}

// One pass over memory: each block's largest element first, then its sum, the sum so far rescaled.
template <class T, bool unit>
inline exp_statistics<T> statistics_of_row(const char* x, int64_t stride, int64_t n) {
  T largest = T(-INFINITY);
  double sum = 0;
  for (int64_t first = 0; first < n; first += softmax_block) {
    const char* p = x + first * stride;
    const int64_t here = minimum_of(softmax_block, n - first);
    const T most = largest_of_block<T, unit>(p, stride, here);
    if (most > largest) {
      if (sum != 0) sum *= ::exp(double(largest) - double(most));
      largest = most;
    }
    const vec<T> shift = broadcast(largest == T(-INFINITY) ? T(0) : largest);  // nothing but -infinity so far: sum 0
    sum += double(sum_of_block<T, unit>(p, stride, here, T(-INFINITY),
                                        [=](vec<T> v, int64_t, int64_t) { return exp<T>(v - shift); }));
  }
  return {largest, largest == T(-INFINITY) ? T(NAN) : T(sum)};
}

// Statistics of many rows or columns at once, a lane each.
template <class T>
struct lane_statistics {
  vec<T> largest, sum;
};

constexpr int64_t short_row = 256;  // elements; a vector's worth of such rows stays in L1

// Sums f(vector, first element, count of elements) over a short row of neighbours; lanes are not combined.
template <class T, class F>
inline vec<T> sum_vectors(const char* x, int64_t n, F f, T padding = T(0)) {
  constexpr int64_t item = sizeof(T);
  vec<T> sum{};
  int64_t i = 0;
  for (; i + lanes<T> <= n; i += lanes<T>) sum = sum + f(load_lanes<T, true>(x + i * item, item), i, int64_t(lanes<T>));
  if (i < n) sum = sum + f(load_padded<T, true>(x + i * item, item, n - i, padding), i, n - i);
  return sum;
}

// The statistics of `count` <= lanes short rows of neighbours, without waiting for one row's lanes to be combined
// before the next is begun. e(vector of exp(x - largest), row, first element, count of elements) may keep the
// exponentials.
template <class T, class E>
inline lane_statistics<T> statistics_of_short_rows(const char* const* x, int64_t count, int64_t n, E e) {
  constexpr int64_t item = sizeof(T);
  vec<T> row[lanes<T>] = {};
  for (int64_t r = 0; r < count; ++r) {
    row[r] = load_padded<T, true>(x[r], item, n, T(-INFINITY));
    int64_t i = lanes<T>;
    for (; i + lanes<T> <= n; i += lanes<T>) row[r] = at_least<T>(load_lanes<T, true>(x[r] + i * item, item), row[r]);
    if (i < n) row[r] = at_least<T>(load_padded<T, true>(x[r] + i * item, item, n - i, T(-INFINITY)), row[r]);
  }
  const vec<T> largest = combine_rows<T>(row, [](vec<T> a, vec<T> b) { return at_least<T>(a, b); });
  for (int64_t r = 0; r < count; ++r) {
    const vec<T> shift = broadcast(T(largest[r]));
    row[r] = sum_vectors<T>(
        x[r], n,
        [&](vec<T> v, int64_t i, int64_t here) {
          const vec<T> power = exp<T>(v - shift);
          e(power, r, i, here);
          return power;
        },
        T(-INFINITY));
  }
  return {largest, combine_rows<T>(row, [](vec<T> a, vec<T> b) { return a + b; })};
}

// f(0) + ... + f(n - 1), vectors, as the sum of sums of 32.
template <class T, class F>
inline vec<T> sum_of_columns(int64_t n, F f) {
  vec<T> sum{};
  for (int64_t first = 0; first < n; first += 32) {
    vec<T> part{};
    for (int64_t i = first; i < n && i < first + 32; ++i) part = part + f(i);
    sum = sum + part;
  }
  return sum;
}

// The statistics of neighbouring columns, `width` <= a vector of them, whose n elements each are `stride` apart.
template <class T, bool unit>
inline lane_statistics<T> statistics_of_columns(const char* x, int64_t stride, int64_t n, int64_t lane_stride,
                                                int64_t width) {
  const auto element = [=](int64_t i) { return load_padded<T, unit>(x + i * stride, lane_stride, width, T(0)); };
  vec<T> largest = broadcast(T(-INFINITY));
  for (int64_t i = 0; i < n; ++i) largest = at_least<T>(element(i), largest);
  return {largest, sum_of_columns<T>(n, [=](int64_t i) { return exp<T>(element(i) - largest); })};
}

}  // namespace hominy::HOMINY_LEVEL
