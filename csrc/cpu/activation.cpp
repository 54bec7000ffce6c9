#include "activation.hpp"

#include "vector_math.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

template <class T, class F>
void map_rows(char* x, int64_t row_stride, int64_t rows, int64_t vectors, F f) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < vectors; j++) {
      T* p = (T*)(x + i * row_stride) + j * lanes<T>;
      store(p, f(load(p)));
    }
}

}  // namespace

template <class T>
void apply_activation(hominy_activation activation, char* x, int64_t row_stride, int64_t rows, int64_t vectors) {
  const auto map = [&](auto f) { map_rows<T>(x, row_stride, rows, vectors, f); };
  switch (activation) {
    case HOMINY_ACTIVATION_NONE: return;
    case HOMINY_ACTIVATION_RELU: return map([](vec<T> v) { return at_least<T>(v, vec<T>{}); });
    case HOMINY_ACTIVATION_SIGMOID: return map([](vec<T> v) { return sigmoid<T>(v); });
    case HOMINY_ACTIVATION_TANH: return map([](vec<T> v) { return tanh<T>(v); });
    case HOMINY_ACTIVATION_GELU: return map([](vec<T> v) { return gelu<T>(v); });
    case HOMINY_ACTIVATION_SILU: return map([](vec<T> v) { return silu<T>(v); });
  }
}
template void apply_activation<float>(hominy_activation, char*, int64_t, int64_t, int64_t);
template void apply_activation<double>(hominy_activation, char*, int64_t, int64_t, int64_t);

}  // namespace hominy::HOMINY_LEVEL
