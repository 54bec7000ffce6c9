// Dropout by a counter-based generator: an element's fate is a function of the seed and of its number in C order, so
// the backward pass draws the same mask again instead of keeping it, and bits depend neither on threads nor on the ISA.
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

// out = x / (1 - p) where the element's 32 bits are at least p 2^32, rounded down, else 0. Both in C order, without
// gaps. Error: 1 u of the result for the factor's rounding, and 1 for the product's.
hominy_status dropout(const hominy_tensor* x, double p, uint64_t seed, const hominy_tensor* out);

}  // namespace hominy::HOMINY_LEVEL
