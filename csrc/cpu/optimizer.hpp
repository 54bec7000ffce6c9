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
// and for the others: a state 8 u of the magnitudes that enter it, the value u (4 |value| + 32 of the update's), the
// update's magnitude taken with every term positive and, where a variance is a difference (RMSprop, centered),
// multiplied by 1 + (square_avg + grad_avg^2) / variance.
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

// Adam's averages; mu, mu_next: this step's momentum and the next one's; mu_product: that of all steps up to this one.
// value -= learning_rate * ((1 - mu) / (1 - mu_product) * g + mu_next / (1 - mu_product * mu_next) * exp_avg)
//          / (sqrt(exp_avg_sq / (1 - beta2^step)) + epsilon)
hominy_status nadam_step(const hominy_parameter* parameters, int64_t count, const hominy_nadam* settings);

// Adam's averages; with n = limit - 2 step beta2^step / (1 - beta2^step), limit = 2 / (1 - beta2) - 1,
// value -= learning_rate / (1 - beta1^step) * exp_avg, and where n > 5 this times
//   sqrt((n - 4) (n - 2) limit / ((limit - 4) (limit - 2) n)) * sqrt(1 - beta2^step) / (sqrt(exp_avg_sq) + epsilon)
hominy_status radam_step(const hominy_parameter* parameters, int64_t count, const hominy_adam* settings);

// exp_avg as Adam's;  exp_inf = max(beta2 * exp_inf, |g| + epsilon)
// value -= learning_rate / (1 - beta1^step) * exp_avg / exp_inf. Settings with `decoupled` are BAD_VALUE.
hominy_status adamax_step(const hominy_parameter* parameters, int64_t count, const hominy_adam* settings);

// square_avg = alpha * square_avg + (1 - alpha) * g * g;  centered: grad_avg += (1 - alpha) * (g - grad_avg)
// buffer = momentum * buffer + g / (sqrt(square_avg, or max(0, square_avg - grad_avg^2)) + epsilon)
// value -= learning_rate * buffer. Without momentum state2 is not read, not centered state3 is not.
hominy_status rmsprop_step(const hominy_parameter* parameters, int64_t count, const hominy_rmsprop* settings);

// sum += g * g;  value -= learning_rate / (1 + (step - 1) * learning_rate_decay) * g / (sqrt(sum) + epsilon)
hominy_status adagrad_step(const hominy_parameter* parameters, int64_t count, const hominy_adagrad* settings);

// square_avg = rho * square_avg + (1 - rho) * g * g;  delta = sqrt(acc_delta + epsilon) / sqrt(square_avg + epsilon) *
// g acc_delta = rho * acc_delta + (1 - rho) * delta * delta;  value -= learning_rate * delta
hominy_status adadelta_step(const hominy_parameter* parameters, int64_t count, const hominy_adadelta* settings);

}  // namespace hominy::HOMINY_LEVEL
