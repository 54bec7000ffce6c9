#include "matmul_dots.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

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

template <class T, int rows, int columns>
constexpr void fill(dots_kernels<T>& kernels) {
  kernels.by[rows][columns] = multiply_dots<T, rows, columns>;
  if constexpr (columns > 1)
    fill<T, rows, columns - 1>(kernels);
  else if constexpr (rows > 1)
    fill<T, rows - 1, dot_columns>(kernels);
}
template <class T>
constexpr dots_kernels<T> all_dots() {
  dots_kernels<T> kernels{};
  fill<T, dot_rows, dot_columns>(kernels);
  return kernels;
}

}  // namespace

constexpr dots_kernels<float> float_dots = all_dots<float>();
constexpr dots_kernels<double> double_dots = all_dots<double>();

}  // namespace hominy::HOMINY_LEVEL
