// Fills the table of include/hominy.h with this ISA level's kernels.
#include "dropout.hpp"
#include "elementwise.hpp"
#include "embedding.hpp"
#include "loss.hpp"
#include "matmul.hpp"
#include "normalization.hpp"
#include "optimizer.hpp"
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
