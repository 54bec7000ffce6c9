// The loops of depthwise convolution, for kernels of 3x3 and 5x5 and strides of 1 and 2.
//
// Rows (NCHW): some rows of one plane at once, one vector wide. A row that they read meets all rows of the kernel; the
// weights are scalars. At a row's ends loads are partial.
//
// Channels (channels-last): down a few columns, one vector of channels deep. A position is loaded once and meets all
// taps: the sums of as many rows as it belongs to move up through the registers. The weights are vectors, arranged in
// scratch. Columns in the padding are read from zeros in scratch.
#pragma once
#include "activation.hpp"
#include "conv_problem.hpp"
#include "lane_access.hpp"
#include "vector_math.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr bool many_registers = vector_registers == 32;

// A plane of an image, or with channels-last all of its channels; strides in bytes.
struct plane_of {
  char* data;
  int64_t rows, columns, row, column;
  char* at(int64_t y, int64_t x) const { return data + y * row + x * column; }
};

// What a kernel works on: a plane, or all channels of an image.
template <class T>
struct operands {
  const T *weights, *bias;
  const char* zeros;  // a row of `from`, or the channels of a position
  int64_t channels;
  plane_of from, to, residual;  // residual.data: NULL where there is none
  int64_t padding[2];
  hominy_activation activation;
  T least;         // of results: 0 for ReLU, else -infinity
  bool streaming;  // whole vectors of results are aligned, and go past the caches
  bool plain() const {
    return !residual.data && (activation == HOMINY_ACTIVATION_NONE || activation == HOMINY_ACTIVATION_RELU);
  }
};

// ---- Lanes ----------------------------------------------------------------------------------------------------------

template <class T, int... l>
inline vec<T> shuffle_lanes(vec<T> a, [[maybe_unused]] vec<T> b, index_list<l...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, l...);
#else
  return __builtin_shuffle(a, b, mask_vec<T>{l...});
#endif
}
// Every second lane of a and then b, from `s` on.
template <class T, int s, int... l>
inline vec<T> every_second(vec<T> a, vec<T> b, index_list<l...>) {
  return shuffle_lanes<T>(a, b, index_list<(2 * l + s)...>{});
}
// a and b in turn: the first (half 0) or second vector of that.
template <class T, int half, int... l>
inline vec<T> in_turn(vec<T> a, vec<T> b, index_list<l...>) {
  return shuffle_lanes<T>(a, b, index_list<((l + half * lanes<T>) / 2 + (l & 1) * lanes<T>)...>{});
}
// What is loaded stays in a register: GCC would load it again for every use, and loads, those across cache lines above
// all, are then slower than the arithmetic.
template <class V>
inline void hold([[maybe_unused]] V& v) {
#if defined(__SSE2__)
  asm("" : "+v"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
}

inline void hold_address([[maybe_unused]] const char*& p) {
#if defined(__GNUC__)
  asm("" : "+r"(p));  // nor are sums of it worked out ahead, and spilled
#endif
}

template <class T>
using all_lanes_of = typename indices_below<lanes<T>>::type;

// Moves a vector's first lanes up by s, zeros below.
template <class T>
struct lane_mover {
  mask_vec<T> from;
  explicit lane_mover(int64_t s) {
    for (int l = 0; l < lanes<T>; ++l) from[l] = l;
    from -= typename integer_of<T>::type(s);  // negative: a lane of the zeros
  }
  vec<T> operator()(vec<T> v) const {
#if defined(__clang__)
    vec<T> moved{};
    for (int l = 0; l < lanes<T>; ++l)
      if (from[l] >= 0) moved[l] = v[from[l]];
    return moved;
#else
    return __builtin_shuffle(v, vec<T>{}, from);
#endif
  }
};

template <class T>
inline vec<T> load_some(const char* p, int64_t n) {
  if (vector_bytes < 64 && n == lanes<T>) return load(reinterpret_cast<const T*>(p));
  return load_partial(reinterpret_cast<const T*>(p), n);
}
template <class T>
inline void store_some(char* p, vec<T> v, int64_t n) {
  if (n == lanes<T>) return store(reinterpret_cast<T*>(p), v);
  store_partial(reinterpret_cast<T*>(p), v, n);
}

template <class T>
inline void store_result(const operands<T>& o, char* p, vec<T> v, int64_t n) {
  if (o.streaming && n == lanes<T>) return store_streaming(p, (vec<int8_t>)v);
  store_some<T>(p, v, n);
}

// A vector's place in rows of `size` elements, zeros outside them.
template <class T>
struct window {
  int64_t at, n, left;
  window(int64_t first, int64_t size) {
    left = first < 0 ? minimum_of<int64_t>(-first, lanes<T>) : 0;
    n = maximum_of<int64_t>(0, minimum_of<int64_t>(lanes<T> - left, size - first - left));
    at = n > 0 ? (first + left) * int64_t(sizeof(T)) : 0;
  }
};

// Taps of `lanes` neighbours, `stride` elements apart: taps[t] lane l is row[first + l stride + t].
template <class T, int kernel, int stride>
struct row_taps {
  static constexpr int count = stride == 1 ? kernel : (kernel + 1) / 2 * 2;
  window<T> windows[count];
  lane_mover<T> movers[count];

  row_taps(int64_t first, int64_t size) : row_taps(first, size, typename indices_below<count>::type{}) {}
  void load(const char* row, vec<T> (&taps)[kernel]) const {
    hold_address(row);
    vec<T> v[count];
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) v[i] = load_some<T>(row + windows[i].at, windows[i].n);
    if (windows[0].left > 0)
#pragma GCC unroll 8
      for (int i = 0; i < count; ++i)
        if (i == 0 || windows[i].left > 0) v[i] = movers[i](v[i]);
#pragma GCC unroll 8
    for (int t = 0; t < kernel; ++t) {
      if constexpr (stride == 1)
        taps[t] = v[t];
      else
        taps[t] = t % 2 == 0 ? every_second<T, 0>(v[t], v[t + 1], all_lanes_of<T>{})
                             : every_second<T, 1>(v[t - 1], v[t], all_lanes_of<T>{});
      hold(taps[t]);
    }
  }

 private:
  template <int... i>  // of stride 2 a pair of windows, side by side, for every other tap
  row_taps(int64_t first, int64_t size, index_list<i...>)
      : windows{{first + (stride == 1 ? i : i / 2 * 2 + i % 2 * lanes<T>), size}...},
        movers{lane_mover<T>(windows[i].left)...} {}
};

