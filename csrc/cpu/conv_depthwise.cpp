// Rows (NCHW): some rows of one plane at once, one vector wide. A row that they read meets all rows of the kernel; the
// weights are scalars. At a row's ends loads are partial.
//
// Channels (channels-last): down a few columns, one vector of channels deep. A position is loaded once and meets all
// taps: the sums of as many rows as it belongs to move up through the registers. The weights are vectors, arranged in
// scratch. Columns in the padding are read from zeros in scratch.
#include "conv_depthwise.hpp"

#include "activation.hpp"
#include "conv_grouped.hpp"
#include "dimensions.hpp"
#include "lane_access.hpp"
#include "parallel_for.hpp"
#include "vector_math.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t elements_per_task = 16384, most_tasks = 64, most_parts = 16;
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
  T least;  // of results: 0 for ReLU, else -infinity
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

// v's first lanes, moved up by s; zeros below.
template <class T>
inline vec<T> move_up(vec<T> v, int64_t s) {
#if defined(__clang__)
  vec<T> moved{};
  for (int64_t l = s; l < lanes<T>; ++l) moved[l] = v[l - s];
  return moved;
#else
  mask_vec<T> lane;
  for (int l = 0; l < lanes<T>; ++l) lane[l] = l;
  return __builtin_shuffle(v, vec<T>{}, lane - typename integer_of<T>::type(s));  // negative: a lane of the zeros
#endif
}

template <class T>
inline vec<T> load_some(const char* p, int64_t n) {
  if (vector_bytes < 64 && n == lanes<T>) return load(reinterpret_cast<const T*>(p));
  return load_partial(reinterpret_cast<const T*>(p), n);
}
template <class T>
inline void store_some(char* p, vec<T> v, int64_t n) {
  if (vector_bytes < 64 && n == lanes<T>) return store(reinterpret_cast<T*>(p), v);
  store_partial(reinterpret_cast<T*>(p), v, n);
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

  row_taps(int64_t first, int64_t size) : row_taps(first, size, typename indices_below<count>::type{}) {}
  void load(const char* row, vec<T> (&taps)[kernel]) const {
    hold_address(row);
    vec<T> v[count];
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) v[i] = load_some<T>(row + windows[i].at, windows[i].n);
    if (windows[0].left > 0)
#pragma GCC unroll 8
      for (int i = 0; i < count; ++i)
        if (windows[i].left > 0) v[i] = move_up<T>(v[i], windows[i].left);
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
      : windows{{first + (stride == 1 ? i : i / 2 * 2 + i % 2 * lanes<T>), size}...} {}
};

// The rows of sources from y on.
template <class T, int count>
struct source_rows {
  const char* at[count];
  source_rows(const operands<T>& o, int64_t y) {
#pragma GCC unroll 1
    for (int i = 0; i < count; ++i, ++y) at[i] = uint64_t(y) < uint64_t(o.from.rows) ? o.from.at(y, 0) : o.zeros;
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
      if (r < rows) store_some<T>(to, at_least<T>(sum[r], least), n);
  } else {
    T tile[most * lanes<T>];
#pragma GCC unroll 8
    for (int r = 0; r < most; ++r) store(tile + r * lanes<T>, sum[r]);
    finish(o, tile, y, step, x, 0, minimum_of<int64_t>(rows, most), 1, 1, n);
  }
}

constexpr int rows_of_block = many_registers ? 7 : 4;  // 7 divides the sizes that 224 is halved to

