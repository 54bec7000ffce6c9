// How tiles leave and reach memory: the transforms of conv_winograd_transform.hpp applied to images in either layout,
// and to weights. Vectors lie along channels.
#pragma once
#include "activation.hpp"
#include "conv_problem.hpp"
#include "conv_winograd_transform.hpp"
#include "matmul_tile.hpp"  // parts_of
#include "vector_math.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t max_columns = 34;  // of the image, transformed at a time

// The convolution as either direction has it: from `in` to `out`, padded by top and left.
struct direction {
  int64_t batch, in_channels, out_channels, in_height, in_width, out_height, out_width, top, left;
};
direction direction_of(bool input_gradient, const conv_shape& s) {
  if (input_gradient)
    return {s.batch, s.out_channels, s.in_channels,    s.out[1],        s.out[2],
            s.in[1], s.in[2],        2 - s.padding[1], 2 - s.padding[2]};
  return {s.batch, s.in_channels, s.out_channels, s.in[1], s.in[2], s.out[1], s.out[2], s.padding[1], s.padding[2]};
}

// ---- Segments: output tiles beside each other in one row of tiles ----

struct segment {
  int64_t image, y, x, tiles;  // y, x: of the first output
};
// Visits tiles [begin, end) of all images: visit(segment, number of its first tile - begin).
template <class Visit>
void for_segments(int m, const direction& d, int64_t begin, int64_t end, Visit visit) {
  const int64_t down = parts_of(d.out_height, m), across = parts_of(d.out_width, m), longest = (max_columns - 2) / m;
  for (int64_t t = begin; t < end;) {
    const int64_t left = minimum_of(across - t % across, end - t);
    const int64_t tiles = parts_of(left, parts_of(left, longest));
    visit(segment{t / across / down, t / across % down * m, t % across * m, tiles}, t - begin);
    t += tiles;
  }
}

// ---- Input ----

// What a segment's tiles read, channels in lanes: n rows of `width` columns, of which [begin, end) are there and the
// others zeros. The image itself, or a copy where that is not enough.
struct window {
  const char* data;
  int64_t row, column;  // strides
  int64_t begin, end, width;
};
template <class T>
using staged_inputs = T[(6 * max_columns + lanes<T>)*lanes<T>];

template <class T>
window window_of(int m, int halo, const direction& d, const conv_images& x, const segment& s, int64_t channel,
                 staged_inputs<T>& staged) {
  const int64_t n = m + halo, y0 = s.y - d.top, x0 = s.x - d.left, width = s.tiles * m + halo;
  const auto within = [](int64_t low, int64_t high, int64_t v) { return v < low ? low : v > high ? high : v; };
  const int64_t first = within(0, width, -x0), last = within(first, width, d.in_width - x0);
  const int64_t first_row = within(0, n, -y0), last_row = within(first_row, n, d.in_height - y0);
  const int64_t channels = d.in_channels - channel;
  const char* from = x.data + s.image * x.batch + channel * x.channel + y0 * x.space[1] + x0 * x.space[2];
  if (channels_together<T>(x) && channels >= lanes<T> && last_row - first_row == n)
    return {from, x.space[1], x.space[2], first, last, width};

  T* to = staged;
  for (int64_t y = 0; y < n; y++, from += x.space[1], to += width * lanes<T>) {
    if (y < first_row || y >= last_row) {
      memset(to + first * lanes<T>, 0, size_t((last - first) * vector_bytes));
    } else if (channels_together<T>(x)) {
      for (int64_t c = first; c < last; c++)
        store(to + c * lanes<T>,
              load_partial((const T*)(from + c * x.space[2]), minimum_of<int64_t>(lanes<T>, channels)));
    } else {
      for (int64_t next = first; next < last; next += lanes<T>) {
        // The last ones overlap those before, if there are any.
        const int64_t c = maximum_of(first, minimum_of(next, last - lanes<T>));
        const char* source = from + c * x.space[2];
        int64_t source_row = x.channel;
        alignas(64) T partial[lanes<T> * lanes<T>];
        if (last - c < lanes<T> || channels < lanes<T>) {
          for (int64_t i = 0; i < lanes<T>; i++)
            store(partial + i * lanes<T>, i < channels ? load_partial((const T*)(source + i * x.channel),
                                                                      minimum_of<int64_t>(lanes<T>, last - c))
                                                       : vec<T>{});
          source = (const char*)partial;
          source_row = vector_bytes;
        }
        vec<T> square[lanes<T>];
#pragma GCC unroll 16
        for (int i = 0; i < lanes<T>; i++) square[i] = load((const T*)(source + i * source_row));
        transpose<T>(square);
        // Beyond the last column there is room in the next row, or behind the last.
#pragma GCC unroll 16
        for (int i = 0; i < lanes<T>; i++) store(to + (c + i) * lanes<T>, square[i]);
      }
    }
  }
  return {(const char*)staged, width * vector_bytes, vector_bytes, first, last, width};
}

