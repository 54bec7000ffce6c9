// The dimensions that several arrays of one shape share: sorted and merged until as few as possible are left, and
// walked as an odometer. What depends on the arrays' memory order alone is decided here, once for every kernel.
#pragma once
#include "hominy.h"
#include "vector.hpp"

namespace hominy::HOMINY_LEVEL {

template <int arrays>
struct dimension {
  int64_t size;
  int64_t stride[arrays];  // in bytes
};

// Outermost first means largest stride of the first array first, but a stride of 0 (broadcast) counts as largest: the
// innermost dimension is to be the one whose elements are neighbours.
inline bool goes_outside(int64_t stride, int64_t other) {
  if (stride == 0 || other == 0) return stride == 0 && other != 0;
  return stride > other;
}

// The dimensions of arrays that have `shape`, without `skipped` (-1: none) and those of size 1; returns their number.
// No size may be 0. Where the first array runs backwards, `data` and strides of all are turned round.
template <int arrays>
int collect_dimensions(const int64_t* shape, int ndim, int skipped, const int64_t* const (&strides)[arrays],
                       char* (&data)[arrays], dimension<arrays>* dims) {
  int count = 0;
  for (int d = 0; d < ndim; ++d) {
    if (shape[d] == 1 || d == skipped) continue;
    dimension<arrays> now{shape[d], {}};
    for (int a = 0; a < arrays; ++a) {
      now.stride[a] = strides[a][d];
      if (strides[0][d] >= 0) continue;
      data[a] += (now.size - 1) * now.stride[a];
      now.stride[a] = -now.stride[a];
    }
    int at = count++;
    for (; at > 0 && goes_outside(now.stride[0], dims[at - 1].stride[0]); --at) dims[at] = dims[at - 1];
    dims[at] = now;
  }
  int merged = 0;
  for (int d = 0; d < count; ++d) {
    bool follows_on = merged > 0;
    for (int a = 0; a < arrays && follows_on; ++a)
      follows_on = dims[merged - 1].stride[a] == dims[d].size * dims[d].stride[a];
    const int64_t above = follows_on ? dims[--merged].size : 1;
    dims[merged] = dims[d];
    dims[merged++].size *= above;
  }
  return merged;
}

// A position in a list of dimensions and the byte offset of each array that belongs to it.
template <int arrays>
struct odometer {
  const dimension<arrays>* dims;
  int count;
  int64_t offset[arrays] = {};
  int64_t index[HOMINY_MAX_NDIM];

  odometer(const dimension<arrays>* dims, int count, int64_t position) : dims(dims), count(count) {
    for (int d = count - 1; d >= 0; --d) {
      index[d] = position % dims[d].size;
      position /= dims[d].size;
      for (int a = 0; a < arrays; ++a) offset[a] += index[d] * dims[d].stride[a];
    }
  }
  // Moves on by `steps` of the innermost dimension that stay within or just complete it.
  void advance(int64_t steps = 1) {
    int d = count - 1;
    if (d < 0) return;
    index[d] += steps;
    for (int a = 0; a < arrays; ++a) offset[a] += steps * dims[d].stride[a];
    for (; index[d] == dims[d].size && d > 0; ++index[d]) {
      index[d] = 0;
      for (int a = 0; a < arrays; ++a) offset[a] += dims[d - 1].stride[a] - dims[d].size * dims[d].stride[a];
      --d;
    }
  }
};

// The `part`-th of `parts` nearly equal shares of [0, total).
struct share {
  int64_t first, count;
  share(int64_t total, int64_t parts, int64_t part)
      : first(total / parts * part + minimum_of(part, total % parts)), count(total / parts + (part < total % parts)) {}
};

// Product of the sizes, or why there is none.
inline hominy_status count_elements(const hominy_tensor& t, int64_t* count) {
  bool empty = false;
  *count = 1;
  for (int d = 0; d < t.ndim; ++d) {
    if (t.shape[d] < 0) return HOMINY_BAD_SHAPE;
    empty |= t.shape[d] == 0;
  }
  if (empty) *count = 0;
  for (int d = 0; d < t.ndim && !empty; ++d)
    if (__builtin_mul_overflow(*count, t.shape[d], count)) return HOMINY_OVERFLOW;
  return HOMINY_OK;
}

}  // namespace hominy::HOMINY_LEVEL
