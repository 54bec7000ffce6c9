// Both directions are one loop. Say `target` for the images that are written and `source` for those that are read; with
// stride s, dilation d, padding p:
//
//   forward    target v reads source v s + t d - p
//   backward   target v s + r - p reads source v - floor(t d / s), for the taps t with t d mod s = r
//
// Elements a stride apart are a comb. Forward the source is packed comb by comb, so that neighbours v read neighbours;
// backward the target falls into combs, each with its own taps. Either way a tap is an offset in the packed planes and
// every target comb a correlation of stride 1:
//
//   result[o][q] = bias[o] + sum over k of weight[k][o] * packed[offset[k] + q]
//
// q runs over whole planes: rows are `pitch` apart, of which the last few elements belong to no position.
#include "conv_grouped.hpp"

#include "activation.hpp"
#include "dimensions.hpp"
#include "lane_access.hpp"
#include "parallel_for.hpp"
#include "vector_math.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t band_bytes = 192 * 1024;         // packed planes of a band: they stay in the second-level cache
constexpr int64_t largest_band = 4 * 1024 * 1024;  // what a single row may need
constexpr int64_t most_combs = 64, longest = 1 << 22;
constexpr int64_t most_tasks = 32;
constexpr int64_t products_per_task = 128 * 1024;
constexpr int64_t line = 64;

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t bytes_up(int64_t bytes) { return divide_up(bytes, line) * line; }

// Positions first, first + step, ... of a dimension.
struct comb {
  int64_t first, step;
  // Which of the comb's elements [0, count) are inside [0, size).
  int64_t begin(int64_t count) const { return minimum_of(count, first < 0 ? divide_up(-first, step) : 0); }
  int64_t end(int64_t count, int64_t size) const {
    const int64_t end = first < size ? minimum_of(count, divide_up(size - first, step)) : 0;
    return maximum_of(begin(count), end);
  }
  int64_t at(int64_t i) const { return first + i * step; }
};

// One dimension of space.
struct axis {
  bool backward;
  int64_t kernel, stride, dilation, padding;
  int64_t source, target;              // sizes of the images
  int64_t source_combs, target_combs;  // those that are packed, those that are computed
  int64_t count, reach;                // of a comb: targets, and sources beyond as many
  int64_t start, period;

  axis(const conv_shape& shape, int d, bool backward)
      : backward(backward),
        kernel(shape.kernel[d]),
        stride(shape.stride[d]),
        dilation(shape.dilation[d]),
        padding(shape.padding[d]) {
    reach = (kernel - 1) * dilation / stride;
    period = 1;
    if (backward) {
      source = shape.out[d];
      target = shape.in[d];
      source_combs = 1;
      target_combs = stride;
      start = padding / stride;
      count = (padding + target - 1) / stride - start + 1;
    } else {
      source = shape.in[d];
      target = count = shape.out[d];
      target_combs = 1;
      start = 0;
      while (period < kernel && period * dilation % stride != 0) ++period;
      source_combs = period;
    }
  }
  bool has(int64_t target_comb, int64_t tap) const { return !backward || tap * dilation % stride == target_comb; }
  int64_t taps(int64_t target_comb) const {
    int64_t n = 0;
    for (int64_t t = 0; t < kernel; ++t) n += has(target_comb, t);
    return n;
  }
  int64_t source_comb(int64_t tap) const { return tap % period; }
  int64_t offset(int64_t tap) const {
    const int64_t steps = tap * dilation / stride;
    return backward ? reach - steps : steps;
  }
  comb sources(int64_t i) const {
    return backward ? comb{start - reach, 1} : comb{i * dilation % stride - padding, stride};
  }
  comb targets(int64_t i) const { return backward ? comb{start * stride + i - padding, stride} : comb{0, 1}; }
  // Zeros at the end of every comb's row of sources that may be those at the beginning of the next row, too.
  int64_t shared() const {
    int64_t before = reach, after = reach;
    for (int64_t i = 0; i < source_combs; ++i) {
      before = minimum_of(before, sources(i).begin(count + reach));
      after = minimum_of(after, count + reach - sources(i).end(count + reach, source));
    }
    return minimum_of(before, after);
  }
};

template <class T>
struct plan {
  const conv_shape& shape;
  int64_t in, out;  // channels of a group: of the source, of the target
  axis z, y, x;
  int64_t block;          // groups that are packed together
  int64_t shared, pitch;  // of packed rows: zeros at the end that begin the next row, too; elements from row to row
  int64_t rows;           // of the targets of a band
  int64_t bands, blocks;  // of an image
  int64_t depth;          // most slices of a channel that one depth of the target needs
  int64_t plane, slice, width;  // elements: of a comb's plane, of all planes of a slice, of a plane of results
  int64_t items, tasks;