// B^T d B of `tiles` tiles beside each other, into planes[n n], each with a row for every tile.
template <class T, int m>
void transform_input(const window& w, int64_t tiles, char* planes, int64_t plane, int64_t row) {
  constexpr int n = m + 2;
  vec<T> columns[max_columns][n];
  memset(columns, 0, size_t(w.begin) * sizeof columns[0]);
  memset(columns + w.end, 0, size_t(w.width - w.end) * sizeof columns[0]);
  for (int64_t c = w.begin; c < w.end; c++) {
    vec<T> down[n];
#pragma GCC unroll 6
    for (int i = 0; i < n; i++) down[i] = load((const T*)(w.data + i * w.row + c * w.column));
    winograd<m>::input(down, columns[c]);
  }
  for (int64_t t = 0; t < tiles; t++, planes += row) {
    char* to = planes;
    for (int y = 0; y < n; y++) {
      vec<T> across[n], transformed[n];
#pragma GCC unroll 6
      for (int i = 0; i < n; i++) across[i] = columns[t * m + i][y];
      winograd<m>::input(across, transformed);
#pragma GCC unroll 6
      for (int i = 0; i < n; i++, to += plane) store((T*)to, transformed[i]);
    }
  }
}

// A out A^T of `tiles` tiles beside each other, as transform_input leaves them.
template <class T, int m>
void transform_gradient(const window& w, int64_t tiles, char* planes, int64_t plane, int64_t row) {
  constexpr int n = m + 2;
  for (int64_t t = 0; t < tiles; t++, planes += row) {
    vec<T> half[n][m];
    for (int x = 0; x < m; x++) {
      const int64_t c = t * m + x;
      vec<T> down[m], transformed[n];
#pragma GCC unroll 4
      for (int y = 0; y < m; y++)
        down[y] = c >= w.begin && c < w.end ? load((const T*)(w.data + y * w.row + c * w.column)) : vec<T>{};
      winograd<m>::gradient(down, transformed);
#pragma GCC unroll 6
      for (int y = 0; y < n; y++) half[y][x] = transformed[y];
    }
    char* to = planes;
    for (int y = 0; y < n; y++) {
      vec<T> transformed[n];
      winograd<m>::gradient(half[y], transformed);
#pragma GCC unroll 6
      for (int x = 0; x < n; x++, to += plane) store((T*)to, transformed[x]);
    }
  }
}

// ---- Output ----

// The outputs of a segment's tiles, for the channels of one vector, as the transform leaves them for the store.
template <class T>
using staged_outputs = vec<T>[4][max_columns];

// A^T products A, and the bias.
template <class T, int m>
void transform_output(int64_t tiles, const char* planes, int64_t plane, int64_t row, vec<T> bias,
                      staged_outputs<T>& staged) {
  constexpr int n = m + 2;
  for (int64_t t = 0; t < tiles; t++, planes += row) {
    vec<T> half[m][n];
    for (int x = 0; x < n; x++) {
      vec<T> down[n], transformed[m];
#pragma GCC unroll 6
      for (int y = 0; y < n; y++) down[y] = load((const T*)(planes + (y * n + x) * plane));
      winograd<m>::output(down, transformed);
#pragma GCC unroll 4
      for (int y = 0; y < m; y++) half[y][x] = transformed[y];
    }
    for (int y = 0; y < m; y++) {
      vec<T> transformed[m];
      winograd<m>::output(half[y], transformed);
#pragma GCC unroll 4
      for (int x = 0; x < m; x++) staged[y][t * m + x] = transformed[x] + bias;
    }
  }
}

// Adds the residual, applies the activation and stores `width` lanes of each of `count` vectors. Strides in bytes.
template <class T>
__attribute__((noinline)) void finish_outputs(T* x, int64_t count, int64_t width, const char* residual,
                                              int64_t residual_step, int64_t residual_lane,
                                              hominy_activation activation, char* out, int64_t out_step) {
  for (int64_t i = 0; residual && i < count; i++, residual += residual_step)
    if (residual_lane == int64_t(sizeof(T)))
      store(x + i * lanes<T>, load(x + i * lanes<T>) + load_partial((const T*)residual, width));
    else
      for (int64_t l = 0; l < width; l++) x[i * lanes<T> + l] += load_scalar<T>(residual + l * residual_lane);
  activate<T>(activation, (char*)x, vector_bytes, count, 1);
  for (int64_t i = 0; i < count; i++) store_lanes<T, true>(out + i * out_step, 0, load(x + i * lanes<T>), width);
}

