#include "conv_winograd.hpp"

#include "conv_winograd_tiles.hpp"
#include "matmul_tile.hpp"  // parts_of, round_up
#include "parallel_for.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

// An odd number of cache lines, so that rows fall into different sets.
inline int64_t odd_lines(int64_t bytes) { return (parts_of(bytes, 64) | 1) * 64; }

constexpr int strip_vectors = 2;  // output channels of a register tile

// ---- Error bound ----

// See conv_winograd.hpp: error <= amplification (roundings + accumulations) eps sum of max|x| sum|w|.
struct error_terms {
  double amplification, roundings;
};
#if defined(__FMA__) || defined(__aarch64__)
constexpr bool fused = true;
#else
constexpr bool fused = false;
#endif
template <class T>
error_terms error_of(int tile) {
  const double weights = sizeof(T) == 4 ? 1 : fused ? 6 : 8;
  if (tile == 2) return {16, 6 + weights};
  return {157.31, (fused ? 8.32 : 11.06) + weights};
}
template <class T>
double error_ratio(int tile, int64_t channels, int64_t runs) {
  const error_terms e = error_of<T>(tile);
  const double accumulations = double(parts_of(channels, runs) + runs - 1 + !fused);
  return e.amplification * (e.roundings + accumulations) / double(9 * channels + 2);
}
// Sums over channels are cut into runs that are summed apart: as few as bring the bound below 8 times the direct one.
template <class T>
int64_t run_length(int tile, int64_t channels) {
#pragma GCC unroll 1
  for (int64_t runs = 1; runs <= 8; runs++)
    if (error_ratio<T>(tile, channels, runs) <= 8) return parts_of(channels, runs);
  return minimum_of<int64_t>(channels, 16);
}

// The same for sums over the tiles of a gradient of that many positions: `blocks` blocks, each cut into runs.
template <class T>
double weight_error_ratio(int tile, int64_t positions, int64_t block, int64_t blocks, int64_t run) {
  const bool narrow = sizeof(T) == 4;  // whose result is rounded once
  const double roundings = tile == 2 ? (narrow ? 4 : 11) : narrow ? (fused ? 7.32 : 10.75) : fused ? 18.32 : 22.9;
  const double accumulations = double(run + blocks * parts_of(block, run) - 1 + !fused);
  return (tile == 2 ? 16 : 157.31) * (roundings + accumulations) / double(positions + 2);
}
template <class T>
int64_t weight_run_length(int tile, int64_t positions, int64_t block, int64_t blocks) {
#pragma GCC unroll 1
  for (int64_t runs = 1; runs <= 8; runs++) {
    const int64_t run = parts_of(block, runs);
    if (weight_error_ratio<T>(tile, positions, block, blocks, run) <= 8) return run;
  }
  return minimum_of<int64_t>(block, 16);
}

// ---- Weights ----

// Strips of output channels, each of (tile + 2)^2 planes (C, strip's width).
template <class T>
struct packed_weights {
  int64_t channels, vectors, strips, strip, size;  // strip, size: bytes
  __attribute__((noinline)) packed_weights(int tile, const direction& d) {
    channels = d.in_channels;
    vectors = parts_of(d.out_channels, lanes<T>);
    strips = parts_of(vectors, strip_vectors);
    strip = (tile + 2) * (tile + 2) * plane(0);
    size = (strips - 1) * strip + (tile + 2) * (tile + 2) * plane(strips - 1);
  }
  int64_t width(int64_t s) const { return minimum_of<int64_t>(strip_vectors, vectors - s * strip_vectors); }
  int64_t plane(int64_t s) const { return odd_lines(channels * width(s) * vector_bytes); }
};

constexpr int64_t weight_steps = 16;  // channels that are not in lanes, at a time
template <class T>
constexpr int64_t widest_strip = strip_vectors * lanes<T>;
template <class T>
using weight_block = T[weight_steps * widest_strip<T> * 9];