  plan(const conv_shape& shape, bool backward, bool channels_last)
      : shape(shape),
        in(backward ? shape.out_channels : shape.in_channels),
        out(backward ? shape.in_channels : shape.out_channels),
        z(shape, 0, backward),
        y(shape, 1, backward),
        x(shape, 2, backward) {
    block = channels_last ? minimum_of(shape.groups, divide_up(line / int64_t(sizeof(T)), minimum_of(in, out))) : 1;
    blocks = divide_up(shape.groups, block);
    shared = x.shared();
    pitch = x.count + x.reach - shared;
    depth = 0;
    for (int64_t i = 0; i < z.target_combs; ++i) depth = maximum_of(depth, z.taps(i));
    const int64_t a_row = block * in * depth * y.source_combs * x.source_combs * pitch * int64_t(sizeof(T));
    const int64_t fitting = maximum_of<int64_t>(1, band_bytes / a_row - y.reach);
    const int64_t images = shape.batch * blocks * z.target;
    const int64_t products = shape.batch * shape.groups * in * out * volume(shape.kernel) * volume(shape.out);
    const int64_t repaid = maximum_of<int64_t>(1, minimum_of(most_tasks, products / products_per_task));
    bands = maximum_of(divide_up(y.count, fitting),
                       minimum_of(divide_up(y.count, 4), divide_up(minimum_of<int64_t>(8, repaid), images)));
    rows = divide_up(y.count, bands);
    bands = divide_up(y.count, rows);
    plane = (rows + y.reach) * pitch + shared;
    slice = y.source_combs * x.source_combs * plane;
    width = divide_up((rows - 1) * pitch + x.count, lanes<T>) * lanes<T>;
    items = images * bands;
    tasks = maximum_of<int64_t>(1, minimum_of(items, repaid));
  }
  int64_t taps() const { return in * volume(shape.kernel); }
  // The last vector reads up to a vector beyond the last plane.
  int64_t packed_bytes() const { return bytes_up((block * in * depth * slice + lanes<T>)*int64_t(sizeof(T))); }
  int64_t result_bytes() const { return bytes_up(block * out * width * int64_t(sizeof(T))); }
  int64_t offset_bytes() const { return bytes_up(taps() * int64_t(sizeof(int64_t))); }
  int64_t weight_bytes() const { return bytes_up(shape.groups * out * taps() * int64_t(sizeof(T))); }
  int64_t bias_bytes() const { return bytes_up(shape.groups * out * int64_t(sizeof(T))); }
  int64_t scratch() const {
    return offset_bytes() + weight_bytes() + bias_bytes() + tasks * (packed_bytes() + result_bytes());
  }
};

// A band of rows of one depth of one block of groups.
struct item {
  int64_t n, group, groups, z, row, rows;  // z: depth in the target; row: of a comb of the target
  template <class T>
  item(const plan<T>& p, int64_t i) {
    row = i % p.bands * p.rows;
    rows = minimum_of(p.rows, p.y.count - row);
    i /= p.bands;
    z = i % p.z.target;
    i /= p.z.target;
    group = i % p.blocks * p.block;
    groups = minimum_of(p.block, p.shape.groups - group);
    n = i / p.blocks;
  }
};

// ---- Between images and planes --------------------------------------------------------------------------------------

enum class transfer { load, add, store };  // plane = image, plane += image, image = plane

template <class T, transfer way, class Count>
inline void transfer_neighbours(T* plane, T* image, Count count) {
  if constexpr (way == transfer::store)
    store_count(image, load_count(plane, count), count);
  else if constexpr (way == transfer::load)
    store_count(plane, load_count(image, count), count);
  else
    store_count(plane, load_count(plane, count) + load_count(image, count), count);
}

// A vector of positions x a vector of channels; channels of a position are neighbours.
template <class T, transfer way>
__attribute__((noinline)) void transfer_square(T* plane, int64_t plane_stride, char* image, int64_t step) {
  vec<T> square[lanes<T>];
#pragma GCC unroll 16
  for (int i = 0; i < lanes<T>; ++i)
    square[i] = load(way == transfer::store ? plane + i * plane_stride : (const T*)(image + i * step));
  transpose<T>(square);
#pragma GCC unroll 16
  for (int i = 0; i < lanes<T>; ++i) {
    T* const row = plane + i * plane_stride;
    if constexpr (way == transfer::store)
      store((T*)(image + i * step), square[i]);
    else
      store(row, way == transfer::add ? load(row) + square[i] : square[i]);
  }
}