// The rows of sources from y on.
template <class T, int count>
struct source_rows {
  const char* at[count];
  source_rows(const operands<T>& o, int64_t y) {
    const char *from = o.from.at(y, 0), *const zeros = o.zeros;
    const int64_t row = o.from.row;
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i, from += row) at[i] = uint64_t(y + i) < uint64_t(o.from.rows) ? from : zeros;
  }
};

// What is added to `rows` x `columns` results at (y, x), (y, x + 1), ..., (y + step, x), ... and stores the first n
// lanes of each.
template <class T>
__attribute__((noinline)) void finish(const operands<T>& o, T* tile, int64_t y, int64_t step, int64_t x, int64_t offset,
                                      int64_t rows, int64_t columns, int64_t pitch, int64_t n) {
  const auto for_results = [&](auto f) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c) f(tile + (r * pitch + c) * lanes<T>, y + r * step, x + c);
  };
  if (o.residual.data)
    for_results([&](T* result, int64_t row, int64_t column) {
      store(result, load(result) + load_some<T>(o.residual.at(row, column) + offset, n));
    });
  activate<T>(o.activation, reinterpret_cast<char*>(tile), vector_bytes, rows * pitch, 1);
  for_results(
      [&](T* result, int64_t row, int64_t column) { store_some<T>(o.to.at(row, column) + offset, load(result), n); });
}

// ---- Rows -----------------------------------------------------------------------------------------------------------

// A vector of each of `most` rows y, y + step, ..., `rows` of which exist.
template <class T, int most>
inline void store_rows(const operands<T>& o, const vec<T> (&sum)[most], int64_t y, int64_t step, int64_t x,
                       int64_t rows) {
  const int64_t n = minimum_of<int64_t>(lanes<T>, o.to.columns - x);
  if (o.plain()) {
    char* to = o.to.at(y, x);
    const vec<T> least = broadcast(o.least);
    const int64_t pitch = step * o.to.row;
#pragma GCC unroll 8
    for (int r = 0; r < most; ++r, to += pitch)
      if (r < rows) store_result<T>(o, to, at_least<T>(sum[r], least), n);
  } else {
    T tile[most * lanes<T>];
#pragma GCC unroll 8
    for (int r = 0; r < most; ++r) store(tile + r * lanes<T>, sum[r]);
    finish(o, tile, y, step, x, 0, minimum_of<int64_t>(rows, most), 1, 1, n);
  }
}

