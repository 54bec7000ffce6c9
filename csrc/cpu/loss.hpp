// Cross entropy of logits (N,C) with class indices, forward and backward, fused over each row: PyTorch's cross_entropy
// with reduction "none". With w the weights (1 where there are none), s the label smoothing and t the row's target:
//
//   losses = (1 - s) w[t] nll(t) + s/C sum_c w[c] nll(c),   nll(c) = logsumexp - x[c]
//
// Bounds, with u the unit roundoff, m the row's largest logit, d = m - x and c(C) as in softmax.hpp:
//   loss       |error| <= u ((1 - s) w[t] e(t) + s/C sum_k w[k] (e(k) + c nll(k))),
//              e(k) = d[k] + nll(k) + log2 C + c + 16
//   logsumexp  |error| <= (|logsumexp| + log2 C + c + 16) u
//   backward   from the logsumexp it is given, with a = (1 - s) w[t] + s/C sum w and p = exp(x - logsumexp),
//              |error| <= u |g| ((|x - logsumexp| + c + 16) a p + 8 (1 - s) w[t] [k = t] + 8 s/C w[k])
// The backward pass does not read rows twice to find its own logsumexp, so the rounding of that one, up to
// |logsumexp| u relative to p, adds to the whole.
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
