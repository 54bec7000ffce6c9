// Depthwise and grouped convolution (conv_depthwise.cpp, conv_grouped.cpp) at the edges of their own blocks: rows of
// fewer and more than a vector, planes of fewer and more rows than a block, padding beyond the kernel, every layout.
#include "conv_reference.hpp"

namespace test {
namespace {

using namespace convolutions;

std::vector<geometry> edges(const level& here, int32_t dtype) {
  const int64_t v = here.lanes(dtype);
  std::vector<geometry> all;
  random_numbers random(uint64_t(7 * v));
  for (int64_t side : {3, 5})
    for (int64_t stride : {1, 2})
      for (int64_t width : {int64_t(1), int64_t(2), v - 1, v, v + 2, 2 * v - 1, 2 * v, 3 * v + 1}) {
        const int64_t rows = 1 + random.below(here.settings.quick ? 9 : 31), channels = 1 + random.below(2 * v + 2);
        const int64_t down = random.below(3) ? side / 2 : random.below(side + 3);
        const int64_t across = random.below(3) ? side / 2 : random.below(side + 3);
        all.push_back(convolution(1 + random.below(2), channels, 1, 1, {rows, width}, {side, side}, {stride, stride},
                                  {down, across}, {}, {random.below(3), random.below(3)}));
      }
  for (int64_t channels : {2, 3, 5, 8, 12, 16})
    for (int64_t stride : {1, 2, 3}) {
      const int64_t out = 1 + random.below(13), side = 1 + random.below(4);
      all.push_back(convolution(1 + random.below(2), 1 + random.below(5), channels, out,
                                {1 + random.below(12), 1 + random.below(3 * v)}, {side, side}, {stride, stride},
                                {random.below(3), random.below(3)}, {1 + random.below(2), 1 + random.below(2)}));
    }
  return all;
}

void run_edges(const level& here, int32_t dtype, hominy_conv_algorithm algorithm) {
  int step = 0;
  for (const geometry& g : edges(here, dtype)) {
    problem p(here, dtype, g, step % 2 ? numbers::integers : numbers::uniform, uint64_t(step));
    for (hominy_conv_direction direction : directions)
      for (layout kind : {layout::contiguous, layout::channels_last, layout::channels_last_sliced}) {
        call c{direction, algorithm, {{kind, kind, kind}, kind, layout::contiguous}};
        c.at.operands[of_weight] = layout::contiguous;
        const bool stores = direction != HOMINY_CONV_WEIGHT_GRADIENT;
        c.bias = stores && step % 2;
        c.residual = stores && step % 3 == 0;
        c.activation = !stores || step % 4 ? HOMINY_ACTIVATION_NONE
                       : step % 8          ? HOMINY_ACTIVATION_RELU
                                           : HOMINY_ACTIVATION_SILU;
        ++step;
        p.run(c);
      }
  }
}

}  // namespace

void conv_depthwise_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64})
    for (hominy_conv_algorithm algorithm : {HOMINY_CONV_DEPTHWISE, HOMINY_CONV_GROUPED}) {
      begin_group(std::string("conv ") + algorithm_names[algorithm] + " edges " + here.kernels->isa + " " +
                  name_of_dtype(dtype));
      run_edges(here, dtype, algorithm);
      end_group();
    }
}

}  // namespace test
