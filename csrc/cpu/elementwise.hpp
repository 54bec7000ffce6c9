// Elementwise operations: one pass over arrays of one shape and any strides.
//
//   out[i] = operation(x[i])            unary      float32, float64
//   out[i] = operation(a[i], b[i])      binary     float32, float64
//   out[i] = a[i] ? b[i]                compare    float32, float64 -> bool
//   out[i] = condition[i] ? a[i] : b[i] where      any dtype; an element of the condition counts as set when not 0
//   out[i] = x[i]                       copy       any dtype
//
// Shapes are equal: a broadcast operand has stride 0. Everything but the dtype that a functor is written for is shared:
// elementwise_operations.hpp says what is computed, elementwise_tiles.hpp how the arrays are walked. Errors in ulp
// stand in vector_math.hpp and docs/kernels/elementwise.md.
//
// BAD_VALUE for an unknown operation, BAD_DTYPE for dtypes that differ or are not computed, BAD_SHAPE for shapes that
// differ; nothing has been written then.
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

hominy_status unary(hominy_unary operation, const hominy_tensor* x, double p, double q, const hominy_tensor* out);
hominy_status binary(hominy_binary operation, const hominy_tensor* a, const hominy_tensor* b, double p, double q,
                     const hominy_tensor* out);
hominy_status compare(hominy_compare operation, const hominy_tensor* a, const hominy_tensor* b,
                      const hominy_tensor* out);
hominy_status where(const hominy_tensor* condition, const hominy_tensor* a, const hominy_tensor* b,
                    const hominy_tensor* out);
hominy_status copy(const hominy_tensor* x, const hominy_tensor* out);

}  // namespace hominy::HOMINY_LEVEL
