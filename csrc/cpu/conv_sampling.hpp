// How a convolution reads its images: at every position of the result, a patch of channels x taps. Two packers copy a
// few patches at a time into the order in which a tile kernel reads them; the patches of a whole image never exist.
//
//   pack_patch_columns  a patch a column, as NCHW has them: positions of a row are neighbours
//   pack_patch_rows     a patch a row, as channels-last has them: channels of a position are neighbours
//
// The same sampling serves the forward pass (step = stride), the input gradient (one sampling of the gradient for every
// phase of the stride, with step 1 and taps in reverse) and the weight gradient (which multiplies by the patches).
#pragma once
#include "conv_problem.hpp"
#include "lane_access.hpp"
#include "matmul_tile.hpp"  // parts_of

namespace hominy::HOMINY_LEVEL {
namespace {

// One dimension of space: tap t of position q reads element q step + offset + t offset_step, 0 outside [0, extent).
struct sampled_axis {
  int64_t count, step, taps, offset, offset_step, extent;
};

struct sampling {
  int64_t batch, channels;  // channels of one group
  sampled_axis axis[3];
  conv_images in;  // at the group's first channel

  int64_t positions() const { return batch * axis[0].count * axis[1].count * axis[2].count; }
  int64_t taps() const { return axis[0].taps * axis[1].taps * axis[2].taps; }
  int64_t depth() const { return channels * taps(); }
};

// Neighbouring positions of one row of the result, in a block of positions whose first is number 0.
struct position_run {
  int64_t first, count, image, q[3];
};

// The runs of positions [begin, begin + count); at most `count` of them.
inline int64_t find_runs(const sampling& from, int64_t begin, int64_t count, position_run* runs) {
  int64_t found = 0;
  for (int64_t done = 0; done < count; found++) {
    position_run& run = runs[found];
    int64_t p = begin + done;
    run.first = done;
    for (int d = 2; d >= 0; d--) {
      run.q[d] = p % from.axis[d].count;
      p /= from.axis[d].count;
    }
    run.image = p;
    run.count = minimum_of(from.axis[2].count - run.q[2], count - done);
    done += run.count;
  }
  return found;
}

// at[i]: where position i of the runs lies in `images`, whose positions are `steps` elements apart, from `first` on.
inline void locate(const position_run* runs, int64_t run_count, const conv_images& images, const int64_t (&first)[3],
                   const int64_t (&steps)[3], int64_t* at) {
  for (int64_t r = 0; r < run_count; r++) {
    const position_run& run = runs[r];
    int64_t offset = run.image * images.batch;
    for (int d = 0; d < 3; d++) offset += (first[d] + run.q[d] * steps[d]) * images.space[d];
    for (int64_t i = 0; i < run.count; i++) at[run.first + i] = offset + i * steps[2] * images.space[2];
  }
}

template <class T, int... l>
inline vec<T> every_second(vec<T> a, vec<T> b, index_list<l...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (2 * l < lanes<T> ? 2 * l : 2 * l + 1)...);
#else
  typedef typename integer_of<T>::type index;
  return __builtin_shuffle(a, b, mask_vec<T>{index(2 * l < lanes<T> ? 2 * l : 2 * l + 1)...});
#endif
}

// How a vector's share of a row is read: element p + lane * stride for the lanes that are valid, 0 in the others,
// written for the lanes that exist. Strides of one and of two elements have loads of their own.
template <class T>
struct row_piece {
  lane_range<T> near, far, written;  // of two vectors, one before the other, where the stride is two elements
  int64_t low, high;
  row_piece(int64_t low, int64_t high, int64_t columns, int64_t stride)
      : near(low, high), far(0, 0), written(0, columns), low(low), high(high) {
    if (stride != 2 * int64_t(sizeof(T)) || low >= high) return;
    constexpr int64_t half = (lanes<T> + 1) / 2;  // lanes below it come from the first vector
    near = lane_range<T>(2 * low, minimum_of<int64_t>(lanes<T>, 2 * high - 1));
    far = lane_range<T>(2 * maximum_of(low, half) - lanes<T> + 1, 2 * high - lanes<T>);
  }
  void copy(T* to, const char* p, int64_t stride) const {
    vec<T> v;
    if (stride == int64_t(sizeof(T))) {
      v = load_range((const T*)p, near);
    } else if (stride == 2 * int64_t(sizeof(T))) {
      v = every_second<T>(load_range((const T*)p, near), load_range((const T*)p + lanes<T> - 1, far),
                          typename indices_below<lanes<T>>::type{});
    } else {
      v = vec<T>{};
      for (int64_t l = low; l < high; l++) v[l] = load_scalar<T>(p + l * stride);
    }
    store_range(to, v, written);
  }
};

// to[i] = the element at from + i * stride.
template <class T>
inline void copy_strided(T* to, const char* from, int64_t stride, int64_t n) {
  if (stride == int64_t(sizeof(T))) return copy_elements(to, (const T*)from, n);
  for (int64_t i = 0; i < n; i++) to[i] = load_scalar<T>(from + i * stride);
}

template <class T>
inline void clear(T* to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = 0;
}

// The part [low, high) of `count` steps from element `start` on that lies inside [0, extent).
struct valid_range {
  int64_t low, high;
  valid_range(int64_t start, int64_t step, int64_t count, int64_t extent) {
    low = start >= 0 ? 0 : minimum_of(count, parts_of(-start, step));
    high = start >= extent ? low : maximum_of(low, minimum_of(count, parts_of(extent - start, step)));
  }
};

inline bool inside(int64_t i, int64_t extent) { return i >= 0 && i < extent; }

// Rows [k0, k1) of the patches, in the order (channel, tap), as to[k - k0][position], rows `width` elements apart;
// columns from `columns` on are not written.
template <class T>
void pack_patch_columns(T* to, int64_t width, const sampling& from, const position_run* runs, int64_t run_count,
                        int64_t k0, int64_t k1) {
  const sampled_axis &depth = from.axis[0], &height = from.axis[1], &along = from.axis[2];
  const int64_t taps = from.taps();
  int64_t t = 0;
  for (int64_t t0 = 0; t0 < depth.taps; t0++)
    for (int64_t t1 = 0; t1 < height.taps; t1++)
      for (int64_t t2 = 0; t2 < along.taps; t2++, t++) {
        const int64_t c0 = t >= k0 ? 0 : parts_of(k0 - t, taps), c1 = t >= k1 ? 0 : parts_of(k1 - t, taps);
        if (c0 >= c1) continue;
        T* const first_row = to + (c0 * taps + t - k0) * width;
        for (int64_t r = 0; r < run_count; r++) {
          const position_run& run = runs[r];
          const int64_t i0 = run.q[0] * depth.step + depth.offset + t0 * depth.offset_step;
          const int64_t i1 = run.q[1] * height.step + height.offset + t1 * height.offset_step;
          const int64_t i2 = run.q[2] * along.step + along.offset + t2 * along.offset_step;
          valid_range valid(i2, along.step, run.count, along.extent);
          if (!inside(i0, depth.extent) || !inside(i1, height.extent)) valid.low = valid.high = 0;
          const int64_t stride = along.step * from.in.space[2];
          const char* const source = from.in.data + run.image * from.in.batch + i0 * from.in.space[0] +
                                     i1 * from.in.space[1] + i2 * from.in.space[2] + c0 * from.in.channel;
          for (int64_t j = 0; j < run.count; j += lanes<T>) {
            const row_piece<T> piece(minimum_of<int64_t>(lanes<T>, maximum_of<int64_t>(0, valid.low - j)),
                                     maximum_of<int64_t>(0, minimum_of<int64_t>(lanes<T>, valid.high - j)),
                                     minimum_of<int64_t>(lanes<T>, run.count - j), stride);
            const char* p = source + j * stride;
            T* row = first_row + run.first + j;
            if (stride == int64_t(sizeof(T)))
              for (int64_t c = c0; c < c1; c++, row += taps * width, p += from.in.channel)
                piece.copy(row, p, sizeof(T));
            else
              for (int64_t c = c0; c < c1; c++, row += taps * width, p += from.in.channel) piece.copy(row, p, stride);
          }
        }
      }
}

// The same from channels-last images: squares of channels x positions are transposed.
template <class T>
void pack_patch_columns_transposed(T* to, int64_t width, const sampling& from, const position_run* runs,
                                   int64_t run_count, int64_t columns, int64_t k0, int64_t k1) {
  const sampled_axis &depth = from.axis[0], &height = from.axis[1], &along = from.axis[2];
  const int64_t taps = from.taps();
  const char* source[lanes<T>];
  int64_t t = 0;
  for (int64_t t0 = 0; t0 < depth.taps; t0++)
    for (int64_t t1 = 0; t1 < height.taps; t1++)
      for (int64_t t2 = 0; t2 < along.taps; t2++, t++) {
        const int64_t c0 = t >= k0 ? 0 : parts_of(k0 - t, taps), c1 = t >= k1 ? 0 : parts_of(k1 - t, taps);
        if (c0 >= c1) continue;
        for (int64_t j0 = 0; j0 < columns; j0 += lanes<T>) {
          const int64_t some = minimum_of<int64_t>(lanes<T>, columns - j0);
          for (int64_t r = 0; r < run_count; r++) {
            const position_run& run = runs[r];
            const int64_t i0 = run.q[0] * depth.step + depth.offset + t0 * depth.offset_step;
            const int64_t i1 = run.q[1] * height.step + height.offset + t1 * height.offset_step;
            const int64_t begin = maximum_of(run.first, j0), end = minimum_of(run.first + run.count, j0 + some);
            for (int64_t j = begin; j < end; j++) {
              const int64_t i2 = (run.q[2] + j - run.first) * along.step + along.offset + t2 * along.offset_step;
              const bool there = inside(i0, depth.extent) && inside(i1, height.extent) && inside(i2, along.extent);
              source[j - j0] = there ? from.in.data + run.image * from.in.batch + i0 * from.in.space[0] +
                                           i1 * from.in.space[1] + i2 * from.in.space[2]
                                     : nullptr;
            }
          }
          for (int64_t c = c0; c < c1; c += lanes<T>) {
            const int64_t channels = minimum_of<int64_t>(lanes<T>, c1 - c);
            vec<T> square[lanes<T>] = {};
            for (int64_t j = 0; j < some; j++)
              if (source[j]) {
                const T* p = (const T*)(source[j] + c * from.in.channel);
                square[j] = channels == lanes<T> ? load(p) : load_partial(p, channels);
              }
            transpose<T>(square);
            T* row = to + (c * taps + t - k0) * width + j0;
            for (int64_t i = 0; i < channels; i++, row += taps * width)
              if (some == lanes<T>)
                store(row, square[i]);
              else
                store_partial(row, square[i], some);
          }
        }
      }
}

// Patches of the runs' positions as rows, `pitch` bytes apart: columns [k0, k1) of them, in the order (tap, channel).
template <class T>
void pack_patch_rows(char* to, int64_t pitch, const sampling& from, const position_run* runs, int64_t run_count,
                     int64_t k0, int64_t k1) {
  constexpr int64_t size = sizeof(T);
  const sampled_axis &depth = from.axis[0], &height = from.axis[1], &along = from.axis[2];
  const bool together = from.in.channel == size;
  // Taps of a row that are neighbours in memory are copied as one.
  const bool joined = together && along.offset_step == 1 && from.in.space[2] == from.channels * size;
  const int64_t group = joined ? along.taps : 1, length = group * from.channels;
  for (int64_t r = 0; r < run_count; r++) {
    const position_run& run = runs[r];
    for (int64_t t0 = 0; t0 < depth.taps; t0++)
      for (int64_t t1 = 0; t1 < height.taps; t1++) {
        const int64_t i0 = run.q[0] * depth.step + depth.offset + t0 * depth.offset_step;
        const int64_t i1 = run.q[1] * height.step + height.offset + t1 * height.offset_step;
        const bool row_there = inside(i0, depth.extent) && inside(i1, height.extent);
        const char* const image_row =
            from.in.data + run.image * from.in.batch + i0 * from.in.space[0] + i1 * from.in.space[1];
        for (int64_t t2 = 0; t2 < along.taps; t2 += group) {
          const int64_t k = ((t0 * height.taps + t1) * along.taps + t2) * from.channels;
          const int64_t begin = maximum_of(k0, k), end = minimum_of(k1, k + length);
          if (begin >= end) continue;
          char* const target = to + run.first * pitch + (begin - k0) * size;
          const int64_t first = run.q[2] * along.step + along.offset + t2 * along.offset_step;
          const char* const source = image_row + first * from.in.space[2] + (begin - k) * from.in.channel;
          const int64_t step = along.step * from.in.space[2], n = end - begin;
          // Positions all of whose taps are inside, and the others.
          const int64_t inner = first >= 0 ? 0 : minimum_of(run.count, parts_of(-first, along.step));
          const int64_t room = along.extent - group - first;
          const int64_t inner_end =
              !row_there || room < 0 ? inner : maximum_of(inner, minimum_of(run.count, room / along.step + 1));
          const auto copy_part = [&](int64_t i) {
            const int64_t i2 = first + i * along.step;
            const valid_range taps(i2, 1, group, along.extent);
            int64_t low = end, high = end;  // of k: what is read; the rest is 0
            if (row_there && taps.low < taps.high) {
              low = minimum_of(end, maximum_of(begin, k + taps.low * from.channels));
              high = maximum_of(low, minimum_of(end, k + taps.high * from.channels));
            }
            T* const row = (T*)(target + i * pitch);
            clear(row, low - begin);
            copy_strided(row + (low - begin), source + i * step + (low - begin) * from.in.channel, from.in.channel,
                         high - low);
            clear(row + (high - begin), end - high);
          };
          for (int64_t i = 0; i < inner; i++) copy_part(i);
          if (together) {
            const lane_range<T> rest(0, n % lanes<T>);
            for (int64_t i = inner; i < inner_end; i++) {
              const T* p = (const T*)(source + i * step);
              T* row = (T*)(target + i * pitch);
              int64_t left = n;
              for (; left >= lanes<T>; left -= lanes<T>, p += lanes<T>, row += lanes<T>) store(row, load(p));
              if (left) store_range(row, load_range(p, rest), rest);
            }
          } else {
            for (int64_t i = inner; i < inner_end; i++) copy_part(i);
          }
          for (int64_t i = inner_end; i < run.count; i++) copy_part(i);
        }
      }
  }
}

}  // namespace
}  // namespace hominy::HOMINY_LEVEL
