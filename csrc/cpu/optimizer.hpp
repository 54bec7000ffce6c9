// Whole-model optimizer steps: one call updates every parameter, one pass over memory each.
//
// The operations and their order are those of PyTorch's single-tensor implementation in the parameter's dtype, scalar
// coefficients computed in float64 and rounded once. Two things differ: products and sums may contract to fused
// multiply-adds, and the quotient by sqrt(bias_correction2) is a product with its reciprocal.
//
// Bounds for one step from the states it is given, u the unit roundoff, G = |gradient| + weight_decay |value| (the
// decay only where it is part of the gradient), each relative to the magnitudes that enter, since their sum may cancel:
//   SGD   buffer 6 u (momentum |buffer| + |1 - dampening| G) =: 6 u B;  value u (2 |value| + 10 learning_rate (G + B))
//   Adam  exp_avg 8 u (|exp_avg| + G) =: 8 u M;  exp_avg_sq 8 u (beta2 exp_avg_sq + (1 - beta2) G^2)
//         value u (4 |value| + 32 step_size M / denominator)
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

// g = gradient (negated with maximize) + weight_decay * value
// buffer = g on the first step, else momentum * buffer + (1 - dampening) * g
// value -= learning_rate * (buffer, or g + momentum * buffer with nesterov)
// Without momentum state1 is not read and g itself is the direction.
hominy_status sgd_step(const hominy_parameter* parameters, int64_t count, const hominy_sgd* settings);

// exp_avg += (1 - beta1) * (g - exp_avg);  exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
// value -= learning_rate / (1 - beta1^step) * exp_avg / (sqrt(exp_avg_sq) / sqrt(1 - beta2^step) + epsilon)
// With state3 (amsgrad) the root is taken of the running maximum of exp_avg_sq, kept there.
hominy_status adam_step(const hominy_parameter* parameters, int64_t count, const hominy_adam* settings);

}  // namespace hominy::HOMINY_LEVEL