// Channels from c0, at most weight_steps, of strip s; to: the strip's first plane.
template <class T>
void pack_steps(int m, bool input_gradient, const direction& d, const conv_weights& w, const packed_weights<T>& layout,
                int64_t s, int64_t c0, char* to) {
  constexpr int64_t size = sizeof(T);
  const int64_t o0 = s * widest_strip<T>, width = layout.width(s) * lanes<T>, plane = layout.plane(s);
  const int64_t steps = minimum_of(weight_steps, d.in_channels - c0), some = minimum_of(width, d.out_channels - o0);
  alignas(64) weight_block<T> block, by_lane;  // by_lane: of a step and tap, the strip's channels in lanes
  const int64_t row = 9 * (input_gradient ? widest_strip<T> : weight_steps) * size;
  if (input_gradient) {
    copy_weights<T, false>(block, row / size, w, c0, o0, steps, some);
    for (int64_t c = 0; c < steps; c++)
      pack_rows(by_lane + c * 9 * width, width, (const char*)block + c * row, size, 9 * size, 9, some);
  } else {
    copy_weights<T, false>(block, row / size, w, o0, c0, some, steps);
    pack_rows(by_lane, width, (const char*)block, size, row, steps * 9, some);
  }
  to += c0 * width * size;
  for (int64_t c = 0; c < steps; c++)
    for (int64_t o = 0; o < width; o += lanes<double>, to += lanes<double> * size) {
      wide g[9];
      for (int t = 0; t < 9; t++)
        g[t] = widen<T>((const char*)(by_lane + (c * 9 + (input_gradient ? 8 - t : t)) * width + o));
      const auto store_plane = [&](int p, wide values) {
        const narrow<T> rounded = __builtin_convertvector(values, narrow<T>);
        memcpy(to + p * plane, &rounded, sizeof rounded);
      };
      m == 2 ? transform_weights<2>(g, store_plane) : transform_weights<4>(g, store_plane);
    }
}

template <class T>
void pack_weights(int m, bool input_gradient, const direction& d, const conv_weights& w, char* packed) {
  const packed_weights<T> layout(m, d);
  const int64_t chunks = parts_of(d.in_channels, weight_steps);
  parallel_for(layout.strips * chunks, [&](int64_t task) {
    const int64_t s = task / chunks, c0 = task % chunks * weight_steps;
    pack_steps<T>(m, input_gradient, d, w, layout, s, c0, packed + s * layout.strip);
  });
}

// ---- Products ----

// c = a @ b, or c += a @ b, summed in runs. a: (rows, depth) of any strides, in bytes; b: (depth, vectors * lanes),
// c: (rows, vectors * lanes), both contiguous.
template <class T>
using runs_kernel = void (*)(int64_t depth, int64_t run, const char* a, int64_t a_row, int64_t a_step, const char* b,
                             bool adds, char* c);

template <class T, int rows, int vectors>
void multiply_runs(int64_t depth, int64_t run, const char* a, int64_t a_row, int64_t a_step, const char* b, bool adds,
                   char* c) {
  constexpr int64_t ahead = 4096;
  const char* a_rows[(rows + 2) / 3];  // addressed as in matmul_tile.cpp
#pragma GCC unroll 16
  for (int i = 0; i < rows; i += 3) a_rows[i / 3] = a + i * a_row;
  for (int64_t k0 = 0; k0 < depth; k0 += run) {
    vec<T> sum[rows][vectors] = {};
    const int64_t k_end = minimum_of(depth, k0 + run);
    for (int64_t k = k0; k < k_end; k++, b += vectors * vector_bytes) {
      vec<T> b_row[vectors];
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++) {
        b_row[j] = load((const T*)b + j * lanes<T>);
        __builtin_prefetch(b + ahead + j * vector_bytes, 0, 2);
      }
#pragma GCC unroll 16
      for (int i = 0; i < rows; i++) {
        const T x = load_scalar<T>(a_rows[i / 3] + i % 3 * a_row);
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) sum[i][j] += x * b_row[j];
      }
#pragma GCC unroll 16
      for (int i = 0; i < rows; i += 3) a_rows[i / 3] += a_step;
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++) {
        T* const to = (T*)c + (i * vectors + j) * lanes<T>;
        store(to, adds ? load(to) + sum[i][j] : sum[i][j]);
      }
    adds = true;
  }
}

