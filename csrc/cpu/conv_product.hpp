// Convolution as a product that gathers one operand on its way: implicit GEMM, the algorithm that computes everything.
//
// Patches of a few positions at a time are packed into cache (conv_sampling.hpp) and multiplied by the weights with the
// tile kernels of the matrix product. Which operand is broadcast decides the direction:
//
//   positions across  tiles of channels x positions: as NCHW stores them. Weights are read in place
//   positions down    tiles of positions x channels: as channels-last stores them. Weights are packed into strips of
//                     channels first, once a call or ahead of it
//
// Channels-last images with few positions and many channels also run across: packing the weights would cost more.
//
// Accumulation: in the operands' own precision, in the order of k = (channel, tap) or (tap, channel), starting from the
// bias. Error, elementwise, before the activation, eps the unit roundoff of the type:
//   |out - exact| <= c (k + 3) eps (|weight| conv |x| + |bias| + |residual|), c = 1.01 as long as k eps < 0.01.
#pragma once
#include "conv_problem.hpp"

namespace hominy::HOMINY_LEVEL {

// Strips of weights packed ahead; 0 where the forward pass reads weights in place.
template <class T>
int64_t product_weights_size(bool input_gradient, const conv_shape& shape, const conv_images& in,
                             const conv_images& out);
template <class T>
void product_pack_weights(bool input_gradient, const conv_shape& shape, const conv_images& in,
                          const conv_weights& weight, const conv_images& out, char* packed);

template <class T>
int64_t product_scratch(bool input_gradient, const conv_shape& shape, const conv_images& in, const conv_weights& weight,
                        const conv_images& out, bool packed, int64_t threads);
// packed: from product_pack_weights, or NULL.
template <class T>
void product_forward(const conv_shape& shape, const conv_images& x, const conv_weights& weight, const char* packed,
                     const conv_store& store, const conv_images& out, char* scratch, int64_t scratch_size);
template <class T>
void product_input_gradient(const conv_shape& shape, const conv_images& gradient, const conv_weights& weight,
                            const char* packed, const conv_store& store, const conv_images& out, char* scratch,
                            int64_t scratch_size);

}  // namespace hominy::HOMINY_LEVEL
