// The loops of products too flat to repay packing: rows of a against columns of b that are both contiguous along k, a
// vector at a time (dots), and one row of a against contiguous rows of b (add_rows).
#pragma once
#include "vector.hpp"

namespace hominy::HOMINY_LEVEL {

constexpr int dot_rows = vector_registers == 32 ? 4 : 3;
constexpr int dot_columns = vector_registers == 32 ? 6 : 3;

// sums[i * columns + j] = a[i] . b[j]. a: (rows, k), b: (columns, k), both contiguous along k.
template <class T>
using dots_kernel = void (*)(int64_t k, const char* a, int64_t a_row, const char* b, int64_t b_column, T* sums);

template <class T>
struct dots_kernels {
  dots_kernel<T> by[dot_rows + 1][dot_columns + 1];
};
extern const dots_kernels<float> float_dots;
extern const dots_kernels<double> double_dots;
template <class T>
inline const dots_kernels<T>& dots() {
  if constexpr (sizeof(T) == 4)
    return float_dots;
  else
    return double_dots;
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

}  // namespace hominy::HOMINY_LEVEL