// Panels have one of three heights, with rows of zeros where nothing fits: fewer kernels.
template <class T>
struct panel_heights {
  static constexpr int low = vector_registers == 32 && lanes<T> > 2 ? 4 : 2, middle = vector_registers == 32 ? 8 : 4,
                       tall = vector_registers == 32 ? 14 : 6;
  // Of the first panel of `rows`, as number of the height.
  static int choose(int64_t rows) {
    if (rows <= low) return 0;
    if (rows <= middle || (rows <= middle + low && middle + low < tall)) return 1;
    return rows > tall && rows <= 2 * middle ? 1 : 2;
  }
  static int64_t height(int number) { return number == 0 ? low : number == 1 ? middle : tall; }
  // Rows that the panels of `rows` have.
  static int64_t padded(int64_t rows) {
    int64_t all = 0;
    while (all < rows) all += height(choose(rows - all));
    return all;
  }
};
template <class T>
struct runs_kernels {
  runs_kernel<T> by[strip_vectors][3];  // [vectors - 1][number of the height]
};
template <class T>
constexpr runs_kernels<T> run_products = {
    {{multiply_runs<T, panel_heights<T>::low, 1>, multiply_runs<T, panel_heights<T>::middle, 1>,
      multiply_runs<T, panel_heights<T>::tall, 1>},
     {multiply_runs<T, panel_heights<T>::low, 2>, multiply_runs<T, panel_heights<T>::middle, 2>,
      multiply_runs<T, panel_heights<T>::tall, 2>}}};

// ---- The whole ----

// Tiles are taken in blocks. Many: a thread transforms a block of its own and multiplies it with all weights. Few, or
// with many channels: threads transform a block together and share out the weights. Weights that meet all tiles in one
// block are packed strip by strip in the task that uses them, and stay in its core's caches.
template <class T>
struct plan {
  int64_t planes, tiles, block, blocks;
  bool shared, own_weights;
  int64_t in_row, in_plane, in_size;     // transformed input of a block: planes of a row for each tile
  int64_t out_row, out_plane, out_size;  // products of a block with one strip
  int64_t weights_size;                  // packed in the call: all strips, or a place's one
  __attribute__((noinline)) plan(int tile, const direction& d, bool packed) {
    const int64_t n = tile + 2;
    planes = n * n;
    tiles = d.batch * parts_of(d.out_height, tile) * parts_of(d.out_width, tile);
    in_row = odd_lines(round_up(d.in_channels, lanes<T>) * int64_t(sizeof(T)));
    const int64_t panel = panel_heights<T>::tall * n * n * in_row, in_cache = 512 * 1024;
    int64_t panels = maximum_of<int64_t>(1, minimum_of<int64_t>(4, in_cache / panel));
    while (panels > 1 && tiles < 16 * panels * panel_heights<T>::tall) panels /= 2;  // something for many threads
    block = panels * panel_heights<T>::tall;
    shared = panel > in_cache || parts_of(tiles, block) < 8;
    if (shared) block = 4 * panel_heights<T>::tall;
    blocks = parts_of(tiles, block);
    block = parts_of(tiles, blocks);
    const int64_t rows = panel_heights<T>::padded(block) + panel_heights<T>::tall;
    in_plane = odd_lines(rows * in_row);
    in_size = n * n * in_plane;
    out_row = strip_vectors * vector_bytes;
    out_plane = odd_lines(rows * out_row);
    out_size = n * n * out_plane;
    const packed_weights<T> weights(tile, d);
    own_weights = !packed && shared && blocks == 1 && weights.strips >= 4;
    weights_size = packed ? 0 : round_up(own_weights ? weights.strip : weights.size, 64);
  }
  int64_t for_places(int64_t places) const {
    return (own_weights ? places : 1) * weights_size + (shared ? 1 : places) * in_size + places * out_size + 64;
  }
};