// Fewer than that of either.
template <class T, transfer way>
__attribute__((noinline)) void transfer_corner(T* plane, int64_t plane_stride, char* image, int64_t step,
                                               int64_t positions, int64_t channels) {
  T from[lanes<T> * lanes<T>], to[lanes<T> * lanes<T>];
  constexpr bool out = way == transfer::store;
  const int64_t rows = out ? channels : positions, columns = out ? positions : channels;
  for (int64_t i = 0; i < rows; ++i)
    store(from + i * lanes<T>, load_count(out ? plane + i * plane_stride : (const T*)(image + i * step), columns));
  for (int64_t i = rows; i < lanes<T>; ++i) store(from + i * lanes<T>, vec<T>{});
  transfer_square<T, transfer::load>(to, lanes<T>, reinterpret_cast<char*>(from), vector_bytes);
  for (int64_t i = 0; i < columns; ++i) {
    vec<T> v = load(to + i * lanes<T>);
    T* const row = out ? (T*)(image + i * step) : plane + i * plane_stride;
    if (way == transfer::add) v += load_count(row, rows);
    store_count(row, v, rows);
  }
}

// `count` positions, `step` bytes apart, of `channels` channels.
template <class T, transfer way>
void transfer_row(T* plane, int64_t plane_stride, char* image, int64_t channel_stride, int64_t step, int64_t channels,
                  int64_t count) {
  constexpr int64_t size = sizeof(T);
  if (step == size) {
    for (int64_t c = 0; c < channels; ++c, plane += plane_stride, image += channel_stride)
      if (way == transfer::add || count < lanes<T>) {
        for_vectors<T>(count,
                       [&](int64_t i, auto some) { transfer_neighbours<T, way>(plane + i, (T*)image + i, some); });
      } else {  // the last vector overlaps the one before it: masks would take longer than the rest
        const auto transfer_vector = [&](int64_t i) { transfer_neighbours<T, way>(plane + i, (T*)image + i, whole{}); };
        for (int64_t i = 0; i + lanes<T> < count; i += lanes<T>) transfer_vector(i);
        transfer_vector(count - lanes<T>);
      }
  } else if (channel_stride == size) {
    for (int64_t c = 0; c < channels; c += lanes<T>)
      for (int64_t i = 0; i < count; i += lanes<T>) {
        const int64_t wide = minimum_of<int64_t>(lanes<T>, channels - c),
                      some = minimum_of<int64_t>(lanes<T>, count - i);
        T* const to = plane + c * plane_stride + i;
        char* const from = image + c * size + i * step;
        if (wide == lanes<T> && some == lanes<T>)
          transfer_square<T, way>(to, plane_stride, from, step);
        else
          transfer_corner<T, way>(to, plane_stride, from, step, some, wide);
      }
  } else {
    for (int64_t c = 0; c < channels; ++c, plane += plane_stride, image += channel_stride)
      for (int64_t i = 0; i < count; ++i) {
        char* const element = image + i * step;
        if constexpr (way == transfer::store)
          store_scalar(element, plane[i]);
        else
          plane[i] = load_scalar<T>(element) + (way == transfer::add ? plane[i] : T(0));
      }
  }
}

inline char* address(const conv_images& images, int64_t n, int64_t channel, int64_t z, int64_t y, int64_t x) {
  return images.data + n * images.batch + channel * images.channel + z * images.space[0] + y * images.space[1] +
         x * images.space[2];
}

// Rows [0, rows) of a plane of sources, of all the item's channels, zeros about them.
template <class T>
void pack_plane(const plan<T>& p, const conv_images& images, const item& it, int64_t depth, comb row, comb column,
                T* planes, int64_t plane_stride, int64_t rows) {
  const int64_t channels = it.groups * p.in, begin = column.begin(p.pitch), end = column.end(p.pitch, p.x.source);
  for (int64_t r = 0; r < rows; ++r, planes += p.pitch) {
    const int64_t y = row.at(it.row + r);
    const bool exists = depth >= 0 && depth < p.z.source && y >= 0 && y < p.y.source && begin < end;
    for (int64_t c = 0; c < channels; ++c) {
      T* const to = planes + c * plane_stride;
      for (int64_t i = 0; i < (exists ? begin : p.pitch); ++i) to[i] = 0;
      if (exists)
        for (int64_t i = end; i < p.pitch; ++i) to[i] = 0;
    }
    if (exists)
      transfer_row<T, transfer::load>(planes + begin, plane_stride,
                                      address(images, it.n, it.group * p.in, depth, y, column.at(begin)),
                                      images.channel, column.step * images.space[2], channels, end - begin);
  }
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i = 0; i < p.shared; ++i) planes[c * plane_stride + i] = 0;
}

