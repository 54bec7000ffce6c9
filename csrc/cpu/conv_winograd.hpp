// Winograd's convolution (Lavin and Gray 2015) of 3x3 kernels at stride 1, in two dimensions: F(2x2,3x3) with 2.25
// times and F(4x4,3x3) with 4 times fewer multiplications than the formula has. `tile` is 2 or 4 throughout.
//
// Weights are transformed and packed first, once a call or ahead of it. Then, for a block of output tiles that fits the
// second-level cache: input tiles are transformed (conv_winograd_transform.hpp) straight from the image, multiplied as
// (tile + 2)^2 products (tiles x C) @ (C x O), and transformed back in the store. The input gradient is the same with
// weights flipped and transposed. docs/kernels/convolution_winograd.md has figures and what was tried.
//
// Accumulation: in the operands' own precision, over channels in runs of equal length that are summed apart. Bits
// depend on nothing but shape, values and level.
//
// Error, elementwise, before the activation; eps the unit roundoff of the type, D_c the largest |x| of channel c in the
// (tile + 2)^2 inputs that the output's tile sees, w_c the weights from c to this output:
//
//   |out - exact| <= c A (r + l + k - 1) eps sum_c D_c sum|w_c| + 3 eps (|exact| + |bias| + |residual|)
//
// where k runs of l channels are summed (1 more without fused multiply-adds), A is 16 (tile 2) or 157.31 (tile 4), r is
// 7 or 9.32 in float32, 12 or 14.32 in float64 (without fused multiply-adds 7 or 12.06, 14 or 19.06), c = 1.01 as long
// as (r + l + k) eps < 0.01. The direct algorithm's bound in these terms is c (9 C + 2) eps sum_c D_c sum|w_c|. Runs
// are as long as leaves the factor between the two below 8; for tile 4 that takes some 50 channels, in float64 some
// 65 (60 and 83). An infinity or NaN makes all outputs of the tiles that see it NaN.
#pragma once
#include "conv_problem.hpp"

namespace hominy::HOMINY_LEVEL {

template <class T>
bool winograd_computes(const conv_shape& shape, const conv_images& x, const conv_images& out);

// Whether the bound above is within 8 times the direct algorithm's.
template <class T>
bool winograd_bound_holds(int tile, bool input_gradient, const conv_shape& shape);

// The time that a call takes, in multiply-adds of the direct algorithm. packed: weights are at hand.
template <class T>
double winograd_cost(int tile, bool input_gradient, const conv_shape& shape, bool packed);

// Bytes of packed weights, enough for either direction.
template <class T>
int64_t winograd_weights_size(int tile, const conv_shape& shape);
template <class T>
void winograd_pack_weights(int tile, bool input_gradient, const conv_shape& shape, const conv_weights& weight,
                           char* packed);

// packed: weights packed ahead, or NULL. Bytes of scratch for `threads`; with less, but enough for one, fewer take part.
template <class T>
int64_t winograd_scratch(int tile, bool input_gradient, const conv_shape& shape, bool packed, int64_t threads);
template <class T>
void winograd_forward(int tile, const conv_shape& shape, const conv_images& x, const conv_weights& weight,
                      const char* packed, const conv_store& store, const conv_images& out, char* scratch,
                      int64_t scratch_size);
template <class T>
void winograd_input_gradient(int tile, const conv_shape& shape, const conv_images& gradient, const conv_weights& weight,
                             const char* packed, const conv_store& store, const conv_images& out, char* scratch,
                             int64_t scratch_size);

// The gradient of the weights sums over the tiles of all images instead, in runs again, with k of l tiles:
//
//   |out - exact| <= c A (r + l + k - 1) eps sum over tiles of D_c sum|gradient within the tile|
//
// with r 4 or 7.32 in float32, 11 or 18.32 in float64 (without fused multiply-adds 5 or 11.75, 12 or 23.9); the direct
// algorithm's bound is c (positions + 2) eps times the same. Runs follow the same rule.
template <class T>
bool winograd_weight_bound_holds(int tile, const conv_shape& shape);
template <class T>
double winograd_weight_cost(int tile, const conv_shape& shape);
template <class T>
int64_t winograd_weight_gradient_scratch(int tile, const conv_shape& shape, int64_t threads);
template <class T>
void winograd_weight_gradient(int tile, const conv_shape& shape, const conv_images& gradient, const conv_images& x,
                              const conv_weights& out, char* scratch, int64_t scratch_size);

}  // namespace hominy::HOMINY_LEVEL
