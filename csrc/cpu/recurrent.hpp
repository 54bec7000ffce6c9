// Recurrent layers over whole sequences: one layer, one or two directions, forward and backward.
//
//   rnn    h = f(W x + b + R h')
//   lstm   i, f, o = f(W x + b + R h' [+ P c']), g = g(W x + b + R h'), c = f c' + i g, h = o h(c), or its projection;
//          rows of W and R in PyTorch's order i, f, g, o; peepholes P (3, H): i, f, o, where o looks at c, not c';
//          coupled: f is 1 - i
//   gru    r, z = f(W x + b + R h'), n = g(W x + b + r (R h' + b_hh)), h = n + z (h' - n); rows r, z, n;
//          reset_before: n = g(W x + b + R (r h'))
//
// x' is x one step earlier in the direction's own order. f, g, h are the cell's activations; with clip their arguments
// are brought into [-clip, clip] first. The definitions of peepholes, coupling, clipping, activations and reset_before
// are ONNX's, all others PyTorch's.
//
// Steps and rows: row b takes part in steps 0 .. lengths[b] - 1 (all, without lengths); lengths do not increase, so
// that the rows of a step are the first ones, and no row is computed beyond its length. A reversed direction starts
// each row at its own last step.
//
// Accumulation: a gate's argument starts from the bias and adds x W and h' R in the order of their elements, with fused
// multiply-adds where the level has them; every element is one chain. Gradients of weights are sums over blocks of
// steps, added up in the order of the blocks, which follow from the shape.
//
// Error of one step, given its h' and c', u the unit roundoff: a gate's argument errs by
//   E = 1.01 (I + H + 4) u (|W| |x| + |R| |h'| + |b|), a sigmoid by E / 4 + 3 u, a tanh by E + 2 u, and
//   rnn   |h| by E + 2 u (ReLU: E)
//   lstm  |c| by (E_f / 4 + 3 u) |c'| + (E_i / 4 + 3 u) + (E_g + 2 u) + 3 u (|c'| + 1),
//         |h| by that of c + E_o / 4 + 8 u
//   gru   |n| by E_n + |R h' + b| (E_r / 4 + 3 u) + 8 u,
//         |h| by that of n + 2 (E_z / 4 + 3 u) max(1, |h'|) + 8 u (|h'| + 1)
// (activations other than these: their own errors, elementwise.md). What of it reaches a later step depends on the
// weights. The same input gives the same bits for any number of threads (of gradients: for one keep_every).
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

int64_t recurrent_packed_size(const hominy_recurrent* cell, const hominy_recurrent_direction* direction);
hominy_status recurrent_pack(const hominy_recurrent* cell, const hominy_recurrent_direction* direction, void* packed,
                             int64_t packed_size);

int64_t recurrent_kept_size(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                            const hominy_tensor* x, const hominy_tensor* lengths);

int64_t recurrent_workspace_size(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                                 const hominy_tensor* x, const hominy_tensor* lengths);
hominy_status recurrent(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                        const hominy_tensor* x, const hominy_tensor* lengths, void* kept, int64_t kept_size,
                        void* workspace, int64_t workspace_size);

int64_t recurrent_backward_workspace_size(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                                          const hominy_tensor* x, const hominy_tensor* lengths);
hominy_status recurrent_backward(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                                 const hominy_recurrent_gradients* gradients, const hominy_tensor* x,
                                 const hominy_tensor* lengths, const void* kept, int64_t kept_size,
                                 const hominy_tensor* x_gradient, void* workspace, int64_t workspace_size);

}  // namespace hominy::HOMINY_LEVEL
