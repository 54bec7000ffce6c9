// The loops of products too flat to repay packing: rows of a against columns of b that are both contiguous along k, a
// vector at a time (multiply_dots), and one row of a against contiguous rows of b (add_rows).
#pragma once
#include "vector.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

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