constexpr int rows_of_block = many_registers ? 7 : 4;  // 7 divides the sizes that 224 is halved to

constexpr int64_t rows_of_band = 28, rows_of_walk = 56;  // along rows, and along channels

// Rows [begin, end).
template <class T, int kernel, int stride>
void row_band(const operands<T>& o, int64_t begin, int64_t end, int64_t, int64_t) {
  constexpr int sources = (rows_of_block - 1) * stride + kernel;
  for (int64_t x0 = 0; x0 < o.to.columns; x0 += lanes<T>) {
    const row_taps<T, kernel, stride> windows(x0 * stride - o.padding[1], o.from.columns);
    for (int64_t y0 = begin; y0 < end; y0 += rows_of_block) {
      const source_rows<T, sources> from(o, y0 * stride - o.padding[0]);
#pragma GCC unroll 16
      for (int r = 0; r < rows_of_block; ++r) {  // the next band's, or the next plane's
        const char* source = from.at[kernel - stride + r * stride] + (end - begin) * stride * o.from.row;
        __builtin_prefetch(source + x0 * stride * int64_t(sizeof(T)));
        if (stride == 2) __builtin_prefetch(source + o.from.row + x0 * stride * int64_t(sizeof(T)));
        if (!o.streaming) __builtin_prefetch(o.to.at(y0 + r + end - begin, x0), 1);
      }
      vec<T> sum[rows_of_block];
#pragma GCC unroll 8
      for (int r = 0; r < rows_of_block; ++r) sum[r] = broadcast(*o.bias);
#pragma GCC unroll 32
      for (int i = 0; i < sources; ++i) {
        vec<T> taps[kernel];
        windows.load(from.at[i], taps);
#pragma GCC unroll 8
        for (int r = 0; r < rows_of_block; ++r) {
          const int t = i - r * stride;
          if (t >= 0 && t < kernel)
#pragma GCC unroll 8
            for (int u = 0; u < kernel; ++u) sum[r] += o.weights[t * kernel + u] * taps[u];
        }
      }
      store_rows<T>(o, sum, y0, 1, x0, o.to.rows - y0);
    }
  }
}

// The input gradient of stride 2, padding kernel / 2: rows 2 (j0 + r) + e and columns 2 (k0 + lane) + f of the result.
// Such a row is made of the taps t of e + padding's parity, from the gradient's rows j0 + r + (e + padding - t) / 2.
constexpr int rows_of_halves = many_registers ? 4 : 2;
template <class T, int kernel>
void row_band_halves(const operands<T>& o, int64_t begin, int64_t end, int64_t, int64_t) {
  constexpr int padding = kernel / 2, before = padding - 1, sources = before + 2, rows = rows_of_halves;
  for (int64_t k0 = 0; 2 * k0 < o.to.columns; k0 += lanes<T>) {
    const row_taps<T, sources, 1> windows(k0 - before, o.from.columns);
    for (int64_t j0 = begin / 2; 2 * j0 < end; j0 += rows) {
      const source_rows<T, rows - 1 + sources> from(o, j0 - before);
      vec<T> sum[2][2][rows];  // [e][f][r]
#pragma GCC unroll 16
      for (int i = 0; i < 4 * rows; ++i) sum[i & 1][i >> 1 & 1][i >> 2] = broadcast(*o.bias);
#pragma GCC unroll 8
      for (int i = 0; i < rows - 1 + sources; ++i) {
        vec<T> taps[sources];
        windows.load(from.at[i], taps);
#pragma GCC unroll 16
        for (int er = 0; er < 2 * rows; ++er) {
          const int t = er % 2 + padding - 2 * (i - before - er / 2);
          if (t >= 0 && t < kernel)
#pragma GCC unroll 8
            for (int fs = 0; fs < 2 * sources; ++fs) {
              const int u = fs % 2 + padding - 2 * (fs / 2 - before);
              if (u >= 0 && u < kernel) sum[er % 2][fs % 2][er / 2] += o.weights[t * kernel + u] * taps[fs / 2];
            }
        }
      }
#pragma GCC unroll 2
      for (int e = 0; e < 2; ++e) {
        vec<T> half[2][rows];
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
          half[0][r] = in_turn<T, 0>(sum[e][0][r], sum[e][1][r], all_lanes_of<T>{});
          half[1][r] = in_turn<T, 1>(sum[e][0][r], sum[e][1][r], all_lanes_of<T>{});
        }
        const int64_t left = (o.to.rows - 2 * j0 - e + 1) / 2, x = 2 * k0;
        store_rows<T>(o, half[0], 2 * j0 + e, 2, x, left);
        if (x + lanes<T> < o.to.columns) store_rows<T>(o, half[1], 2 * j0 + e, 2, x + lanes<T>, left);
      }
    }
  }
}

