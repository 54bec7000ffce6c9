#include "conv_winograd.hpp"

#include "activation.hpp"
#include "conv_winograd_transform.hpp"
#include "parallel_for.hpp"
#include "vector_math.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t parts_of(int64_t size, int64_t part) { return (size + part - 1) / part; }
constexpr int64_t round_up(int64_t size, int64_t multiple) { return parts_of(size, multiple) * multiple; }
// An odd number of cache lines, so that rows fall into different sets.
constexpr int64_t odd_lines(int64_t bytes) { return (parts_of(bytes, 64) | 1) * 64; }

constexpr int strip_vectors = 2;                                // output channels of a register tile,
constexpr int64_t max_panel = vector_registers == 32 ? 14 : 6;  // and its positions
constexpr int64_t max_columns = 34;                             // of the image, transformed at a time

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
inline int64_t runs_of(int64_t runs, int64_t channels) { return parts_of(channels, parts_of(channels, runs)); }
template <class T>
double error_ratio(int tile, int64_t channels, int64_t runs) {
  const error_terms e = error_of<T>(tile);
  const double accumulations = double(parts_of(channels, runs) + runs - 1 + !fused);
  return e.amplification * (e.roundings + accumulations) / double(9 * channels + 2);
}
// Sums over channels are cut into runs that are summed apart: as few as bring the bound below 8 times the direct one.
template <class T>
int64_t run_length(int tile, int64_t channels) {
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
  packed_weights(int tile, const direction& d) {
    channels = d.in_channels;
    vectors = parts_of(d.out_channels, lanes<T>);
    strips = parts_of(vectors, strip_vectors);
    strip = (tile + 2) * (tile + 2) * plane(0);
    size = (strips - 1) * strip + (tile + 2) * (tile + 2) * plane(strips - 1);
  }
  int64_t width(int64_t s) const { return minimum_of<int64_t>(strip_vectors, vectors - s * strip_vectors); }
  int64_t plane(int64_t s) const { return odd_lines(channels * width(s) * vector_bytes); }
};

