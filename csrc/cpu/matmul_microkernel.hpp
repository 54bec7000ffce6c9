// The innermost loops of the matrix product: a tile of out held in registers. Two shapes of them:
//
//   multiply_tile  walks down k, one row of b and one column of a at a time: an outer product a step. b's rows must be
//                  contiguous; a may have any strides.
//   multiply_dots  walks along k a vector at a time: rows of a against columns of b, both contiguous along k. It spares
//                  packing (a transposition) where the product is too flat to repay one.
//
// Both are templates over the tile's height, so that a product of 16 rows takes two panels of 8 and not 14 + 2.
// docs/kernels/matmul.md says how the sizes were found.
#pragma once
#include "vector.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

// Registers for the tile itself; the others hold a row of b and an element of a.
constexpr int max_accumulators = vector_registers == 32 ? 28 : 12;
constexpr int max_tile_rows = max_accumulators / 2;
constexpr int max_tile_vectors = 8;

template <class T>
inline T load_scalar(const char* p) {
  T x;
  memcpy(&x, p, sizeof(T));
  return x;
}

// c = start + a @ b. a: (rows, k), b: (k, vectors * lanes), start and c: (rows, vectors * lanes).
// Strides are in bytes. start may be c itself (a later block of k), one row of stride 0 (bias, zeros), or anything
// else. fetch: each step also asks the second-level cache for the b of `ahead` bytes further on.
template <class T>
using tile_kernel = void (*)(int64_t k, const char* a, int64_t a_row, int64_t a_step, const char* b, int64_t b_step,
                             int64_t ahead, const char* start, int64_t start_row, char* c, int64_t c_row);

template <class T, int rows, int vectors, bool fetch>
void multiply_tile(int64_t k, const char* a, int64_t a_row, int64_t a_step, const char* b, int64_t b_step,
                   [[maybe_unused]] int64_t ahead, const char* start, int64_t start_row, char* c, int64_t c_row) {
  vec<T> sum[rows][vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) sum[i][j] = load((const T*)(start + i * start_row) + j * lanes<T>);
  for (int64_t p = 0; p < k; p++) {
    vec<T> b_row[vectors];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) {
      b_row[j] = load((const T*)b + j * lanes<T>);
      if constexpr (fetch) __builtin_prefetch(b + ahead + j * vector_bytes, 0, 2);
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      const T x = load_scalar<T>(a + i * a_row);
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) sum[i][j] += x * b_row[j];
    }
    a += a_step;
    b += b_step;
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) store((T*)(c + i * c_row) + j * lanes<T>, sum[i][j]);
}

// by[shape][rows]: every tile that fits the registers. Shapes 0 to 3 are 1, 2, 4 and 8 vectors wide; the wide ones,
// which only read b in place, fetch ahead, and so does shape 4, which is shape 1 otherwise.
constexpr int fetching_shape = 4;
template <class T>
struct tile_kernels {
  tile_kernel<T> by[5][max_tile_rows + 1] = {};
  constexpr tile_kernels() { fill<max_tile_rows>(); }
  template <int rows>
  constexpr void fill() {
    by[0][rows] = multiply_tile<T, rows, 1, false>;
    by[1][rows] = multiply_tile<T, rows, 2, false>;
    if constexpr (rows * 4 <= max_accumulators) by[2][rows] = multiply_tile<T, rows, 4, true>;
    if constexpr (rows * 8 <= max_accumulators) by[3][rows] = multiply_tile<T, rows, 8, true>;
    by[fetching_shape][rows] = multiply_tile<T, rows, 2, true>;
    if constexpr (rows > 1) fill<rows - 1>();
  }
};
template <class T>
constexpr tile_kernels<T> tiles{};

inline int log2_widest_tile(int64_t rows) {
  return rows * 8 <= max_accumulators ? 3 : rows * 4 <= max_accumulators ? 2 : 1;
}

// sums[j] += x[0] b[0][j] + ... + x[rows - 1] b[rows - 1][j], the rows of b contiguous: a few streams through memory.
template <class T, int rows>
inline void add_rows(T* sums, int64_t columns, const T* x, const char* b, int64_t b_step) {
  const auto add = [&](int64_t j, auto load_next) {
    vec<T> sum = load(sums + j);
#pragma GCC unroll 8
    for (int p = 0; p < rows; p++) sum += x[p] * load_next((const T*)(b + p * b_step) + j);
    store(sums + j, sum);
  };
  int64_t j = 0;
  for (; j + lanes<T> <= columns; j += lanes<T>) add(j, [](const T* p) { return load(p); });
  if (j < columns) add(j, [&](const T* p) { return load_partial(p, columns - j); });
}

constexpr int dot_rows = vector_registers == 32 ? 4 : 3;
constexpr int dot_columns = vector_registers == 32 ? 6 : 3;

// A vector's sum, by halves: lane l + lane l + lanes/2 first.
template <class T, int n>
inline T sum_of_lanes(const T* x) {
  typedef T half __attribute__((vector_size(n / 2 * sizeof(T)), aligned(sizeof(T)), may_alias));
  if constexpr (n == 2) {
    return x[0] + x[1];
  } else {
    const half sum = *(const half*)x + *(const half*)(x + n / 2);
    T halves[n / 2];
    memcpy(halves, &sum, sizeof(sum));
    return sum_of_lanes<T, n / 2>(halves);
  }
}

// sums[i * columns + j] = a[i] . b[j]. a: (rows, k), b: (columns, k), both contiguous along k.
template <class T>
using dots_kernel = void (*)(int64_t k, const char* a, int64_t a_row, const char* b, int64_t b_column, T* sums);

template <class T, int rows, int columns>
void multiply_dots(int64_t k, const char* a, int64_t a_row, const char* b, int64_t b_column, T* sums) {
  vec<T> sum[rows][columns] = {};
  const auto step = [&](auto load_next) {
    vec<T> x[rows];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) x[i] = load_next((const T*)(a + i * a_row));
#pragma GCC unroll 8
    for (int j = 0; j < columns; j++) {
      const vec<T> y = load_next((const T*)(b + j * b_column));
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) sum[i][j] += x[i] * y;
    }
    a += vector_bytes;
    b += vector_bytes;
  };
  for (; k >= lanes<T>; k -= lanes<T>) step([](const T* p) { return load(p); });
  if (k > 0) step([k](const T* p) { return load_partial(p, k); });
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < columns; j++) sums[i * columns + j] = sum_of_lanes<T, lanes<T>>((const T*)&sum[i][j]);
}

template <class T>
struct dots_kernels {
  dots_kernel<T> by[dot_rows + 1][dot_columns + 1] = {};
  constexpr dots_kernels() { fill<dot_rows, dot_columns>(); }
  template <int rows, int columns>
  constexpr void fill() {
    by[rows][columns] = multiply_dots<T, rows, columns>;
    if constexpr (columns > 1)
      fill<rows, columns - 1>();
    else if constexpr (rows > 1)
      fill<rows - 1, dot_columns>();
  }
};
template <class T>
constexpr dots_kernels<T> dots{};

}  // namespace
}  // namespace hominy::HOMINY_LEVEL
