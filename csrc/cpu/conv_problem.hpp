// One convolution as every algorithm of it sees it: sizes, and where the operands lie. Space has three dimensions,
// depth, height and width; one that a 1d or 2d convolution lacks is of size 1, in front.
//
//   out[n, g O + o, p] = activation(bias[g O + o] + residual[n, g O + o, p]
//                                   + sum over c, t of weight[g O + o, c, t] x[n, g C + c, at(p, t)])
//   at(p, t) = p stride + t dilation - padding
//
// with g a group, C and O its channels, x zero outside its space. The input gradient runs the same sum backwards, from
// images of out's shape to images of x's; the weight gradient goes from both to the weights.
#pragma once
#include "hominy.h"
#include "vector.hpp"

namespace hominy::HOMINY_LEVEL {

// A number as a type.
template <int n>
struct constant {
  static constexpr int value = n;
};

struct conv_shape {
  int64_t batch, groups;
  int64_t in_channels, out_channels;                                     // C and O: of one group
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3], padding[3];  // padding: before the first element
};

// (batch, groups * channels, depth, height, width); strides in bytes.
struct conv_images {
  char* data;
  int64_t batch, channel, space[3];
};

// (groups * O, C, depth, height, width); strides in bytes.
struct conv_weights {
  char* data;
  int64_t out, in, space[3];
};

// What is added to the sums before the activation: either may be absent (data NULL).
struct conv_store {
  const char* bias;  // one element a channel, `bias_step` bytes apart
  int64_t bias_step;
  conv_images residual;
  hominy_activation activation;
};

// Results of so many bytes are written past the caches: with their sources they would not stay in the last level, and a
// plain store reads memory before it writes.
constexpr int64_t streamed_bytes = 4 << 20;

// Channels of one position are neighbours (channels-last), or positions of one row are (NCHW).
template <class T>
inline bool channels_together(const conv_images& x) {
  return x.channel == int64_t(sizeof(T));
}
template <class T>
inline bool rows_together(const conv_images& x) {
  return x.space[2] == int64_t(sizeof(T));
}

inline int64_t volume(const int64_t (&size)[3]) { return size[0] * size[1] * size[2]; }

}  // namespace hominy::HOMINY_LEVEL
