// Which kernel runs (conv_depthwise_kernels.hpp), over which parts of the images, on which weights.
#include "conv_depthwise.hpp"

#include "conv_depthwise_kernels.hpp"
#include "conv_grouped.hpp"
#include "dimensions.hpp"
#include "parallel_for.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t elements_per_task = 16384, most_tasks = 64, most_parts = 16;

// ---- Geometry -------------------------------------------------------------------------------------------------------

// Double precision and vectors of 16 bytes are served by less code.
template <class T>
constexpr bool direct = sizeof(T) == 4 && vector_bytes > 16;

enum class way { packed, rows, channels };

template <class T>
bool has_kernels(const conv_shape& s) {
  if (!direct<T>) return false;
  const bool flat = s.in[0] == 1 && s.out[0] == 1 && s.kernel[0] == 1 && s.padding[0] == 0;
  const bool plain = s.in_channels == 1 && s.out_channels == 1 && s.dilation[1] == 1 && s.dilation[2] == 1;
  const bool square = s.kernel[1] == s.kernel[2] && s.stride[1] == s.stride[2];
  return flat && plain && square && (s.kernel[1] == 3 || s.kernel[1] == 5) && (s.stride[1] == 1 || s.stride[1] == 2);
}

template <class T>
way choose(const conv_shape& shape, const conv_images& a, const conv_images& b, const conv_images& c) {
  if (!has_kernels<T>(shape)) return way::packed;
  if (rows_together<T>(a) && rows_together<T>(b) && rows_together<T>(c)) return way::rows;
  if (shape.groups >= lanes<T> && channels_together<T>(a) && channels_together<T>(b) && channels_together<T>(c))
    return way::channels;
  return way::packed;
}
template <class T>
way choose(const conv_shape& shape, const conv_images& a, const conv_images& b, const conv_store& store) {
  return choose<T>(shape, a, b, store.residual.data ? store.residual : b);
}

// f(constant<kernel>, constant<stride>)
template <class F>
void with_geometry(const conv_shape& shape, F f) {
  if (shape.kernel[1] == 3)
    shape.stride[1] == 1 ? f(constant<3>{}, constant<1>{}) : f(constant<3>{}, constant<2>{});
  else
    shape.stride[1] == 1 ? f(constant<5>{}, constant<1>{}) : f(constant<5>{}, constant<2>{});
}

template <class T>
int64_t channels_up(const conv_shape& shape) {
  return (shape.groups + lanes<T> - 1) / lanes<T> * lanes<T>;
}
// Taps of all channels: [channel][tap] for rows, [vector of channels][tap][lane] for channels.
template <class T>
int64_t taps_of_channels(const conv_shape& shape) {
  return channels_up<T>(shape) * shape.kernel[1] * shape.kernel[2];
}

// The zeros that stand for a row in the padding, or for the channels of a position.
template <class T>
int64_t zeros_of(const conv_shape& shape, way by) {
  return by == way::rows ? maximum_of(shape.in[2], shape.out[2]) : channels_up<T>(shape);
}

template <class T>
plane_of plane_at(const conv_images& images, const int64_t (&size)[3], int64_t n, int64_t channel) {
  if (!images.data) return {};
  return {images.data + n * images.batch + channel * images.channel, size[1], size[2], images.space[1],
          images.space[2]};
}

int64_t tasks_for(int64_t items, int64_t elements) {
  return maximum_of<int64_t>(1, minimum_of(minimum_of(items, most_tasks), elements / elements_per_task));
}

// ---- Whole images ---------------------------------------------------------------------------------------------------

// What a pass computes: `to` from `from`, the result from x or the gradient of x from the result's.
struct correlation {
  conv_shape shape;
  conv_images from, to;
  conv_weights weights;
  conv_store store;

  bool turned = false;