// Rows [y0, y0 + rows_of_block).
template <class T, int kernel, int stride>
void row_band(const operands<T>& o, int64_t y0) {
  constexpr int sources = (rows_of_block - 1) * stride + kernel;
  const source_rows<T, sources> from(o, y0 * stride - o.padding[0]);
  for (int64_t x0 = 0; x0 < o.to.columns; x0 += lanes<T>) {
    const row_taps<T, kernel, stride> windows(x0 * stride - o.padding[1], o.from.columns);
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

// The input gradient of stride 2, padding kernel / 2: rows 2 (j0 + r) + e and columns 2 (k0 + lane) + f of the result.
// Such a row is made of the taps t of e + padding's parity, from the gradient's rows j0 + r + (e + padding - t) / 2.
constexpr int rows_of_halves = many_registers ? 4 : 2;
template <class T, int kernel>
void row_band_halves(const operands<T>& o, int64_t y0) {
  const int64_t j0 = y0 / 2;
  constexpr int padding = kernel / 2, before = padding - 1, sources = before + 2, rows = rows_of_halves;
  const source_rows<T, rows - 1 + sources> from(o, j0 - before);
  for (int64_t k0 = 0; 2 * k0 < o.to.columns; k0 += lanes<T>) {
    const row_taps<T, sources, 1> windows(k0 - before, o.from.columns);
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

// The weight gradient of one plane: sums[t][u] += gradient . what tap (t, u) reads, lane by lane. `o.to`: the gradient.
template <class T, int kernel, int stride>
void row_products(const operands<T>& o, T* sums) {
  constexpr int rows = many_registers ? (kernel == 3 ? 7 : 3) : 2, sources = (rows - 1) * stride + kernel;
  vec<T> sum[kernel * kernel];
#pragma GCC unroll 32
  for (int i = 0; i < kernel * kernel; ++i) sum[i] = load(sums + i * lanes<T>);
  for (int64_t y0 = 0; y0 < o.to.rows; y0 += rows) {
    const source_rows<T, sources> from(o, y0 * stride - o.padding[0]);
    for (int64_t x0 = 0; x0 < o.to.columns; x0 += lanes<T>) {
      const int64_t n = minimum_of<int64_t>(lanes<T>, o.to.columns - x0), down = o.to.rows - y0;
      const mask_vec<T> real = first_lanes<T>(n);
      const row_taps<T, kernel, stride> windows(x0 * stride - o.padding[1], o.from.columns);
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

// Calls f(first channel, byte offset, how many of a vector) for all vectors of channels.
template <class T, class F>
inline void for_channels(int64_t channels, F f) {
  for (int64_t c = 0; c < channels; c += lanes<T>)
    f(c, c * int64_t(sizeof(T)), minimum_of<int64_t>(lanes<T>, channels - c));
}

template <class T, int rows, int columns>
inline void store_tile(const operands<T>& o, const vec<T> (&sum)[rows][columns], int64_t y0, int64_t x0, int64_t offset,
                       int64_t width) {
  const int64_t down = o.to.rows - y0, across = o.to.columns - x0;
  if (o.plain()) {
    const vec<T> least = broadcast(o.least);
    const int64_t pitch = o.to.column;
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      char* to = o.to.at(y0 + r, x0) + offset;
#pragma GCC unroll 8
      for (int c = 0; c < columns; ++c, to += pitch)
        if (r < down && c < across) store_some<T>(to, at_least<T>(sum[r][c], least), width);
    }
  } else {
    T tile[rows * columns * lanes<T>];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int c = 0; c < columns; ++c) store(tile + (r * columns + c) * lanes<T>, sum[r][c]);
    finish(o, tile, y0, 1, x0, offset, minimum_of<int64_t>(rows, down), minimum_of<int64_t>(columns, across), columns,
           width);
  }
}

// How many columns go down together, by the rows of sums that a position belongs to.
constexpr int columns_down(int sums) { return many_registers ? (sums > 3 ? 4 : 7) : sums > 3 ? 2 : 4; }
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
  constexpr int sums = sums_of<kernel, stride>, columns = columns_down(sums), across = (columns - 1) * stride + kernel;
  const int64_t begin = y0 - (sums - 1), top = begin * stride + kernel - stride - o.padding[0];
  const source_columns<T, across> beginning(o, top, x0 * stride - o.padding[1]);
  for_channels<T>(o.channels, [&](int64_t channel, int64_t offset, int64_t width) {
    const T* const weights = o.weights + channel * kernel * kernel;
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
            vec<T> x = load_some<T>(at, width);
            hold(x);
            __builtin_prefetch(at + 2 * from.row[j]);
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
        store_tile<T>(o, done, y, x0, offset, width);
      }
#pragma GCC unroll 32
      for (int i = 0; i < sums * columns; ++i)
        sum[i / columns][i % columns] =
            i / columns + 1 < sums ? sum[(i / columns + 1) % sums][i % columns] : load(o.bias + channel);
    }
  });
}

constexpr int64_t rows_down = 28;
template <class T, int kernel, int stride>
void channel_band(const operands<T>& o, int64_t y) {
  const int64_t end = minimum_of(y + rows_down, o.to.rows);
  for (int64_t x = 0; x < o.to.columns; x += columns_down(sums_of<kernel, stride>))
    channels_down<T, kernel, stride>(o, y, end, x);
}

// As row_band_halves: rows 2 j0, 2 j0 + 1 and columns from 2 k0 on.
constexpr int columns_of_halves = many_registers ? 4 : 2;
template <class T, int kernel>
void channel_tile_halves(const operands<T>& o, int64_t j0, int64_t k0) {
  constexpr int padding = kernel / 2, before = padding - 1, sources = before + 2, columns = 2 * columns_of_halves;
  constexpr int across = columns_of_halves - 1 + sources;
  const source_tile<T, sources, across> from(o, j0 - before, k0 - before);
  for_channels<T>(o.channels, [&](int64_t channel, int64_t offset, int64_t width) {
    const T* const weights = o.weights + channel * kernel * kernel;
    vec<T> sum[2][columns];
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r)
#pragma GCC unroll 8
      for (int c = 0; c < columns; ++c) sum[r][c] = load(o.bias + channel);
#pragma GCC unroll 4
    for (int i = 0; i < sources; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < across; ++j) {
        const vec<T> x = load_some<T>(from.at[i][j] + offset, width);
#pragma GCC unroll 2
        for (int r = 0; r < 2; ++r)
#pragma GCC unroll 8
          for (int c = 0; c < columns; ++c) {
            const int t = r + padding - 2 * (i - before), u = c + padding - 2 * (j - before);
            if (t >= 0 && t < kernel && u >= 0 && u < kernel)
              sum[r][c] += load(weights + (t * kernel + u) * lanes<T>) * x;
          }
      }
    store_tile<T>(o, sum, 2 * j0, 2 * k0, offset, width);
  });
}

template <class T, int kernel>
void channel_band_halves(const operands<T>& o, int64_t y) {
  for (int64_t k = 0; 2 * k < o.to.columns; k += columns_of_halves) channel_tile_halves<T, kernel>(o, y / 2, k);
}

// The weight gradient of rows [y0, end) of `columns` columns, all of which exist: sums[tap] of every channel.
template <class T, int kernel, int stride, int columns>
void channel_products(const operands<T>& o, int64_t y0, int64_t end, int64_t x0, T* sums_of_channels) {
  constexpr int sums = sums_of<kernel, stride>, across = (columns - 1) * stride + kernel;
  const int64_t begin = y0 - (sums - 1), top = begin * stride + kernel - stride - o.padding[0];
  const source_columns<T, across> beginning(o, top, x0 * stride - o.padding[1]);
  for_channels<T>(o.channels, [&](int64_t channel, int64_t offset, int64_t width) {
    T* const to = sums_of_channels + channel * kernel * kernel;
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
          gradient[i / columns][i % columns] = load_some<T>(at + i % columns * o.to.column, width);
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
                const vec<T> x = load_some<T>(from.at[j] + offset, width);
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

// ---- Geometry -------------------------------------------------------------------------------------------------------

// Double precision and processors from before AVX2 are served by less code.
template <class T>
constexpr bool direct = sizeof(T) == 4 && (vector_bytes > 16 || many_registers);

enum class way { packed, rows, channels };

template <class T>
bool has_kernels(const conv_shape& s) {
  if (!direct<T>) return false;
  const bool flat = s.in[0] == 1 && s.out[0] == 1 && s.kernel[0] == 1 && s.padding[0] == 0;
  const bool plain = s.in_channels == 1 && s.out_channels == 1 && s.dilation[1] == 1 && s.dilation[2] == 1;
  const bool square = s.kernel[1] == s.kernel[2] && s.stride[1] == s.stride[2];
  return flat && plain && square && (s.kernel[1] == 3 || s.kernel[1] == 5) && (s.stride[1] == 1 || s.stride[1] == 2);
}

template <class T>
way choose(const conv_shape& shape, const conv_images& a, const conv_images& b, const conv_images& c) {
  if (!has_kernels<T>(shape)) return way::packed;
  if (rows_together<T>(a) && rows_together<T>(b) && rows_together<T>(c)) return way::rows;
  if (channels_together<T>(a) && channels_together<T>(b) && channels_together<T>(c)) return way::channels;
  return way::packed;
}
template <class T>
way choose(const conv_shape& shape, const conv_images& a, const conv_images& b, const conv_store& store) {
  return choose<T>(shape, a, b, store.residual.data ? store.residual : b);
}

template <int n>
struct constant {
  static constexpr int value = n;
};
// f(constant<kernel>, constant<stride>)
template <class F>
void with_geometry(const conv_shape& shape, F f) {
  if (shape.kernel[1] == 3)
    shape.stride[1] == 1 ? f(constant<3>{}, constant<1>{}) : f(constant<3>{}, constant<2>{});
  else
    shape.stride[1] == 1 ? f(constant<5>{}, constant<1>{}) : f(constant<5>{}, constant<2>{});
}

template <class T>
int64_t channels_up(const conv_shape& shape) {
  return (shape.groups + lanes<T> - 1) / lanes<T> * lanes<T>;
}
// Taps of all channels: [channel][tap] for rows, [vector of channels][tap][lane] for channels.
template <class T>
int64_t taps_of_channels(const conv_shape& shape) {
  return channels_up<T>(shape) * shape.kernel[1] * shape.kernel[2];
}

// The zeros that stand for a row or a position in the padding.
template <class T>
int64_t zeros_of(const conv_shape& shape) {
  return maximum_of(channels_up<T>(shape), maximum_of(shape.in[2], shape.out[2]));
}

// f(where it is arranged, where it lies in `weights`)
template <class T, class F>
void for_weights(const conv_shape& shape, const conv_weights& weights, way by, F f) {
  const int64_t taps = shape.kernel[1] * shape.kernel[2];
  for (int64_t c = 0; c < shape.groups; ++c)
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t at = by == way::rows ? c * taps + t : (c / lanes<T> * taps + t) * lanes<T> + c % lanes<T>;
      f(at, weights.data + c * weights.out + t / shape.kernel[2] * weights.space[1] +
                t % shape.kernel[2] * weights.space[2]);
    }
}

template <class T>
plane_of plane_at(const conv_images& images, const int64_t (&size)[3], int64_t n, int64_t channel) {
  if (!images.data) return {};
  return {images.data + n * images.batch + channel * images.channel, size[1], size[2], images.space[1],
          images.space[2]};
}

int64_t tasks_for(int64_t items, int64_t elements) {
  return maximum_of<int64_t>(1, minimum_of(minimum_of(items, most_tasks), elements / elements_per_task));
}

// ---- Whole images ---------------------------------------------------------------------------------------------------

// Calls band(operands, first row) for all bands of `high` rows of the targets.
template <class T>
void for_bands(const conv_shape& shape, way by, const operands<T>& common, const conv_images& from,
               const int64_t (&from_size)[3], const conv_store& store, const conv_images& to,
               const int64_t (&to_size)[3], int64_t high, void (*band)(const operands<T>&, int64_t)) {
  const int64_t taps = shape.kernel[1] * shape.kernel[2];
  const int64_t channels = by == way::rows ? shape.groups : 1, planes = shape.batch * channels;
  const int64_t bands = (to_size[1] + high - 1) / high;
  const int64_t chunks = minimum_of(bands, (31 + planes) / planes), items = planes * chunks;
  const int64_t tasks = tasks_for(items, shape.batch * shape.groups * to_size[1] * to_size[2]);
  parallel_for(tasks, [&](int64_t task) {
    operands<T> o = common;
    const share mine(items, tasks, task);
    int64_t chunk = mine.first % chunks, channel = mine.first / chunks % channels, n = mine.first / chunks / channels;
    for (int64_t i = 0; i < mine.count; ++i) {
      const int64_t first = bands * chunk / chunks, end = bands * (chunk + 1) / chunks;
      o.from = plane_at<T>(from, from_size, n, channel);
      o.to = plane_at<T>(to, to_size, n, channel);
      o.residual = plane_at<T>(store.residual, to_size, n, channel);
      o.weights = common.weights + channel * taps;
      o.bias = common.bias + channel;
      for (int64_t y = first; y < end; ++y) band(o, y * high);
      if (++chunk < chunks) continue;
      chunk = 0;
      if (++channel < channels) continue;
      channel = 0;
      ++n;
    }
  });
}

// Weights and bias in scratch, as the kernels read them; backwards for the input gradient of stride 1.
template <class T>
operands<T> arrange(const conv_shape& shape, way by, bool backwards, const conv_weights& weights,
                    const conv_store& store, char* scratch) {
  T *const arranged = reinterpret_cast<T*>(scratch), *const bias = arranged + taps_of_channels<T>(shape);
  T* const zeros = bias + channels_up<T>(shape);
  memset(zeros, 0, size_t(zeros_of<T>(shape)) * sizeof(T));
  if (by == way::channels && shape.groups % lanes<T> != 0)
    memset(scratch, 0, size_t(taps_of_channels<T>(shape) + channels_up<T>(shape)) * sizeof(T));
  conv_weights from = weights;
  if (backwards)
    for (int d = 1; d < 3; ++d) {
      from.data += (shape.kernel[d] - 1) * from.space[d];
      from.space[d] = -from.space[d];
    }
  for_weights<T>(shape, from, by, [&](int64_t at, const char* weight) { arranged[at] = load_scalar<T>(weight); });
  for (int64_t c = 0; c < shape.groups; ++c)
    bias[c] = store.bias ? load_scalar<T>(store.bias + c * store.bias_step) : T(0);
  operands<T> o{};
  o.weights = arranged;
  o.bias = bias;
  o.zeros = reinterpret_cast<const char*>(zeros);
  o.channels = shape.groups;
  o.activation = store.activation;
  o.least = store.activation == HOMINY_ACTIVATION_RELU ? T(0) : -T(__builtin_inf());
  for (int d = 0; d < 2; ++d)
    o.padding[d] = backwards ? shape.kernel[d + 1] - 1 - shape.padding[d + 1] : shape.padding[d + 1];
  return o;
}

template <class T, int kernel, int stride>
void correlate(const conv_shape& shape, way by, const operands<T>& o, const conv_images& from,
               const int64_t (&from_size)[3], const conv_store& store, const conv_images& to,
               const int64_t (&to_size)[3]) {
  if (by == way::rows)
    for_bands(shape, by, o, from, from_size, store, to, to_size, rows_of_block, row_band<T, kernel, stride>);
  else
    for_bands(shape, by, o, from, from_size, store, to, to_size, rows_down, channel_band<T, kernel, stride>);
}

template <class T, int kernel>
void correlate_halves(const conv_shape& shape, way by, const operands<T>& o, const conv_images& from,
                      const conv_store& store, const conv_images& to) {
  if (by == way::rows)
    for_bands(shape, by, o, from, shape.out, store, to, shape.in, 2 * rows_of_halves, row_band_halves<T, kernel>);
  else
    for_bands(shape, by, o, from, shape.out, store, to, shape.in, 2, channel_band_halves<T, kernel>);
}

// ---- Weight gradient ------------------------------------------------------------------------------------------------

// The images of a channel (rows) or all rows of all images (channels) are cut into this many parts, each with its sums.
template <class T>
int64_t parts_of(const conv_shape& shape, way by) {
  if (by == way::rows) return minimum_of(shape.batch, (31 + shape.groups) / shape.groups);
  const int64_t elements = shape.batch * shape.groups * shape.out[1] * shape.out[2];
  return maximum_of<int64_t>(
      1, minimum_of(minimum_of(most_parts, shape.batch * shape.out[1]), elements / (2 * elements_per_task)));
}

template <class T, int kernel, int stride>
void sum_rows(const conv_shape& shape, const operands<T>& common, const conv_images& gradient, const conv_images& x,
              int64_t parts, T* sums) {
  constexpr int taps = kernel * kernel;
  const int64_t items = shape.groups * parts;
  const int64_t tasks = tasks_for(items, shape.batch * shape.groups * shape.out[1] * shape.out[2]);
  parallel_for(tasks, [&](int64_t task) {
    operands<T> o = common;
    const share mine(items, tasks, task);
    for (int64_t i = mine.first; i < mine.first + mine.count; ++i) {
      const int64_t channel = i / parts, part = i % parts;
      const share images(shape.batch, parts, part);
      T lanewise[taps * lanes<T>] = {};
      for (int64_t n = images.first; n < images.first + images.count; ++n) {
        o.from = plane_at<T>(x, shape.in, n, channel);
        o.to = plane_at<T>(gradient, shape.out, n, channel);
        row_products<T, kernel, stride>(o, lanewise);
      }
#pragma GCC unroll 1
      for (int t = 0; t < taps; ++t)
        sums[part * taps_of_channels<T>(shape) + channel * taps + t] = sum_lanes<T>(load(lanewise + t * lanes<T>));
    }
  });
}

template <class T, int kernel, int stride>
void sum_channels(const conv_shape& shape, const operands<T>& common, const conv_images& gradient, const conv_images& x,
                  int64_t parts, T* sums) {
  constexpr int columns = columns_down(sums_of<kernel, stride>);
  parallel_for(parts, [&](int64_t part) {
    T* const mine = sums + part * taps_of_channels<T>(shape);
    memset(mine, 0, size_t(taps_of_channels<T>(shape)) * sizeof(T));
    operands<T> o = common;
    const share rows(shape.batch * shape.out[1], parts, part);
    for (int64_t row = rows.first, count; row < rows.first + rows.count; row += count) {
      const int64_t n = row / shape.out[1], y = row % shape.out[1];
      count = minimum_of(minimum_of(rows_down, shape.out[1] - y), rows.first + rows.count - row);
      o.from = plane_at<T>(x, shape.in, n, 0);
      o.to = plane_at<T>(gradient, shape.out, n, 0);
      int64_t x0 = 0;
      for (; x0 + columns <= o.to.columns; x0 += columns)
        channel_products<T, kernel, stride, columns>(o, y, y + count, x0, mine);
      for (; x0 < o.to.columns; ++x0) channel_products<T, kernel, stride, 1>(o, y, y + count, x0, mine);
    }
  });
}

}  // namespace

template <class T>
bool depthwise_computes(const conv_shape& shape, const conv_images& x, const conv_images& out) {
  return shape.in_channels == 1 && grouped_computes<T>(shape, x, out);
}

template <class T>
int64_t depthwise_scratch(const conv_shape& shape, const conv_images& x, const conv_images& out) {
  const int64_t packed = grouped_scratch<T>(shape, x, out);
  if (!has_kernels<T>(shape)) return packed;
  const int64_t parts = maximum_of(parts_of<T>(shape, way::rows), parts_of<T>(shape, way::channels));
  const int64_t taps = taps_of_channels<T>(shape);
  return maximum_of(packed, (parts * taps + channels_up<T>(shape) + zeros_of<T>(shape)) * int64_t(sizeof(T)));
}

template <class T>
void depthwise_forward(const conv_shape& shape, const conv_images& x, const conv_weights& weights,
                       const conv_store& store, const conv_images& out, char* scratch) {
  const way by = choose<T>(shape, x, out, store);
  if (by == way::packed) return grouped_forward<T>(shape, x, weights, store, out, scratch);
  if constexpr (direct<T>) {
    const operands<T> o = arrange<T>(shape, by, false, weights, store, scratch);
    with_geometry(shape, [&](auto kernel, auto stride) {
      correlate<T, kernel.value, stride.value>(shape, by, o, x, shape.in, store, out, shape.out);
    });
  }
}

template <class T>
void depthwise_input_gradient(const conv_shape& shape, const conv_images& gradient, const conv_weights& weights,
                              const conv_store& store, const conv_images& out, char* scratch) {
  const way by = choose<T>(shape, gradient, out, store);
  const bool one = shape.stride[1] == 1,
             same = shape.padding[1] == shape.kernel[1] / 2 && shape.padding[2] == shape.kernel[2] / 2;
  if (by == way::packed || !(one || same))
    return grouped_input_gradient<T>(shape, gradient, weights, store, out, scratch);
  if constexpr (direct<T>) {
    const operands<T> o = arrange<T>(shape, by, one, weights, store, scratch);
    with_geometry(shape, [&](auto kernel, auto stride) {
      if constexpr (stride.value == 1)
        correlate<T, kernel.value, 1>(shape, by, o, gradient, shape.out, store, out, shape.in);
      else
        correlate_halves<T, kernel.value>(shape, by, o, gradient, store, out);
    });
  }
}

template <class T>
void depthwise_weight_gradient(const conv_shape& shape, const conv_images& gradient, const conv_images& x,
                               const conv_weights& out, char* scratch) {
  const way by = choose<T>(shape, gradient, x, x);
  if (by == way::packed) return grouped_weight_gradient<T>(shape, gradient, x, out, scratch);
  if constexpr (direct<T>) {
    T* const sums = reinterpret_cast<T*>(scratch);
    const int64_t parts = parts_of<T>(shape, by), taps = taps_of_channels<T>(shape);
    memset(sums + parts * taps, 0, size_t(zeros_of<T>(shape)) * sizeof(T));
    operands<T> o{};
    o.zeros = reinterpret_cast<const char*>(sums + parts * taps);
    o.channels = shape.groups;
    for (int d = 0; d < 2; ++d) o.padding[d] = shape.padding[d + 1];
    with_geometry(shape, [&](auto kernel, auto stride) {
      if (by == way::rows)
        sum_rows<T, kernel.value, stride.value>(shape, o, gradient, x, parts, sums);
      else
        sum_channels<T, kernel.value, stride.value>(shape, o, gradient, x, parts, sums);
    });
    for_weights<T>(shape, out, by, [&](int64_t at, char* weight) {
      T sum = sums[at];
      for (int64_t part = 1; part < parts; ++part) sum += sums[part * taps + at];
      store_scalar(weight, sum);
    });
  }
}

template bool depthwise_computes<float>(const conv_shape&, const conv_images&, const conv_images&);
template bool depthwise_computes<double>(const conv_shape&, const conv_images&, const conv_images&);
template int64_t depthwise_scratch<float>(const conv_shape&, const conv_images&, const conv_images&);
template int64_t depthwise_scratch<double>(const conv_shape&, const conv_images&, const conv_images&);
template void depthwise_forward<float>(const conv_shape&, const conv_images&, const conv_weights&, const conv_store&,
                                       const conv_images&, char*);
template void depthwise_forward<double>(const conv_shape&, const conv_images&, const conv_weights&, const conv_store&,
                                        const conv_images&, char*);
template void depthwise_input_gradient<float>(const conv_shape&, const conv_images&, const conv_weights&,
                                              const conv_store&, const conv_images&, char*);
template void depthwise_input_gradient<double>(const conv_shape&, const conv_images&, const conv_weights&,
                                               const conv_store&, const conv_images&, char*);
template void depthwise_weight_gradient<float>(const conv_shape&, const conv_images&, const conv_images&,
                                               const conv_weights&, char*);
template void depthwise_weight_gradient<double>(const conv_shape&, const conv_images&, const conv_images&,
                                                const conv_weights&, char*);

}  // namespace hominy::HOMINY_LEVEL
