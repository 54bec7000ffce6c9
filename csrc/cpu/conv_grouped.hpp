// Convolution with few channels a group, on planes packed for it: a group's channels for a band of rows, each a plane
// with zeros about it, so that one vector of neighbours along the plane meets one weight, past the ends of rows. Any
// kernel, stride, dilation and padding, 1d to 3d; images of any strides. Channels-last images become planes on the way
// into the cache and back.
//
// With k terms a sum and u the unit roundoff: |error| <= 2 (k + 3) u (|x| conv |w| + |bias| + |residual|), before the
// activation. Weight gradients: the same with k = batch * positions of out, no bias.
#pragma once
#include "conv_problem.hpp"

namespace hominy::HOMINY_LEVEL {

// Whether grouped_* take the problem; false for strides above 64 and rows too long to be packed.
template <class T>
bool grouped_computes(const conv_shape& shape, const conv_images& x, const conv_images& out);

// Bytes, aligned to 64, that any of the three wants.
template <class T>
int64_t grouped_scratch(const conv_shape& shape, const conv_images& x, const conv_images& out);

template <class T>
void grouped_forward(const conv_shape& shape, const conv_images& x, const conv_weights& weights,
                     const conv_store& store, const conv_images& out, char* scratch);
template <class T>
void grouped_input_gradient(const conv_shape& shape, const conv_images& gradient, const conv_weights& weights,
                            const conv_store& store, const conv_images& out, char* scratch);
template <class T>
void grouped_weight_gradient(const conv_shape& shape, const conv_images& gradient, const conv_images& x,
                             const conv_weights& out, char* scratch);

}  // namespace hominy::HOMINY_LEVEL