  // Down the channels, kernels walk from row to row. Where positions are near each other they walk along the rows: height
  // and width are exchanged. What they read and write then lies in a few streams, which the processor fetches ahead.
  void turn_for(way by) {
    constexpr int64_t near = 256;  // bytes
    turned = by == way::channels && from.space[2] <= near;
    if (!turned) return;
    int64_t* const all[] = {shape.in,   shape.out, shape.kernel,  shape.stride,        shape.padding,
                            from.space, to.space,  weights.space, store.residual.space};
    for (int64_t* axes : all) {
      const int64_t height = axes[1];
      axes[1] = axes[2];
      axes[2] = height;
    }
  }
};

// Calls band(operands, first row, end, first column, end) for bands of rows of the targets, beginning at multiples of
// `granule`. Where images are fewer than 16 there is more to deal out: along rows bands are shorter; with channels,
// where each band loses its first steps, they are cut into parts instead, at multiples of `across` columns. A walk that
// is turned goes all the way.
template <class T>
void for_bands(const correlation& c, way by, const operands<T>& common, const int64_t (&from_size)[3],
               const int64_t (&to_size)[3], int64_t granule, int64_t across,
               void (*band)(const operands<T>&, int64_t, int64_t, int64_t, int64_t)) {
  const int64_t taps = c.shape.kernel[1] * c.shape.kernel[2];
  const int64_t channels = by == way::rows ? c.shape.groups : 1, planes = c.shape.batch * channels;
  const int64_t blocks = (to_size[1] + granule - 1) / granule,
                high = (by == way::rows ? rows_of_band : rows_of_walk) / granule;
  const int64_t wanted = (15 + planes) / planes, least = c.turned ? 1 : (blocks + high - 1) / high;
  const int64_t bands = by == way::rows ? minimum_of(blocks, maximum_of(least, wanted)) : least;
  const int64_t columns = (to_size[2] + across - 1) / across;
  const int64_t parts = by == way::rows ? 1 : minimum_of(columns, (wanted + bands - 1) / bands);
  const int64_t items = planes * bands * parts;
  const int64_t results = c.shape.batch * c.shape.groups * to_size[1] * to_size[2];
  const int64_t strides = c.to.batch | c.to.space[1] | (by == way::rows ? c.to.channel : c.to.space[2]);
  const bool aligned =
      (int64_t(c.to.data) | strides) % vector_bytes == 0 && (by == way::rows || c.shape.groups % lanes<T> == 0);
  const bool streaming = aligned && results * int64_t(sizeof(T)) >= streamed_bytes;
  const auto row = [&](int64_t i) { return minimum_of(to_size[1], blocks * i / bands * granule); };
  const auto column = [&](int64_t i) { return minimum_of(to_size[2], columns * i / parts * across); };
  const int64_t tasks = tasks_for(items, results);
  parallel_for(tasks, [&](int64_t task) {
    operands<T> o = common;
    o.streaming = streaming;
    const share mine(items, tasks, task);
    int64_t part = mine.first % parts, at = mine.first / parts % bands;
    int64_t channel = mine.first / parts / bands % channels, n = mine.first / parts / bands / channels;
    for (int64_t i = 0; i < mine.count; ++i) {
      o.from = plane_at<T>(c.from, from_size, n, channel);
      o.to = plane_at<T>(c.to, to_size, n, channel);
      o.residual = plane_at<T>(c.store.residual, to_size, n, channel);
      o.weights = common.weights + channel * taps;
      o.bias = common.bias + channel;
      band(o, row(at), row(at + 1), column(part), column(part + 1));
      if (++part < parts) continue;
      part = 0;
      if (++at < bands) continue;
      at = 0;
      if (++channel < channels) continue;
      channel = 0;
      ++n;
    }
    if (streaming) finish_streaming();
  });
}

