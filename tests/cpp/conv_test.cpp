// Convolutions in their three directions, in all shapes, layouts and settings, by every algorithm; how exact Winograd's
// are: conv_winograd_test.cpp.
#include "conv_reference.hpp"

namespace test {
namespace {

using namespace convolutions;

placement all_of(layout kind) { return {{kind, kind, kind}, kind, layout::contiguous}; }

// All directions and algorithms; bias, residual and activation come and go with `step`.
void every_way(problem& p, int step, const std::vector<placement>& places) {
  for (hominy_conv_direction direction : directions)
    for (const placement& at : places) {
      const bool gradient = direction == HOMINY_CONV_WEIGHT_GRADIENT;
      call c{direction, HOMINY_CONV_AUTO, at};
      c.bias = !gradient && step % 2;
      c.residual = !gradient && step % 3 == 0;
      c.activation = !gradient && step % 5 == 0 ? HOMINY_ACTIVATION_RELU : HOMINY_ACTIVATION_NONE;
      ++step;
      std::vector<unsigned char> of_auto, bits;
      p.run(c, &of_auto);
      const hominy_conv_algorithm chosen = p.algorithm();
      for (hominy_conv_algorithm algorithm : algorithms) {
        c.algorithm = algorithm;
        c.packed = false;
        c.exact = algorithm == HOMINY_CONV_AUTO;
        if (!p.run(c, &bits, algorithm == chosen ? &of_auto : nullptr, "auto")) continue;
        if (c.exact) check(!is_winograd(p.algorithm()), "%s: not exact", p.describe(c).c_str());
        if (gradient) continue;
        c.packed = true;
        // A product whose weights are packed ahead may sum in another order; integers come out the same.
        p.run(c);
      }
    }
}

// Edges of vectors and tiles, and everything that geometry can do.
std::vector<geometry> geometries(const level& here, int32_t dtype) {
  const int64_t v = here.lanes(dtype);
  std::vector<geometry> all = {
      // Products: 1x1, strided, from and to one channel, one position.
      convolution(2, 1, 5, 7, {7, 9}, {1, 1}),
      convolution(1, 1, v + 1, 2 * v + 1, {5, 3}, {1, 1}),
      convolution(2, 1, 3, v - 1, {6, 7}, {1, 1}, {2, 3}),
      convolution(1, 1, 9, 3, {1, 1}, {1, 1}),
      convolution(3, 1, 2 * v, v, {1, 1}, {1, 1}, {}, {1, 1}),
      convolution(1, 1, 1, 1, {1, 1}, {3, 3}, {}, {1, 1}),
      convolution(1, 1, 1, 1, {4 * v + 3}, {1}),
      // 3x3 and its neighbours.
      convolution(1, 1, v - 1, v + 1, {6, v - 1}, {3, 3}, {}, {1, 1}),
      convolution(1, 1, v + 1, v - 1, {5, v + 1}, {3, 3}, {}, {1, 1}),
      convolution(2, 1, 3, v, {3, 2 * v + 1}, {3, 3}),
      convolution(2, 1, v, 2 * v + 1, {9, 8}, {3, 3}, {2, 2}, {1, 1}),
      convolution(1, 1, 3, 17, {23, 25}, {7, 7}, {2, 2}, {3, 3}),
      convolution(1, 1, 1, 16, {12, 12}, {5, 5}, {}, {2, 2}),
      convolution(2, 1, 4, 6, {8, 8}, {4, 4}, {2, 2}, {1, 1}),
      convolution(1, 1, 2, 3, {11, 5}, {1, 7}, {}, {0, 3}),
      convolution(1, 1, 2, 3, {5, 11}, {7, 1}, {}, {3, 0}),
      convolution(1, 1, 3, 2, {40, 1}, {3, 1}, {}, {1, 0}),
      // Kernels larger than the input, padding larger than the kernel, strides beyond it, dilation.
      convolution(2, 1, 3, 4, {3, 2}, {5, 7}, {}, {2, 4}),
      convolution(1, 1, 2, 5, {2, 3}, {2, 2}, {}, {5, 4}),
      convolution(1, 1, 2, 5, {2, 3}, {2, 2}, {3, 2}, {7, 9}),
      convolution(1, 1, 4, 3, {13, 17}, {2, 2}, {5, 4}),
      convolution(1, 1, 4, 3, {13, 17}, {2, 1}, {7, 19}, {1, 3}),
      convolution(2, 1, 3, 5, {9, 14}, {3, 3}, {}, {2, 2}, {2, 2}),
      convolution(1, 1, 3, 5, {11, 14}, {3, 2}, {2, 3}, {3, 4}, {3, 5}),
      convolution(1, 1, 2, 2, {4, 5}, {3, 3}, {}, {9, 8}, {8, 6}),
      // Windows that lie past the end, and elements that no window reads.
      convolution(1, 1, 2, 3, {5, 6}, {3, 3}, {}, {1, 1}, {}, {4, 9}),
      convolution(2, 1, 2, 3, {5, 6}, {3, 3}, {2, 2}, {0, 0}, {}, {7, 3}),
      convolution(1, 1, 3, 2, {9, 8}, {3, 3}, {}, {1, 1}, {}, {-5, -6}),
      // Groups, and one channel a group.
      convolution(2, 3, 2, 5, {5, 7}, {3, 3}, {}, {1, 1}),
      convolution(1, 2, v + 1, v - 1, {4, 5}, {3, 3}, {2, 1}, {1, 1}),
      convolution(2, 8, 4, 4, {6, v + 1}, {3, 3}, {}, {1, 1}),
      convolution(1, 4, 8, 8, {7, 7}, {3, 3}, {2, 2}, {1, 1}),
      convolution(1, 5, 3, 2, {6, 5}, {1, 1}),
      convolution(1, 3, 2, 3, {7, 9}, {3, 2}, {2, 1}, {4, 5}, {2, 3}),
      convolution(2, v - 1, 1, 1, {7, v + 1}, {3, 3}, {}, {1, 1}),
      convolution(1, v + 1, 1, 1, {8, 2 * v - 1}, {3, 3}, {2, 2}, {1, 1}),
      convolution(1, 2 * v + 1, 1, 1, {9, 9}, {5, 5}, {}, {2, 2}),
      convolution(1, v, 1, 1, {9, 2 * v + 2}, {5, 5}, {2, 2}, {2, 2}),
      convolution(2, 5, 1, 3, {6, 11}, {3, 3}, {}, {1, 1}),
      convolution(1, 5, 1, 2, {6, 11}, {5, 5}, {2, 2}, {0, 1}),
      convolution(1, 6, 1, 1, {2, 2}, {5, 5}, {}, {2, 2}),
      convolution(1, 6, 1, 1, {2, 1}, {3, 3}, {}, {4, 3}),
      convolution(1, 6, 1, 1, {5, 6}, {3, 3}, {1, 2}, {2, 0}),
      convolution(1, 3, 1, 1, {9, 9}, {3, 3}, {}, {1, 1}, {}, {3, 2}),
      convolution(1, 3, 1, 1, {9, 9}, {5, 5}, {2, 2}, {2, 2}, {}, {-2, 4}),
      convolution(1, 7, 1, 1, {9, 10}, {7, 7}, {}, {3, 3}),
      convolution(1, 7, 1, 2, {9, 10}, {3, 3}, {}, {2, 2}, {2, 2}),
      convolution(1, 3, 1, 1, {3, 40 * v + 1}, {3, 3}, {}, {1, 1}),
      // One and three dimensions.
      convolution(2, 1, 5, 9, {4 * v + 1}, {9}, {}, {4}),
      convolution(1, 1, v, v, {37}, {5}, {3}, {2}, {2}),
      convolution(2, v + 1, 1, 1, {19}, {3}, {}, {1}),
      convolution(1, 3, 2, 2, {19}, {4}, {2}, {0}),
      convolution(1, 1, 3, 7, {4, 5, 6}, {3, 3, 3}, {}, {1, 1, 1}),
      convolution(2, 1, 2, 5, {5, 4, 7}, {2, 3, 1}, {2, 1, 3}, {1, 2, 0}, {2, 1, 1}),
      convolution(1, 4, 1, 2, {4, 5, 6}, {3, 3, 3}, {}, {1, 1, 1}),
      convolution(1, 2, 3, 2, {3, 4, 5}, {2, 2, 2}, {1, 2, 1}, {1, 1, 2}, {1, 1, 2}),
      convolution(1, 1, 2, 2, {1, 5, 6}, {3, 3, 3}, {}, {1, 1, 1}),
      // Strides and steps beyond what planes can be packed for.
      convolution(1, 3, 1, 1, {200, 3}, {3, 3}, {65, 1}, {1, 1}),
      convolution(1, 2, 2, 2, {3, 200}, {3, 2}, {1, 70}, {1, 1}, {1, 3}),
      convolution(1, 2, 2, 2, {5}, {2}, {4096}, {8192}),
      convolution(1, 2, 1, 1, {5, 4}, {2, 2}, {300, 500}, {900, 500}),
      convolution(1, 2, 2, 1, {5, 4}, {3, 3}, {}, {1000, 2000}, {1000, 2000}),
      convolution(1, 2, 1, 1, {5, 4}, {3, 3}, {}, {int64_t(1) << 20, int64_t(1) << 30},
                  {int64_t(1) << 20, int64_t(1) << 30}),
      convolution(1, 1, 3, 2, {5, 4}, {3, 3}, {}, {int64_t(1) << 40, int64_t(1) << 20},
                  {int64_t(1) << 40, int64_t(1) << 20}),
  };
  // Few positions of many channels: the last ones beyond a vector, rows of weights of odd lengths and a page apart,
  // and weights that are dealt to threads by channels.
  for (int64_t beyond : {1, 2, 3, 4})
    for (int64_t vectors : {0, 1, 2}) {
      const int64_t positions = vectors * v + beyond;
      all.push_back(convolution(1, 1, 127 + beyond, 17, {positions}, {1}));
      all.push_back(convolution(1, 1, 43, 15 + beyond, {positions}, {3}, {}, {1}));
    }
  all.push_back(convolution(1, 1, 1024, 29, {3, 7}, {1, 1}));
  all.push_back(convolution(1, 2, 140, 300, {7}, {1}));
  all.push_back(convolution(2, 1, 30, 270, {3, 3}, {3, 3}, {}, {1, 1}));
  // Nothing: no image, no channels, no space, no taps.
  for (int64_t groups : {1, 2}) {
    all.push_back(convolution(0, groups, 2, 3, {4, 5}, {3, 3}, {}, {1, 1}));
    all.push_back(convolution(2, groups, 0, 3, {4, 5}, {3, 3}, {}, {1, 1}));
    all.push_back(convolution(2, groups, 2, 0, {4, 5}, {3, 3}, {}, {1, 1}));
    all.push_back(convolution(2, groups, 1, 1, {0, 5}, {3, 3}, {}, {2, 1}));
    all.push_back(convolution(2, groups, 2, 3, {0, 0}, {3, 3}, {}, {1, 1}));
    all.push_back(convolution(2, groups, 1, 1, {2, 5}, {3, 3}));
    all.push_back(convolution(2, groups, 2, 3, {4}, {7}));
    all.push_back(convolution(2, groups, 1, 2, {4, 5}, {0, 3}, {}, {0, 1}));
  }
  if (dtype == HOMINY_FLOAT32 && v > 4) {  // results that are written past the caches
    all.push_back(convolution(1, 1, 2, 64, {16400}, {1}));
    all.push_back(convolution(1, 32, 1, 1, {176, 192}, {3, 3}, {}, {1, 1}));
  }
  if (here.settings.quick) return all;
  all.push_back(convolution(1, 1, 3, 1, {1 << 17}, {3}, {}, {1}));
  all.push_back(convolution(1, 2, 1, 1, {1 << 18}, {3}, {}, {1}));
  all.push_back(convolution(1, 1, 65, 131, {17, 19}, {3, 3}, {}, {1, 1}));
  all.push_back(convolution(7, 1, 33, 70, {13, 14}, {3, 3}, {2, 2}, {1, 1}));
  all.push_back(convolution(3, 8, 16, 16, {15, 15}, {3, 3}, {}, {1, 1}));
  all.push_back(convolution(2, 67, 1, 1, {29, 31}, {5, 5}, {}, {2, 2}));
  all.push_back(convolution(1, 1, 17, 35, {7, 8, 9}, {3, 3, 3}, {}, {1, 1, 1}));
  return all;
}

// Sums short enough to be exact in float32 when their terms are integers are also a bound of the work.
geometry random_geometry(random_numbers& random, int64_t lanes, int64_t most_work) {
  const auto pick = [&](std::initializer_list<int64_t> from) {
    return from.begin()[random.below(int64_t(from.size()))];
  };
  for (;;) {
    const int64_t nd = 1 + random.below(3), groups = pick({1, 1, 1, 2, 3, 4, lanes - 1, lanes + 1});
    const int64_t in = pick({1, 1, 2, 3, 5, lanes - 1, lanes, lanes + 1}),
                  out = pick({1, 1, 2, 3, 7, lanes, lanes + 1});
    sizes size, kernel, stride, padding, dilation, more;
    for (int64_t d = 0; d < nd; ++d) {
      size.push_back(1 + random.below(nd == 1 ? 5 * lanes : nd == 2 ? 15 : 7));
      kernel.push_back(1 + random.below(nd == 3 ? 3 : 5));
      stride.push_back(1 + random.below(random.below(3) ? 2 : 6));
      dilation.push_back(random.below(3) ? 1 : 1 + random.below(4));
      padding.push_back(random.below(4) ? random.below(kernel.back()) : random.below(9));
      more.push_back(random.below(4) ? 0 : random.below(6) - 2);
    }
    const geometry g = convolution(1 + random.below(3), groups, in, out, size, kernel, stride, padding, dilation, more);
    if (g.multiplications() <= most_work) return g;
  }
}

void shapes(const level& here, int32_t dtype) {
  const placement rows, pixels = all_of(layout::channels_last);
  const std::vector<placement> both = {rows, pixels};
  int step = 0;
  for (const geometry& g : geometries(here, dtype)) {
    ++step;
    if (here.settings.quick && (step + dtype) % 3 == 0) continue;
    // A 3d product in emulated long double takes its time.
    problem p(here, dtype, g, step % 3 && g.multiplications() < 20000 ? numbers::uniform : numbers::integers);
    every_way(p, step, here.settings.quick ? std::vector<placement>{(step / 3 + dtype) % 2 ? rows : pixels} : both);
  }
  random_numbers random(uint64_t(here.lanes(dtype)));
  for (int i = 0; i < (here.settings.quick ? 12 : 600); ++i) {
    const geometry g = random_geometry(random, here.lanes(dtype), here.settings.quick ? 8000 : 400000);
    problem p(here, dtype, g, i % 8 ? numbers::integers : numbers::uniform, uint64_t(i));
    every_way(p, i, {i % 2 ? rows : pixels});
  }
}

// What each algorithm is there for, it computes; what it is not for, it leaves.
void choices(const level& here, int32_t dtype) {
  const auto computes = [&](hominy_conv_algorithm algorithm, const geometry& g) {
    bool all = true;
    for (hominy_conv_direction direction : directions) {
      problem p(here, dtype, g, numbers::integers);
      all = p.run({direction, algorithm}) && all;
    }
    return all;
  };
  for (int64_t multiplier : {1, 2, 5})
    for (int64_t stride : {1, 2, 3})
      check(computes(HOMINY_CONV_DEPTHWISE, convolution(1, 6, 1, multiplier, {7, 8}, {3, 3}, {stride, stride}, {1, 1})),
            "depthwise: refuses stride %d, multiplier %d", int(stride), int(multiplier));
  check(!computes(HOMINY_CONV_DEPTHWISE, convolution(1, 3, 2, 2, {7, 8}, {3, 3})), "depthwise: takes two channels");
  check(computes(HOMINY_CONV_GROUPED, convolution(1, 4, 4, 4, {7, 8}, {3, 3}, {}, {1, 1})), "grouped: refuses 4x4");
  check(computes(HOMINY_CONV_GROUPED, convolution(1, 4, 8, 8, {5, 6}, {3, 3}, {}, {1, 1})), "grouped: refuses 8x8");
  check(computes(HOMINY_CONV_GROUPED, convolution(1, 3, 2, 3, {4, 5, 6}, {2, 3, 2}, {2, 1, 2}, {1, 1, 1}, {1, 2, 1})),
        "grouped: refuses three dimensions");
  for (hominy_conv_algorithm winograd : {HOMINY_CONV_WINOGRAD2, HOMINY_CONV_WINOGRAD4})
    for (const geometry& g : {convolution(1, 1, 4, 4, {6, 6}, {3, 2}), convolution(1, 1, 4, 4, {6, 6}, {3, 3}, {2, 1}),
                              convolution(1, 1, 4, 4, {8, 8}, {3, 3}, {}, {}, {1, 2}),
                              convolution(1, 1, 4, 4, {9}, {3}), convolution(1, 1, 4, 4, {6, 6}, {5, 5}),
                              convolution(1, 1, 2, 2, {4, 6, 6}, {3, 3, 3}), convolution(1, 1, 4, 4, {6, 6}, {1, 1})})
      check(!computes(winograd, g), "%s: takes %s", algorithm_names[winograd], g.text().c_str());
}

// By each algorithm that computes it.
const std::vector<geometry>& typical() {
  static const std::vector<geometry> all = {convolution(2, 1, 5, 19, {6, 9}, {3, 3}, {}, {1, 1}),
                                            convolution(2, 1, 9, 7, {5, 7}, {1, 1}),
                                            convolution(2, 1, 3, 5, {8, 9}, {3, 2}, {2, 1}, {2, 1}),
                                            convolution(2, 19, 1, 1, {6, 9}, {3, 3}, {}, {1, 1}),
                                            convolution(2, 5, 1, 2, {7, 8}, {5, 5}, {2, 2}, {2, 2}),
                                            convolution(2, 4, 3, 4, {6, 7}, {3, 3}, {}, {1, 1}),
                                            convolution(2, 2, 3, 3, {17}, {4}, {3}, {2}),
                                            convolution(2, 1, 2, 3, {3, 4, 5}, {2, 3, 2}, {}, {1, 1, 1})};
  return all;
}

void layouts(const level& here, int32_t dtype) {
  std::vector<layout> in(std::begin(input_layouts), std::end(input_layouts)),
      out(std::begin(output_layouts), std::end(output_layouts));
  for (std::vector<layout>* all : {&in, &out}) {
    all->push_back(layout::channels_last);
    all->push_back(layout::channels_last_sliced);
  }
  int step = 0;
  for (const geometry& g : typical())
    for (hominy_conv_direction direction : directions)
      for (size_t a = 0; a < in.size(); ++a)
        for (size_t b = 0; b < out.size(); ++b) {
          const size_t other = size_t(++step) % in.size();
          if (here.settings.quick && (step + dtype) % 23) continue;
          placement at;
          at.operands[results[direction]] = out[b];
          at.operands[direction == HOMINY_CONV_FORWARD ? of_x : of_y] = in[a];
          at.operands[direction == HOMINY_CONV_WEIGHT_GRADIENT ? of_x : of_weight] = in[other];
          at.residual = in[(other + a) % in.size()];
          at.bias = in[(other + b) % 8];
          problem p(here, dtype, g, step % 4 ? numbers::integers : numbers::uniform, uint64_t(step), at);
          for (hominy_conv_algorithm algorithm : algorithms) {
            call c{direction, algorithm, at};
            c.residual = direction != HOMINY_CONV_WEIGHT_GRADIENT;
            c.bias = c.residual && step % 3;
            c.packed = c.exact = c.residual && step % 2;
            p.run(c);
          }
        }
}

void stores(const level& here, int32_t dtype) {
  for (const geometry& g : typical()) {
    problem p(here, dtype, g, numbers::uniform);
    for (hominy_conv_direction direction : {HOMINY_CONV_FORWARD, HOMINY_CONV_INPUT_GRADIENT})
      for (hominy_conv_algorithm algorithm : algorithms)
        for (layout kind : {layout::contiguous, layout::channels_last, layout::ragged})
          for (int activation = 0; activation < 6; ++activation)
            for (int how = 0; how < 4; ++how) {
              if (here.settings.quick && (activation + how + int(kind) + dtype) % 12) continue;
              call c{direction, algorithm, all_of(kind)};
              c.bias = how % 2;
              c.residual = how > 1;
              c.activation = hominy_activation(activation);
              p.run(c);
            }
  }
}

void threads_and_alignment(const level& here, int32_t dtype) {
  std::vector<geometry> all = {convolution(3, 1, 11, 37, {13, 15}, {3, 3}, {}, {1, 1}),
                               convolution(1, 1, 67, 71, {9, 10}, {1, 1}),
                               convolution(2, 1, 3, 33, {29, 31}, {7, 7}, {2, 2}, {3, 3}),
                               convolution(2, 1, 64, 32, {9, 7}, {3, 3}, {}, {1, 1}),
                               convolution(9, 1, 5, 6, {8, 8}, {3, 3}, {}, {1, 1}),
                               convolution(3, 35, 1, 1, {15, 17}, {3, 3}, {}, {1, 1}),
                               convolution(2, 19, 1, 2, {16, 17}, {5, 5}, {2, 2}, {2, 2}),
                               convolution(2, 1, 1, 1, {150, 70}, {3, 3}, {}, {1, 1}),
                               convolution(2, 8, 4, 6, {13, 14}, {3, 3}, {}, {1, 1}),
                               convolution(3, 1, 9, 8, {300}, {9}, {}, {4}),
                               convolution(1, 1, 5, 17, {7, 8, 9}, {3, 3, 3}, {}, {1, 1, 1})};
  if (!here.settings.quick) {
    all.push_back(convolution(8, 1, 64, 64, {14, 14}, {3, 3}, {}, {1, 1}));
    all.push_back(convolution(8, 1, 128, 96, {28, 28}, {1, 1}));
    all.push_back(convolution(8, 96, 1, 1, {28, 28}, {3, 3}, {}, {1, 1}));
  }
  const int before = hominy::num_threads();
  int step = 0;
  for (const geometry& g : all) {
    problem p(here, dtype, g, numbers::uniform);
    for (hominy_conv_direction direction : directions)
      for (hominy_conv_algorithm algorithm : algorithms)
        for (bool last : {false, true}) {
          call c{direction, algorithm, all_of(last ? layout::channels_last : layout::contiguous)};
          if (here.settings.quick && (++step + dtype) % 3) continue;
          hominy::set_num_threads(1);
          std::vector<unsigned char> alone;
          if (!p.run(c, &alone)) continue;
          for (int threads : {2, 3, 4}) {
            hominy::set_num_threads(threads);
            c.asking = threads == 4 ? 1 : 0;
            p.run(c, nullptr, &alone, c.asking ? "alone, in the workspace of one" : "alone");
          }
          c.asking = 4;
          hominy::set_num_threads(1);
          p.run(c, nullptr, &alone, "alone, in the workspace of four");
          if (last) continue;
          c.at = all_of(layout::misaligned);
          p.run(c, nullptr, &alone, "aligned");
        }
    hominy::set_num_threads(before);
  }
}

// An infinity or a NaN reaches the elements whose sums it is a term of, and no other. An element whose window meets
// padding there may be NaN (0 times infinity) or not.
void special_values(const level& here, int32_t dtype) {
  for (const geometry& g : typical())
    for (hominy_conv_direction direction : directions)
      for (int round = 0; round < 6; ++round)
        for (layout kind : {layout::contiguous, layout::channels_last}) {
          if (here.settings.quick && (round + 3 * int(kind != layout::contiguous) + dtype) % 4) continue;
          const real odd = round % 3 == 0 ? real(NAN) : round % 3 == 1 ? real(INFINITY) : -real(INFINITY);
          const operand result = results[direction];
          const operand slides = direction == HOMINY_CONV_INPUT_GRADIENT ? of_y : of_x;  // meets no padding
          const operand other = direction == HOMINY_CONV_WEIGHT_GRADIENT ? of_y : of_weight;
          const operand changed = round < 3 ? slides : other;
          problem p(here, dtype, g, numbers::integers, uint64_t(round + 6 * int(kind)));
          random_numbers random(uint64_t(round + 6 * int(kind) + 100));
          const int64_t at = random.below(int64_t(p.values(changed).size()));
          p.values(changed)[size_t(at)] = double(odd);
          call c{direction, HOMINY_CONV_AUTO, all_of(kind)};
          c.exact = true;
          c.bias = direction != HOMINY_CONV_WEIGHT_GRADIENT && round % 2;
          c.activation = c.bias && kind == layout::contiguous ? HOMINY_ACTIVATION_RELU : HOMINY_ACTIVATION_NONE;
          const channels odd_ones = g.channels_of(changed, at);
          std::vector<bool> same_channel, same_group;
          for (int64_t i = 0; i < int64_t(p.values(result).size()); ++i) {
            const channels these = g.channels_of(result, i);
            same_channel.push_back((these.in < 0 || odd_ones.in < 0 || these.in == odd_ones.in) &&
                                   (these.out < 0 || odd_ones.out < 0 || these.out == odd_ones.out));
            same_group.push_back(g.group_of(these) == g.group_of(odd_ones));
          }
          for (hominy_conv_algorithm algorithm : algorithms) {
            c.algorithm = algorithm;
            if (changed == other) c.may_be_nan = same_channel;
            // Gradients of weights go over planes of a whole group, with zeros about the rows of the other operand.
            if (changed == slides && result == of_weight && algorithm != HOMINY_CONV_PRODUCT) c.may_be_nan = same_group;
            p.run(c);
            c.may_be_nan.clear();
          }
        }
}

void refusals(const level& here, int32_t dtype) {
  const hominy_kernels& k = *here.kernels;
  const geometry g = convolution(2, 2, 2, 3, {5, 6}, {3, 3}, {2, 1}, {1, 1});
  const nans scratch(1 << 20);
  array packed(HOMINY_UINT8, {1 << 14});
  for (hominy_conv_direction direction : directions) {
    const operand result = results[direction];
    const bool gradient = direction == HOMINY_CONV_WEIGHT_GRADIENT;
    array x(dtype, g.shape(of_x)), weight(dtype, g.shape(of_weight)), y(dtype, g.shape(of_y));
    array bias(dtype, {g.shape(result)[1]}), residual(dtype, g.shape(result));
    for (array* a : {&x, &weight, &y, &bias, &residual}) a->fill_uniform(1, -1, 1);
    const hominy_tensor* const none = nullptr;
    const hominy_conv good{{2, 1, 0}, {1, 1, 0}, {1, 1, 0}, 2, HOMINY_CONV_AUTO, HOMINY_ACTIVATION_NONE, 0};

    // All entries get the call; what `conv_pack` sees of the mistake, it refuses, too.
    const auto attempt = [&](hominy_conv_direction d, const hominy_tensor* tx, const hominy_tensor* tw,
                             const hominy_tensor* ty, const hominy_tensor* added, const hominy_tensor* beside,
                             const hominy_conv& settings, std::vector<hominy_status> allowed, const std::string& why) {
      const std::string what = std::string(direction_names[direction]) + ": " + why;
      k.conv_algorithm(d, tx, tw, ty, &settings);
      check(k.conv_workspace_size(d, tx, tw, ty, &settings) <= scratch.size(), "%s: a huge workspace", what.c_str());
      check(k.conv_packed_size(d, tx, tw, ty, &settings) <= packed.size(), "%s: packs too much", what.c_str());
      const hominy_status status =
          k.conv(d, tx, tw, ty, added, beside, nullptr, &settings, scratch.data(), scratch.size());
      for (const array* a : {&x, &weight, &y}) check_refused(status, allowed, *a, what);
      if (added || beside || gradient) return;
      check(k.conv_pack(d, tx, tw, ty, &settings, packed.data()) != HOMINY_OK, "%s: packs weights", what.c_str());
      check(packed.untouched(), "%s: wrote packed weights", what.c_str());
    };
    for (const auto& bad : bad_tensors(x))
      attempt(direction, &bad.tensor, weight, y, none, none, good, {bad.expected}, std::string("x has ") + bad.what);
    for (const auto& bad : bad_tensors(weight))
      attempt(direction, x, &bad.tensor, y, none, none, good, {bad.expected}, std::string("weight has ") + bad.what);
    for (const auto& bad : bad_tensors(y))
      attempt(direction, x, weight, &bad.tensor, none, none, good, {bad.expected}, std::string("out has ") + bad.what);
    if (!gradient) {
      for (const auto& bad : bad_tensors(bias))
        attempt(direction, x, weight, y, &bad.tensor, none, good, {bad.expected}, std::string("bias has ") + bad.what);
      for (const auto& bad : bad_tensors(residual))
        attempt(direction, x, weight, y, none, &bad.tensor, good, {bad.expected},
                std::string("residual has ") + bad.what);
      for (const auto& bad : bad_tensors(residual))
        if (bad.expected == HOMINY_BAD_SHAPE)
          attempt(direction, direction == HOMINY_CONV_FORWARD ? static_cast<const hominy_tensor*>(x) : &bad.tensor,
                  weight, direction == HOMINY_CONV_FORWARD ? &bad.tensor : static_cast<const hominy_tensor*>(y), none,
                  &bad.tensor, good, {bad.expected}, std::string("result and residual have ") + bad.what);
      attempt(direction, x, weight, y, residual, none, good, {HOMINY_BAD_SHAPE}, "bias of four dimensions");
      attempt(direction, x, weight, y, none, bias, good, {HOMINY_BAD_SHAPE}, "residual of one dimension");
    }

    // Dimensions and sizes that do not fit.
    const auto resized = [](const array& a, int d, int64_t size) {
      hominy_tensor t = a.tensor();
      t.shape[d] = size;
      return t;
    };
    const auto of_dimensions = [](const array& a, int32_t ndim) {
      hominy_tensor t = a.tensor();
      for (int d = t.ndim; d < ndim; ++d) t.shape[d] = 1, t.strides[d] = 0;
      t.ndim = ndim;
      return t;
    };
    for (int d = 0; d < 2; ++d)
      for (int64_t size : {-1, 0, 1, 3, 5, 1000}) {
        if (size == g.shape(of_weight)[size_t(d)]) continue;
        const std::string text = " has " + std::to_string(size) + " in dimension " + std::to_string(d);
        const hominy_tensor wrong_x = resized(x, d, size), wrong_w = resized(weight, d, size),
                            wrong_y = resized(y, d, size);
        attempt(direction, &wrong_x, weight, y, none, none, good, {HOMINY_BAD_SHAPE}, "x" + text);
        attempt(direction, x, &wrong_w, y, none, none, good, {HOMINY_BAD_SHAPE}, "weight" + text);
        attempt(direction, x, weight, &wrong_y, none, none, good, {HOMINY_BAD_SHAPE}, "out" + text);
      }
    for (int32_t ndim : {0, 1, 2, 3, 5, 6, HOMINY_MAX_NDIM}) {
      const hominy_tensor wrong_x = of_dimensions(x, ndim), wrong_w = of_dimensions(weight, ndim),
                          wrong_y = of_dimensions(y, ndim);
      const std::string text = " of " + std::to_string(ndim) + " dimensions";
      attempt(direction, &wrong_x, weight, y, none, none, good, {HOMINY_BAD_SHAPE}, "x" + text);
      attempt(direction, x, &wrong_w, y, none, none, good, {HOMINY_BAD_SHAPE}, "weight" + text);
      attempt(direction, x, weight, &wrong_y, none, none, good, {HOMINY_BAD_SHAPE}, "out" + text);
      if (ndim < 3 || ndim > 5)
        attempt(direction, &wrong_x, &wrong_w, &wrong_y, none, none, good, {HOMINY_BAD_SHAPE}, "all" + text);
    }

    // Settings.
    const auto refuse = [&](const char* why, std::vector<hominy_status> allowed, auto change) {
      hominy_conv settings = good;
      change(settings);
      attempt(direction, x, weight, y, none, none, settings, allowed, why);
    };
    for (int d = 0; d < 2; ++d) {
      for (int64_t wrong : {int64_t(0), int64_t(-1), INT64_MIN}) {
        refuse("stride below 1", {HOMINY_BAD_VALUE}, [&](hominy_conv& s) { s.stride[d] = wrong; });
        refuse("dilation below 1", {HOMINY_BAD_VALUE}, [&](hominy_conv& s) { s.dilation[d] = wrong; });
      }
      for (int64_t wrong : {int64_t(-1), INT64_MIN})
        refuse("negative padding", {HOMINY_BAD_VALUE}, [&](hominy_conv& s) { s.padding[d] = wrong; });
      refuse("dilation too large", {HOMINY_OVERFLOW, HOMINY_BAD_VALUE},
             [&](hominy_conv& s) { s.dilation[d] = INT64_MAX; });
      refuse("stride too large", {HOMINY_OVERFLOW, HOMINY_BAD_VALUE}, [&](hominy_conv& s) { s.stride[d] = INT64_MAX; });
    }
    for (int64_t wrong : {int64_t(0), int64_t(-1), int64_t(-2), int64_t(3), int64_t(4), INT64_MAX, INT64_MIN})
      refuse("groups that do not fit", {wrong < 1 ? HOMINY_BAD_VALUE : HOMINY_BAD_SHAPE, HOMINY_BAD_SHAPE},
             [&](hominy_conv& s) { s.groups = wrong; });
    for (int wrong : {-1, 6, 7, INT32_MAX})
      refuse("unknown algorithm", {HOMINY_BAD_VALUE},
             [&](hominy_conv& s) { s.algorithm = hominy_conv_algorithm(wrong); });
    for (int wrong : {-1, 6, 7, INT32_MAX})
      refuse("unknown activation", {HOMINY_BAD_VALUE},
             [&](hominy_conv& s) { s.activation = hominy_activation(wrong); });
    // Values that the enumeration can hold; UBSan stops at the others where C++ passes them on.
    for (int wrong : under_sanitizer ? std::vector<int>{3} : std::vector<int>{3, -1, INT32_MAX})
      attempt(hominy_conv_direction(wrong), x, weight, y, none, none, good, {HOMINY_BAD_VALUE}, "unknown direction");
    for (hominy_conv_algorithm wrong : {HOMINY_CONV_DEPTHWISE, HOMINY_CONV_WINOGRAD2, HOMINY_CONV_WINOGRAD4})
      refuse("an algorithm that does not compute this", {HOMINY_BAD_VALUE},
             [&](hominy_conv& s) { s.algorithm = wrong; });

    // 2^93 elements; and 2^61, whose bytes are too many.
    hominy_tensor huge = overflowing(x);
    hominy_conv plain = good;
    plain.stride[0] = plain.groups = 1;
    attempt(direction, &huge, &huge, &huge, none, none, plain, {HOMINY_OVERFLOW}, "2^93 elements");
    hominy_tensor large = huge, one = huge;
    large.shape[0] = 1, large.shape[1] = 1, large.shape[2] = INT64_MAX / 2;
    one.shape[0] = one.shape[1] = one.shape[2] = 1;
    attempt(direction, &large, &one, &large, none, none, plain, {HOMINY_OVERFLOW}, "2^62 elements");
    attempt(direction, &large, &large, &one, none, none, plain, {HOMINY_OVERFLOW}, "2^62 taps");

    // Every byte less than asked for is too little.
    for (hominy_conv_algorithm algorithm : {HOMINY_CONV_PRODUCT, HOMINY_CONV_GROUPED}) {
      hominy_conv settings = good;
      settings.algorithm = algorithm;
      const int before = hominy::num_threads();
      for (int threads : {1, 4}) {
        hominy::set_num_threads(1);
        const int64_t asked = k.conv_workspace_size(direction, x, weight, y, &settings);
        hominy::set_num_threads(threads);
        if (asked > 0)
          for (int64_t given : {int64_t(0), asked - 1, int64_t(-1)})
            check_refused(k.conv(direction, x, weight, y, none, none, nullptr, &settings, scratch.data(), given),
                          {HOMINY_NO_WORKSPACE},
                          *(result == of_x ? &x
                            : gradient     ? &weight
                                           : &y),
                          std::string(algorithm_names[algorithm]) + " in a workspace of " + std::to_string(given));
      }
      hominy::set_num_threads(before);
    }
  }
}

}  // namespace

void conv_test(const level& here) {
  for (int32_t dtype : {HOMINY_FLOAT32, HOMINY_FLOAT64}) {
    const std::string suffix = std::string(" ") + here.kernels->isa + " " + name_of_dtype(dtype);
    const auto group = [&](const char* name, auto run) {
      begin_group(name + suffix);
      run(here, dtype);
      end_group();
    };
    group("conv shapes", shapes);
    group("conv choices", choices);
    group("conv layouts", layouts);
    group("conv stores", stores);
    group("conv threads and alignment", threads_and_alignment);
    group("conv special values", special_values);
    group("conv refusals", refusals);
  }
}

}  // namespace test