template <class T>
struct convolution {
  int m;
  bool input_gradient;
  const direction& d;
  const conv_images &in, &out;
  const conv_weights& weight;
  const conv_store& after;
  const char* packed;
  plan<T> how;
  packed_weights<T> weights;
  int64_t run;

  // The transformed input of tiles [begin, end), channels [first, last), into v.
  __attribute__((noinline)) void transform_block(int64_t begin, int64_t end, int64_t first, int64_t last,
                                                 char* v) const {
    constexpr int64_t size = sizeof(T);
    for_segments(m, d, begin, end, [&](const segment& s, int64_t tile) {
      alignas(64) staged_inputs<T> staged;
      for (int64_t c = first; c < last; c += lanes<T>)
        (m == 2 ? transform_input<T, 2> : transform_input<T, 4>)(window_of<T>(m, 2, d, in, s, c, staged), s.tiles,
                                                                 v + tile * how.in_row + c * size, how.in_plane,
                                                                 how.in_row);
    });
    const int64_t tiles = end - begin, padding = panel_heights<T>::padded(tiles) - tiles;
    for (int p = 0; p < how.planes; p++)
      for (int64_t t = tiles; t < tiles + padding; t++)
        memset(v + p * how.in_plane + t * how.in_row + first * size, 0, size_t((last - first) * size));
  }

  // Their products with a strip of weights, and what becomes of these.
  __attribute__((noinline)) void multiply_block(int64_t begin, int64_t end, int64_t strip, const char* u, const char* v,
                                                char* products) const {
    const int64_t vectors = weights.width(strip), row = vectors * vector_bytes;
    for (int p = 0; p < how.planes; p++, u += weights.plane(strip))
      for (int64_t t = 0; t < end - begin;) {
        const int height = panel_heights<T>::choose(end - begin - t);
        run_products<T>.by[vectors - 1][height](d.in_channels, run, v + p * how.in_plane + t * how.in_row, how.in_row,
                                                sizeof(T), u, false, products + p * how.out_plane + t * row);
        t += panel_heights<T>::height(height);
      }
    for_segments(m, d, begin, end, [&](const segment& s, int64_t tile) {
      for (int64_t j = 0; j < vectors; j++) {
        const int64_t channel = (strip * strip_vectors + j) * lanes<T>;
        const vec<T> bias = after.bias ? load_padded<T, false>(after.bias + channel * after.bias_step, after.bias_step,
                                                               d.out_channels - channel, T(0))
                                       : vec<T>{};
        staged_outputs<T> staged;
        (m == 2 ? transform_output<T, 2> : transform_output<T, 4>)(s.tiles, products + tile * row + j * vector_bytes,
                                                                   how.out_plane, row, bias, staged);
        store_outputs<T>(m, d, after, out, s, channel, staged);
      }
    });
  }

