// Max pooling of every kind (windows are lists: kernel, stride, padding, dilation or adaptive), and what moves elements
// by the indices it gives: its gradient, unpooling, and the gradients of those.
//
// max_pool_workspace_size also sizes max_pool_backward's scratch, for its own windows.
//
// Values are selected, never rounded; sums of several gradients for one input run in the order of the outputs: error
// <= n u sum |g| for n of them. No result may overlap an input.
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

int64_t max_pool_workspace_size(const hominy_tensor* x, const hominy_windows* windows);

// out (N, C, D', H', W') = the largest element of each window of x (N, C, D, H, W), and indices (of out's shape, int64
// or int32, or NULL) its place in the plane (D, H, W) counted in C order: the first one's where several are equal, the
// last NaN's where there is one. Every window has an element (BAD_VALUE). OVERFLOW where the plane has more elements
// than an int32 counts and x is of float32 or the indices of int32.
hominy_status max_pool(const hominy_tensor* x, const hominy_windows* windows, const hominy_tensor* out,
                       const hominy_tensor* indices, void* workspace, int64_t workspace_size);

// The gradient of max_pool's x, out (N, C, D, H, W), from that of its result, gradient (N, C, D', H', W'): each element
// is the sum of the gradients whose index is its number, over the outputs that `windows` lists for it (those of the
// pooling turned round). indices: of max_pool, int32 beside float32 and int64 beside float64, with the gradient's shape
// and strides. An index that is no number of those its window has counts for nothing.
hominy_status max_pool_backward(const hominy_tensor* gradient, const hominy_tensor* indices,
                                const hominy_windows* windows, const hominy_tensor* out, void* workspace,
                                int64_t workspace_size);

// out (N, C, Q)[n, c, q] = x (N, C, P)[n, c, indices (N, C, Q)[n, c, q]]; BAD_INDEX outside [0, P).
hominy_status gather_planes(const hominy_tensor* x, const hominy_tensor* indices, const hominy_tensor* out);

// out (N, C, Q) = 0, then out[n, c, indices[n, c, p]] = x[n, c, p] (with `sum` added to it) for p in order; x and
// indices (N, C, P); BAD_INDEX outside [0, Q).
hominy_status scatter_planes(int32_t sum, const hominy_tensor* x, const hominy_tensor* indices,
                             const hominy_tensor* out);

}  // namespace hominy::HOMINY_LEVEL
