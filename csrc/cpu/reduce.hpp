// Reductions over any subset of axes, and the index of the largest or smallest element along one.
//
// Bounds, with u the unit roundoff (2^-24 in float32, 2^-53 in float64) and n elements a sum:
//   sum   |error| <= (24 + log2 n) u sum|x|    no addition chain is longer: blocks of 16 rows, then a binary tree
//   mean  one rounding more
//   prod  relative error <= n u
//   amax, amin, arg_reduce are exact; NaN wins, and the first NaN is the index.
// The order of additions follows from shape and strides alone.
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

// out: x's ndim; its dimensions of size 1 are reduced, the others are x's.
hominy_status reduce(hominy_reduce operation, const hominy_tensor* x, const hominy_tensor* out);

// out: int64, x's shape but for 1 at `axis`.
hominy_status arg_reduce(int32_t smallest, const hominy_tensor* x, int32_t axis, const hominy_tensor* out);

}  // namespace hominy::HOMINY_LEVEL