  void compute(char* scratch, int64_t scratch_size) const {
    int64_t places = num_threads();
    while (places > 1 && how.for_places(places) > scratch_size) places--;
    scratch += -reinterpret_cast<intptr_t>(scratch) & 63;
    const char* u = packed;
    if (!packed && !how.own_weights) {
      pack_weights<T>(m, input_gradient, d, weight, scratch);
      u = scratch;
      scratch += how.weights_size;
    }
    const int64_t groups = parts_of(d.in_channels, lanes<T>);
    if (!how.shared)
      return parallel_for_places(how.blocks, places, [&](int64_t b, int64_t place) {
        const int64_t begin = b * how.block, end = minimum_of(how.tiles, begin + how.block);
        char* const own = scratch + place * (how.in_size + how.out_size);
        transform_block(begin, end, 0, groups * lanes<T>, own);
        for (int64_t s = 0; s < weights.strips; s++)
          multiply_block(begin, end, s, u + s * weights.strip, own, own + how.in_size);
      });
    const int64_t own_size = how.out_size + (how.own_weights ? how.weights_size : 0);
    for (int64_t begin = 0; begin < how.tiles; begin += how.block) {
      const int64_t end = minimum_of(how.tiles, begin + how.block);
      parallel_for(groups, [&](int64_t g) { transform_block(begin, end, g * lanes<T>, (g + 1) * lanes<T>, scratch); });
      parallel_for_places(weights.strips, places, [&](int64_t s, int64_t place) {
        char* const products = scratch + how.in_size + place * own_size;
        char* const own = products + how.out_size;
        if (how.own_weights)
          for (int64_t c = 0; c < d.in_channels; c += weight_steps)
            pack_steps<T>(m, input_gradient, d, weight, weights, s, c, own);
        multiply_block(begin, end, s, how.own_weights ? own : u + s * weights.strip, scratch, products);
      });
    }
  }
};

template <class T>
void convolve(int tile, bool input_gradient, const conv_shape& s, const conv_images& in, const conv_weights& weight,
              const char* packed, const conv_store& store, const conv_images& out, char* scratch,
              int64_t scratch_size) {
  const direction d = direction_of(input_gradient, s);
  const convolution<T> c{tile,
                         input_gradient,
                         d,
                         in,
                         out,
                         weight,
                         store,
                         packed,
                         plan<T>(tile, d, packed != nullptr),
                         packed_weights<T>(tile, d),
                         run_length<T>(tile, d.in_channels)};
  c.compute(scratch, scratch_size);
}

// ---- Weight gradient ------------------------------------------------------------------------------------------------

// Of the formula's three operands the weights are now the result, and tiles what is summed over:
//
//   gradient of g = G^T [ sum over tiles of (A out A^T) * (B^T d B) ] G

// G^T sums G of input channels [c, c_end), at most weight_steps, and `count` output channels from o.
template <class T>
void store_weights_gradient(int m, const char* sums, int64_t plane, int64_t width, const conv_weights& out, int64_t o,
                            int64_t count, int64_t c, int64_t c_end) {
  constexpr int64_t size = sizeof(T), row = 9 * weight_steps;
  alignas(64) weight_block<T> block, by_lane;
  T* to = by_lane;
  for (int64_t step = c; step < c_end; step++, to += 9 * width)
    for (int64_t lane = 0; lane < width; lane += lanes<double>) {
      const char* const from = sums + (step * width + lane) * size;
      const auto load_plane = [&](int p) { return widen<T>(from + p * plane); };
      wide g[9];
      m == 2 ? transform_weights_gradient<2>(load_plane, g) : transform_weights_gradient<4>(load_plane, g);
      for (int t = 0; t < 9; t++) {
        const narrow<T> rounded = __builtin_convertvector(g[t], narrow<T>);
        memcpy(to + t * width + lane, &rounded, sizeof rounded);
      }
    }
  pack_columns(block, 9 * (c_end - c), row, (const char*)by_lane, size, width * size, count, 9 * (c_end - c));
  copy_weights<T, true>(block, row, out, o, c, count, c_end - c);
}