// The weight gradient of one plane: sums[t][u] += gradient . what tap (t, u) reads, lane by lane. `o.to`: the gradient.
template <class T, int kernel, int stride>
void row_products(const operands<T>& o, T* sums) {
  constexpr int rows = many_registers ? (kernel == 3 ? 7 : 3) : 2, sources = (rows - 1) * stride + kernel;
  vec<T> sum[kernel * kernel];
#pragma GCC unroll 32
  for (int i = 0; i < kernel * kernel; ++i) sum[i] = load(sums + i * lanes<T>);
  for (int64_t x0 = 0; x0 < o.to.columns; x0 += lanes<T>) {
    const int64_t n = minimum_of<int64_t>(lanes<T>, o.to.columns - x0);
    const mask_vec<T> real = first_lanes<T>(n);
    const row_taps<T, kernel, stride> windows(x0 * stride - o.padding[1], o.from.columns);
    for (int64_t y0 = 0; y0 < o.to.rows; y0 += rows) {
      const int64_t down = o.to.rows - y0;
      const source_rows<T, sources> from(o, y0 * stride - o.padding[0]);
      vec<T> gradient[rows];
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) gradient[r] = r < down ? load_some<T>(o.to.at(y0 + r, x0), n) : vec<T>{};
#pragma GCC unroll 32
      for (int i = 0; i < sources; ++i) {
        vec<T> taps[kernel];
        windows.load(from.at[i], taps);
        if (n < lanes<T>)  // where the gradient has no element, an infinite one must not meet a zero
#pragma GCC unroll 8
          for (int u = 0; u < kernel; ++u) taps[u] = select<T>(real, taps[u], vec<T>{});
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
          const int t = i - r * stride;
          if (t >= 0 && t < kernel && r < down)
#pragma GCC unroll 8
            for (int u = 0; u < kernel; ++u) sum[t * kernel + u] += gradient[r] * taps[u];
        }
      }
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < kernel * kernel; ++i) store(sums + i * lanes<T>, sum[i]);
}

// ---- Channels -------------------------------------------------------------------------------------------------------

// Where the positions of a tile of sources lie.
template <class T, int rows, int columns>
struct source_tile {
  const char* at[rows][columns];
  source_tile(const operands<T>& o, int64_t y, int64_t x0) {
#pragma GCC unroll 1
    for (int i = 0; i < rows; ++i, ++y) {
      const bool exists = uint64_t(y) < uint64_t(o.from.rows);
#pragma GCC unroll 1
      for (int j = 0; j < columns; ++j) {
        const int64_t x = x0 + j;
        at[i][j] = exists && uint64_t(x) < uint64_t(o.from.columns) ? o.from.at(y, x) : o.zeros;
      }
    }
  }
};

// Calls f(channel, its offset in bytes, the first of its taps) for vectors of channels, of which there is at least one;
// the last vector overlaps the one before it rather than be partial.
template <class T, class Tap, class F>
inline void for_channels(int64_t channels, Tap* taps, int64_t kernel_size, F f) {
  for (int64_t c = 0; c < channels; c += lanes<T>, taps += kernel_size * lanes<T>) {
    const int64_t channel = minimum_of<int64_t>(c, channels - lanes<T>);
    f(channel, channel * int64_t(sizeof(T)), taps);
  }
}

template <class T, int rows, int columns>
inline void store_tile(const operands<T>& o, const vec<T> (&sum)[rows][columns], int64_t y0, int64_t x0,
                       int64_t offset) {
  const int64_t down = o.to.rows - y0, across = o.to.columns - x0;
  if (o.plain()) {
    const vec<T> least = broadcast(o.least);
    const int64_t pitch = o.to.column;
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      char* to = o.to.at(y0 + r, x0) + offset;
#pragma GCC unroll 8
      for (int c = 0; c < columns; ++c, to += pitch)
        if (r < down && c < across) store_result<T>(o, to, at_least<T>(sum[r][c], least), lanes<T>);
    }
  } else {
    T tile[rows * columns * lanes<T>];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int c = 0; c < columns; ++c) store(tile + (r * columns + c) * lanes<T>, sum[r][c]);
    finish(o, tile, y0, 1, x0, offset, minimum_of<int64_t>(rows, down), minimum_of<int64_t>(columns, across), columns,
           lanes<T>);
  }
}