// packed: [channel][tap in depth, of this comb of targets][comb of rows][comb of columns][row][pitch].
template <class T>
void pack_sources(const plan<T>& p, const conv_images& images, const item& it, T* packed) {
  const int64_t target = it.z + (p.z.backward ? p.z.padding : 0);
  const int64_t at = p.z.backward ? target / p.z.stride - p.z.start : target;
  const int64_t z_comb = p.z.backward ? target % p.z.stride : 0;
  int64_t slices = 0;
  for (int64_t t = 0; t < p.z.kernel; ++t) {
    if (!p.z.has(z_comb, t)) continue;
    const int64_t depth = p.z.sources(p.z.source_comb(t)).at(at + p.z.offset(t));
    for (int64_t i = 0; i < p.y.source_combs; ++i)
      for (int64_t j = 0; j < p.x.source_combs; ++j)
        pack_plane(p, images, it, depth, p.y.sources(i), p.x.sources(j),
                   packed + slices * p.slice + (i * p.x.source_combs + j) * p.plane, p.depth * p.slice,
                   it.rows + p.y.reach);
    ++slices;
  }
}

// Rows of planes of results <-> a comb of the target images.
template <class T, transfer way>
void transfer_targets(const plan<T>& p, const conv_images& images, const item& it, comb row, comb column, T* planes) {
  const int64_t begin = column.begin(p.x.count), end = column.end(p.x.count, p.x.target);
  for (int64_t r = 0; r < it.rows; ++r) {
    const int64_t y = row.at(it.row + r);
    if (y >= 0 && y < p.y.target)
      transfer_row<T, way>(planes + r * p.pitch + begin, p.width,
                           address(images, it.n, it.group * p.out, it.z, y, column.at(begin)), images.channel,
                           column.step * images.space[2], it.groups * p.out, end - begin);
  }
}

// ---- Forward and input gradient -------------------------------------------------------------------------------------

// Rows of a tile (channels of the target), and vectors beside them.
constexpr int most_rows = vector_registers == 32 ? 8 : 4;
constexpr int vectors_beside(int rows) {
  return vector_registers == 32 ? (rows == 8 ? 3 : rows == 4 ? 6 : 8) : (rows == 4 ? 3 : rows == 2 ? 4 : 8);
}
inline int64_t rows_of_tile(int64_t left) {
  for (int64_t rows = most_rows;; rows /= 2)
    if (rows <= left) return rows;
}

// Where results go: rows of `length` elements, at least a vector, of every channel; in the packed planes `pitch` apart.
struct result_rows {
  char* first;
  int64_t channel, row;  // bytes from one to the next
  int64_t rows, length;
};

template <class T, int rows, int vectors>
inline void correlate_tile(int64_t k, const int64_t* offsets, const T* const (&from)[vectors], const T* weights,
                           const T* bias, T least, char* const (&to)[vectors], int64_t channel) {
  vec<T> sum[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) sum[i][j] = broadcast(bias[i]);
  for (int64_t p = 0; p < k; ++p, weights += rows) {
    vec<T> x[vectors];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) x[j] = load(from[j] + offsets[p]);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < vectors; ++j) sum[i][j] += weights[i] * x[j];
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) store((T*)(to[j] + i * channel), at_least<T>(sum[i][j], broadcast(least)));
}

// Vector by vector; the last of a row overlaps the one before it.
template <class T, int rows>
void correlate_rows(int64_t k, const int64_t* offsets, const T* packed, int64_t pitch, const T* weights, const T* bias,
                    T least, const result_rows& out) {
  constexpr int vectors = vectors_beside(rows);
  int64_t row = 0, column = 0;
  const auto tile = [&](auto number) {
    constexpr int count = decltype(number)::value;
    const T* from[count];
    char* to[count];
    for (int j = 0; j < count; ++j) {
      const int64_t x = minimum_of(column, out.length - lanes<T>);
      from[j] = packed + row * pitch + x;
      to[j] = out.first + row * out.row + x * int64_t(sizeof(T));
      column += lanes<T>;
      if (column >= out.length) column = 0, ++row;
    }
    correlate_tile<T, rows, count>(k, offsets, from, weights, bias, least, to, out.channel);
  };
  int64_t left = out.rows * divide_up(out.length, lanes<T>);
  for (; left >= vectors; left -= vectors) tile(constant<vectors>{});
  for (; left > 0; --left) tile(constant<1>{});
}

// Calls f(tap in depth, in height, in width) for the taps of one comb of targets.
template <class T, class F>
void for_taps(const plan<T>& p, int64_t z_comb, int64_t y_comb, int64_t x_comb, F f) {
  for (int64_t i = 0; i < p.z.kernel; ++i)
    for (int64_t j = 0; j < p.y.kernel; ++j)
      for (int64_t k = 0; k < p.x.kernel; ++k)
        if (p.z.has(z_comb, i) && p.y.has(y_comb, j) && p.x.has(x_comb, k)) f(i, j, k);
}