// Both operands of a block of tiles are transformed into planes (tiles, channels of one vector or strip). For every
// strip of output channels and plane the products of all input channels are added to sums[strip][plane][input
// channel][strip's width], and after the last block transformed. With one block and many strips the sums are a thread's
// own.
template <class T>
struct weight_plan {
  int64_t planes, tiles, block, blocks, run;
  int64_t groups, vectors, strips;   // of input and output channels
  int64_t plane, in_size, out_size;  // of one vector's channels; of all
  int64_t sums_plane, sums_strip;
  bool own_sums;
  __attribute__((noinline)) weight_plan(int m, const direction& d) {
    planes = (m + 2) * (m + 2);
    tiles = d.batch * parts_of(d.out_height, m) * parts_of(d.out_width, m);
    groups = parts_of(d.in_channels, lanes<T>);
    vectors = parts_of(d.out_channels, lanes<T>);
    strips = parts_of(vectors, strip_vectors);
    const int64_t in_cache = 6 << 20;
    block = maximum_of<int64_t>(16, in_cache / (planes * (groups + vectors) * vector_bytes));
    block = parts_of(tiles, parts_of(tiles, block));
    blocks = parts_of(tiles, block);
    run = weight_run_length<T>(m, d.batch * d.out_height * d.out_width, block, blocks);
    plane = odd_lines(block * vector_bytes);
    in_size = groups * planes * plane;
    out_size = strips * planes * odd_lines(block * strip_vectors * vector_bytes);
    sums_plane = odd_lines(groups * lanes<T> * strip_vectors * vector_bytes);
    sums_strip = planes * sums_plane;
    own_sums = blocks == 1 && strips >= 8;
  }
  int64_t for_places(int64_t places) const {
    return in_size + out_size + (own_sums ? places : strips) * sums_strip + 64;
  }
};

template <class T>
void weight_gradient(int m, const direction& d, const conv_images& x, const conv_images& gradient,
                     const conv_weights& out, char* scratch, int64_t scratch_size) {
  const weight_plan<T> how(m, d);
  using heights = panel_heights<T>;
  constexpr int64_t panel = lanes<T> >= heights::middle ? heights::middle : heights::low;
  int64_t places = num_threads();
  while (places > 1 && how.for_places(places) > scratch_size) places--;
  scratch += -reinterpret_cast<intptr_t>(scratch) & 63;
  char* const transformed_gradient = scratch + how.in_size;
  char* const all_sums = transformed_gradient + how.out_size;
  direction unpadded = d;  // the gradient's own
  unpadded.in_channels = d.out_channels;
  unpadded.in_height = d.out_height;
  unpadded.in_width = d.out_width;
  unpadded.top = unpadded.left = 0;

  for (int64_t begin = 0; begin < how.tiles; begin += how.block) {
    const int64_t end = minimum_of(how.tiles, begin + how.block), tiles = end - begin;
    const bool first = begin == 0, last = end == how.tiles;
    const int64_t strip_plane = odd_lines(how.block * strip_vectors * vector_bytes);
    parallel_for(how.groups + how.vectors, [&](int64_t item) {
      alignas(64) staged_inputs<T> staged;
      for_segments(m, d, begin, end, [&](const segment& s, int64_t tile) {
        if (item < how.groups)
          (m == 2 ? transform_input<T, 2>
                  : transform_input<T, 4>)(window_of<T>(m, 2, d, x, s, item * lanes<T>, staged), s.tiles,
                                           scratch + item * how.planes * how.plane + tile * vector_bytes, how.plane,
                                           vector_bytes);
        else {
          const int64_t v = item - how.groups, s0 = v / strip_vectors;
          const int64_t width = minimum_of<int64_t>(strip_vectors, how.vectors - s0 * strip_vectors);
          (m == 2 ? transform_gradient<T, 2>
                  : transform_gradient<T, 4>)(window_of<T>(m, 0, unpadded, gradient, s, v * lanes<T>, staged), s.tiles,
                                              transformed_gradient + s0 * how.planes * strip_plane +
                                                  (tile * width + v % strip_vectors) * vector_bytes,
                                              strip_plane, width * vector_bytes);
        }
      });
    });

    const auto multiply = [&](int64_t strip, int64_t p, char* sums) {
      const int64_t width = minimum_of<int64_t>(strip_vectors, how.vectors - strip * strip_vectors);
      const char* const b = transformed_gradient + (strip * how.planes + p) * strip_plane;
      for (int64_t c = 0; c < how.groups * lanes<T>; c += panel)
        run_products<T>.by[width - 1][panel == panel_heights<T>::middle](
            tiles, how.run, scratch + (c / lanes<T> * how.planes + p) * how.plane + c % lanes<T> * int64_t(sizeof(T)),
            sizeof(T), vector_bytes, b, !first, sums + p * how.sums_plane + c * width * vector_bytes);
    };
    const auto finish = [&](int64_t strip, const char* sums, int64_t c_begin, int64_t c_end) {
      const int64_t width = minimum_of<int64_t>(strip_vectors, how.vectors - strip * strip_vectors);
      const int64_t o = strip * strip_vectors * lanes<T>, count = minimum_of(width * lanes<T>, d.out_channels - o);
      for (int64_t c = c_begin; c < c_end; c += weight_steps)
        store_weights_gradient<T>(m, sums, how.sums_plane, width * lanes<T>, out, o, count, c,
                                  minimum_of(c_end, c + weight_steps));
    };
    if (how.own_sums) {
      parallel_for_places(how.strips, places, [&](int64_t strip, int64_t place) {
        char* const sums = all_sums + place * how.sums_strip;
        for (int64_t p = 0; p < how.planes; p++) multiply(strip, p, sums);
        finish(strip, sums, 0, d.in_channels);
      });
      return;
    }
    parallel_for(how.strips * how.planes, [&](int64_t item) {
      multiply(item / how.planes, item % how.planes, all_sums + item / how.planes * how.sums_strip);
    });
    if (!last) continue;
    const int64_t chunk = weight_steps, chunks = parts_of(d.in_channels, chunk);
    parallel_for(how.strips * chunks, [&](int64_t item) {
      const int64_t c = item % chunks * chunk;
      finish(item / chunks, all_sums + item / chunks * how.sums_strip, c, minimum_of(d.in_channels, c + chunk));
    });
  }
}

}  // namespace

