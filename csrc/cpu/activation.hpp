// The activation that a product applies to its results in the store.
#pragma once
#include "hominy.h"
#include "vector.hpp"

namespace hominy::HOMINY_LEVEL {

// x: (rows, vectors * lanes), rows row_stride bytes apart, in place.
template <class T>
void apply_activation(hominy_activation activation, char* x, int64_t row_stride, int64_t rows, int64_t vectors);

template <class T>
inline void activate(hominy_activation activation, char* x, int64_t row_stride, int64_t rows, int64_t vectors) {
  if (activation != HOMINY_ACTIVATION_NONE) apply_activation<T>(activation, x, row_stride, rows, vectors);
}

}  // namespace hominy::HOMINY_LEVEL
