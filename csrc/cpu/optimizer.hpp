// Whole-model optimizer steps: one call updates every parameter, one pass over memory each.
//
// Rounding: the operations and their order are those of PyTorch's single-tensor implementation in the parameter's
// dtype, scalar coefficients computed in float64 and rounded once. Two things differ: products and sums may contract to
// fused multiply-adds, and the quotient by sqrt(bias_correction2) is a product with its reciprocal. The update that is
// added to a value is therefore within 6 eps of its exact value given the stored states (8 eps with a coupled weight
// decay, of the sum of the magnitudes of gradient and decay), and the new value adds half an ulp of its own.
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
