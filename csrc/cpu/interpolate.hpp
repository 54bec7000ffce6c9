// Average pooling, adaptive average pooling, interpolation of every mode, and the gradients of all of them: a linear
// map along each dimension of space, given as lists of inputs and weights (hominy_windows).
//
// Sums run in the order of the lists, over depth and height first where the elements of a row are neighbours, over all
// dimensions at once where channels are. Error: with n products an output, and s the sum of their magnitudes,
// (n + 6) u s. A 0 in a window's list of weights still makes a NaN of an infinity, as the product does; what a window
// does not list it does not read.
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

// Scratch for lists of weights of x's dtype; -1 where their sizes overflow.
int64_t resample_workspace_size(const hominy_tensor* x, const hominy_windows* windows);

// out (N, C, D', H', W')[p] = sum over the windows' positions of x (N, C, D, H, W) weighted, divided by their divisors;
// windows[0] to [2]: depth, height, width. out may not overlap x.
hominy_status resample(const hominy_tensor* x, const hominy_windows* windows, const hominy_tensor* out, void* workspace,
                       int64_t workspace_size);

}  // namespace hominy::HOMINY_LEVEL
