// Fills the table of include/hominy.h with this ISA level's kernels.
#include "conv.hpp"
#include "dropout.hpp"
#include "elementwise.hpp"
#include "embedding.hpp"
#include "interpolate.hpp"
#include "loss.hpp"
#include "matmul.hpp"
#include "normalization.hpp"
#include "optimizer.hpp"
#include "pool.hpp"
#include "recurrent.hpp"
#include "reduce.hpp"
#include "softmax.hpp"

#define HOMINY_TEXT(x) #x
#define HOMINY_NAME_OF(x) HOMINY_TEXT(x)

namespace hominy::HOMINY_LEVEL {

const hominy_kernels* kernel_table();

const hominy_kernels* kernel_table() {
  static const hominy_kernels table = {
      .abi_version = HOMINY_ABI_VERSION,
      .isa = HOMINY_NAME_OF(HOMINY_LEVEL),
      .matmul_workspace_size = matmul_workspace_size,
      .matmul = matmul,
      .conv_algorithm = conv_algorithm,
      .conv_packed_size = conv_packed_size,
      .conv_pack = conv_pack,
      .conv_workspace_size = conv_workspace_size,
      .conv = conv,
      .unary = unary,
      .binary = binary,
      .compare = compare,
      .where = where,
      .copy = copy,
      .reduce = reduce,
      .arg_reduce = arg_reduce,
      .softmax = softmax,
      .softmax_backward = softmax_backward,
      .cross_entropy = cross_entropy,
      .cross_entropy_backward = cross_entropy_backward,
      .layer_norm = layer_norm,
      .layer_norm_workspace_size = layer_norm_workspace_size,
      .layer_norm_backward = layer_norm_backward,
      .channel_norm_workspace_size = channel_norm_workspace_size,
      .channel_norm = channel_norm,
      .channel_norm_backward = channel_norm_backward,
      .embedding = embedding,
      .embedding_backward = embedding_backward,
      .dropout = dropout,
      .resample_workspace_size = resample_workspace_size,
      .resample = resample,
      .max_pool_workspace_size = max_pool_workspace_size,
      .max_pool = max_pool,
      .max_pool_backward = max_pool_backward,
      .gather_planes = gather_planes,
      .scatter_planes = scatter_planes,
      .recurrent_packed_size = recurrent_packed_size,
      .recurrent_pack = recurrent_pack,
      .recurrent_kept_size = recurrent_kept_size,
      .recurrent_workspace_size = recurrent_workspace_size,
      .recurrent = recurrent,
      .recurrent_backward_workspace_size = recurrent_backward_workspace_size,
      .recurrent_backward = recurrent_backward,
      .sgd_step = sgd_step,
      .adam_step = adam_step,
      .nadam_step = nadam_step,
      .radam_step = radam_step,
      .adamax_step = adamax_step,
      .rmsprop_step = rmsprop_step,
      .adagrad_step = adagrad_step,
      .adadelta_step = adadelta_step,
  };
  return &table;
}

}  // namespace hominy::HOMINY_LEVEL