// Weights and bias in scratch, as the kernels read them; backwards for the input gradient of stride 1.
template <class T>
operands<T> arrange(const correlation& c, way by, bool backwards, char* scratch) {
  const conv_shape& shape = c.shape;
  T *const arranged = reinterpret_cast<T*>(scratch), *const bias = arranged + taps_of_channels<T>(shape);
  T* const zeros = bias + channels_up<T>(shape);
  memset(zeros, 0, size_t(zeros_of<T>(shape, by)) * sizeof(T));
  const int64_t side = shape.kernel[1], taps = side * side;
  const int64_t together = by == way::rows ? 1 : lanes<T>;  // channels beside each other
  T* tap = arranged;
  for (int64_t first = 0; first < shape.groups; first += together) {
    const int64_t channel = minimum_of(first, shape.groups - together);
    for (int64_t t = 0; t < side; ++t)
      for (int64_t u = 0; u < side; ++u, tap += together) {
        const char* from = c.weights.data + channel * c.weights.out + t * c.weights.space[1] + u * c.weights.space[2];
        for (int64_t l = 0; l < together; ++l, from += c.weights.out) tap[l] = load_scalar<T>(from);
      }
  }
  if (backwards) {
    for (T* first = arranged; first < tap; first += taps * together)
      for (int64_t i = 0; i < taps / 2 * together; ++i) {
        T &here = first[i], &there = first[(taps - 1 - i / together) * together + i % together];
        const T weight = here;
        here = there;
        there = weight;
      }
  }
  for (int64_t i = 0; i < channels_up<T>(shape); ++i)
    bias[i] = c.store.bias && i < shape.groups ? load_scalar<T>(c.store.bias + i * c.store.bias_step) : T(0);
  operands<T> o{};
  o.weights = arranged;
  o.bias = bias;
  o.zeros = reinterpret_cast<const char*>(zeros);
  o.channels = shape.groups;
  o.activation = c.store.activation;
  o.least = c.store.activation == HOMINY_ACTIVATION_RELU ? T(0) : -T(__builtin_inf());
  for (int d = 0; d < 2; ++d)
    o.padding[d] = backwards ? shape.kernel[d + 1] - 1 - shape.padding[d + 1] : shape.padding[d + 1];
  return o;
}

template <class T, int kernel, int stride>
void correlate(const correlation& c, way by, const operands<T>& o, const int64_t (&from_size)[3],
               const int64_t (&to_size)[3]) {
  if (by == way::rows)
    for_bands(c, by, o, from_size, to_size, rows_of_block, 1, row_band<T, kernel, stride>);
  else
    for_bands(c, by, o, from_size, to_size, 1, columns_down(sums_of<kernel, stride>, stride),
              channel_band<T, kernel, stride>);
}

template <class T, int kernel>
void correlate_halves(const correlation& c, way by, const operands<T>& o) {
  if (by == way::rows)
    for_bands(c, by, o, c.shape.out, c.shape.in, 2 * rows_of_halves, 1, row_band_halves<T, kernel>);
  else
    for_bands(c, by, o, c.shape.out, c.shape.in, 2, 2 * columns_of_halves, channel_band_halves<T, kernel>);
}

// ---- Weight gradient ------------------------------------------------------------------------------------------------

// The images of a channel (rows) or all rows of all images (channels) are cut into this many parts, each with its sums.
template <class T>
int64_t parts_of(const conv_shape& shape, way by) {
  if (by == way::rows) return minimum_of(shape.batch, (31 + shape.groups) / shape.groups);
  const int64_t elements = shape.batch * shape.groups * shape.out[1] * shape.out[2];
  return maximum_of<int64_t>(
      1, minimum_of(minimum_of(most_parts, shape.batch * shape.out[1]), elements / (2 * elements_per_task)));
}

