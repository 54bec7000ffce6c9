// Cross entropy of logits (N,C) with class indices, forward and backward, fused over each row: PyTorch's cross_entropy
// with reduction "none". With w the weights (1 where there are none), s the label smoothing and t the row's target:
//
//   losses = (1 - s) w[t] nll(t) + s/C sum_c w[c] nll(c),   nll(c) = logsumexp - x[c]
//
// Bounds, with u the unit roundoff, m the row's largest logit and n = C:
//   loss      |error| <= (|m - x[t]| + |loss| + 52 + C/1024) u for unit weights and s = 0; with s, the weighted mean of
//             |m - x[c]| takes the place of |m - x[t]|
//   backward  |error| <= |g| (|logsumexp| + |x - logsumexp| + 8) u w p, p the softmax, plus the rounding of the result:
//             it starts from the rounded logsumexp instead of reading the row twice
// An ignored row has loss 0 and gradient 0 whatever its logits. Each target is read once, and checked then.
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

hominy_status cross_entropy(const hominy_tensor* logits, const hominy_tensor* target, const hominy_tensor* weight,
                            int64_t ignore_index, double label_smoothing, const hominy_tensor* losses,
                            const hominy_tensor* logsumexp);

// out may be logits.
hominy_status cross_entropy_backward(const hominy_tensor* gradient, const hominy_tensor* logits,
                                     const hominy_tensor* target, const hominy_tensor* weight, int64_t ignore_index,
                                     double label_smoothing, const hominy_tensor* logsumexp, const hominy_tensor* out);

}  // namespace hominy::HOMINY_LEVEL
