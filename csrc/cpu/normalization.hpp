// Normalisation to mean 0 and variance 1, then an affine map. Forward and backward.
//
// layer_norm: every row of (M, N), affine along the row; with `rms` by the root of the mean square alone.
// channel_norm: (N, C, S), affine by channel; statistics of each channel over batch and positions (groups = 0: batch
// norm), or of each of `groups` groups of channels of each batch item (group norm; instance norm where groups = C).
//
// With u the unit roundoff, z = (x - mean) / sqrt(variance + eps), r = |mean| / sqrt(variance + eps), n the number of
// elements that share a statistic and c = 40 + n/2048: |error of out| <= (c + 8) u |weight| (|z| + r + 1) + 2 u (|out|
// + |bias|); what the mean's own error costs is in r + 1. Gradients: the same constants times the sums of the
// magnitudes that they add.
#pragma once
#include "hominy.h"

namespace hominy::HOMINY_LEVEL {

hominy_status layer_norm(int32_t rms, const hominy_tensor* x, const hominy_tensor* weight, const hominy_tensor* bias,
                         double epsilon, const hominy_tensor* out, const hominy_tensor* mean,
                         const hominy_tensor* rstd);
int64_t layer_norm_workspace_size(const hominy_tensor* x);
hominy_status layer_norm_backward(const hominy_tensor* gradient, const hominy_tensor* x, const hominy_tensor* weight,
                                  const hominy_tensor* mean, const hominy_tensor* rstd, const hominy_tensor* out,
                                  const hominy_tensor* weight_gradient, const hominy_tensor* bias_gradient,
                                  void* workspace, int64_t workspace_size);

int64_t channel_norm_workspace_size(const hominy_tensor* x, int64_t groups);
hominy_status channel_norm(const hominy_tensor* x, const hominy_tensor* weight, const hominy_tensor* bias,
                           int64_t groups, double epsilon, int32_t fixed, const hominy_tensor* mean,
                           const hominy_tensor* variance, const hominy_tensor* out, void* workspace,
                           int64_t workspace_size);
hominy_status channel_norm_backward(const hominy_tensor* gradient, const hominy_tensor* x, const hominy_tensor* weight,
                                    const hominy_tensor* mean, const hominy_tensor* variance, int64_t groups,
                                    double epsilon, int32_t fixed, const hominy_tensor* out,
                                    const hominy_tensor* weight_gradient, const hominy_tensor* bias_gradient,
                                    void* workspace, int64_t workspace_size);

}  // namespace hominy::HOMINY_LEVEL
