// The forward pass and the input gradient are one sampled product each, or one for every phase of the stride:
//
//   product_forward, product_input_gradient   say what is sampled
//     run_product                             chooses the direction, deals blocks of positions x channels to threads
//       multiply_across, multiply_down        one block: packs patches, walks over k, strips and panels
//         run_tile                            one tile: conv_product_tile.hpp
#include "conv_product.hpp"

#include "conv_product_tile.hpp"
#include "conv_rows.hpp"
#include "parallel_for.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

template <class T>
constexpr int64_t deepest_block = 2048 / sizeof(T);  // of k: a strip of it is 64 KB
template <class T>
constexpr int64_t strip_width = 2 * lanes<T>;
constexpr int64_t strips_in_cache = 6;       // of patches, beside a panel of weights
constexpr int64_t panels_in_cache = 16;      // of patches, beside a strip of weights
constexpr int64_t shortest_run = 6;          // of positions that is worth rows of its own
constexpr int64_t wanted_tasks = 8;          // a product is cut so far where it can be
constexpr double least_task = 1 << 18;       // multiply-adds that repay handing a task to a thread
constexpr int64_t channels_a_packing = 256;  // that repay packing the same patches once more
constexpr int64_t fetched_ahead = 256;       // bytes of a row of weights

// out[n, g channels + o, first + q step] = store(sum over k channel, tap of weight x sample), for every position q.
struct sampled_product {
  sampling from;  // of the first group
  int64_t groups, channels, from_group;
  const char* weights;  // at the first tap
  int64_t weight_group, weight_channel, weight_depth, weight_tap[3];
  conv_images out;
  int64_t first[3], step[3];
  conv_store store;
};

