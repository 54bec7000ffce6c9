// Packing: copies a block of an operand, whatever its strides, into the order in which the tile kernels read it.
#pragma once
#include "vector.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

// `ahead`: how many bytes further on the caller will read next; a copy of short rows is bound by the wait for them.
template <class T>
inline void copy_elements(T* to, const T* from, int64_t n, int64_t ahead = 0) {
  for (; n >= lanes<T>; n -= lanes<T>, to += lanes<T>, from += lanes<T>) {
    if (ahead != 0) __builtin_prefetch((const char*)from + ahead);
    store(to, load(from));
  }
  if (n > 0) store_partial(to, load_partial(from, n), n);
}

template <int... indices>
struct index_list {};
template <int n, int... indices>
struct indices_below : indices_below<n - 1, n - 1, indices...> {};
template <int... indices>
struct indices_below<0, indices...> {
  using type = index_list<indices...>;
};

// Lanes whose index has the bit `step` clear come from a, the others from b: of each pair (l, l + step) the first lane
// of both vectors (offset 0) or the second (offset step).
template <class T, int step, int offset, int... l>
inline vec<T> pick_lanes(vec<T> a, vec<T> b, index_list<l...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, ((l & step) ? lanes<T> + l - step + offset : l + offset)...);
#else
  typedef typename integer_of<T>::type index;
  return __builtin_shuffle(a, b, mask_vec<T>{index((l & step) ? lanes<T> + l - step + offset : l + offset)...});
#endif
}

// x[i] lane j <-> x[j] lane i, in log2(lanes) rounds that swap blocks of `step`.
template <class T, int step = lanes<T> / 2>
inline void transpose(vec<T> (&x)[lanes<T>]) {
  using all = typename indices_below<lanes<T>>::type;
#pragma GCC unroll 16
  for (int i = 0; i < lanes<T>; i++)
    if (!(i & step)) {
      const vec<T> upper = x[i], lower = x[i + step];
      x[i] = pick_lanes<T, step, 0>(upper, lower, all{});
      x[i + step] = pick_lanes<T, step, step>(upper, lower, all{});
    }
  if constexpr (step > 1) transpose<T, step / 2>(x);
}

// to[p][j] = from(p, j), to: (rows, width), rows `pitch` elements apart, columns beyond `columns` zero. from: strides in
// bytes.
template <class T>
void pack_columns(T* to, int64_t width, int64_t pitch, const char* from, int64_t row_stride, int64_t column_stride,
                  int64_t rows, int64_t columns) {
  if (column_stride == int64_t(sizeof(T))) {  // copied row by row
    for (int64_t p = 0; p < rows; p++, to += pitch, from += row_stride) {
      copy_elements(to, (const T*)from, columns, 24 * row_stride);
      for (int64_t j = columns; j < width; j++) to[j] = 0;
    }
  } else if (row_stride == int64_t(sizeof(T))) {  // transposed, in squares of a vector's width
    for (int64_t j0 = 0; j0 < width; j0 += lanes<T>) {
      const int64_t some = minimum_of<int64_t>(lanes<T>, columns - j0),
                    wide = minimum_of<int64_t>(lanes<T>, width - j0);
      for (int64_t p = 0; p < rows; p += lanes<T>) {
        // The last square overlaps the one before rather than be less deep.
        const int64_t p0 = rows < lanes<T> ? 0 : minimum_of<int64_t>(p, rows - lanes<T>),
                      deep = minimum_of<int64_t>(lanes<T>, rows - p0);
        const char* source = from + j0 * column_stride + p0 * row_stride;
        T* target = to + p0 * pitch + j0;
        vec<T> square[lanes<T>];
        if (some == lanes<T> && deep == lanes<T>) {
#pragma GCC unroll 16
          for (int j = 0; j < lanes<T>; j++) square[j] = load((const T*)(source + j * column_stride));
          transpose<T>(square);
#pragma GCC unroll 16
          for (int p = 0; p < lanes<T>; p++) store(target + p * pitch, square[p]);
        } else {
          for (int j = 0; j < lanes<T>; j++)
            square[j] = j < some ? load_partial((const T*)(source + j * column_stride), deep) : vec<T>{};
          transpose<T>(square);
          for (int p = 0; p < deep; p++) store_partial(target + p * pitch, square[p], wide);
        }
      }
    }
  } else {
    for (int64_t p = 0; p < rows; p++, to += pitch)
      for (int64_t j = 0; j < width; j++)
        if (j < columns)
          memcpy(to + j, from + p * row_stride + j * column_stride, sizeof(T));
        else
          to[j] = 0;
  }
}

// The same, of rows one after another.
template <class T>
inline void pack_rows(T* to, int64_t width, const char* from, int64_t row_stride, int64_t column_stride, int64_t rows,
                      int64_t columns) {
  pack_columns(to, width, width, from, row_stride, column_stride, rows, columns);
}

}  // namespace
}  // namespace hominy::HOMINY_LEVEL
