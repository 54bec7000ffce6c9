#include "matmul_tile.hpp"

#include "lane_access.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

// A tile of sums in registers.
template <class T, int rows, int vectors>
struct tile {
  vec<T> sum[rows][vectors];

  [[gnu::always_inline]] inline void begin(const char* start, int64_t start_row) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) sum[i][j] = load((const T*)(start + i * start_row) + j * lanes<T>);
  }

  // Adds k steps, and calls `beside` with each; b: the first row of b, moved on to the row behind the last.
  template <bool fetch, class F>
  [[gnu::always_inline]] inline void add(int64_t k, const char* a, int64_t a_row, int64_t a_step, const char*& b,
                                         int64_t b_step, [[maybe_unused]] int64_t ahead, F beside) {
    // A pointer for every three rows: x86 addresses the three from it, and none of the loop's integers leaves the
    // registers, which cost a tenth of the speed.
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
      beside();
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
  }

  [[gnu::always_inline]] inline void finish(char* c, int64_t c_row) const {
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) store((T*)(c + i * c_row) + j * lanes<T>, sum[i][j]);
  }
};

constexpr auto nothing = [] {};

template <class T, int rows, int vectors, bool fetch>
void multiply_tile(int64_t k, const char* a, int64_t a_row, int64_t a_step, const char* b, int64_t b_step,
                   int64_t ahead, const char* start, int64_t start_row, char* c, int64_t c_row) {
  tile<T, rows, vectors> sums;
  sums.begin(start, start_row);
  sums.template add<fetch>(k, a, a_row, a_step, b, b_step, ahead, nothing);
  sums.finish(c, c_row);
}

template <class T, int rows, int vectors>
void multiply_pieces(int64_t k, const int64_t* offset, int64_t length, const char* a, int64_t a_row, int64_t a_step,
                     int64_t ahead, const char* b, int64_t b_step, const char* start, int64_t start_row, char* c,
                     int64_t c_row) {
  tile<T, rows, vectors> sums;
  sums.begin(start, start_row);
  for (; k > 0; k -= length, offset++) {
    const char* const piece = a + *offset;
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) __builtin_prefetch(piece + ahead + i * a_row);
    sums.template add<false>(minimum_of(k, length), piece, a_row, a_step, b, b_step, 0, nothing);
  }
  sums.finish(c, c_row);
}

// A row's four vectors of sums, and where its strips have been read to.
template <class T>
struct strip_sums {
  const row_of_strips<T>& row;
  const T *a = row.a, *first = row.strips, *second = row.strips + 2 * lanes<T> * row.k;
  vec<T> sum[4];

  explicit strip_sums(const row_of_strips<T>& row) : row(row) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) sum[j] = load(row.start + j * lanes<T>);
  }
  [[gnu::always_inline]] inline void add() {
    const T x = *a++;
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
      sum[j] += x * load(first + j * lanes<T>);
      sum[2 + j] += x * load(second + j * lanes<T>);
    }
    first += 2 * lanes<T>;
    second += 2 * lanes<T>;
  }
  [[gnu::always_inline]] inline void finish() {
    for (const T* const end = row.a + row.k; a < end;) add();
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) store(row.c + j * lanes<T>, sum[j]);
  }
};

template <class T, int rows>
constexpr void fill(tile_kernels<T>& kernels, piecewise_tile_kernels<T>& piecewise) {
  kernels.by[0][rows] = multiply_tile<T, rows, 1, false>;
  kernels.by[1][rows] = multiply_tile<T, rows, 2, false>;
  if constexpr (rows * 4 <= max_accumulators) kernels.by[2][rows] = multiply_tile<T, rows, 4, true>;
  if constexpr (rows * 8 <= max_accumulators) kernels.by[3][rows] = multiply_tile<T, rows, 8, true>;
  kernels.by[fetching_shape][rows] = multiply_tile<T, rows, 2, true>;
  piecewise.by[1][rows] = multiply_pieces<T, rows, 1>;
  piecewise.by[2][rows] = multiply_pieces<T, rows, 2>;
  if constexpr (rows > 1) fill<T, rows - 1>(kernels, piecewise);
}
template <class T>
struct all_tiles {
  tile_kernels<T> whole{};
  piecewise_tile_kernels<T> piecewise{};
  constexpr all_tiles() { fill<T, max_tile_rows>(whole, piecewise); }
};

}  // namespace

template <class T>
void multiply_strips(const row_of_strips<T>& row) {
  strip_sums<T>(row).finish();
}

template <class T>
void multiply_strips_beside_tile(const row_of_strips<T>& row, int64_t k, const char* a, int64_t a_row, int64_t a_step,
                                 const char* b, const char* start, int64_t start_row, char* c, int64_t c_row) {
  tile<T, beside_rows, 2> sums;
  strip_sums<T> strips(row);
  sums.begin(start, start_row);
  sums.template add<false>(k, a, a_row, a_step, b, 2 * vector_bytes, 0, [&]() __attribute__((always_inline)) {
    strips.add();
    strips.add();
  });
  sums.finish(c, c_row);
  strips.finish();
}

template void multiply_strips(const row_of_strips<float>&);
template void multiply_strips(const row_of_strips<double>&);
template void multiply_strips_beside_tile(const row_of_strips<float>&, int64_t, const char*, int64_t, int64_t,
                                          const char*, const char*, int64_t, char*, int64_t);
template void multiply_strips_beside_tile(const row_of_strips<double>&, int64_t, const char*, int64_t, int64_t,
                                          const char*, const char*, int64_t, char*, int64_t);

constexpr tile_kernels<float> float_tiles = all_tiles<float>().whole;
constexpr tile_kernels<double> double_tiles = all_tiles<double>().whole;
constexpr piecewise_tile_kernels<float> float_piecewise_tiles = all_tiles<float>().piecewise;
constexpr piecewise_tile_kernels<double> double_piecewise_tiles = all_tiles<double>().piecewise;

}  // namespace hominy::HOMINY_LEVEL
