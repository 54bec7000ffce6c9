// One tile of a convolution's product: where it lies in the result, what it starts from, the tile kernel, what is added at
// the end, and how it gets out: in place, past the caches, or element by element.
#pragma once
#include "activation.hpp"
#include "conv_problem.hpp"
#include "lane_access.hpp"
#include "matmul_dots.hpp"
#include "matmul_tile.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

// Where a block of the result lies: element (i, j) of it at data + row_at[i] + column_at[j].
struct placement {
  char* data;
  const int64_t *row_at, *column_at;
};

inline bool evenly_spaced(const int64_t* at, int64_t n, int64_t step) {
  for (int64_t i = 1; i < n; i++)
    if (at[i] - at[i - 1] != step) return false;
  return true;
}

// rows x columns elements between a contiguous tile and where they belong.
template <class T, bool back>
void move_tile(T* tile, int64_t width, const placement& place, int64_t rows, int64_t columns, bool dense) {
  for (int64_t i = 0; i < rows; i++, tile += width) {
    char* const row = place.data + place.row_at[i];
    if (dense && back)
      copy_elements((T*)(row + place.column_at[0]), tile, columns);
    else if (dense)
      copy_elements(tile, (const T*)(row + place.column_at[0]), columns);
    else
      for (int64_t j = 0; j < columns; j++)
        if constexpr (back)
          store_scalar(row + place.column_at[j], tile[j]);
        else
          tile[j] = load_scalar<T>(row + place.column_at[j]);
  }
}

// What a strip or a panel of tiles has in common.
template <class T>
struct tile_frame {
  int64_t rows, columns, vectors;
  // dense: columns are neighbours; even: rows are `pitch` apart; streaming: whole tiles go past the caches
  bool starts, ends, dense, even, streaming;
  const T* initial;  // what sums start from: one row, or one a row of the tile
  int64_t initial_row, pitch;
  hominy_activation activation;
};

// multiply(start, start_row, c, c_row): adds the product to `start`.
template <class T, class Multiply>
void run_tile(const tile_frame<T>& tile, const placement& out, const placement& residual, Multiply multiply) {
  constexpr int64_t size = sizeof(T);
  alignas(64) T staged[max_accumulators * lanes<T>];
  const int64_t width = tile.vectors * lanes<T>;
  const bool whole = tile.dense && tile.even && tile.columns == width;
  char* const to = out.data + out.row_at[0] + out.column_at[0];
  const bool streams = tile.streaming && whole && (int64_t(to) | tile.pitch) % vector_bytes == 0;
  const bool in_place = whole && !streams;
  char* const c = in_place ? to : (char*)staged;
  const int64_t c_row = in_place ? tile.pitch : width * size;
  if (!tile.starts && !in_place) move_tile<T, false>(staged, width, out, tile.rows, tile.columns, tile.dense);
  if (tile.starts)
    multiply((const char*)tile.initial, tile.initial_row, c, c_row);
  else
    multiply(c, c_row, c, c_row);
  if (tile.ends) {
    if (residual.data) {
      alignas(64) T added[max_accumulators * lanes<T>] = {};
      move_tile<T, false>(added, width, residual, tile.rows, tile.columns,
                          evenly_spaced(residual.column_at, tile.columns, size));
      for (int64_t i = 0; i < tile.rows; i++)
        for (int64_t j = 0; j < tile.vectors; j++) {
          T* const sum = (T*)(c + i * c_row) + j * lanes<T>;
          store(sum, load(sum) + load(added + i * width + j * lanes<T>));
        }
    }
    activate<T>(tile.activation, c, c_row, tile.rows, tile.vectors);
  }
  if (streams)
    for (int64_t i = 0; i < tile.rows; i++)
      for (int64_t j = 0; j < tile.vectors; j++)
        store_streaming(to + i * tile.pitch + j * vector_bytes, (vec<int8_t>)load(staged + i * width + j * lanes<T>));
  else if (!in_place)
    move_tile<T, true>(staged, width, out, tile.rows, tile.columns, tile.dense);
}

// c = start + a @ b for few columns, both contiguous along k.
template <class T>
void add_dots(int64_t rows, int64_t columns, int64_t k, const char* a, int64_t a_row, const char* b, const char* start,
              int64_t start_row, char* c, int64_t c_row) {
  T sums[dot_rows * dot_columns];
  for (int64_t i = 0; i < rows; i += dot_rows) {
    const int64_t some = minimum_of<int64_t>(dot_rows, rows - i);
    dots<T>().by[some][columns](k, a + i * a_row, a_row, b, k * int64_t(sizeof(T)), sums);
    for (int64_t r = 0; r < some; r++)
      for (int64_t j = 0; j < columns; j++)
        ((T*)(c + (i + r) * c_row))[j] = ((const T*)(start + (i + r) * start_row))[j] + sums[r * columns + j];
  }
}

}  // namespace
}  // namespace hominy::HOMINY_LEVEL
