// Convolution of one to three dimensions in its three directions, each bilinear in the other two operands:
//
//   forward           out from x and weight       (and a transposed convolution's input gradient)
//   input gradient    x from out and weight       (and a transposed convolution, with its bias)
//   weight gradient   weight from x and out
//
// The formula stands in conv_problem.hpp; accumulation and error bounds with each algorithm. Which algorithm computes a
// call follows from shapes, strides, settings and whether weights come packed, never from threads:
//
//   product     conv_product, conv_weight_gradient   everything; the measure of the others
//   depthwise   conv_depthwise                       one input channel a group
//   grouped     conv_grouped                         few channels a group
//   winograd2   conv_winograd                        3x3, stride 1: F(2x2, 3x3)
//   winograd4                                        and F(4x4, 3x3), where their bound is within 8 times the product's
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

hominy_conv_algorithm conv_algorithm(hominy_conv_direction direction, const hominy_tensor* x,
                                     const hominy_tensor* weight, const hominy_tensor* out,
                                     const hominy_conv* settings);
int64_t conv_packed_size(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                         const hominy_tensor* out, const hominy_conv* settings);
hominy_status conv_pack(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                        const hominy_tensor* out, const hominy_conv* settings, void* packed);
int64_t conv_workspace_size(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                            const hominy_tensor* out, const hominy_conv* settings);
hominy_status conv(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                   const hominy_tensor* out, const hominy_tensor* bias, const hominy_tensor* residual,
                   const void* packed, const hominy_conv* settings, void* workspace, int64_t workspace_size);

}  // namespace hominy::HOMINY_LEVEL
