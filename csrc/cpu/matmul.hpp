// The matrix product: out[..., i, j] = activation(sum over p of a[..., i, p] b[..., p, j] + bias[j]).
//
// a: (..., m, k), b: (..., k, n), bias: (n) or NULL, out: (..., m, n), all float32 or all float64, any strides in
// bytes, any size 0; batch dimensions are equal (a broadcast one has stride 0). With k = 0 out is activation(bias or
// 0).
//
// Accumulation: in the operands' own precision, with fused multiply-adds where the level has them. Each element is
// summed either in the order of k, starting from the bias, or as `lanes` interleaved sums (or up to 16 sums of
// consecutive parts of k) that are added at the end. Which of these, and where the parts end, follows from shapes and
// strides alone: never from the number of threads or the alignment.
//
// Error, before the activation, elementwise, eps the unit roundoff of the type (2^-24, 2^-53):
//   |out - exact| <= c (k + 2) eps (|a| @ |b| + |bias|), c = 1.01 as long as k eps < 0.01,
// which is the bound of any order of summation; measured errors are nearer sqrt(k) eps. An activation adds its own
// error (vector_math.hpp) to what its slope makes of this one. NaN and infinity propagate: no
// zero is ever skipped.
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

// Bytes of scratch that the call below needs; 0 for what needs none, or for operands it will refuse.
int64_t matmul_workspace_size(const hominy_tensor* a, const hominy_tensor* b, const hominy_tensor* out);

hominy_status matmul(const hominy_tensor* a, const hominy_tensor* b, const hominy_tensor* bias,
                     hominy_activation activation, const hominy_tensor* out, void* workspace, int64_t workspace_size);

}  // namespace hominy::HOMINY_LEVEL