// The transform is computed in double, whatever T: one rounding.
template <class T, int m>
void pack_weights(bool input_gradient, const direction& d, const conv_weights& w, char* packed) {
  constexpr int n = m + 2;
  constexpr int64_t size = sizeof(T), group = lanes<double>;
  typedef vec<double> wide;
  typedef typename short_vector<T, int(group)>::type narrow;
  const packed_weights<T> layout(m, d);
  const int64_t lane_stride = input_gradient ? w.in : w.out, step_stride = input_gradient ? w.out : w.in;
  const int64_t chunk = 16, chunks = parts_of(d.in_channels, chunk);
  parallel_for(layout.strips * chunks, [&](int64_t task) {
    const int64_t s = task / chunks, c0 = task % chunks * chunk, width = layout.width(s) * lanes<T>,
                  plane = layout.plane(s);
    for (int64_t c = c0; c < minimum_of(d.in_channels, c0 + chunk); c++)
      for (int64_t o = 0; o < width; o += group) {
        const int64_t channel = s * strip_vectors * lanes<T> + o;
        const int64_t some = maximum_of<int64_t>(0, minimum_of(group, d.out_channels - channel));
        wide g[3][3], half[n][3];
        for (int y = 0; y < 3; y++)
          for (int x = 0; x < 3; x++) {
            const int64_t tap_y = input_gradient ? 2 - y : y, tap_x = input_gradient ? 2 - x : x;
            const char* from =
                w.data + c * step_stride + channel * lane_stride + tap_y * w.space[1] + tap_x * w.space[2];
            g[y][x] = wide{};
            for (int64_t l = 0; l < some; l++) g[y][x][l] = double(load_scalar<T>(from + l * lane_stride));
          }
        for (int x = 0; x < 3; x++) {
          const wide column[3] = {g[0][x], g[1][x], g[2][x]};
          wide t[n];
          winograd<m>::weights(column, t);
          for (int y = 0; y < n; y++) half[y][x] = t[y];
        }
        char* to = packed + s * layout.strip + (c * width + o) * size;
        for (int y = 0; y < n; y++) {
          wide t[n];
          winograd<m>::weights(half[y], t);
          for (int x = 0; x < n; x++, to += plane) {
            const wide scaled = t[x] * (winograd<m>::scale[y] * winograd<m>::scale[x]);
            const narrow rounded = __builtin_convertvector(scaled, narrow);
            memcpy(to, &rounded, sizeof rounded);
          }
        }
      }
  });
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
using staged_inputs = T[6 * max_columns * lanes<T>];

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
        store(to + c * lanes<T>, load_padded<T, true>(from + c * x.space[2], 0, channels, T(0)));
    } else {
      for (int64_t next = first; next < last; next += lanes<T>) {
        // The last ones overlap those before, if there are any.
        const int64_t c = maximum_of(first, minimum_of(next, last - lanes<T>));
        const char* const source = from + c * x.space[2];
        vec<T> square[lanes<T>];
        if (last - c >= lanes<T> && channels >= lanes<T>) {
#pragma GCC unroll 16
          for (int i = 0; i < lanes<T>; i++) square[i] = load((const T*)(source + i * x.channel));
          transpose<T>(square);
#pragma GCC unroll 16
          for (int i = 0; i < lanes<T>; i++) store(to + (c + i) * lanes<T>, square[i]);
        } else {
          const int64_t some = minimum_of<int64_t>(lanes<T>, last - c);
          for (int i = 0; i < lanes<T>; i++)
            square[i] = i < channels ? load_partial((const T*)(source + i * x.channel), some) : vec<T>{};
          transpose<T>(square);
          for (int64_t i = 0; i < some; i++) store(to + (c + i) * lanes<T>, square[i]);
        }
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
  for (int64_t k0 = 0; k0 < depth; k0 += run) {
    vec<T> sum[rows][vectors] = {};
    const int64_t k_end = minimum_of(depth, k0 + run);
    for (int64_t k = k0; k < k_end; k++, a += a_step, b += vectors * vector_bytes) {
      vec<T> b_row[vectors];
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++) {
        b_row[j] = load((const T*)b + j * lanes<T>);
        __builtin_prefetch(b + ahead + j * vector_bytes, 0, 2);
      }
#pragma GCC unroll 16
      for (int i = 0; i < rows; i++) {
        const T x = load_scalar<T>(a + i * a_row);
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) sum[i][j] += x * b_row[j];
      }
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

// by[vectors - 1][rows / 2 - 1]: panels have an even number of rows.
template <class T>
struct runs_kernels {
  runs_kernel<T> by[strip_vectors][max_panel / 2];
};
template <class T, int rows>
constexpr void fill(runs_kernels<T>& kernels) {
  kernels.by[0][rows / 2 - 1] = multiply_runs<T, rows, 1>;
  kernels.by[1][rows / 2 - 1] = multiply_runs<T, rows, 2>;
  if constexpr (rows > 2) fill<T, rows - 2>(kernels);
}
template <class T>
constexpr runs_kernels<T> all_runs() {
  runs_kernels<T> kernels{};
  fill<T, max_panel>(kernels);
  return kernels;
}
template <class T>
constexpr runs_kernels<T> run_products = all_runs<T>();

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
      if (r.data) {
        const char* from = address(r, y, c);
        for (int64_t i = 0; i < count; i++, from += residual_step)
          square[i] += residual_lane == int64_t(sizeof(T)) ? load_padded<T, true>(from, 0, width, T(0))
                                                           : load_padded<T, false>(from, residual_lane, width, T(0));
      }
      activate<T>(after.activation, (char*)square, vector_bytes, count, 1);
      for (int64_t i = 0; i < count; i++) store_lanes<T, true>(to + i * out_step, 0, square[i], width);
    }
}

// ---- The whole ----

