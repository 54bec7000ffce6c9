// Windows as lists, drawn at random, and images of a few dimensions seen as (N, C, depth, height, width).
#pragma once
#include "test_array.hpp"

namespace test {

// The lists of one dimension: `outputs` positions that read 0 or more of `inputs`, in order.
struct window_list {
  std::vector<int32_t> counts, positions;
  std::vector<double> weights, divisors;
  int64_t most, outputs;

  window_list(int64_t inputs, int64_t outputs, int64_t most, int64_t lowest, int64_t step, bool weighted, bool divided,
              uint64_t seed)
      : counts(size_t(outputs)), positions(size_t(most * outputs), -7), most(most), outputs(outputs) {
    random_numbers random(seed);
    for (int64_t i = 0; i < outputs; ++i) {
      const int64_t first = inputs ? i * inputs / (outputs > 0 ? outputs : 1) : 0;
      int64_t count = lowest + random.below(most - lowest + 1);
      while (count > lowest && first + (count - 1) * step >= inputs) --count;
      counts[size_t(i)] = int32_t(count);
      for (int64_t k = 0; k < count; ++k)
        positions[size_t(k * outputs + i)] = int32_t(std::min(first + k * step, inputs - 1));
    }
    if (weighted)
      for (size_t i = 0; i < positions.size(); ++i) weights.push_back(random.uniform(-1, 1));
    if (divided)
      for (int64_t i = 0; i < outputs; ++i) divisors.push_back(random.uniform(1, 4));
  }
  hominy_windows windows() const {
    return {outputs,
            most,
            counts.data(),
            positions.data(),
            weights.empty() ? nullptr : weights.data(),
            divisors.empty() ? nullptr : divisors.data()};
  }
  real weight(int64_t k, int64_t i) const { return weights.empty() ? 1 : real(weights[size_t(k * outputs + i)]); }
  real divisor(int64_t i) const { return divisors.empty() ? 1 : real(divisors[size_t(i)]); }
  int64_t position(int64_t k, int64_t i) const { return positions[size_t(k * outputs + i)]; }
};

// A position (n, c, d, h, w) of an image by its number in C order.
struct image_position {
  int64_t n, c, d, h, w;
  image_position(int64_t i, const std::vector<int64_t>& s)
      : n(i / (s[1] * s[2] * s[3] * s[4])),
        c(i / (s[2] * s[3] * s[4]) % s[1]),
        d(i / (s[3] * s[4]) % s[2]),
        h(i / s[4] % s[3]),
        w(i % s[4]) {}
};

// visit(k, number of an element in C order, product of weights) for all that an output reads, in C order.
template <class Visit>
void for_window(const window_list (&lists)[3], const image_position& at, const std::vector<int64_t>& in, Visit visit) {
  for (int64_t i = 0; i < lists[0].counts[size_t(at.d)]; ++i)
    for (int64_t j = 0; j < lists[1].counts[size_t(at.h)]; ++j)
      for (int64_t k = 0; k < lists[2].counts[size_t(at.w)]; ++k) {
        const int64_t number =
            (lists[0].position(i, at.d) * in[3] + lists[1].position(j, at.h)) * in[4] + lists[2].position(k, at.w);
        visit((at.n * in[1] + at.c) * in[2] * in[3] * in[4] + number, number,
              lists[0].weight(i, at.d) * lists[1].weight(j, at.h) * lists[2].weight(k, at.w));
      }
}

struct image_case {
  std::vector<int64_t> in;  // (N, C, D, H, W)
  int64_t out[3], most, step;
};
// Rows beside vector widths and beyond what is held of a row; channels in ones and in groups of vectors.
inline const image_case image_cases[] = {
    {{1, 1, 1, 1, 1}, {1, 1, 1}, 1, 1},       {{2, 3, 1, 5, 33}, {1, 3, 17}, 3, 1},
    {{1, 2, 1, 3, 17}, {1, 6, 35}, 2, 1},     {{1, 67, 1, 4, 5}, {1, 2, 3}, 2, 1},
    {{2, 17, 2, 3, 7}, {3, 2, 9}, 2, 2},      {{1, 1, 1, 1, 200}, {1, 1, 20}, 4, 7},
    {{1, 2, 1, 1, 9}, {1, 1, 70}, 1, 1},      {{1, 1, 1, 2, 5001}, {1, 1, 3}, 3, 900},
    {{1, 3, 1, 2, 2500}, {1, 2, 2300}, 2, 1}, {{0, 3, 1, 4, 4}, {1, 2, 2}, 2, 1},
    {{1, 130, 1, 2, 40}, {1, 1, 20}, 2, 1}};

inline window_list lists_for(const image_case& c, int d, int64_t lowest, bool weighted, bool divided) {
  const int64_t inputs = c.in[size_t(2 + d)];
  return window_list(inputs, c.out[d], std::min(c.most, inputs), std::min(lowest, inputs), std::min(c.step, inputs),
                     weighted, divided, uint64_t(17 * d + inputs));
}

}  // namespace test
