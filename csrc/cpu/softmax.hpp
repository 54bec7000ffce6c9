// Softmax and log-softmax along one axis, forward and backward.
//
// Bounds, with u the unit roundoff, n the axis' length, m the row's largest element and d = m - x:
//   softmax           relative error <= (d + 48 + n/1024) u, rows along the axis; (d + 48 + n/32) u, columns
//   log-softmax       |error| <= (2 d + 2 |y| + 48 + n/1024) u (n/32 likewise)
//   softmax backward  |error| <= (50 + n/1024) u |y| (|g| + sum |g y|)
//   log backward      |error| <= (50 + n/1024) u (|g| + exp(y) sum |g|)
// As in PyTorch a row of nothing but -infinity gives NaN, as do rows with NaN or +infinity.
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

hominy_status softmax(int32_t logarithm, const hominy_tensor* x, int32_t axis, const hominy_tensor* out);

// y: the forward's result. out = y (g - sum(g y)); with logarithm, g - exp(y) sum(g).
hominy_status softmax_backward(int32_t logarithm, const hominy_tensor* gradient, const hominy_tensor* y, int32_t axis,
                               const hominy_tensor* out);

}  // namespace hominy::HOMINY_LEVEL