int64_t greatest_common_divisor(int64_t a, int64_t b) {
  while (b != 0) {
    const int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

sampled_product forward_product(const conv_shape& shape, const conv_images& x, const conv_weights& weight,
                                const conv_store& store, const conv_images& out) {
  sampled_product p{};
  p.from.batch = shape.batch;
  p.from.channels = shape.in_channels;
  p.from.in = x;
  p.from_group = shape.in_channels * x.channel;
  p.groups = shape.groups;
  p.channels = shape.out_channels;
  p.weights = weight.data;
  p.weight_group = shape.out_channels * weight.out;
  p.weight_channel = weight.out;
  p.weight_depth = weight.in;
  p.out = out;
  p.store = store;
  for (int d = 0; d < 3; d++) {
    p.from.axis[d] = {shape.out[d],      shape.stride[d],   shape.kernel[d],
                      -shape.padding[d], shape.dilation[d], shape.in[d]};
    p.weight_tap[d] = weight.space[d];
    p.step[d] = 1;
  }
  return p;
}

// f(product) for every phase of the stride: positions phase, phase + stride ... of the result meet the same taps, those
// with (phase + padding - tap dilation) a multiple of the stride, which read the gradient at that many strides.
template <class F>
void for_phases(const conv_shape& shape, const conv_images& gradient, const conv_weights& weight,
                const conv_store& store, const conv_images& out, F f) {
  sampled_product p{};
  p.from.batch = shape.batch;
  p.from.channels = shape.out_channels;
  p.from.in = gradient;
  p.from_group = shape.out_channels * gradient.channel;
  p.groups = shape.groups;
  p.channels = shape.in_channels;
  p.weight_group = shape.out_channels * weight.out;
  p.weight_channel = weight.in;
  p.weight_depth = weight.out;
  p.out = out;
  p.store = store;
  const auto set_axis = [&](int d, int64_t phase) {
    const int64_t stride = shape.stride[d], dilation = shape.dilation[d];
    const int64_t common = greatest_common_divisor(stride, dilation), period = stride / common;  // of taps in a phase
    int64_t tap = 0;
    while (tap < minimum_of(period, shape.kernel[d]) && (phase + shape.padding[d] - tap * dilation) % stride != 0)
      tap++;
    const int64_t taps = tap < minimum_of(period, shape.kernel[d]) ? parts_of(shape.kernel[d] - tap, period) : 0;
    const int64_t last = tap + (taps - 1) * period;  // taps run backwards, so that elements run forwards
    p.from.axis[d] = {(shape.in[d] - phase - 1) / stride + 1,
                      1,
                      taps,
                      taps ? (phase + shape.padding[d] - last * dilation) / stride : 0,
                      dilation / common,
                      shape.out[d]};
    p.weight_tap[d] = -period * weight.space[d];
    p.first[d] = phase;
    p.step[d] = stride;
    return taps ? last * weight.space[d] : 0;
  };
  for (int64_t i = 0; i < minimum_of(shape.stride[0], shape.in[0]); i++) {
    const int64_t at0 = set_axis(0, i);
    for (int64_t j = 0; j < minimum_of(shape.stride[1], shape.in[1]); j++) {
      const int64_t at1 = set_axis(1, j);
      for (int64_t k = 0; k < minimum_of(shape.stride[2], shape.in[2]); k++) {
        const int64_t at2 = set_axis(2, k);
        p.weights = weight.data + at0 + at1 + at2;
        f(p);
      }
    }
  }
}

// ---- The plan: from shapes and strides alone ------------------------------------------------------------------------

// How positions down find their patches.
enum class patches {
  in_place,  // a patch is one position, and all of them are inside
  in_rows,   // of an image, copied with zeros at their ends: a patch is a piece of each of a few rows
  packed     // patch by patch: short rows
};

// How positions across find their weights.
enum class weight_source {
  rows,    // in place: a channel's are contiguous in the order of k = (channel, tap); a piece is a cache line
  column,  // in place: one tap, a channel's are a stride apart
  pieces,  // in place: the taps of one k channel are contiguous
  packed   // copied row by row, then read as rows
};

struct plan {
  bool across, streaming;
  weight_source kind;  // across
  patches source;      // down
  int64_t depth, k_block;
  // A block of positions: so many, all of one row of the result where there are several blocks a row.
  int64_t positions, block_positions, blocks, blocks_a_row, channel_parts;
  int64_t pieces, piece_length;               // of a patch (down), of a channel's weights (across)
  image_rows rows;                            // in_rows
  int64_t tasks, weights_size, task_scratch;  // bytes

  int64_t block_begin(int64_t block, int64_t row_length) const {
    if (blocks_a_row == 1) return block * block_positions;
    return block / blocks_a_row * row_length + block % blocks_a_row * block_positions;
  }
  int64_t block_end(int64_t block, int64_t row_length) const {
    const int64_t end = block_begin(block, row_length) + block_positions;
    return minimum_of(end, blocks_a_row == 1 ? positions : (block / blocks_a_row + 1) * row_length);
  }
};

template <class T>
bool runs_across(const sampled_product& x, bool packed) {
  if (!channels_together<T>(x.from.in) || !channels_together<T>(x.out)) return true;
  if (x.channels <= lanes<T> / 2) return true;
  return !packed && x.from.positions() <= x.channels / 2;
}

template <class T>
bool contiguous_taps(const sampled_product& x) {
  int64_t stride = sizeof(T);
  for (int d = 2; d >= 0; d--) {
    if (x.from.axis[d].taps != 1 && x.weight_tap[d] != stride) return false;
    stride *= x.from.axis[d].taps;
  }
  return true;
}
template <class T>
bool contiguous_weights(const sampled_product& x) {
  return contiguous_taps<T>(x) && (x.from.channels == 1 || x.weight_depth == x.from.taps() * int64_t(sizeof(T)));
}

// The same product with taps in the order of the weights' memory.
sampled_product taps_forward(sampled_product x) {
  for (int d = 0; d < 3; d++) {
    sampled_axis& axis = x.from.axis[d];
    if (x.weight_tap[d] >= 0 || axis.taps == 0) continue;
    axis.offset += (axis.taps - 1) * axis.offset_step;
    axis.offset_step = -axis.offset_step;
    x.weights += (axis.taps - 1) * x.weight_tap[d];
    x.weight_tap[d] = -x.weight_tap[d];
  }
  return x;
}

template <class T>
weight_source kind_of_weights(const sampled_product& x) {
  if (contiguous_weights<T>(x)) return weight_source::rows;
  if (x.from.taps() == 1) return weight_source::column;
  return contiguous_taps<T>(x) && x.from.taps() > 0 && x.from.taps() <= deepest_block<T> ? weight_source::pieces
                                                                                         : weight_source::packed;
}

template <class T>
bool patches_in_place(const sampled_product& x) {
  for (int d = 0; d < 3; d++) {
    const sampled_axis& axis = x.from.axis[d];
    if (axis.taps != 1 || axis.offset < 0 || (axis.count - 1) * axis.step + axis.offset >= axis.extent) return false;
  }
  // Rows half a page apart would fight for the same lines of the first-level cache.
  return x.from.axis[2].step * x.from.in.space[2] % 2048 != 0;
}

template <class T>
plan make_plan(const sampled_product& x, bool packed) {
  constexpr int64_t size = sizeof(T);
  plan how{};
  how.across = runs_across<T>(x, packed);
  how.depth = x.from.depth();
  how.k_block = how.depth ? parts_of(how.depth, parts_of(how.depth, deepest_block<T>)) : 0;
  how.positions = x.from.positions();
  if (how.positions == 0 || x.channels == 0) return how;
  const double work = double(how.positions) * double(x.channels) * double(how.depth);
  const int64_t wanted = tasks_worth(work * double(x.groups), least_task, wanted_tasks - 1) + 1;
  const int64_t unit = how.across ? strip_width<T> : max_tile_rows;
  const int64_t most = how.across ? strips_in_cache * unit : panels_in_cache * unit;
  // Where weights are more than patches they are read once, and it is channels that are dealt out.
  const bool few = how.across && how.positions < x.channels;
  const int64_t cut = few ? 1 : minimum_of(parts_of(wanted, x.groups), parts_of(how.positions, unit));
  const int64_t row_length = x.from.axis[2].count;
  how.blocks_a_row = 1;
  how.block_positions = minimum_of(most, round_up(parts_of(how.positions, cut), unit));
  how.block_positions = round_up(parts_of(how.positions, parts_of(how.positions, how.block_positions)), unit);
  how.blocks = parts_of(how.positions, how.block_positions);
  if (how.across) {
    how.kind = kind_of_weights<T>(taps_forward(x));
    if (how.kind == weight_source::packed) how.weights_size = x.groups * x.channels * packed_row<T>(how.depth);
    if (how.kind == weight_source::pieces) {
      how.piece_length = x.from.taps();
      how.pieces = deepest_block<T> / how.piece_length;
      how.k_block = how.pieces * how.piece_length;
    } else {
      how.piece_length = 64 / size;
      how.pieces = parts_of(how.k_block, how.piece_length);
    }
    how.task_scratch = how.block_positions * how.k_block * size + max_tile_rows * packed_row<T>(how.k_block) +
                       how.pieces * int64_t(sizeof(int64_t));
  } else {
    how.weights_size = x.groups * round_up(x.channels, lanes<T>) * how.depth * size;
    const int64_t run = minimum_of(row_length, most);
    if (patches_in_place<T>(x)) {
      how.source = patches::in_place;
      how.k_block = how.depth;
      how.pieces = 1;
      how.piece_length = how.depth;
    } else if (row_length >= shortest_run && how.depth > 0 && how.rows.plan<T>(x.from, run)) {
      how.source = patches::in_rows;
      how.pieces = how.rows.pieces;
      how.piece_length = how.rows.piece_length;
      how.k_block = how.depth;
      if (row_length > most) {
        how.blocks_a_row = parts_of(row_length, most);
        how.block_positions = parts_of(row_length, how.blocks_a_row);
        how.blocks = how.positions / row_length * how.blocks_a_row;
        how.task_scratch = how.rows.run_pitch;
      } else {
        const int64_t fitting = minimum_of(most / row_length, rows_in_cache / how.rows.run_pitch);
        const int64_t all_rows = how.positions / row_length;
        const int64_t rows = maximum_of<int64_t>(1, minimum_of(fitting, all_rows / minimum_of(cut, all_rows)));
        how.block_positions = rows * row_length;
        how.blocks = parts_of(how.positions, how.block_positions);
        how.task_scratch = rows * how.rows.run_pitch;
      }
    } else {
      how.source = patches::packed;
      how.pieces = 1;
      how.task_scratch = how.block_positions * packed_row<T>(how.k_block);
    }
    how.task_scratch = round_up(how.task_scratch, 64) + how.pieces * int64_t(sizeof(int64_t));
  }
  const double results = double(how.positions) * double(x.channels) * double(x.groups) * double(size);
  how.streaming = how.k_block >= how.depth && results >= streamed_bytes;
  const int64_t position_tasks = how.blocks * x.groups;
  const int64_t channel_units = parts_of(x.channels, how.across ? max_tile_rows : strip_width<T>);
  const int64_t repaid = few ? parts_of(x.channels, channels_a_packing) : parts_of(channel_units, 2);
  how.channel_parts = maximum_of<int64_t>(1, minimum_of(repaid, wanted / maximum_of<int64_t>(position_tasks, 1)));
  how.tasks = position_tasks * how.channel_parts;
  how.weights_size = round_up(how.weights_size, 64);
  how.task_scratch = round_up(how.task_scratch, 64);
  return how;
}

// ---- Weights --------------------------------------------------------------------------------------------------------

// Strips of channels: [group][strip][k][width], k = (tap, channel), the last strip as wide as the vectors it needs.
template <class T>
void pack_strips(const sampled_product& x, const plan& how, char* packed) {
  constexpr int64_t size = sizeof(T);
  const int64_t group_size = round_up(x.channels, lanes<T>) * how.depth * size, taps = x.from.taps();
  const int64_t strips = parts_of(x.channels, strip_width<T>), deep = x.from.channels;
  const bool by_row = contiguous_weights<T>(x) && x.weight_depth != size;  // (channel, tap) contiguous
  parallel_for(x.groups * strips, [&](int64_t item) {
    const int64_t j = item % strips * strip_width<T>;
    const int64_t columns = minimum_of(strip_width<T>, x.channels - j);
    const int64_t width = round_up(columns, lanes<T>);
    const char* from = x.weights + item / strips * x.weight_group + j * x.weight_channel;
    T* const to = (T*)(packed + item / strips * group_size + j * how.depth * size);
    if (by_row) {  // squares of k x channels are transposed, their rows put where (tap, channel) wants them
      for (int64_t j0 = 0; j0 < width; j0 += lanes<T>)
        for (int64_t k0 = 0; k0 < how.depth; k0 += lanes<T>) {
          const int64_t rows = minimum_of<int64_t>(lanes<T>, how.depth - k0);
          vec<T> square[lanes<T>] = {};
          for (int64_t i = 0; i < lanes<T> && j0 + i < columns; i++) {
            const T* p = (const T*)(from + (j0 + i) * x.weight_channel) + k0;
            square[i] = rows == lanes<T> ? load(p) : load_partial(p, rows);
          }
          transpose<T>(square);
          int64_t channel = k0 / taps, tap = k0 % taps;
          for (int64_t i = 0; i < rows; i++) {
            store(to + (tap * deep + channel) * width + j0, square[i]);
            if (++tap == taps) {
              tap = 0;
              channel++;
            }
          }
        }
      return;
    }
    T* row = to;
    for (int64_t t0 = 0; t0 < x.from.axis[0].taps; t0++)
      for (int64_t t1 = 0; t1 < x.from.axis[1].taps; t1++)
        for (int64_t t2 = 0; t2 < x.from.axis[2].taps; t2++, row += deep * width)
          pack_rows(row, width, from + t0 * x.weight_tap[0] + t1 * x.weight_tap[1] + t2 * x.weight_tap[2],
                    x.weight_depth, x.weight_channel, deep, columns);
  });
}

// Rows of channels: [group][channel][k], k = (channel, tap).
template <class T>
void pack_weight_rows(const sampled_product& x, const plan& how, char* packed) {
  parallel_for(x.groups * x.channels, [&](int64_t row) {
    T* to = (T*)(packed + row * packed_row<T>(how.depth));
    const char* from = x.weights + row / x.channels * x.weight_group + row % x.channels * x.weight_channel;
    for (int64_t c = 0; c < x.from.channels; c++, from += x.weight_depth)
      for (int64_t t0 = 0; t0 < x.from.axis[0].taps; t0++)
        for (int64_t t1 = 0; t1 < x.from.axis[1].taps; t1++) {
          const char* p = from + t0 * x.weight_tap[0] + t1 * x.weight_tap[1];
          for (int64_t t2 = 0; t2 < x.from.axis[2].taps; t2++) *to++ = load_scalar<T>(p + t2 * x.weight_tap[2]);
        }
  });
}

// ---- One block ------------------------------------------------------------------------------------------------------

constexpr int64_t most_positions = 256;  // of a block
template <class T>
constexpr int64_t most_dots = dot_columns / 2 < lanes<T> ? dot_columns / 2 : 1;  // positions
constexpr int64_t least_dot = 128;                                               // of k
static_assert(strips_in_cache * 2 * 16 <= most_positions && panels_in_cache * max_tile_rows <= most_positions);

// The positions of a block, and where they lie in the result and in the residual.
struct block_positions {
  position_run runs[most_positions];
  int64_t run_count, count, out_at[most_positions], residual_at[most_positions], in_at[most_positions];
  block_positions(const sampled_product& x, int64_t begin, int64_t positions, bool in_place) {
    count = positions;
    run_count = find_runs(x.from, begin, positions, runs);
    locate(runs, run_count, x.out, x.first, x.step, out_at);
    if (x.store.residual.data) locate(runs, run_count, x.store.residual, x.first, x.step, residual_at);
    if (!in_place) return;
    const int64_t offset[3] = {x.from.axis[0].offset, x.from.axis[1].offset, x.from.axis[2].offset};
    const int64_t step[3] = {x.from.axis[0].step, x.from.axis[1].step, x.from.axis[2].step};
    locate(runs, run_count, x.from.in, offset, step, in_at);
  }
  // The runs of positions [begin, begin + n) alone, counted from begin.
  int64_t part(int64_t begin, int64_t n, position_run* some) const {
    int64_t found = 0;
    for (int64_t r = 0; r < run_count; r++) {
      const int64_t low = maximum_of(runs[r].first, begin);
      const int64_t high = minimum_of(runs[r].first + runs[r].count, begin + n);
      if (low >= high) continue;
      some[found] = runs[r];
      some[found].q[2] += low - runs[r].first;
      some[found].first = low - begin;
      some[found++].count = high - low;
    }
    return found;
  }
};

// Packed patches of up to strip_width positions, as [k][position] for a tile, or as [position][k] for dot products: of
// 49 positions, the last takes a sixteenth of a vector.
template <class T>
struct patch_strip {
  int64_t first, columns, vectors;
  bool by_dots, dense;
  T* data;
};

// The strips of a block: as wide as they can be, the last few positions by dots where that pays.
template <class T>
int64_t find_strips(const block_positions& block, bool dots_allowed, int64_t k, T* data, patch_strip<T>* strips) {
  int64_t count = 0;
  for (int64_t j = 0; j < block.count;) {
    int64_t columns = minimum_of(strip_width<T>, block.count - j);
    const int64_t beyond = columns % lanes<T>;
    if (dots_allowed && beyond > 0 && beyond <= most_dots<T> && columns > beyond) columns -= beyond;
    const bool by_dots = dots_allowed && columns <= most_dots<T>;
    const int64_t vectors = parts_of(columns, lanes<T>);
    strips[count++] = {j, columns, vectors, by_dots, evenly_spaced(block.out_at + j, columns, sizeof(T)), data};
    data += (by_dots ? columns : vectors * lanes<T>)*k;
    j += columns;
  }
  return count;
}

// x is one group's.
template <class T>
void multiply_across(const sampled_product& x, const plan& how, const char* weights, int64_t weight_row, int64_t begin,
                     int64_t positions, int64_t panel, int64_t panel_end, const panel_list& panels, char* scratch) {
  constexpr int64_t size = sizeof(T), width = strip_width<T>;
  const block_positions block(x, begin, positions, false);
  const bool transposed = channels_together<T>(x.from.in) && !rows_together<T>(x.from.in);
  const bool in_rows = how.kind == weight_source::rows || how.kind == weight_source::packed;
  const bool rows_collide = in_rows && weight_row % 4096 == 0;  // all in one set of the first-level cache
  const int64_t taps = how.kind == weight_source::pieces ? how.piece_length : 1;
  const int64_t piece_step = how.kind == weight_source::pieces ? x.weight_depth : 64;
  const int64_t ahead = how.kind == weight_source::pieces ? x.weight_depth : fetched_ahead;
  char* const copied = scratch + how.block_positions * how.k_block * size;
  int64_t* const offset = (int64_t*)(copied + max_tile_rows * packed_row<T>(how.k_block));
  for (int64_t i = 0; i < how.pieces; i++) offset[i] = i * piece_step;
  int64_t row_at[max_tile_rows], residual_row_at[max_tile_rows];
  alignas(64) T initial[max_tile_rows * width] = {};
  for (int64_t k0 = 0; k0 < how.depth || k0 == 0; k0 += how.k_block) {
    const int64_t k = minimum_of(how.k_block, how.depth - k0);
    patch_strip<T> strips[most_positions / width + 2];
    const int64_t strip_count = find_strips(block, in_rows && k >= least_dot, k, (T*)scratch, strips);
    for (int64_t s = 0; s < strip_count; s++) {
      const patch_strip<T>& strip = strips[s];
      const int64_t padded = strip.by_dots ? 1 : strip.vectors * lanes<T>, step = minimum_of(strip.columns, padded);
      if (step < padded)
        for (int64_t p = 0; p < k; p++) store(strip.data + p * padded + padded - lanes<T>, vec<T>{});
      for (int64_t j = 0; j < strip.columns; j += step) {
        position_run runs[width];
        const int64_t run_count = block.part(strip.first + j, step, runs);
        if (transposed)
          pack_patch_columns_transposed(strip.data + j * k, padded, x.from, runs, run_count, step, k0, k0 + k);
        else
          pack_patch_columns(strip.data + j * k, padded, x.from, runs, run_count, k0, k0 + k);
      }
    }
    for (int64_t r = panel; r < panel_end; r++) {
      const int64_t i0 = panels.begin(r), rows = panels.rows(r);
      const char* a = weights + i0 * weight_row + (in_rows ? k0 * size : k0 / taps * x.weight_depth);
      const int64_t a_step = how.kind == weight_source::column ? x.weight_depth : size;
      int64_t a_row = weight_row;
      if (rows_collide && rows > 4 && !strips[0].by_dots) {
        a_row = packed_row<T>(how.k_block);
        for (int64_t i = 0; i < rows; i++) copy_elements((T*)(copied + i * a_row), (const T*)(a + i * weight_row), k);
        a = copied;
      }
      for (int64_t i = 0; i < rows; i++) {
        row_at[i] = (i0 + i) * x.out.channel;
        residual_row_at[i] = (i0 + i) * x.store.residual.channel;
        if (!x.store.bias) continue;
        const vec<T> bias = broadcast(load_scalar<T>(x.store.bias + (i0 + i) * x.store.bias_step));
        for (int64_t j = 0; j < width; j += lanes<T>) store(initial + i * width + j, bias);
      }
      for (int64_t s = 0; s < strip_count; s++) {
        const patch_strip<T>& strip = strips[s];
        const tile_frame<T> tile{rows,
                                 strip.columns,
                                 strip.vectors,
                                 k0 == 0,
                                 k0 + k == how.depth,
                                 strip.dense,
                                 true,
                                 how.streaming,
                                 initial,
                                 x.store.bias ? width * size : 0,
                                 x.out.channel,
                                 x.store.activation};
        const char* b = (const char*)strip.data;
        run_tile<T>(tile, {x.out.data, row_at, block.out_at + strip.first},
                    {x.store.residual.data, residual_row_at, block.residual_at + strip.first},
                    [&](const char* start, int64_t start_row, char* c, int64_t c_row) {
                      if (strip.by_dots)
                        add_dots<T>(rows, strip.columns, k, a, a_row, b, start, start_row, c, c_row);
                      else if (how.kind == weight_source::column)
                        tiles<T>().by[strip.vectors - 1][rows](k, a, a_row, a_step, b, strip.vectors * vector_bytes, 0,
                                                               start, start_row, c, c_row);
                      else
                        piecewise_tiles<T>().by[strip.vectors][rows](k, offset, how.piece_length, a, a_row, size, ahead,
                                                                     b, strip.vectors * vector_bytes, start, start_row,
                                                                     c, c_row);
                    });
      }
    }
    if (k == 0) break;
  }
}

// Positions down: neighbours in the result whose patches are `pitch` apart.
struct position_panel {
  int64_t first, rows;
  const char* a;
};

template <class T>
void multiply_down(const sampled_product& x, const plan& how, const char* strips, int64_t begin, int64_t positions,
                   int64_t channel, int64_t channel_end, char* scratch) {
  constexpr int64_t size = sizeof(T);
  const block_positions block(x, begin, positions, how.source == patches::in_place);
  position_panel panels[most_positions];
  bool even[most_positions];
  int64_t panel_count = 0, pitch;
  const auto add_panels = [&](int64_t first, int64_t count, const char* a) {
    const panel_list list(count);
    for (int64_t r = 0; r < list.count; r++) {
      const int64_t at = first + list.begin(r);
      even[panel_count] = how.source == patches::in_rows ||  // a panel is of one run
                          evenly_spaced(block.out_at + at, list.rows(r), x.step[2] * x.out.space[2]);
      panels[panel_count++] = {at, list.rows(r), a + list.begin(r) * pitch};
    }
  };
  int64_t* const offset = (int64_t*)(scratch + how.task_scratch - round_up(how.pieces * 8, 64));
  offset[0] = 0;
  if (how.source == patches::in_place) {
    pitch = x.from.axis[2].step * x.from.in.space[2];
    for (int64_t i = 0, end; i < positions; i = end) {
      for (end = i + 1; end < positions && block.in_at[end] - block.in_at[end - 1] == pitch; end++) {
      }
      add_panels(i, end - i, x.from.in.data + block.in_at[i]);
    }
  } else if (how.source == patches::in_rows) {
    pitch = x.from.axis[2].step * how.rows.pixel_pitch;
    how.rows.place_pieces(x.from, offset);
    const char* at[most_positions];
    how.rows.copy<T>(x.from, block.runs, block.run_count, scratch, at);
    for (int64_t r = 0; r < block.run_count; r++) add_panels(block.runs[r].first, block.runs[r].count, at[r]);
  } else {
    pitch = packed_row<T>(how.k_block);
    add_panels(0, positions, scratch);
  }
  int64_t column_at[strip_width<T>], residual_column_at[strip_width<T>];
  for (int64_t k0 = 0; k0 < how.depth || k0 == 0; k0 += how.k_block) {
    const int64_t k = minimum_of(how.k_block, how.depth - k0);
    if (how.source == patches::packed)
      pack_patch_rows<T>(scratch, pitch, x.from, block.runs, block.run_count, k0, k0 + k);
    const int64_t length = how.source == patches::packed ? k : how.piece_length;
    for (int64_t j0 = channel; j0 < channel_end; j0 += strip_width<T>) {
      const int64_t columns = minimum_of(strip_width<T>, x.channels - j0), vectors = parts_of(columns, lanes<T>);
      const char* b = strips + (j0 * how.depth + k0 * vectors * lanes<T>)*size;
      alignas(64) T bias[strip_width<T>] = {};
      for (int64_t j = 0; j < columns; j++) {
        column_at[j] = (j0 + j) * x.out.channel;
        residual_column_at[j] = (j0 + j) * x.store.residual.channel;
        if (x.store.bias) bias[j] = load_scalar<T>(x.store.bias + (j0 + j) * x.store.bias_step);
      }
      for (int64_t r = 0; r < panel_count; r++) {
        const position_panel& panel = panels[r];
        const tile_frame<T> tile{
            panel.rows, columns,       vectors, k0 == 0, k0 + k == how.depth,        x.out.channel == size,
            even[r],    how.streaming, bias,    0,       x.step[2] * x.out.space[2], x.store.activation};
        run_tile<T>(tile, {x.out.data, block.out_at + panel.first, column_at},
                    {x.store.residual.data, block.residual_at + panel.first, residual_column_at},
                    [&](const char* start, int64_t start_row, char* c, int64_t c_row) {
                      piecewise_tiles<T>().by[vectors][panel.rows](k, offset, length, panel.a, pitch, size, 0, b,
                                                                   vectors * vector_bytes, start, start_row, c, c_row);
                    });
      }
    }
    if (k == 0) break;
  }
}

// ---- One product ----------------------------------------------------------------------------------------------------

template <class T>
void run_product(const sampled_product& given, const char* packed, char* scratch, int64_t scratch_size) {
  const plan how = make_plan<T>(given, packed != nullptr);
  if (how.tasks == 0) return;
  const sampled_product x = how.across ? taps_forward(given) : given;
  const char* weights = how.across ? x.weights : packed;
  int64_t weight_row = x.weight_channel, weight_group = x.weight_group;
  const bool packs = how.across ? how.kind == weight_source::packed : packed == nullptr;
  if (!how.across) {
    weight_group = round_up(x.channels, lanes<T>) * how.depth * int64_t(sizeof(T));
    if (packs) pack_strips<T>(x, how, scratch);
  } else if (packs) {
    weight_row = packed_row<T>(how.depth);
    weight_group = x.channels * weight_row;
    pack_weight_rows<T>(x, how, scratch);
  }
  if (packs) {
    weights = scratch;
    scratch += how.weights_size;
    scratch_size -= how.weights_size;
  }
  const panel_list panels(x.channels);
  const int64_t channel_units = how.across ? panels.count : parts_of(x.channels, strip_width<T>);
  parallel_for_places(how.tasks, scratch_size / how.task_scratch, [&](int64_t task, int64_t place) {
    const int64_t part = task % how.channel_parts, block = task / how.channel_parts % how.blocks;
    const int64_t group = task / how.channel_parts / how.blocks;
    const int64_t begin = how.block_begin(block, x.from.axis[2].count);
    const int64_t positions = how.block_end(block, x.from.axis[2].count) - begin;
    sampled_product one = x;
    one.from.in.data += group * x.from_group;
    one.out.data += group * x.channels * x.out.channel;
    if (x.store.bias) one.store.bias += group * x.channels * x.store.bias_step;
    if (x.store.residual.data) one.store.residual.data += group * x.channels * x.store.residual.channel;
    const int64_t low = channel_units * part / how.channel_parts, high = channel_units * (part + 1) / how.channel_parts;
    char* const own = scratch + place * how.task_scratch;
    if (how.across)
      multiply_across<T>(one, how, weights + group * weight_group, weight_row, begin, positions, low, high, panels,
                         own);
    else
      multiply_down<T>(one, how, weights + group * weight_group, begin, positions, low * strip_width<T>,
                       minimum_of(x.channels, high * strip_width<T>), own);
    if (how.streaming) finish_streaming();
  });
}

// f(product, offset of its strips among the weights packed ahead) for every product of the pass.
template <class T, class F>
void for_products(bool input_gradient, const conv_shape& shape, const conv_images& in, const conv_weights& weight,
                  const conv_store& store, const conv_images& out, F f) {
  if (!input_gradient) return f(forward_product(shape, in, weight, store, out), int64_t(0));
  int64_t offset = 0;
  for_phases(shape, in, weight, store, out, [&](const sampled_product& x) {
    f(x, offset);
    offset += round_up(x.groups * round_up(x.channels, lanes<T>) * x.from.depth() * int64_t(sizeof(T)), 64);
  });
}

}  // namespace

template <class T>
int64_t product_weights_size(bool input_gradient, const conv_shape& shape, const conv_images& in,
                             const conv_images& out) {
  int64_t size = 0;
  for_products<T>(input_gradient, shape, in, {}, {}, out, [&](const sampled_product& x, int64_t) {
    const plan how = make_plan<T>(x, true);
    if (!how.across) size += how.weights_size;
  });
  return size;
}

template <class T>
void product_pack_weights(bool input_gradient, const conv_shape& shape, const conv_images& in,
                          const conv_weights& weight, const conv_images& out, char* packed) {
  for_products<T>(input_gradient, shape, in, weight, {}, out, [&](const sampled_product& x, int64_t offset) {
    const plan how = make_plan<T>(x, true);
    if (!how.across) pack_strips<T>(x, how, packed + offset);
  });
}

template <class T>
int64_t product_scratch(bool input_gradient, const conv_shape& shape, const conv_images& in, const conv_weights& weight,
                        const conv_images& out, bool packed, int64_t threads) {
  int64_t size = 0;
  for_products<T>(input_gradient, shape, in, weight, {}, out, [&](const sampled_product& x, int64_t) {
    const plan how = make_plan<T>(x, packed);
    size = maximum_of(
        size, (packed && !how.across ? 0 : how.weights_size) + minimum_of(threads, how.tasks) * how.task_scratch);
  });
  return size;
}

template <class T>
void product_forward(const conv_shape& shape, const conv_images& x, const conv_weights& weight, const char* packed,
                     const conv_store& store, const conv_images& out, char* scratch, int64_t scratch_size) {
  run_product<T>(forward_product(shape, x, weight, store, out), packed, scratch, scratch_size);
}

template <class T>
void product_input_gradient(const conv_shape& shape, const conv_images& gradient, const conv_weights& weight,
                            const char* packed, const conv_store& store, const conv_images& out, char* scratch,
                            int64_t scratch_size) {
  for_products<T>(true, shape, gradient, weight, store, out, [&](const sampled_product& x, int64_t offset) {
    run_product<T>(x, packed ? packed + offset : nullptr, scratch, scratch_size);
  });
}

#define HOMINY_INSTANTIATE(T)                                                                                      \
  template int64_t product_weights_size<T>(bool, const conv_shape&, const conv_images&, const conv_images&);       \
  template void product_pack_weights<T>(bool, const conv_shape&, const conv_images&, const conv_weights&,          \
                                        const conv_images&, char*);                                                \
  template int64_t product_scratch<T>(bool, const conv_shape&, const conv_images&, const conv_weights&,            \
                                      const conv_images&, bool, int64_t);                                          \
  template void product_forward<T>(const conv_shape&, const conv_images&, const conv_weights&, const char*,        \
                                   const conv_store&, const conv_images&, char*, int64_t);                         \
  template void product_input_gradient<T>(const conv_shape&, const conv_images&, const conv_weights&, const char*, \
                                          const conv_store&, const conv_images&, char*, int64_t);
HOMINY_INSTANTIATE(float)
HOMINY_INSTANTIATE(double)

}  // namespace hominy::HOMINY_LEVEL