template <class T, int kernel, int stride>
void sum_rows(const conv_shape& shape, const operands<T>& common, const conv_images& gradient, const conv_images& x,
              int64_t parts, T* sums) {
  constexpr int taps = kernel * kernel;
  const int64_t items = shape.groups * parts;
  const int64_t tasks = tasks_for(items, shape.batch * shape.groups * shape.out[1] * shape.out[2]);
  parallel_for(tasks, [&](int64_t task) {
    operands<T> o = common;
    const share mine(items, tasks, task);
    for (int64_t i = mine.first; i < mine.first + mine.count; ++i) {
      const int64_t channel = i / parts, part = i % parts;
      const share images(shape.batch, parts, part);
      T lanewise[taps * lanes<T>] = {};
      for (int64_t n = images.first; n < images.first + images.count; ++n) {
        o.from = plane_at<T>(x, shape.in, n, channel);
        o.to = plane_at<T>(gradient, shape.out, n, channel);
        row_products<T, kernel, stride>(o, lanewise);
      }
#pragma GCC unroll 1
      for (int t = 0; t < taps; ++t)
        sums[part * taps_of_channels<T>(shape) + channel * taps + t] = sum_lanes<T>(load(lanewise + t * lanes<T>));
    }
  });
}

template <class T, int kernel, int stride>
void sum_channels(const conv_shape& shape, const operands<T>& common, const conv_images& gradient, const conv_images& x,
                  int64_t parts, T* sums) {
  constexpr int columns = columns_down(sums_of<kernel, stride>, stride);
  parallel_for(parts, [&](int64_t part) {
    T* const mine = sums + part * taps_of_channels<T>(shape);
    memset(mine, 0, size_t(taps_of_channels<T>(shape)) * sizeof(T));
    operands<T> o = common;
    const share rows(shape.batch * shape.out[1], parts, part);
    for (int64_t row = rows.first, count; row < rows.first + rows.count; row += count) {
      const int64_t n = row / shape.out[1], y = row % shape.out[1];
      count = minimum_of(minimum_of(rows_of_walk, shape.out[1] - y), rows.first + rows.count - row);
      o.from = plane_at<T>(x, shape.in, n, 0);
      o.to = plane_at<T>(gradient, shape.out, n, 0);
      int64_t x0 = 0;
      for (; x0 + columns <= o.to.columns; x0 += columns)
        channel_products<T, kernel, stride, columns>(o, y, y + count, x0, mine);
      for (; x0 < o.to.columns; ++x0) channel_products<T, kernel, stride, 1>(o, y, y + count, x0, mine);
    }
  });
}

}  // namespace

template <class T>
bool depthwise_computes(const conv_shape& shape, const conv_images& x, const conv_images& out) {
  return shape.in_channels == 1 && grouped_computes<T>(shape, x, out);
}

template <class T>
int64_t depthwise_scratch(const conv_shape& shape, const conv_images& x, const conv_images& out) {
  const int64_t packed = grouped_scratch<T>(shape, x, out);
  if (!has_kernels<T>(shape)) return packed;
  const int64_t parts = maximum_of(parts_of<T>(shape, way::rows), parts_of<T>(shape, way::channels));
  const int64_t taps = taps_of_channels<T>(shape);
  const int64_t zeros = maximum_of(zeros_of<T>(shape, way::rows), zeros_of<T>(shape, way::channels));
  return maximum_of(packed, (parts * taps + channels_up<T>(shape) + zeros) * int64_t(sizeof(T)));
}

template <class T>
void depthwise_forward(const conv_shape& shape, const conv_images& x, const conv_weights& weights,
                       const conv_store& store, const conv_images& out, char* scratch) {
  const way by = choose<T>(shape, x, out, store);
  if (by == way::packed) return grouped_forward<T>(shape, x, weights, store, out, scratch);
  if constexpr (direct<T>) {
    correlation c = {shape, x, out, weights, store};
    c.turn_for(by);
    const operands<T> o = arrange<T>(c, by, false, scratch);
    with_geometry(shape, [&](auto kernel, auto stride) {
      correlate<T, kernel.value, stride.value>(c, by, o, c.shape.in, c.shape.out);
    });
  }
}