// How many columns go down together, by the rows of sums that a position belongs to.
constexpr int columns_down(int sums, int stride) {
  return !many_registers ? (sums > 3 ? 2 : 4) : sums > 3 || stride > 1 ? 4 : 7;
}
template <int kernel, int stride>
constexpr int sums_of = (kernel + stride - 1) / stride;

// Where columns x, x + 1, ... of sources lie, and how far it is to the next row.
template <class T, int count>
struct source_columns {
  const char* at[count];
  int64_t row[count];
  source_columns(const operands<T>& o, int64_t y, int64_t x) {
#pragma GCC unroll 1
    for (int j = 0; j < count; ++j, ++x) {
      const bool exists = uint64_t(x) < uint64_t(o.from.columns);
      at[j] = exists ? o.from.at(y, x) : o.zeros;
      row[j] = exists ? o.from.row : 0;
    }
  }
  void next_row() {
#pragma GCC unroll 32
    for (int j = 0; j < count; ++j) at[j] += row[j];
  }
};

// Rows [y0, end) of some columns. Of the `stride` rows of sources that a step reads, row s is tap
// kernel - stride + s - q stride of result y + q; the first steps are for results before y0, which nobody wants.
template <class T, int kernel, int stride>
void channels_down(const operands<T>& o, int64_t y0, int64_t end, int64_t x0) {
  constexpr int sums = sums_of<kernel, stride>, columns = columns_down(sums, stride),
                across = (columns - 1) * stride + kernel;
  const int64_t begin = y0 - (sums - 1), top = begin * stride + kernel - stride - o.padding[0];
  const source_columns<T, across> beginning(o, top, x0 * stride - o.padding[1]);
  for_channels<T>(o.channels, o.weights, kernel * kernel, [&](int64_t channel, int64_t offset, const T* weights) {
    source_columns<T, across> from = beginning;
    vec<T> sum[sums][columns];
#pragma GCC unroll 32
    for (int i = 0; i < sums * columns; ++i) sum[i / columns][i % columns] = load(o.bias + channel);
    int64_t source = top;
    for (int64_t y = begin; y < end; ++y) {
#pragma GCC unroll 2
      for (int s = 0; s < stride; ++s, ++source) {
        if (uint64_t(source) < uint64_t(o.from.rows))
#pragma GCC unroll 32
          for (int j = 0; j < across; ++j) {
            const char* at = from.at[j] + offset;
            vec<T> x = load(reinterpret_cast<const T*>(at));
            hold(x);
            if (kernel == 3 && o.streaming)
              __builtin_prefetch(at + 2 * from.row[j]);  // so many sources come from memory
#pragma GCC unroll 32
            for (int i = 0; i < sums * columns; ++i) {
              const int q = i / columns, c = i % columns, t = kernel - stride + s - q * stride, u = j - c * stride;
              if (t >= 0 && u >= 0 && u < kernel) sum[q][c] += load(weights + (t * kernel + u) * lanes<T>) * x;
            }
          }
        from.next_row();
      }
      if (y >= y0) {
        vec<T> done[1][columns];
#pragma GCC unroll 8
        for (int c = 0; c < columns; ++c) done[0][c] = sum[0][c];
        store_tile<T>(o, done, y, x0, offset);
      }
#pragma GCC unroll 32
      for (int i = 0; i < sums * columns; ++i)
        sum[i / columns][i % columns] =
            i / columns + 1 < sums ? sum[(i / columns + 1) % sums][i % columns] : load(o.bias + channel);
    }
  });
}

// Rows [y, end) of columns [x, last).
template <class T, int kernel, int stride>
void channel_band(const operands<T>& o, int64_t y, int64_t end, int64_t x, int64_t last) {
  for (; x < last; x += columns_down(sums_of<kernel, stride>, stride)) channels_down<T, kernel, stride>(o, y, end, x);
}