template <class T, class F>
void for_combs(const plan<T>& p, F f) {
  for (int64_t i = 0; i < p.z.target_combs; ++i)
    for (int64_t j = 0; j < p.y.target_combs; ++j)
      for (int64_t k = 0; k < p.x.target_combs; ++k) f(i, j, k);
}

// Where the taps begin in the packed planes: [comb of targets][channel][tap].
template <class T>
void fill_offsets(const plan<T>& p, int64_t* offset) {
  for_combs(p, [&](int64_t z_comb, int64_t y_comb, int64_t x_comb) {
    for (int64_t c = 0; c < p.in; ++c) {
      int64_t slice = -1, last = -1;
      for_taps(p, z_comb, y_comb, x_comb, [&](int64_t i, int64_t j, int64_t k) {
        if (i != last) ++slice, last = i;
        *offset++ = (c * p.depth + slice) * p.slice +
                    (p.y.source_comb(j) * p.x.source_combs + p.x.source_comb(k)) * p.plane + p.y.offset(j) * p.pitch +
                    p.x.offset(k);
      });
    }
  });
}

template <class T>
struct arranged {
  int64_t* offsets;
  T* weights;  // [group][comb of targets][rows of a tile][channel][tap][row]
  T* bias;
  char* rest;
};

template <class T>
arranged<T> arrange(const plan<T>& p, const conv_weights& weights, const conv_store& store, char* scratch) {
  const bool backward = p.z.backward;
  arranged<T> a;
  a.offsets = reinterpret_cast<int64_t*>(scratch);
  a.weights = reinterpret_cast<T*>(scratch += p.offset_bytes());
  a.bias = reinterpret_cast<T*>(scratch += p.weight_bytes());
  a.rest = scratch + p.bias_bytes();

  fill_offsets(p, a.offsets);
  const int64_t groups = p.shape.groups, elements = groups * p.out * p.taps();
  const int64_t tasks = minimum_of(groups, maximum_of<int64_t>(1, elements / 8192));
  const int64_t row = backward ? weights.in : weights.out;
  parallel_for(tasks, [&](int64_t task) {
    const share mine(groups, tasks, task);
    for (int64_t g = mine.first; g < mine.first + mine.count; ++g) {
      T* to = a.weights + g * p.out * p.taps();
      for_combs(p, [&](int64_t z_comb, int64_t y_comb, int64_t x_comb) {
        for (int64_t o = 0; o < p.out;) {
          const int64_t rows = rows_of_tile(p.out - o);
          for (int64_t c = 0; c < p.in; ++c)
            for_taps(p, z_comb, y_comb, x_comb, [&](int64_t i, int64_t j, int64_t k) {
              const char* from = weights.data + (backward ? g * p.in + c : g * p.out + o) * weights.out +
                                 (backward ? o : c) * weights.in + i * weights.space[0] + j * weights.space[1] +
                                 k * weights.space[2];
              for (int64_t r = 0; r < rows; ++r, from += row) *to++ = load_scalar<T>(from);
            });
          o += rows;
        }
      });
    }
  });
  for (int64_t c = 0; c < groups * p.out; ++c)
    a.bias[c] = store.bias ? load_scalar<T>(store.bias + c * store.bias_step) : T(0);
  return a;
}

// One comb of targets of one item: `before` taps a channel belong to the combs before it.
template <class T>
void correlate(const plan<T>& p, const arranged<T>& a, const item& it, int64_t before, int64_t taps, const T* packed,
               T least, const result_rows& results) {
  const int64_t k = p.in * taps, group_stride = p.in * p.depth * p.slice;
  const int64_t* const offsets = a.offsets + p.in * before;
  result_rows to = results;
  for (int64_t g = 0; g < it.groups; ++g) {
    const T* weights = a.weights + ((it.group + g) * volume(p.shape.kernel) + before) * p.in * p.out;
    for (int64_t o = 0; o < p.out;) {
      const int64_t rows = rows_of_tile(p.out - o);
      const T *const bias = a.bias + (it.group + g) * p.out + o, *const x = packed + g * group_stride;
      const auto run = [&](auto f) { f(k, offsets, x, p.pitch, weights, bias, least, to); };
      if (rows == 1)
        run(correlate_rows<T, 1>);
      else if (rows == 2)
        run(correlate_rows<T, 2>);
      else if (rows == 4)
        run(correlate_rows<T, 4>);
      else
        run(correlate_rows<T, most_rows>);
      weights += rows * k;
      o += rows;
      to.first += rows * to.channel;
    }
  }
}

