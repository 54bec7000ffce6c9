// The loops around an elementwise operation: arrays of one shape and any strides, cut into tiles, which an operation's
// one loop then sees as rows of neighbouring elements.
//
//   for_each_tile    sorts and merges dimensions, chooses the tile, splits the tiles over threads
//   gather_tile      makes an operand's share of a tile readable as rows of neighbours: as it lies where it can be,
//                    as one vector of copies where it is a broadcast scalar, else through a small buffer
//   move_block       copies a block between any two strides; transposes in registers
#pragma once
#include "dimensions.hpp"
#include "hominy.h"
#include "parallel_for.hpp"
#include "vector.hpp"

namespace hominy::HOMINY_LEVEL {

// What an operation's loop gets. Operand 0 is the output; strides are in bytes. column_stride is the item's size, or 0
// for an input that holds one vector of copies a row.
struct tile {
  static constexpr int max_operands = 4;
  int64_t rows, columns;
  char* data[max_operands];
  int64_t row_stride[max_operands];
  int64_t column_stride[max_operands];
  double p, q;     // the operation's parameters
  bool streaming;  // write the output past the caches
};
using tile_loop = void (*)(const tile&);

struct operation_loop {
  tile_loop run;
  int64_t grain;             // elements of one task
  bool any_strides = false;  // `run` takes any row_stride and column_stride
};

// ---------------------------------------------------------------------------------------------------------------------
// Blocks
// ---------------------------------------------------------------------------------------------------------------------

// A (rows, columns) block as it lies in memory; strides in bytes.
struct block {
  char* data;
  int64_t row_stride, column_stride;
  block transposed() const { return {data, column_stride, row_stride}; }
};

// Items are moved as the unsigned integer of their size.
template <class T>
inline void move_item(char* to, const char* from) {
  T item;
  memcpy(&item, from, sizeof item);
  memcpy(to, &item, sizeof item);
}

// (lanes, lanes) from neighbours along rows to neighbours along columns: log2(lanes) rounds that interleave vector i
// with vector i + lanes / 2.
template <class T>
inline void transpose_square(char* to, int64_t to_stride, const char* from, int64_t from_stride) {
  constexpr int count = lanes<T>;
  vec<T> v[2][count], low_indices, high_indices;
  for (int j = 0; j < count; j++) {
    low_indices[j] = T(j / 2 + j % 2 * count);
    high_indices[j] = T(j / 2 + count / 2 + j % 2 * count);
  }
#pragma GCC unroll 16
  for (int i = 0; i < count; i++) v[0][i] = load<T>(reinterpret_cast<const T*>(from + i * from_stride));
  int now = 0;
#pragma GCC unroll 4
  for (int round = 1; round < count; round *= 2, now ^= 1) {
#pragma GCC unroll 8
    for (int i = 0; i < count / 2; i++) {
      v[now ^ 1][2 * i] = __builtin_shuffle(v[now][i], v[now][i + count / 2], low_indices);
      v[now ^ 1][2 * i + 1] = __builtin_shuffle(v[now][i], v[now][i + count / 2], high_indices);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < count; i++) store<T>(reinterpret_cast<T*>(to + i * to_stride), v[now][i]);
}

// The output's neighbours lie along columns, the input's along rows. Bytes and halfwords go one by one.
template <class T>
inline void transpose_block(const block& to, const block& from, int64_t rows, int64_t columns) {
  constexpr int side = sizeof(T) >= 4 ? lanes<T> : 1;
  const auto move_rest = [&](int64_t row, int64_t rows_beyond, int64_t column, int64_t columns_beyond) {
    for (int64_t i = row; i < rows_beyond; i++)
      for (int64_t j = column; j < columns_beyond; j++)
        move_item<T>(to.data + i * to.row_stride + j * int64_t(sizeof(T)),
                     from.data + i * int64_t(sizeof(T)) + j * from.column_stride);
  };
  int64_t i = 0;
  if constexpr (side > 1)
    for (; i + side <= rows; i += side) {
      int64_t j = 0;
      for (; j + side <= columns; j += side)
        transpose_square<T>(to.data + i * to.row_stride + j * int64_t(sizeof(T)), to.row_stride,
                            from.data + i * int64_t(sizeof(T)) + j * from.column_stride, from.column_stride);
      move_rest(i, i + side, j, columns);
    }
  move_rest(i, rows, 0, columns);
}

template <class T>
inline void move_block_of(const block& to, const block& from, int64_t rows, int64_t columns) {
  constexpr int64_t item = sizeof(T);
  if (to.column_stride == item && from.column_stride == item) {
    for (int64_t i = 0; i < rows; i++)
      memcpy(to.data + i * to.row_stride, from.data + i * from.row_stride, size_t(columns) * sizeof(T));
  } else if (to.column_stride == item && from.row_stride == item) {
    transpose_block<T>(to, from, rows, columns);
  } else if (to.row_stride == item && from.column_stride == item) {
    transpose_block<T>(to.transposed(), from.transposed(), columns, rows);
  } else if (to.column_stride == item) {
    for (int64_t i = 0; i < rows; i++) {
      char* out = to.data + i * to.row_stride;
      const char* in = from.data + i * from.row_stride;
      for (int64_t j = 0; j < columns; j++) move_item<T>(out + j * item, in + j * from.column_stride);
    }
  } else {
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < columns; j++)
        move_item<T>(to.data + i * to.row_stride + j * to.column_stride,
                     from.data + i * from.row_stride + j * from.column_stride);
  }
}

inline void move_block(int64_t item, const block& to, const block& from, int64_t rows, int64_t columns) {
  switch (item) {
    case 1: return move_block_of<uint8_t>(to, from, rows, columns);
    case 2: return move_block_of<uint16_t>(to, from, rows, columns);
    case 4: return move_block_of<uint32_t>(to, from, rows, columns);
    default: return move_block_of<uint64_t>(to, from, rows, columns);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Tiles
// ---------------------------------------------------------------------------------------------------------------------

// Dimensions of `arrays` operands, brought into order; the last two are cut into tiles of rows x columns.
template <int arrays>
struct tiling {
  int count;  // of dimensions, at least 2
  dimension<arrays> dims[HOMINY_MAX_NDIM];
  char* data[arrays];
  int64_t tile_rows, tile_columns;

  const dimension<arrays>& rows() const { return dims[count - 2]; }
  const dimension<arrays>& columns() const { return dims[count - 1]; }
  int64_t tiles_down() const { return (rows().size + tile_rows - 1) / tile_rows; }
  int64_t tiles_across() const { return (columns().size + tile_columns - 1) / tile_columns; }
};

// Fills everything but the tile's size. No dimension of `tensors` is empty.
template <int arrays>
inline void order_dimensions(tiling<arrays>& t, const hominy_tensor* const (&tensors)[arrays]) {
  const int64_t* strides[arrays];
  for (int k = 0; k < arrays; k++) {
    strides[k] = tensors[k]->strides;
    t.data[k] = static_cast<char*>(tensors[k]->data);
  }
  t.count = collect_dimensions<arrays>(tensors[0]->shape, tensors[0]->ndim, -1, strides, t.data, t.dims);
  for (; t.count < 2; t.count++) {  // a loop that runs once outside of what there is
    t.dims[1] = t.dims[0];
    t.dims[0] = {1, {}};
  }
}

// Calls body(data, rows, columns) for every tile: data[k] is where operand k's share begins. A task is a range of tiles
// of about `grain` elements, which depends on the shape alone.
template <int arrays, class Body>
inline void for_each_tile(const tiling<arrays>& t, int64_t grain, bool streaming, Body&& body) {
  const int64_t down = t.tiles_down(), across = t.tiles_across(), tile_size = t.tile_rows * t.tile_columns;
  int64_t tiles = down * across;
  for (int d = 0; d < t.count - 2; d++) tiles *= t.dims[d].size;
  const int64_t tiles_per_task = tile_size < grain ? grain / tile_size : 1;

  parallel_for((tiles + tiles_per_task - 1) / tiles_per_task, [&](int64_t task) {
    const int64_t first = task * tiles_per_task, beyond = minimum_of(first + tiles_per_task, tiles);
    int64_t column = first % across * t.tile_columns, row = first / across % down * t.tile_rows;
    odometer<arrays> outer(t.dims, t.count - 2, first / across / down);
    for (int64_t tile = first; tile < beyond; tile++) {
      char* data[arrays];
      for (int k = 0; k < arrays; k++)
        data[k] = t.data[k] + outer.offset[k] + row * t.rows().stride[k] + column * t.columns().stride[k];
      body(data, minimum_of(t.tile_rows, t.rows().size - row), minimum_of(t.tile_columns, t.columns().size - column));
      if ((column += t.tile_columns) < t.columns().size) continue;
      column = 0;
      if ((row += t.tile_rows) < t.rows().size) continue;
      row = 0;
      outer.advance();
    }
    if (streaming) finish_streaming();
  });
}

// One operand's share of a tile, where it cannot be read or written in place.
constexpr int64_t buffer_bytes = 8192;
constexpr int64_t buffer_elements = buffer_bytes / 8;
constexpr int64_t transposed_side = 32;  // of a square tile
// From this size an output is written past the caches: it would not stay there, and a cached store reads the line
// first.
constexpr int64_t streamed_bytes = int64_t(16) << 20;

// Runs `loop` over all elements of operands whose items have these sizes.
template <int arrays>
inline void run_tiles(const hominy_tensor* const (&tensors)[arrays], const int64_t (&items)[arrays], double p, double q,
                      const operation_loop& loop) {
  tiling<arrays> t;
  order_dimensions(t, tensors);

  int64_t output_bytes = items[0];
  for (int d = 0; d < t.count; d++) output_bytes *= t.dims[d].size;
  const bool streaming = output_bytes >= streamed_bytes && t.columns().stride[0] == items[0];

  enum class access { in_place, scalar_a_row, buffered } how[arrays];
  bool any_buffered = false, scalars = false, transposed = false;
  for (int k = 0; k < arrays; k++) {
    const int64_t stride = t.columns().stride[k];
    how[k] = stride == items[k] ? access::in_place : stride == 0 && k > 0 ? access::scalar_a_row : access::buffered;
    any_buffered |= how[k] == access::buffered;
    scalars |= how[k] == access::scalar_a_row;
    if (how[k] != access::buffered || transposed) continue;
    // An input whose neighbours lie along another dimension is transposed tile by tile.
    for (int d = 0; d < t.count - 1 && !transposed; d++)
      if (t.dims[d].stride[k] == items[k]) {
        const dimension<arrays> along = t.dims[d];
        t.dims[d] = t.dims[t.count - 2];
        t.dims[t.count - 2] = along;
        transposed = true;
      }
  }
  if (transposed) {
    t.tile_rows = minimum_of(t.rows().size, transposed_side);
    t.tile_columns = minimum_of(t.columns().size, transposed_side);
  } else {
    const int64_t most = any_buffered && !loop.any_strides ? buffer_elements : loop.grain;
    t.tile_columns = minimum_of(t.columns().size, most);
    t.tile_rows = minimum_of(t.rows().size, most / t.tile_columns);
    if (scalars && !loop.any_strides) t.tile_rows = minimum_of(t.tile_rows, buffer_bytes / vector_bytes);
  }

  for_each_tile(t, loop.grain, streaming, [&](char* const* data, int64_t rows, int64_t columns) {
    alignas(64) char buffers[arrays][buffer_bytes];
    tile now{rows, columns, {}, {}, {}, p, q, streaming};
    const auto operand_in_place = [&](int k) { return block{data[k], t.rows().stride[k], t.columns().stride[k]}; };
    const auto operand_in_buffer = [&](int k) { return block{buffers[k], columns * items[k], items[k]}; };
    for (int k = 0; k < arrays; k++) {
      block seen = operand_in_place(k);
      if (how[k] == access::buffered && !loop.any_strides) {
        if (k > 0) move_block(items[k], operand_in_buffer(k), seen, rows, columns);
        seen = operand_in_buffer(k);
      } else if (how[k] == access::scalar_a_row && !loop.any_strides) {
        const bool same = seen.row_stride == 0;
        const block copies{buffers[k], same ? 0 : vector_bytes, items[k]};
        move_block(items[k], copies, seen, same ? 1 : rows, vector_bytes / items[k]);
        seen = {buffers[k], copies.row_stride, 0};
      }
      now.data[k] = seen.data;
      now.row_stride[k] = seen.row_stride;
      now.column_stride[k] = seen.column_stride;
    }
    loop.run(now);
    if (how[0] != access::buffered || loop.any_strides) return;
    move_block(items[0], operand_in_place(0), operand_in_buffer(0), rows, columns);
  });
}

// The same for operands that all lie in C order without gaps, or of which inputs are one scalar throughout.
template <int arrays>
inline void run_contiguous(const hominy_tensor* const (&tensors)[arrays], const int64_t (&items)[arrays],
                           const bool (&scalar)[arrays], int64_t elements, double p, double q,
                           const operation_loop& loop) {
  alignas(64) char copies[arrays][vector_bytes];
  tile whole{1, elements, {}, {}, {}, p, q, elements * items[0] >= streamed_bytes};
  for (int k = 0; k < arrays; k++) {
    whole.data[k] = static_cast<char*>(tensors[k]->data);
    whole.column_stride[k] = items[k];
    if (!scalar[k]) continue;
    move_block(items[k], {copies[k], 0, items[k]}, {whole.data[k], 0, 0}, 1, vector_bytes / items[k]);
    whole.data[k] = copies[k];
    whole.column_stride[k] = 0;
  }
  if (elements <= loop.grain) return loop.run(whole);
  const int64_t tasks = (elements + loop.grain - 1) / loop.grain;
  const int64_t share = ((elements + tasks - 1) / tasks + 63) / 64 * 64;
  parallel_for((elements + share - 1) / share, [&](int64_t task) {
    tile part = whole;
    for (int k = 0; k < arrays; k++) part.data[k] += task * share * part.column_stride[k];
    part.columns = minimum_of(share, elements - task * share);
    loop.run(part);
    if (part.streaming) finish_streaming();
  });
}

// Checks shapes and runs `loop` the quickest way. Work of less than two grains stays on the caller's thread.
template <int arrays>
inline hominy_status run_elementwise(const hominy_tensor* const (&tensors)[arrays], const int64_t (&items)[arrays],
                                     double p, double q, operation_loop loop) {
  const hominy_tensor& out = *tensors[0];
  if (out.ndim < 0 || out.ndim > HOMINY_MAX_NDIM) return HOMINY_BAD_SHAPE;
  for (int k = 1; k < arrays; k++)
    if (tensors[k]->ndim != out.ndim) return HOMINY_BAD_SHAPE;

  bool contiguous[arrays], scalar[arrays];
  int64_t dense_stride[arrays];
  for (int k = 0; k < arrays; k++) {
    contiguous[k] = true;
    scalar[k] = k > 0;
    dense_stride[k] = items[k];
  }
  int64_t elements;
  if (const hominy_status status = count_elements(out, &elements); status != HOMINY_OK) return status;
  for (int d = out.ndim - 1; d >= 0; d--) {
    const int64_t size = out.shape[d];
    for (int k = 0; k < arrays; k++) {
      if (tensors[k]->shape[d] != size) return HOMINY_BAD_SHAPE;
      if (elements == 0 || size == 1) continue;
      contiguous[k] &= tensors[k]->strides[d] == dense_stride[k];
      scalar[k] &= tensors[k]->strides[d] == 0;
      dense_stride[k] *= size;
    }
  }
  if (elements == 0) return HOMINY_OK;
  if (elements < 2 * loop.grain) loop.grain = elements;

  bool simple = true;
  for (int k = 0; k < arrays; k++) {
    simple &= contiguous[k] || scalar[k];
    scalar[k] &= !contiguous[k];
  }
  if (simple)
    run_contiguous(tensors, items, scalar, elements, p, q, loop);
  else
    run_tiles(tensors, items, p, q, loop);
  return HOMINY_OK;
}

}  // namespace hominy::HOMINY_LEVEL
