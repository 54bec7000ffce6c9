// The gradient with respect to a convolution's weights, for any shape: a product whose depth are the positions.
//
//   out[g O + o, c, t] = sum over n, p of gradient[n, g O + o, p] x[n, g C + c, p stride + t dilation - padding]
//
// Rows of x or patches of it, and of the gradient, are copied a block of positions at a time, as in the forward pass, and
// a tile kernel adds their product to sums that stay in cache: patch elements down, out channels across. What already
// lies as the tile kernel wants it is read in place.
//
// Accumulation: in the operands' own precision, in the order of positions, or as up to 16 sums of consecutive parts of
// them that are added at the end; where the parts end follows from the shape. Error, elementwise, with k positions:
//   |out - exact| <= c (k + 2) eps (|gradient| * |x| summed alike), c = 1.01 as long as k eps < 0.01.
#pragma once
#include "conv_problem.hpp"

namespace hominy::HOMINY_LEVEL {

template <class T>
int64_t product_weight_gradient_scratch(const conv_shape& shape, const conv_images& x, int64_t threads);
template <class T>
void product_weight_gradient(const conv_shape& shape, const conv_images& gradient, const conv_images& x,
                             const conv_weights& out, char* scratch, int64_t scratch_size);

}  // namespace hominy::HOMINY_LEVEL