// Whether results are stored where they belong, and not by way of planes.
template <class T>
bool stores_rows(const plan<T>& p, const conv_store& store, const conv_images& target) {
  const bool every = p.y.target_combs == 1 && p.x.target_combs == 1;  // the only comb: every row, every column
  const bool plain = !store.residual.data &&
                     (store.activation == HOMINY_ACTIVATION_NONE || store.activation == HOMINY_ACTIVATION_RELU);
  // Vectors do not run across rows then: more of them.
  const int64_t vectors = divide_up(p.x.count, lanes<T>) * lanes<T>;
  return every && plain && target.space[2] == sizeof(T) && p.x.count >= lanes<T> && vectors * 8 <= p.pitch * 9;
}

template <class T>
void correlate_images(const plan<T>& p, const conv_images& source, const conv_weights& weights, const conv_store& store,
                      const conv_images& target, char* scratch) {
  const arranged<T> a = arrange(p, weights, store, scratch);
  const bool direct = stores_rows(p, store, target);
  const T none = -T(__builtin_inf());
  parallel_for(p.tasks, [&](int64_t task) {
    T* const packed = reinterpret_cast<T*>(a.rest + task * (p.packed_bytes() + p.result_bytes()));
    T* const results = reinterpret_cast<T*>(a.rest + task * (p.packed_bytes() + p.result_bytes()) + p.packed_bytes());
    const share mine(p.items, p.tasks, task);
    for (int64_t i = mine.first; i < mine.first + mine.count; ++i) {
      const item it(p, i);
      pack_sources(p, source, it, packed);
      const int64_t z_comb = p.z.backward ? (it.z + p.z.padding) % p.z.stride : 0;
      int64_t before = 0;
      for (int64_t z = 0; z < z_comb; ++z) before += p.z.taps(z) * p.y.kernel * p.x.kernel;
      for (int64_t y = 0; y < p.y.target_combs; ++y)
        for (int64_t x = 0; x < p.x.target_combs; ++x) {
          const int64_t taps = p.z.taps(z_comb) * p.y.taps(y) * p.x.taps(x);
          const comb row = p.y.targets(y), column = p.x.targets(x);
          if (direct) {
            correlate(p, a, it, before, taps, packed, store.activation == HOMINY_ACTIVATION_RELU ? T(0) : none,
                      {address(target, it.n, it.group * p.out, it.z, it.row, 0), target.channel, target.space[1],
                       it.rows, p.x.count});
            continue;
          }
          const int64_t width = divide_up((it.rows - 1) * p.pitch + p.x.count, lanes<T>) * lanes<T>;
          correlate(p, a, it, before, taps, packed, none,
                    {reinterpret_cast<char*>(results), p.width * int64_t(sizeof(T)), 0, 1, width});
          before += taps;
          if (store.residual.data) transfer_targets<T, transfer::add>(p, store.residual, it, row, column, results);
          activate<T>(store.activation, reinterpret_cast<char*>(results), p.width * int64_t(sizeof(T)),
                      it.groups * p.out, p.width / lanes<T>);
          transfer_targets<T, transfer::store>(p, target, it, row, column, results);
        }
    }
  });
}

// ---- Weight gradient ------------------------------------------------------------------------------------------------

// A tile of weights: rows (channels of the target) x columns (channels of the source and their taps).
constexpr int most_sum_rows = vector_registers == 32 ? 4 : 2;
constexpr int sum_columns(int rows) { return rows == 4 ? 6 : rows == 2 && vector_registers < 32 ? 5 : 8; }

// sums[i][j] += gradient[i] . packed[offsets[j]]
template <class T, int rows, int columns>
inline void product_tile(int64_t width, const T* gradient, int64_t gradient_stride, const T* packed,
                         const int64_t* offsets, T* sums, int64_t sums_stride) {
  vec<T> sum[rows][columns] = {};
  const T* at[columns];
  for (int j = 0; j < columns; ++j) at[j] = packed + offsets[j];
  for (int64_t q = 0; q < width; q += lanes<T>) {
    vec<T> g[rows];
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) g[i] = load(gradient + i * gradient_stride + q);
#pragma GCC unroll 8
    for (int j = 0; j < columns; ++j) {
      const vec<T> x = load(at[j] + q);
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) sum[i][j] += g[i] * x;
    }
  }
  T all[rows * columns * lanes<T>];  // not `sum`: an array that a loop indexes would not stay in registers
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) store(all + (i * columns + j) * lanes<T>, sum[i][j]);
#pragma GCC unroll 1
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 1
    for (int j = 0; j < columns; ++j)
      sums[i * sums_stride + j] += sum_lanes<T>(load(all + (i * columns + j) * lanes<T>));
}

template <class T, int rows>
void product_rows(int64_t width, const T* gradient, int64_t gradient_stride, const T* packed, const int64_t* offsets,
                  int64_t k, T* sums) {
  constexpr int columns = sum_columns(rows);
  int64_t j = 0;
  for (; j + columns <= k; j += columns)
    product_tile<T, rows, columns>(width, gradient, gradient_stride, packed, offsets + j, sums + j, k);
  for (; j < k; ++j) product_tile<T, rows, 1>(width, gradient, gradient_stride, packed, offsets + j, sums + j, k);
}

