// Fills the table of include/hominy.h with this ISA level's kernels.
#include "elementwise.hpp"
#include "loss.hpp"
#include "matmul.hpp"
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
      .sgd_step = sgd_step,
      .adam_step = adam_step,
  };
  return &table;
}

}  // namespace hominy::HOMINY_LEVEL
