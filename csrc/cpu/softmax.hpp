// Softmax and log-softmax along one axis, forward and backward.
//
// Bounds, with u the unit roundoff, n the axis' length, m the row's largest element, d = m - x, and c = min(n/2, 256) +
// n/2048 for rows (the axis' elements are neighbours, or no other dimension's are), 32 + n/32 for columns:
//   softmax           relative error <= (d + log2 n + c + 16) u
//   log-softmax       |error| <= (d + |y| + log2 n + c + 16) u
//   softmax backward  |error| <= (c + 16) u |y| (|g| + sum |g y|)
//   log backward      |error| <= (c + 16) u (|g| + exp(y) sum |g|)
// and, where a result is below the normal numbers, the smallest of those. As in PyTorch a row of nothing but -infinity
// gives NaN, as do rows with NaN or +infinity.
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

hominy_status softmax(int32_t logarithm, const hominy_tensor* x, int32_t axis, const hominy_tensor* out);

// y: the forward's result. out = y (g - sum(g y)); with logarithm, g - exp(y) sum(g).
hominy_status softmax_backward(int32_t logarithm, const hominy_tensor* gradient, const hominy_tensor* y, int32_t axis,
                               const hominy_tensor* out);

}  // namespace hominy::HOMINY_LEVEL