// Tiles are taken in blocks. Many: a thread transforms a block of its own and multiplies it with all weights. Few, or
// with many channels: threads transform a block together and share out the weights.
template <class T>
struct plan {
  int64_t planes, tiles, block, blocks;
  bool shared;
  int64_t in_row, in_plane, in_size;     // transformed input of a block: planes of a row for each tile
  int64_t out_row, out_plane, out_size;  // products of a block with one strip
  plan(int tile, const direction& d) {
    const int64_t n = tile + 2;
    planes = n * n;
    tiles = d.batch * parts_of(d.out_height, tile) * parts_of(d.out_width, tile);
    in_row = odd_lines(round_up(d.in_channels, lanes<T>) * int64_t(sizeof(T)));
    const int64_t panel = max_panel * n * n * in_row, in_cache = 512 * 1024;
    const int64_t panels = maximum_of<int64_t>(1, minimum_of<int64_t>(4, in_cache / panel));
    block = panels * max_panel;
    shared = panel > in_cache || parts_of(tiles, block) < 8;
    if (shared) block = 4 * max_panel;
    blocks = parts_of(tiles, block);
    block = round_up(parts_of(tiles, blocks), 2);
    blocks = parts_of(tiles, block);
    in_plane = odd_lines(block * in_row);
    in_size = n * n * in_plane;
    out_row = strip_vectors * vector_bytes;
    out_plane = odd_lines(block * out_row);
    out_size = n * n * out_plane;
  }
  int64_t least() const { return in_size + out_size + 64; }
  int64_t for_workers(int64_t workers) const {
    return (shared ? in_size + workers * out_size : workers * (in_size + out_size)) + 64;
  }
};

// f(index, worker's number) for indices below `count`, `workers` at a time.
template <class F>
void share_out(int64_t workers, int64_t count, F f) {
  int64_t next = 0;
  parallel_for(minimum_of(workers, count), [&](int64_t worker) {
    for (;;) {
      const int64_t index = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
      if (index >= count) return;
      f(index, worker);
    }
  });
}

template <class T>
struct convolution {
  int m;
  const direction& d;
  const conv_images &in, &out;
  const conv_store& after;
  const char* packed;
  plan<T> how;
  packed_weights<T> weights;
  int64_t run;

  // The transformed input of tiles [begin, end), channels [first, last), into v.
  void transform_block(int64_t begin, int64_t end, int64_t first, int64_t last, char* v) const {
    constexpr int64_t size = sizeof(T);
    for_segments(m, d, begin, end, [&](const segment& s, int64_t tile) {
      alignas(64) staged_inputs<T> staged;
      for (int64_t c = first; c < last; c += lanes<T>)
        (m == 2 ? transform_input<T, 2> : transform_input<T, 4>)(window_of<T>(m, 2, d, in, s, c, staged), s.tiles,
                                                                 v + tile * how.in_row + c * size, how.in_plane,
                                                                 how.in_row);
    });
    if ((end - begin) & 1)  // what a panel's last row reads
      for (int p = 0; p < how.planes; p++)
        memset(v + p * how.in_plane + (end - begin) * how.in_row + first * size, 0, size_t((last - first) * size));
  }

