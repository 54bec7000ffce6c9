// Rows of a table by their numbers, and the gradient of the table. Copies and sums; a sum of n gradients of one row is
// taken in the order of the indices: error <= n u sum |g|. out may not overlap an input.
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

// out (N, D) = table[indices]; table (V, D), indices (N) int64.
hominy_status embedding(const hominy_tensor* table, const hominy_tensor* indices, const hominy_tensor* out);

// out (V, D) = 0, then out[indices[n]] += gradient[n] for each n in order but those of `ignored`.
hominy_status embedding_backward(const hominy_tensor* gradient, const hominy_tensor* indices, int64_t ignored,
                                 const hominy_tensor* out);

}  // namespace hominy::HOMINY_LEVEL
