// The innermost loop of products and of what is made of them: a tile of out held in registers. It walks down k, one row
// of b and one column of a at a time: an outer product a step. b's rows must be contiguous; a may have any strides.
//
// There is a kernel for every height, so that a product of 16 rows takes two panels of 8 and not 14 + 2.
// docs/kernels/matmul.md says how the sizes were found.
#pragma once
#include "vector.hpp"

namespace hominy::HOMINY_LEVEL {

// Registers for the tile itself; the others hold a row of b and an element of a.
constexpr int max_accumulators = vector_registers == 32 ? 28 : 12;
constexpr int max_tile_rows = max_accumulators / 2;
constexpr int max_tile_vectors = 8;

// c = start + a @ b. a: (rows, k), b: (k, vectors * lanes), start and c: (rows, vectors * lanes).
// Strides are in bytes. start may be c itself (a later block of k), one row of stride 0 (bias, zeros), or anything
// else. fetch: each step also asks the second-level cache for the b of `ahead` bytes further on.
template <class T>
using tile_kernel = void (*)(int64_t k, const char* a, int64_t a_row, int64_t a_step, const char* b, int64_t b_step,
                             int64_t ahead, const char* start, int64_t start_row, char* c, int64_t c_row);

// by[shape][rows]: every tile that fits the registers. Shapes 0 to 3 are 1, 2, 4 and 8 vectors wide; the wide ones,
// which only read b in place, fetch ahead, and so does shape 4, which is shape 1 otherwise.
constexpr int fetching_shape = 4;
template <class T>
struct tile_kernels {
  tile_kernel<T> by[5][max_tile_rows + 1];
};
extern const tile_kernels<float> float_tiles;
extern const tile_kernels<double> double_tiles;
template <class T>
inline const tile_kernels<T>& tiles() {
  if constexpr (sizeof(T) == 4)
    return float_tiles;
  else
    return double_tiles;
}

// The same for an a that is in pieces of `length` steps (the last may be shorter), piece s at a + offset[s].
// by[vectors][rows], 1 or 2 vectors. As a piece begins, what lies `ahead` bytes further on in each row is fetched.
template <class T>
using piecewise_tile_kernel = void (*)(int64_t k, const int64_t* offset, int64_t length, const char* a, int64_t a_row,
                                       int64_t a_step, int64_t ahead, const char* b, int64_t b_step, const char* start,
                                       int64_t start_row, char* c, int64_t c_row);
template <class T>
struct piecewise_tile_kernels {
  piecewise_tile_kernel<T> by[3][max_tile_rows + 1];
};
extern const piecewise_tile_kernels<float> float_piecewise_tiles;
extern const piecewise_tile_kernels<double> double_piecewise_tiles;
template <class T>
inline const piecewise_tile_kernels<T>& piecewise_tiles() {
  if constexpr (sizeof(T) == 4)
    return float_piecewise_tiles;
  else
    return double_piecewise_tiles;
}

// One row: c = start + a @ two strips, two vectors wide and k rows long each, one behind the other.
template <class T>
struct row_of_strips {
  int64_t k;
  const T *a, *strips, *start;
  T* c;
};
template <class T>
void multiply_strips(const row_of_strips<T>& row);

// The same, and beside it a tile of beside_rows rows and two vectors. A row alone waits for the caches, which bring its
// strips at half the speed of the multiply-adds: the tile's come for little more. Takes two of the row's steps for one
// of the tile's, 2 k <= row.k. Strides as above; b's rows lie one behind the other.
constexpr int beside_rows = vector_registers == 32 ? 8 : 4;
template <class T>
void multiply_strips_beside_tile(const row_of_strips<T>& row, int64_t k, const char* a, int64_t a_row, int64_t a_step,
                                 const char* b, const char* start, int64_t start_row, char* c, int64_t c_row);

inline int log2_widest_tile(int64_t rows) {
  return rows * 8 <= max_accumulators ? 3 : rows * 4 <= max_accumulators ? 2 : 1;
}

inline int64_t parts_of(int64_t size, int64_t part) { return (size + part - 1) / part; }
inline int64_t round_up(int64_t size, int64_t multiple) { return parts_of(size, multiple) * multiple; }

// How many tasks of `least` multiply-adds `work` repays, `most` of them at most.
inline int64_t tasks_worth(double work, double least, int64_t most) {
  const double tasks = work / least;
  return tasks >= double(most) ? most : int64_t(tasks);
}

// Row of a packed block of a, in bytes: an odd number of cache lines, so that a panel's rows fall into different sets.
template <class T>
int64_t packed_row(int64_t k) {
  return (round_up(k * int64_t(sizeof(T)), 64) / 64 | 1) * 64;
}

// `count` rows dealt into panels of nearly equal height: the first `taller` of them have one row more.
struct panel_list {
  int64_t count, height, taller;
  explicit panel_list(int64_t rows) {
    count = parts_of(rows, max_tile_rows);
    height = count ? rows / count : 0;
    taller = count ? rows % count : 0;
  }
  int64_t begin(int64_t panel) const { return panel * height + minimum_of(panel, taller); }
  int64_t rows(int64_t panel) const { return height + (panel < taller); }
};

}  // namespace hominy::HOMINY_LEVEL