// The sums of a block of groups are cut into as many parts as make work for `most_tasks`: images, depths and bands.
template <class T>
struct parts_of {
  int64_t units, parts, tasks;
  explicit parts_of(const plan<T>& p)
      : units(p.items / p.blocks),
        parts(minimum_of(units, divide_up(p.tasks, p.blocks))),
        tasks(minimum_of(p.tasks, p.blocks * parts)) {}
};

template <class T>
int64_t weight_gradient_scratch(const plan<T>& p) {
  const parts_of<T> by(p);
  return p.offset_bytes() + by.parts * p.weight_bytes() + by.tasks * (p.packed_bytes() + p.result_bytes());
}

template <class T>
void add_products(const plan<T>& p, const item& it, const int64_t* offsets, const T* packed, const T* gradient,
                  T* sums) {
  const int64_t k = p.taps(), width = divide_up((it.rows - 1) * p.pitch + p.x.count, lanes<T>) * lanes<T>;
  for (int64_t g = 0; g < it.groups; ++g, packed += p.in * p.depth * p.slice)
    for (int64_t o = 0; o < p.out;) {
      const int64_t left = p.out - o, rows = left >= most_sum_rows ? most_sum_rows : left >= 2 ? 2 : 1;
      const T* const rows_of_gradient = gradient + (g * p.out + o) * p.width;
      T* const to = sums + (g * p.out + o) * k;
      if (rows == 1)
        product_rows<T, 1>(width, rows_of_gradient, p.width, packed, offsets, k, to);
      else if (rows == 2)
        product_rows<T, 2>(width, rows_of_gradient, p.width, packed, offsets, k, to);
      else
        product_rows<T, most_sum_rows>(width, rows_of_gradient, p.width, packed, offsets, k, to);
      o += rows;
    }
}

}  // namespace

template <class T>
bool grouped_computes(const conv_shape& shape, const conv_images& x, const conv_images& out) {
  const bool together = channels_together<T>(x) && channels_together<T>(out);
  for (int d = 0; d < 3; ++d)
    if (shape.stride[d] > most_combs || shape.in[d] >= longest || shape.out[d] >= longest ||
        (shape.kernel[d] - 1) * shape.dilation[d] + shape.padding[d] >= longest)
      return false;
  const auto fits = [](const plan<T>& p) {
    return p.packed_bytes() <= largest_band && p.result_bytes() <= largest_band;
  };
  return fits(plan<T>(shape, false, together)) && fits(plan<T>(shape, true, together));
}

template <class T>
int64_t grouped_scratch(const conv_shape& shape, const conv_images& x, const conv_images& out) {
  const bool together = channels_together<T>(x) && channels_together<T>(out);
  const plan<T> forward(shape, false, together), backward(shape, true, together);
  return maximum_of(weight_gradient_scratch(forward), maximum_of(forward.scratch(), backward.scratch()));
}

template <class T>
void grouped_forward(const conv_shape& shape, const conv_images& x, const conv_weights& weights,
                     const conv_store& store, const conv_images& out, char* scratch) {
  const plan<T> p(shape, false, channels_together<T>(x) && channels_together<T>(out));
  correlate_images(p, x, weights, store, out, scratch);
}

template <class T>
void grouped_input_gradient(const conv_shape& shape, const conv_images& gradient, const conv_weights& weights,
                            const conv_store& store, const conv_images& out, char* scratch) {
  const plan<T> p(shape, true, channels_together<T>(gradient) && channels_together<T>(out));
  correlate_images(p, gradient, weights, store, out, scratch);
}

// One weight's gradient, term by term.
template <class T>
T sum_of_terms(const conv_shape& s, const conv_images& gradient, const conv_images& x, int64_t o, int64_t channel,
               const int64_t (&tap)[3]) {
  T sum{};
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t i = 0; i < s.out[0] * s.out[1] * s.out[2]; ++i) {
      const int64_t at[] = {i / s.out[2] / s.out[1], i / s.out[2] % s.out[1], i % s.out[2]};
      const char* g = gradient.data + n * gradient.batch + o * gradient.channel;
      const char* source = x.data + n * x.batch + channel * x.channel;
      bool inside = true;
      for (int d = 0; d < 3; ++d) {
        const int64_t from = at[d] * s.stride[d] + tap[d] * s.dilation[d] - s.padding[d];
        inside &= from >= 0 && from < s.in[d];
        g += at[d] * gradient.space[d];
        source += from * x.space[d];
      }
      if (inside) sum += load_scalar<T>(g) * load_scalar<T>(source);
    }
  return sum;
}