// Adds the residual, applies the activation and stores, `some` positions or channels at a time as vectors along the
// other, which are neighbours in out.
template <class T>
void store_outputs(int m, const direction& d, const conv_store& after, const conv_images& out, const segment& s,
                   int64_t channel, const staged_outputs<T>& staged) {
  const conv_images& r = after.residual;
  const bool along_channels = channels_together<T>(out);
  const int64_t channels = minimum_of<int64_t>(lanes<T>, d.out_channels - channel);
  const int64_t rows = minimum_of<int64_t>(m, d.out_height - s.y), columns = minimum_of(s.tiles * m, d.out_width - s.x);
  const int64_t out_step = along_channels ? out.space[2] : out.channel;
  const int64_t residual_step = along_channels ? r.space[2] : r.channel;
  const int64_t residual_lane = along_channels ? r.channel : r.space[2];
  const bool relu = after.activation == HOMINY_ACTIVATION_RELU;
  const bool simple = !r.data && (relu || after.activation == HOMINY_ACTIVATION_NONE);
  const auto address = [&](const conv_images& x, int64_t y, int64_t column) {
    return x.data + s.image * x.batch + channel * x.channel + (s.y + y) * x.space[1] + (s.x + column) * x.space[2];
  };
  for (int64_t y = 0; y < rows; y++)
    for (int64_t next = 0; next < columns; next += lanes<T>) {
      // The last ones may overlap those before where nothing is added.
      const int64_t c = simple && columns >= lanes<T> ? minimum_of(next, columns - lanes<T>) : next;
      const int64_t positions = minimum_of<int64_t>(lanes<T>, columns - c);
      const int64_t count = along_channels ? positions : channels, width = along_channels ? channels : positions;
      vec<T> square[lanes<T>];
#pragma GCC unroll 16
      for (int i = 0; i < lanes<T>; i++) square[i] = staged[y][c + i];
      if (!along_channels) transpose<T>(square);
      char* const to = address(out, y, c);
      if (simple && count == lanes<T> && width == lanes<T>) {
#pragma GCC unroll 16
        for (int i = 0; i < lanes<T>; i++)
          store((T*)(to + i * out_step), relu ? at_least<T>(square[i], vec<T>{}) : square[i]);
        continue;
      }
      finish_outputs<T>((T*)square, count, width, r.data ? address(r, y, c) : nullptr, residual_step, residual_lane,
                        after.activation, to, out_step);
    }
}

// ---- Weights ----

// Transforms of weights are computed in double, whatever T: one rounding. Planes: (n, n).
typedef vec<double> wide;
template <int m, class F>  // store_plane(number, values), each as soon as it is known: 36 do not fit the registers
[[gnu::always_inline]] inline void transform_weights(const wide (&g)[9], F store_plane) {
  constexpr int n = m + 2;
  wide half[3][n];
#pragma GCC unroll 3
  for (int x = 0; x < 3; x++) winograd<m>::weights({g[x], g[3 + x], g[6 + x]}, half[x]);
#pragma GCC unroll 6
  for (int y = 0; y < n; y++) {
    wide t[n];
    winograd<m>::weights({half[0][y], half[1][y], half[2][y]}, t);
#pragma GCC unroll 6
    for (int x = 0; x < n; x++) store_plane(y * n + x, t[x] * (winograd<m>::scale[y] * winograd<m>::scale[x]));
  }
}
template <int m, class F>  // load_plane(number)
[[gnu::always_inline]] inline void transform_weights_gradient(F load_plane, wide (&g)[9]) {
  constexpr int n = m + 2;
  wide half[3][n];
#pragma GCC unroll 6
  for (int x = 0; x < n; x++) {
    wide down[n], transformed[3];
#pragma GCC unroll 6
    for (int y = 0; y < n; y++) down[y] = load_plane(y * n + x);
    winograd<m>::weights_gradient(down, transformed);
#pragma GCC unroll 3
    for (int y = 0; y < 3; y++) half[y][x] = transformed[y];
  }
#pragma GCC unroll 3
  for (int y = 0; y < 3; y++) {
    wide transformed[3];
    winograd<m>::weights_gradient(half[y], transformed);
#pragma GCC unroll 3
    for (int x = 0; x < 3; x++) g[y * 3 + x] = transformed[x];
  }
}

template <class T>
using narrow = typename short_vector<T, lanes<double>>::type;
template <class T>
inline wide widen(const char* p) {
  narrow<T> v;
  memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, wide);
}

// A block of weights, (rows of output channels, columns of input channels, 9), to or from a contiguous copy of it:
// lanes are far apart where they lie, and collide in the cache.
template <class T, bool back>
__attribute__((noinline)) void copy_weights(T* copy, int64_t copy_row, const conv_weights& w, int64_t row,
                                            int64_t column, int64_t rows, int64_t columns) {
  constexpr int64_t size = sizeof(T);
  const bool contiguous = w.in == 9 * size && w.space[1] == 3 * size && w.space[2] == size;
  for (int64_t o = 0; o < rows; o++, copy += copy_row) {
    char* const from = w.data + (row + o) * w.out + column * w.in;
    if (contiguous) {
      if constexpr (back)
        copy_elements((T*)from, copy, columns * 9);
      else
        copy_elements(copy, (const T*)from, columns * 9, columns * 9 * size);  // and the next columns come nearer
      continue;
    }
    for (int64_t c = 0; c < columns; c++)
      for (int t = 0; t < 9; t++) {
        char* const p = from + c * w.in + t / 3 * w.space[1] + t % 3 * w.space[2];
        memcpy(back ? p : (char*)(copy + c * 9 + t), back ? (char*)(copy + c * 9 + t) : p, sizeof(T));
      }
  }
}

}  // namespace
}  // namespace hominy::HOMINY_LEVEL