template <class T>
bool winograd_computes(const conv_shape& s, const conv_images& x, const conv_images& out) {
  const auto suits = [](const conv_images& images) { return channels_together<T>(images) || rows_together<T>(images); };
  if (s.groups != 1 || s.in[0] != 1 || s.out[0] != 1 || s.kernel[0] != 1 || s.padding[0] != 0) return false;
  for (int i = 1; i < 3; i++)
    if (s.kernel[i] != 3 || s.stride[i] != 1 || s.dilation[i] != 1 || s.padding[i] < 0 || s.padding[i] > 2)
      return false;
  return suits(x) && suits(out);
}

template <class T>
bool winograd_bound_holds(int tile, bool input_gradient, const conv_shape& s) {
  const int64_t channels = direction_of(input_gradient, s).in_channels;
  return error_ratio<T>(tile, channels, parts_of(channels, run_length<T>(tile, channels))) <= 8;
}

// Measured on Zen 4 with AVX-512 (docs/kernels/convolution_winograd.md). Transforms and packing take time by the
// vector, as products do, so that the numbers hold for other widths, too.
template <class T>
double winograd_cost(int tile, bool input_gradient, const conv_shape& s, bool packed) {
  const direction d = direction_of(input_gradient, s);
  const plan<T> how(tile, d, packed);
  const double in = double(d.in_channels), out = double(round_up(d.out_channels, lanes<T>));
  const double weights = double(how.planes) * in * out, tiles = double(round_up(how.tiles, 2));
  const bool far = !how.own_weights && weights * sizeof(T) >= 16 << 20;  // beyond the last-level cache
  const double pack = packed ? 0 : (how.own_weights ? 170 : 300) + double(how.planes) * (far ? 13 : 7);
  const double multiply = tiles * weights, read = double(how.blocks) * weights * (far ? 11 : 4);
  const double transform = tile == 2 ? tiles * (80 * in + 63 * out) : tiles * (270 * in + 225 * out);
  return 5e4 + maximum_of(multiply, read) + transform + in * out * pack;
}

template <class T>
int64_t winograd_weights_size(int tile, const conv_shape& s) {
  return maximum_of(packed_weights<T>(tile, direction_of(false, s)).size,
                    packed_weights<T>(tile, direction_of(true, s)).size);
}

