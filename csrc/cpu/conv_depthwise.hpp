// Depthwise convolution: one input channel a group, and any number of output channels. 3x3 and 5x5 kernels of stride 1
// or 2 without dilation run along rows (NCHW) or along channels (channels-last) in place; everything else is packed
// (conv_grouped.hpp).
//
// With k terms a sum and u the unit roundoff: |error| <= 2 (k + 3) u (|x| conv |w| + |bias| + |residual|), before the
// activation. Weight gradients: the same with k = batch * positions of out, no bias.
#pragma once
#include "conv_problem.hpp"

namespace hominy::HOMINY_LEVEL {

// Whether depthwise_* take the problem.
template <class T>
bool depthwise_computes(const conv_shape& shape, const conv_images& x, const conv_images& out);

// Bytes, aligned to 64, that any of the three wants.
template <class T>
int64_t depthwise_scratch(const conv_shape& shape, const conv_images& x, const conv_images& out);

template <class T>
void depthwise_forward(const conv_shape& shape, const conv_images& x, const conv_weights& weights,
                       const conv_store& store, const conv_images& out, char* scratch);
template <class T>
void depthwise_input_gradient(const conv_shape& shape, const conv_images& gradient, const conv_weights& weights,
                              const conv_store& store, const conv_images& out, char* scratch);
template <class T>
void depthwise_weight_gradient(const conv_shape& shape, const conv_images& gradient, const conv_images& x,
                               const conv_weights& out, char* scratch);

}  // namespace hominy::HOMINY_LEVEL