  // Their products with a strip of weights, and what becomes of these.
  void multiply_block(int64_t begin, int64_t end, int64_t strip, const char* v, char* products) const {
    const int64_t vectors = weights.width(strip), row = vectors * vector_bytes;
    const int64_t pairs = parts_of(end - begin, 2), panels = parts_of(pairs, max_panel / 2);
    const char* u = packed + strip * weights.strip;
    for (int p = 0; p < how.planes; p++, u += weights.plane(strip))
      for (int64_t panel = 0; panel < panels; panel++) {
        const int64_t pair = pairs * panel / panels, height = pairs * (panel + 1) / panels - pair;
        run_products<T>.by[vectors - 1][height - 1](d.in_channels, run, v + p * how.in_plane + 2 * pair * how.in_row,
                                                    how.in_row, sizeof(T), u, false,
                                                    products + p * how.out_plane + 2 * pair * row);
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
    int64_t workers = num_threads();
    while (workers > 1 && how.for_workers(workers) > scratch_size) workers--;
    scratch += -reinterpret_cast<intptr_t>(scratch) & 63;
    const int64_t groups = parts_of(d.in_channels, lanes<T>);
    if (!how.shared)
      return share_out(workers, how.blocks, [&](int64_t b, int64_t worker) {
        const int64_t begin = b * how.block, end = minimum_of(how.tiles, begin + how.block);
        char* const own = scratch + worker * (how.in_size + how.out_size);
        transform_block(begin, end, 0, groups * lanes<T>, own);
        for (int64_t s = 0; s < weights.strips; s++) multiply_block(begin, end, s, own, own + how.in_size);
      });
    for (int64_t begin = 0; begin < how.tiles; begin += how.block) {
      const int64_t end = minimum_of(how.tiles, begin + how.block);
      parallel_for(groups, [&](int64_t g) { transform_block(begin, end, g * lanes<T>, (g + 1) * lanes<T>, scratch); });
      share_out(workers, weights.strips, [&](int64_t s, int64_t worker) {
        multiply_block(begin, end, s, scratch, scratch + how.in_size + worker * how.out_size);
      });
    }
  }
};

template <class T>
void convolve(int tile, const direction& d, const conv_images& in, const char* packed, const conv_store& store,
              const conv_images& out, char* scratch, int64_t scratch_size) {
  const convolution<T> c{tile,
                         d,
                         in,
                         out,
                         store,
                         packed,
                         plan<T>(tile, d),
                         packed_weights<T>(tile, d),
                         run_length<T>(tile, d.in_channels)};
  c.compute(scratch, scratch_size);
}

// ---- Weight gradient ------------------------------------------------------------------------------------------------

// Of the formula's three operands the weights are now the result, and tiles what is summed over:
//
//   gradient of g = G^T [ sum over tiles of (A out A^T) * (B^T d B) ] G

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

// G^T sums G of one input channel and `count` output channels; computed in double, whatever T.
template <class T, int m>
void transform_weights_gradient(const char* sums, int64_t plane, char* out, const conv_weights& w, int64_t count) {
  constexpr int n = m + 2;
  typedef vec<double> wide;
  typedef typename short_vector<T, lanes<double>>::type narrow;
  for (int64_t o = 0; o < count; o += lanes<double>) {
    wide half[3][n];
    for (int x = 0; x < n; x++) {
      wide down[n], transformed[3];
      for (int y = 0; y < n; y++) {
        narrow v;
        memcpy(&v, sums + (y * n + x) * plane + o * int64_t(sizeof(T)), sizeof v);
        down[y] = __builtin_convertvector(v, wide);
      }
      winograd<m>::weights_gradient(down, transformed);
      for (int y = 0; y < 3; y++) half[y][x] = transformed[y];
    }
    for (int y = 0; y < 3; y++) {
      wide transformed[3];
      winograd<m>::weights_gradient(half[y], transformed);
      for (int x = 0; x < 3; x++) {
        char* const to = out + o * w.out + y * w.space[1] + x * w.space[2];
        for (int64_t l = 0; l < minimum_of<int64_t>(lanes<double>, count - o); l++)
          store_scalar<T>(to + l * w.out, T(transformed[x][l]));
      }
    }
  }
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
  weight_plan(int m, const direction& d) {
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
  int64_t for_workers(int64_t workers) const {
    return in_size + out_size + (own_sums ? workers : strips) * sums_strip + 64;
  }
};

template <class T>
void weight_gradient(int m, const direction& d, const conv_images& x, const conv_images& gradient,
                     const conv_weights& out, char* scratch, int64_t scratch_size) {
  const weight_plan<T> how(m, d);
  constexpr int64_t widest = vector_registers / 4, panel = lanes<T> < widest ? lanes<T> : widest;
  int64_t workers = num_threads();
  while (workers > 1 && how.for_workers(workers) > scratch_size) workers--;
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
        run_products<T>.by[width - 1][panel / 2 - 1](
            tiles, how.run, scratch + (c / lanes<T> * how.planes + p) * how.plane + c % lanes<T> * int64_t(sizeof(T)),
            sizeof(T), vector_bytes, b, !first, sums + p * how.sums_plane + c * width * vector_bytes);
    };
    const auto finish = [&](int64_t strip, const char* sums, int64_t c_begin, int64_t c_end) {
      const int64_t width = minimum_of<int64_t>(strip_vectors, how.vectors - strip * strip_vectors);
      const int64_t o = strip * strip_vectors * lanes<T>, count = minimum_of(width * lanes<T>, d.out_channels - o);
      for (int64_t c = c_begin; c < c_end; c++)
        (m == 2 ? transform_weights_gradient<T, 2>
                : transform_weights_gradient<T, 4>)(sums + c * width * vector_bytes, how.sums_plane,
                                                    out.data + o * out.out + c * out.in, out, count);
    };
    if (how.own_sums) {
      share_out(workers, how.strips, [&](int64_t strip, int64_t worker) {
        char* const sums = all_sums + worker * how.sums_strip;
        for (int64_t p = 0; p < how.planes; p++) multiply(strip, p, sums);
        finish(strip, sums, 0, d.in_channels);
      });
      return;
    }
    parallel_for(how.strips * how.planes, [&](int64_t item) {
      multiply(item / how.planes, item % how.planes, all_sums + item / how.planes * how.sums_strip);
    });
    if (!last) continue;
    const int64_t chunk = 16, chunks = parts_of(d.in_channels, chunk);
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
  const plan<T> how(tile, d);
  const double in = double(d.in_channels), out = double(round_up(d.out_channels, lanes<T>));
  const double weights = double(how.planes) * in * out, tiles = double(round_up(how.tiles, 2));
  const bool far = weights * sizeof(T) > 16 << 20;  // beyond the last-level cache
  const double multiply = tiles * weights, read = double(how.blocks) * weights * (far ? 11 : 4);
  const double transform = tile == 2 ? tiles * (80 * in + 63 * out) : tiles * (270 * in + 225 * out);
  return 5e4 + maximum_of(multiply, read) + transform + (packed ? 0 : weights * (far ? 40 : 16));
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
  if (tile == 2)
    pack_weights<T, 2>(input_gradient, d, weight, packed);
  else
    pack_weights<T, 4>(input_gradient, d, weight, packed);
}

template <class T>
int64_t winograd_scratch(int tile, bool input_gradient, const conv_shape& s, int64_t threads) {
  return plan<T>(tile, direction_of(input_gradient, s)).for_workers(threads);
}

template <class T>
void winograd_forward(int tile, const conv_shape& s, const conv_images& x, const char* packed, const conv_store& store,
                      const conv_images& out, char* scratch, int64_t scratch_size) {
  convolve<T>(tile, direction_of(false, s), x, packed, store, out, scratch, scratch_size);
}

template <class T>
void winograd_input_gradient(int tile, const conv_shape& s, const conv_images& gradient, const char* packed,
                             const conv_store& store, const conv_images& out, char* scratch, int64_t scratch_size) {
  convolve<T>(tile, direction_of(true, s), gradient, packed, store, out, scratch, scratch_size);
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
         tiles * (tile == 2 ? 80 : 250) * (in + out) + in * out * (tile == 2 ? 350 : 600);
}

template <class T>
int64_t winograd_weight_gradient_scratch(int tile, const conv_shape& s, int64_t threads) {
  return weight_plan<T>(tile, direction_of(false, s)).for_workers(threads);
}

template <class T>
void winograd_weight_gradient(int tile, const conv_shape& s, const conv_images& gradient, const conv_images& x,
                              const conv_weights& out, char* scratch, int64_t scratch_size) {
  weight_gradient<T>(tile, direction_of(false, s), x, gradient, out, scratch, scratch_size);
}

#define INSTANTIATE(T)                                                                                                 \
  template bool winograd_computes<T>(const conv_shape&, const conv_images&, const conv_images&);                       \
  template bool winograd_bound_holds<T>(int, bool, const conv_shape&);                                                 \
  template double winograd_cost<T>(int, bool, const conv_shape&, bool);                                                \
  template int64_t winograd_weights_size<T>(int, const conv_shape&);                                                   \
  template void winograd_pack_weights<T>(int, bool, const conv_shape&, const conv_weights&, char*);                    \
  template int64_t winograd_scratch<T>(int, bool, const conv_shape&, int64_t);                                         \
  template void winograd_forward<T>(int, const conv_shape&, const conv_images&, const char*, const conv_store&,        \
                                    const conv_images&, char*, int64_t);                                               \
  template void winograd_input_gradient<T>(int, const conv_shape&, const conv_images&, const char*, const conv_store&, \
                                           const conv_images&, char*, int64_t);                                        \
  template bool winograd_weight_bound_holds<T>(int, const conv_shape&);                                                \
  template double winograd_weight_cost<T>(int, const conv_shape&);                                                     \
  template int64_t winograd_weight_gradient_scratch<T>(int, const conv_shape&, int64_t);                               \
  template void winograd_weight_gradient<T>(int, const conv_shape&, const conv_images&, const conv_images&,            \
                                            const conv_weights&, char*, int64_t);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace hominy::HOMINY_LEVEL
