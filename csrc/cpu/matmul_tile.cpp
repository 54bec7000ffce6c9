#include "matmul_tile.hpp"

#include "lane_access.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

template <class T, int rows, int vectors, bool fetch>
void multiply_tile(int64_t k, const char* a, int64_t a_row, int64_t a_step, const char* b, int64_t b_step,
                   [[maybe_unused]] int64_t ahead, const char* start, int64_t start_row, char* c, int64_t c_row) {
  vec<T> sum[rows][vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) sum[i][j] = load((const T*)(start + i * start_row) + j * lanes<T>);
  // A pointer for every three rows: x86 addresses the three from it, and none of the loop's integers leaves the registers,
  // which cost a tenth of the speed.
  const char* a_rows[(rows + 2) / 3];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i += 3) a_rows[i / 3] = a + i * a_row;
  for (int64_t p = 0; p < k; p++) {
    vec<T> b_row[vectors];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) {
      b_row[j] = load((const T*)b + j * lanes<T>);
      if constexpr (fetch) __builtin_prefetch(b + ahead + j * vector_bytes, 0, 2);
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      const T x = load_scalar<T>(a_rows[i / 3] + i % 3 * a_row);
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) sum[i][j] += x * b_row[j];
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i += 3) a_rows[i / 3] += a_step;
    b += b_step;
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) store((T*)(c + i * c_row) + j * lanes<T>, sum[i][j]);
}

template <class T, int rows>
constexpr void fill(tile_kernels<T>& kernels) {
  kernels.by[0][rows] = multiply_tile<T, rows, 1, false>;
  kernels.by[1][rows] = multiply_tile<T, rows, 2, false>;
  if constexpr (rows * 4 <= max_accumulators) kernels.by[2][rows] = multiply_tile<T, rows, 4, true>;
  if constexpr (rows * 8 <= max_accumulators) kernels.by[3][rows] = multiply_tile<T, rows, 8, true>;
  kernels.by[fetching_shape][rows] = multiply_tile<T, rows, 2, true>;
  if constexpr (rows > 1) fill<T, rows - 1>(kernels);
}
template <class T>
constexpr tile_kernels<T> all_tiles() {
  tile_kernels<T> kernels{};
  fill<T, max_tile_rows>(kernels);
  return kernels;
}

}  // namespace

constexpr tile_kernels<float> float_tiles = all_tiles<float>();
constexpr tile_kernels<double> double_tiles = all_tiles<double>();

}  // namespace hominy::HOMINY_LEVEL