template <class T>
void grouped_weight_gradient(const conv_shape& shape, const conv_images& gradient, const conv_images& x,
                             const conv_weights& out, char* scratch) {
  const plan<T> p(shape, false, channels_together<T>(gradient) && channels_together<T>(x));
  const parts_of<T> by(p);
  const int64_t k = p.taps(), weights = shape.groups * p.out * k;
  int64_t* const offsets = reinterpret_cast<int64_t*>(scratch);
  char* const sums = scratch + p.offset_bytes();
  char* const rest = sums + by.parts * p.weight_bytes();
  fill_offsets(p, offsets);
  parallel_for(by.tasks, [&](int64_t task) {
    char* const mine = rest + task * (p.packed_bytes() + p.result_bytes());
    T *const packed = reinterpret_cast<T*>(mine), *const planes = reinterpret_cast<T*>(mine + p.packed_bytes());
    memset(mine, 0, size_t(p.packed_bytes() + p.result_bytes()));  // between rows of the gradient it stays so
    const auto clear_end = [&](const item& it) {                   // a band of fewer rows ends in another's
      const int64_t end = (it.rows - 1) * p.pitch + p.x.count;
      for (int64_t c = 0; c < it.groups * p.out; ++c)
        for (int64_t q = end; q < minimum_of(end + lanes<T>, p.width); ++q) planes[c * p.width + q] = 0;
    };
    const share pieces(p.blocks * by.parts, by.tasks, task);
    for (int64_t i = pieces.first; i < pieces.first + pieces.count; ++i) {
      const int64_t block = i / by.parts, part = i % by.parts;
      T* const to = reinterpret_cast<T*>(sums + part * p.weight_bytes()) + block * p.block * p.out * k;
      memset(to, 0, size_t(minimum_of(p.block, shape.groups - block * p.block) * p.out * k) * sizeof(T));
      const share units(by.units, by.parts, part);
      for (int64_t u = units.first; u < units.first + units.count; ++u) {
        const int64_t an_image = p.z.target * p.bands;
        const item it(p, (u / an_image * p.blocks + block) * an_image + u % an_image);
        pack_sources(p, x, it, packed);
        transfer_targets<T, transfer::load>(p, gradient, it, p.y.targets(0), p.x.targets(0), planes);
        clear_end(it);
        add_products(p, it, offsets, packed, planes, to);
      }
    }
  });
  for (int64_t part = 1; part < by.parts; ++part) {
    T *const first = reinterpret_cast<T*>(sums), *const next = reinterpret_cast<T*>(sums + part * p.weight_bytes());
    for (int64_t i = 0; i < weights; ++i) first[i] += next[i];
  }
  const T* from = reinterpret_cast<const T*>(sums);
  for (int64_t o = 0; o < shape.groups * p.out; ++o)
    for (int64_t c = 0; c < p.in; ++c)
      for_taps(p, 0, 0, 0, [&](int64_t tz, int64_t ty, int64_t tx) {
        T sum = *from++;
        // What is not finite may be the product of a zero and what lies past a row's end.
        if (!(sum - sum == 0)) sum = sum_of_terms<T>(shape, gradient, x, o, o / p.out * p.in + c, {tz, ty, tx});
        store_scalar(out.data + o * out.out + c * out.in + tz * out.space[0] + ty * out.space[1] + tx * out.space[2],
                     sum);
      });
}

template bool grouped_computes<float>(const conv_shape&, const conv_images&, const conv_images&);
template bool grouped_computes<double>(const conv_shape&, const conv_images&, const conv_images&);
template int64_t grouped_scratch<float>(const conv_shape&, const conv_images&, const conv_images&);
template int64_t grouped_scratch<double>(const conv_shape&, const conv_images&, const conv_images&);
template void grouped_forward<float>(const conv_shape&, const conv_images&, const conv_weights&, const conv_store&,
                                     const conv_images&, char*);
template void grouped_forward<double>(const conv_shape&, const conv_images&, const conv_weights&, const conv_store&,
                                      const conv_images&, char*);
template void grouped_input_gradient<float>(const conv_shape&, const conv_images&, const conv_weights&,
                                            const conv_store&, const conv_images&, char*);
template void grouped_input_gradient<double>(const conv_shape&, const conv_images&, const conv_weights&,
                                             const conv_store&, const conv_images&, char*);
template void grouped_weight_gradient<float>(const conv_shape&, const conv_images&, const conv_images&,
                                             const conv_weights&, char*);
template void grouped_weight_gradient<double>(const conv_shape&, const conv_images&, const conv_images&,
                                              const conv_weights&, char*);

}  // namespace hominy::HOMINY_LEVEL