template <class T>
void depthwise_input_gradient(const conv_shape& shape, const conv_images& gradient, const conv_weights& weights,
                              const conv_store& store, const conv_images& out, char* scratch) {
  const way by = choose<T>(shape, gradient, out, store);
  const bool one = shape.stride[1] == 1,
             same = shape.padding[1] == shape.kernel[1] / 2 && shape.padding[2] == shape.kernel[2] / 2;
  if (by == way::packed || !(one || same))
    return grouped_input_gradient<T>(shape, gradient, weights, store, out, scratch);
  if constexpr (direct<T>) {
    correlation c = {shape, gradient, out, weights, store};
    c.turn_for(by);
    const operands<T> o = arrange<T>(c, by, one, scratch);
    with_geometry(shape, [&](auto kernel, auto stride) {
      if constexpr (stride.value == 1)
        correlate<T, kernel.value, 1>(c, by, o, c.shape.out, c.shape.in);
      else
        correlate_halves<T, kernel.value>(c, by, o);
    });
  }
}

template <class T>
void depthwise_weight_gradient(const conv_shape& shape, const conv_images& gradient, const conv_images& x,
                               const conv_weights& out, char* scratch) {
  const way by = choose<T>(shape, gradient, x, x);
  if (by == way::packed || (shape.kernel[1] == 5 && shape.stride[1] == 2))  // rare, and the largest kernels of all
    return grouped_weight_gradient<T>(shape, gradient, x, out, scratch);
  if constexpr (direct<T>) {
    T* const sums = reinterpret_cast<T*>(scratch);
    const int64_t parts = parts_of<T>(shape, by), taps = taps_of_channels<T>(shape);
    memset(sums + parts * taps, 0, size_t(zeros_of<T>(shape, by)) * sizeof(T));
    operands<T> o{};
    o.zeros = reinterpret_cast<const char*>(sums + parts * taps);
    o.channels = shape.groups;
    for (int d = 0; d < 2; ++d) o.padding[d] = shape.padding[d + 1];
    with_geometry(shape, [&](auto kernel, auto stride) {
      if constexpr (kernel.value == 5 && stride.value == 2)
        return;
      else if (by == way::rows)
        sum_rows<T, kernel.value, stride.value>(shape, o, gradient, x, parts, sums);
      else
        sum_channels<T, kernel.value, stride.value>(shape, o, gradient, x, parts, sums);
    });
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t i = 0; i < taps; ++i) sums[i] += sums[part * taps + i];
    const int64_t side = shape.kernel[1];
    const int64_t together = by == way::rows ? 1 : lanes<T>;  // channels beside each other, as for_channels takes them
    for (int64_t c = 0; c < shape.groups; ++c) {
      const int64_t block = c / together * together;
      const T* const from = sums + block * side * side + c - minimum_of(block, shape.groups - together);
      for (int64_t t = 0; t < side * side; ++t)
        store_scalar(out.data + c * out.out + t / side * out.space[1] + t % side * out.space[2], from[t * together]);
    }
  }
}

template bool depthwise_computes<float>(const conv_shape&, const conv_images&, const conv_images&);
template bool depthwise_computes<double>(const conv_shape&, const conv_images&, const conv_images&);
template int64_t depthwise_scratch<float>(const conv_shape&, const conv_images&, const conv_images&);
template int64_t depthwise_scratch<double>(const conv_shape&, const conv_images&, const conv_images&);
template void depthwise_forward<float>(const conv_shape&, const conv_images&, const conv_weights&, const conv_store&,
                                       const conv_images&, char*);
template void depthwise_forward<double>(const conv_shape&, const conv_images&, const conv_weights&, const conv_store&,
                                        const conv_images&, char*);
template void depthwise_input_gradient<float>(const conv_shape&, const conv_images&, const conv_weights&,
                                              const conv_store&, const conv_images&, char*);
template void depthwise_input_gradient<double>(const conv_shape&, const conv_images&, const conv_weights&,
                                               const conv_store&, const conv_images&, char*);
template void depthwise_weight_gradient<float>(const conv_shape&, const conv_images&, const conv_images&,
                                               const conv_weights&, char*);
template void depthwise_weight_gradient<double>(const conv_shape&, const conv_images&, const conv_images&,
                                                const conv_weights&, char*);

}  // namespace hominy::HOMINY_LEVEL