template <class T>
void winograd_pack_weights(int tile, bool input_gradient, const conv_shape& s, const conv_weights& weight,
                           char* packed) {
  const direction d = direction_of(input_gradient, s);
  pack_weights<T>(tile, input_gradient, d, weight, packed);
}

template <class T>
int64_t winograd_scratch(int tile, bool input_gradient, const conv_shape& s, bool packed, int64_t threads) {
  return plan<T>(tile, direction_of(input_gradient, s), packed).for_places(threads);
}

template <class T>
void winograd_forward(int tile, const conv_shape& s, const conv_images& x, const conv_weights& weight,
                      const char* packed, const conv_store& store, const conv_images& out, char* scratch,
                      int64_t scratch_size) {
  convolve<T>(tile, false, s, x, weight, packed, store, out, scratch, scratch_size);
}

template <class T>
void winograd_input_gradient(int tile, const conv_shape& s, const conv_images& gradient, const conv_weights& weight,
                             const char* packed, const conv_store& store, const conv_images& out, char* scratch,
                             int64_t scratch_size) {
  convolve<T>(tile, true, s, gradient, weight, packed, store, out, scratch, scratch_size);
}

template <class T>
bool winograd_weight_bound_holds(int tile, const conv_shape& s) {
  const weight_plan<T> how(tile, direction_of(false, s));
  return weight_error_ratio<T>(tile, s.batch * volume(s.out), how.block, how.blocks, how.run) <= 8;
}

template <class T>
double winograd_weight_cost(int tile, const conv_shape& s) {
  const weight_plan<T> how(tile, direction_of(false, s));
  const double in = double(how.groups * lanes<T>), out = double(how.vectors * lanes<T>), tiles = double(how.tiles);
  const double sums = double(how.planes) * in * out;
  return 5e4 + sums * (tiles * 1.1 + double(how.blocks) * (sums * sizeof(T) > 4 << 20 ? 16 : 2)) +
         tiles * (tile == 2 ? 80 : 250) * (in + out) + in * out * (tile == 2 ? 180 : 290);
}

template <class T>
int64_t winograd_weight_gradient_scratch(int tile, const conv_shape& s, int64_t threads) {
  return weight_plan<T>(tile, direction_of(false, s)).for_places(threads);
}

template <class T>
void winograd_weight_gradient(int tile, const conv_shape& s, const conv_images& gradient, const conv_images& x,
                              const conv_weights& out, char* scratch, int64_t scratch_size) {
  weight_gradient<T>(tile, direction_of(false, s), x, gradient, out, scratch, scratch_size);
}

#define INSTANTIATE(T)                                                                                            \
  template bool winograd_computes<T>(const conv_shape&, const conv_images&, const conv_images&);                  \
  template bool winograd_bound_holds<T>(int, bool, const conv_shape&);                                            \
  template double winograd_cost<T>(int, bool, const conv_shape&, bool);                                           \
  template int64_t winograd_weights_size<T>(int, const conv_shape&);                                              \
  template void winograd_pack_weights<T>(int, bool, const conv_shape&, const conv_weights&, char*);               \
  template int64_t winograd_scratch<T>(int, bool, const conv_shape&, bool, int64_t);                              \
  template void winograd_forward<T>(int, const conv_shape&, const conv_images&, const conv_weights&, const char*, \
                                    const conv_store&, const conv_images&, char*, int64_t);                       \
  template void winograd_input_gradient<T>(int, const conv_shape&, const conv_images&, const conv_weights&,       \
                                           const char*, const conv_store&, const conv_images&, char*, int64_t);   \
  template bool winograd_weight_bound_holds<T>(int, const conv_shape&);                                           \
  template double winograd_weight_cost<T>(int, const conv_shape&);                                                \
  template int64_t winograd_weight_gradient_scratch<T>(int, const conv_shape&, int64_t);                          \
  template void winograd_weight_gradient<T>(int, const conv_shape&, const conv_images&, const conv_images&,       \
                                            const conv_weights&, char*, int64_t);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace hominy::HOMINY_LEVEL