// As row_band_halves: rows 2 j0, 2 j0 + 1 and columns from 2 k0 on.
constexpr int columns_of_halves = many_registers ? 4 : 2;
template <class T, int kernel>
void channel_tile_halves(const operands<T>& o, int64_t j0, int64_t k0) {
  constexpr int padding = kernel / 2, before = padding - 1, sources = before + 2, columns = 2 * columns_of_halves;
  constexpr int across = columns_of_halves - 1 + sources;
  const source_tile<T, sources, across> from(o, j0 - before, k0 - before);
  for_channels<T>(o.channels, o.weights, kernel * kernel, [&](int64_t channel, int64_t offset, const T* weights) {
    vec<T> sum[2][columns];
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r)
#pragma GCC unroll 8
      for (int c = 0; c < columns; ++c) sum[r][c] = load(o.bias + channel);
#pragma GCC unroll 4
    for (int i = 0; i < sources; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < across; ++j) {
        const vec<T> x = load(reinterpret_cast<const T*>(from.at[i][j] + offset));
#pragma GCC unroll 2
        for (int r = 0; r < 2; ++r)
#pragma GCC unroll 8
          for (int c = 0; c < columns; ++c) {
            const int t = r + padding - 2 * (i - before), u = c + padding - 2 * (j - before);
            if (t >= 0 && t < kernel && u >= 0 && u < kernel)
              sum[r][c] += load(weights + (t * kernel + u) * lanes<T>) * x;
          }
      }
    store_tile<T>(o, sum, 2 * j0, 2 * k0, offset);
  });
}

template <class T, int kernel>
void channel_band_halves(const operands<T>& o, int64_t y, int64_t end, int64_t x, int64_t last) {
  for (int64_t j = y / 2; 2 * j < end; ++j)
    for (int64_t k = x / 2; 2 * k < last; k += columns_of_halves) channel_tile_halves<T, kernel>(o, j, k);
}

// The weight gradient of rows [y0, end) of `columns` columns, all of which exist: sums[tap] of every channel.
template <class T, int kernel, int stride, int columns>
void channel_products(const operands<T>& o, int64_t y0, int64_t end, int64_t x0, T* sums_of_channels) {
  constexpr int sums = sums_of<kernel, stride>, across = (columns - 1) * stride + kernel;
  const int64_t begin = y0 - (sums - 1), top = begin * stride + kernel - stride - o.padding[0];
  const source_columns<T, across> beginning(o, top, x0 * stride - o.padding[1]);
  for_channels<T>(o.channels, sums_of_channels, kernel * kernel, [&](int64_t, int64_t offset, T* to) {
    source_columns<T, across> from = beginning;
    vec<T> sum[kernel * kernel], gradient[sums][columns] = {};
#pragma GCC unroll 32
    for (int i = 0; i < kernel * kernel; ++i) sum[i] = load(to + i * lanes<T>);
    int64_t source = top;
    for (int64_t y = begin; y < end; ++y) {
      const char* at = o.to.at(y + sums - 1, x0) + offset;
#pragma GCC unroll 32
      for (int i = 0; i < sums * columns; ++i) {
        if (i / columns + 1 < sums)
          gradient[i / columns][i % columns] = gradient[(i / columns + 1) % sums][i % columns];
        else if (y + sums - 1 < end)
          gradient[i / columns][i % columns] = load(reinterpret_cast<const T*>(at + i % columns * o.to.column));
      }
#pragma GCC unroll 2
      for (int s = 0; s < stride; ++s, ++source) {
        if (uint64_t(source) < uint64_t(o.from.rows))
#pragma GCC unroll 8
          for (int q = 0; q < sums; ++q) {
            const int t = kernel - stride + s - q * stride;
            if (t >= 0 && y + q >= y0 && y + q < end)
#pragma GCC unroll 32
              for (int j = 0; j < across; ++j) {
                const vec<T> x = load(reinterpret_cast<const T*>(from.at[j] + offset));
#pragma GCC unroll 8
                for (int c = 0; c < columns; ++c) {
                  const int u = j - c * stride;
                  if (u >= 0 && u < kernel) sum[t * kernel + u] += gradient[q][c] * x;
                }
              }
          }
        from.next_row();
      }
    }
#pragma GCC unroll 32
    for (int i = 0; i < kernel * kernel; ++i) store(to + i * lanes<T>, sum[i]);
  });
}

}  // namespace
}  // namespace hominy::HOMINY_LEVEL
