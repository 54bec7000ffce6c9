// The call: checks descriptors, brings them into three dimensions, chooses the algorithm.
#include "conv.hpp"

#include "conv_depthwise.hpp"
#include "conv_grouped.hpp"
#include "conv_product.hpp"
#include "conv_weight_gradient.hpp"
#include "conv_winograd.hpp"
#include "lane_access.hpp"
#include "matmul_tile.hpp"  // round_up
#include "parallel_for.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

struct problem {
  conv_shape shape;
  conv_images x, out;
  conv_weights weight;
  hominy_dtype dtype;
};

// A channel that is alone is next to itself, so that images of one channel are as good as channels-last.
// A dimension of one has any stride: its elements count as neighbours where that decides the layout.
conv_images read_images(const hominy_tensor* t) {
  const int64_t size = t->dtype == HOMINY_FLOAT32 ? 4 : 8;
  const int32_t last = t->ndim - 1;
  conv_images images{};
  images.data = (char*)t->data;
  images.batch = t->strides[0];
  images.channel = t->shape[1] == 1 ? size : t->strides[1];
  for (int32_t d = 2; d <= last; d++) images.space[d - 2 + 5 - t->ndim] = t->strides[d];
  if (t->shape[last] == 1 && images.channel != size) images.space[2] = size;
  return images;
}

// Beyond these nothing could be stored or waited for; below them no scratch size, pitch or offset leaves int64.
// Broadcast views make such sizes cheap to ask for.
constexpr int64_t most_elements = int64_t(1) << 46, largest_number = int64_t(1) << 41;

bool countable(const hominy_tensor* t) {
  int64_t elements = 1;
  for (int32_t d = 0; d < t->ndim; d++)
    if (__builtin_mul_overflow(elements, maximum_of<int64_t>(1, t->shape[d]), &elements) || elements > most_elements)
      return false;
  return true;
}

hominy_status read_problem(const hominy_tensor* x, const hominy_tensor* weight, const hominy_tensor* out,
                           const hominy_conv& settings, problem& p) {
  if (x->dtype != out->dtype || weight->dtype != out->dtype) return HOMINY_BAD_DTYPE;
  if (out->dtype != HOMINY_FLOAT32 && out->dtype != HOMINY_FLOAT64) return HOMINY_BAD_DTYPE;
  if (x->ndim < 3 || x->ndim > 5 || weight->ndim != x->ndim || out->ndim != x->ndim) return HOMINY_BAD_SHAPE;
  const hominy_tensor* const operands[] = {x, weight, out};
  for (const hominy_tensor* t : operands) {
    for (int32_t d = 0; d < t->ndim; d++)
      if (t->shape[d] < 0) return HOMINY_BAD_SHAPE;
    if (!countable(t)) return HOMINY_OVERFLOW;
  }
  p.dtype = (hominy_dtype)out->dtype;
  conv_shape& shape = p.shape;
  shape.batch = x->shape[0];
  shape.groups = settings.groups;
  if (shape.groups < 1) return HOMINY_BAD_VALUE;
  shape.in_channels = weight->shape[1];
  shape.out_channels = weight->shape[0] / shape.groups;
  if (out->shape[0] != shape.batch || out->shape[1] != weight->shape[0] || weight->shape[0] % shape.groups != 0 ||
      x->shape[1] % shape.groups != 0 || x->shape[1] / shape.groups != shape.in_channels)
    return HOMINY_BAD_SHAPE;
  p.x = read_images(x);
  p.out = read_images(out);
  p.weight = {(char*)weight->data, weight->strides[0], weight->strides[1], {}};
  const int missing = 5 - x->ndim;
  for (int d = 0; d < 3; d++) {
    shape.in[d] = shape.out[d] = shape.kernel[d] = shape.stride[d] = shape.dilation[d] = 1;
    shape.padding[d] = 0;
    const int from = d - missing;
    if (from < 0) continue;
    shape.in[d] = x->shape[from + 2];
    shape.out[d] = out->shape[from + 2];
    shape.kernel[d] = weight->shape[from + 2];
    shape.stride[d] = settings.stride[from];
    shape.dilation[d] = settings.dilation[from];
    shape.padding[d] = settings.padding[from];
    p.weight.space[d] = weight->strides[from + 2];
    if (shape.stride[d] < 1 || shape.dilation[d] < 1 || shape.padding[d] < 0) return HOMINY_BAD_VALUE;
    // Every element that is sampled has a number, and so has its address.
    int64_t steps, span;
    if (shape.padding[d] > largest_number || shape.dilation[d] > largest_number ||
        __builtin_mul_overflow(shape.out[d], shape.stride[d], &steps) || steps > most_elements * 16 ||
        __builtin_mul_overflow(shape.kernel[d], shape.dilation[d], &span) || span > most_elements * 16)
      return HOMINY_OVERFLOW;
  }
  // Positions and what each is the sum of.
  int64_t positions = maximum_of<int64_t>(1, shape.batch), terms = maximum_of<int64_t>(1, weight->shape[1]);
  for (int d = 0; d < 3; d++) {
    if (__builtin_mul_overflow(positions, maximum_of(shape.in[d], maximum_of<int64_t>(1, shape.out[d])), &positions) ||
        __builtin_mul_overflow(terms, maximum_of<int64_t>(1, shape.kernel[d]), &terms) || positions > most_elements ||
        terms > most_elements)
      return HOMINY_OVERFLOW;
  }
  return HOMINY_OK;
}

bool is_empty(const hominy_tensor* t) {
  for (int32_t d = 0; d < t->ndim; d++)
    if (t->shape[d] == 0) return true;
  return false;
}

// ---- The choice -----------------------------------------------------------------------------------------------------

template <class T>
bool computes(hominy_conv_algorithm algorithm, const problem& p) {
  switch (algorithm) {
    case HOMINY_CONV_AUTO:
    case HOMINY_CONV_PRODUCT: return true;
    case HOMINY_CONV_DEPTHWISE: return depthwise_computes<T>(p.shape, p.x, p.out);
    case HOMINY_CONV_GROUPED: return grouped_computes<T>(p.shape, p.x, p.out);
    case HOMINY_CONV_WINOGRAD2:
    case HOMINY_CONV_WINOGRAD4: return winograd_computes<T>(p.shape, p.x, p.out);
  }
  return false;
}

constexpr int64_t widest_group = 32;  // of channels: beyond, a group's product fills the tile kernels

// The algorithm, HOMINY_CONV_AUTO where the one that was named does not compute the call.
template <class T>
hominy_conv_algorithm choose(hominy_conv_direction direction, const problem& p, const hominy_conv& settings,
                             bool packed_ahead) {
  if (settings.algorithm != HOMINY_CONV_AUTO)
    return computes<T>(settings.algorithm, p) ? settings.algorithm : HOMINY_CONV_AUTO;
  if (computes<T>(HOMINY_CONV_DEPTHWISE, p)) return HOMINY_CONV_DEPTHWISE;
  const conv_shape& shape = p.shape;
  if (shape.groups > 1 && maximum_of(shape.in_channels, shape.out_channels) <= widest_group &&
      computes<T>(HOMINY_CONV_GROUPED, p))
    return HOMINY_CONV_GROUPED;
  if (settings.exact || !computes<T>(HOMINY_CONV_WINOGRAD2, p)) return HOMINY_CONV_PRODUCT;
  const bool input_gradient = direction == HOMINY_CONV_INPUT_GRADIENT;
  hominy_conv_algorithm best = HOMINY_CONV_PRODUCT;
  double least =
      double(shape.batch) * double(volume(shape.out)) * double(shape.in_channels) * 9 * double(shape.out_channels);
  for (int tile = 2; tile <= 4; tile += 2) {
    const bool weights = direction == HOMINY_CONV_WEIGHT_GRADIENT;
    if (!(weights ? winograd_weight_bound_holds<T>(tile, shape) : winograd_bound_holds<T>(tile, input_gradient, shape)))
      continue;
    const double cost =
        weights ? winograd_weight_cost<T>(tile, shape) : winograd_cost<T>(tile, input_gradient, shape, packed_ahead);
    if (cost >= least) continue;
    least = cost;
    best = tile == 2 ? HOMINY_CONV_WINOGRAD2 : HOMINY_CONV_WINOGRAD4;
  }
  return best;
}

template <class T>
void clear_weights(const conv_shape& shape, const conv_weights& out) {
  for (int64_t o = 0; o < shape.groups * shape.out_channels; o++)
    for (int64_t c = 0; c < shape.in_channels; c++)
      for (int64_t i = 0; i < shape.kernel[0]; i++)
        for (int64_t j = 0; j < shape.kernel[1]; j++)
          for (int64_t k = 0; k < shape.kernel[2]; k++)
            store_scalar(out.data + o * out.out + c * out.in + i * out.space[0] + j * out.space[1] + k * out.space[2],
                         T(0));
}

int tile_of(hominy_conv_algorithm algorithm) { return algorithm == HOMINY_CONV_WINOGRAD2 ? 2 : 4; }

// ---- One algorithm, one direction -----------------------------------------------------------------------------------

template <class T>
int64_t packed_size(hominy_conv_direction direction, const problem& p, hominy_conv_algorithm algorithm) {
  const bool back = direction == HOMINY_CONV_INPUT_GRADIENT;
  if (direction == HOMINY_CONV_WEIGHT_GRADIENT) return 0;
  if (algorithm == HOMINY_CONV_PRODUCT)
    return product_weights_size<T>(back, p.shape, back ? p.out : p.x, back ? p.x : p.out);
  if (algorithm == HOMINY_CONV_WINOGRAD2 || algorithm == HOMINY_CONV_WINOGRAD4)
    return winograd_weights_size<T>(tile_of(algorithm), p.shape);
  return 0;
}

template <class T>
void pack(hominy_conv_direction direction, const problem& p, hominy_conv_algorithm algorithm, char* packed) {
  const bool back = direction == HOMINY_CONV_INPUT_GRADIENT;
  if (algorithm == HOMINY_CONV_PRODUCT)
    product_pack_weights<T>(back, p.shape, back ? p.out : p.x, p.weight, back ? p.x : p.out, packed);
  else
    winograd_pack_weights<T>(tile_of(algorithm), back, p.shape, p.weight, packed);
}

template <class T>
int64_t scratch_size(hominy_conv_direction direction, const problem& p, hominy_conv_algorithm algorithm, bool packed,
                     int64_t threads) {
  const bool back = direction == HOMINY_CONV_INPUT_GRADIENT;
  switch (algorithm) {
    case HOMINY_CONV_AUTO: return 0;
    case HOMINY_CONV_PRODUCT:
      if (direction == HOMINY_CONV_WEIGHT_GRADIENT) return product_weight_gradient_scratch<T>(p.shape, p.x, threads);
      return product_scratch<T>(back, p.shape, back ? p.out : p.x, p.weight, back ? p.x : p.out, packed, threads);
    case HOMINY_CONV_DEPTHWISE: return depthwise_scratch<T>(p.shape, p.x, p.out);
    case HOMINY_CONV_GROUPED: return grouped_scratch<T>(p.shape, p.x, p.out);
    case HOMINY_CONV_WINOGRAD2:
    case HOMINY_CONV_WINOGRAD4: {
      const int tile = tile_of(algorithm);
      if (direction == HOMINY_CONV_WEIGHT_GRADIENT) return winograd_weight_gradient_scratch<T>(tile, p.shape, threads);
      return winograd_scratch<T>(tile, back, p.shape, packed, threads);
    }
  }
  return 0;
}

template <class T>
void compute(hominy_conv_direction direction, const problem& p, hominy_conv_algorithm algorithm, const char* packed,
             const conv_store& store, char* scratch, int64_t size) {
  if (algorithm == HOMINY_CONV_WINOGRAD2 || algorithm == HOMINY_CONV_WINOGRAD4) {
    const int tile = tile_of(algorithm);
    if (direction == HOMINY_CONV_WEIGHT_GRADIENT)
      return winograd_weight_gradient<T>(tile, p.shape, p.out, p.x, p.weight, scratch, size);
    if (direction == HOMINY_CONV_INPUT_GRADIENT)
      return winograd_input_gradient<T>(tile, p.shape, p.out, p.weight, packed, store, p.x, scratch, size);
    return winograd_forward<T>(tile, p.shape, p.x, p.weight, packed, store, p.out, scratch, size);
  }
  switch (direction) {
    case HOMINY_CONV_FORWARD:
      if (algorithm == HOMINY_CONV_DEPTHWISE)
        return depthwise_forward<T>(p.shape, p.x, p.weight, store, p.out, scratch);
      if (algorithm == HOMINY_CONV_GROUPED) return grouped_forward<T>(p.shape, p.x, p.weight, store, p.out, scratch);
      return product_forward<T>(p.shape, p.x, p.weight, packed, store, p.out, scratch, size);
    case HOMINY_CONV_INPUT_GRADIENT:
      if (algorithm == HOMINY_CONV_DEPTHWISE)
        return depthwise_input_gradient<T>(p.shape, p.out, p.weight, store, p.x, scratch);
      if (algorithm == HOMINY_CONV_GROUPED)
        return grouped_input_gradient<T>(p.shape, p.out, p.weight, store, p.x, scratch);
      return product_input_gradient<T>(p.shape, p.out, p.weight, packed, store, p.x, scratch, size);
    case HOMINY_CONV_WEIGHT_GRADIENT:
      if (algorithm == HOMINY_CONV_DEPTHWISE)
        return depthwise_weight_gradient<T>(p.shape, p.out, p.x, p.weight, scratch);
      if (algorithm == HOMINY_CONV_GROUPED) return grouped_weight_gradient<T>(p.shape, p.out, p.x, p.weight, scratch);
      return product_weight_gradient<T>(p.shape, p.out, p.x, p.weight, scratch, size);
  }
}

// What a caller wrote as an enumerator: read as one, an unknown code would be undefined.
template <class Enumeration>
int32_t code_of(const Enumeration& enumerator) {
  static_assert(sizeof(Enumeration) == sizeof(int32_t));
  return *(const int32_t*)&enumerator;
}

// f(problem, algorithm, a value of the element type) of a call that is sound and has something to compute.
template <class F>
hominy_status with_problem(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                           const hominy_tensor* out, const hominy_conv& settings, bool packed_ahead, F f) {
  problem p;
  const hominy_status status = read_problem(x, weight, out, settings, p);
  if (status != HOMINY_OK) return status;
  if (code_of(direction) < HOMINY_CONV_FORWARD || code_of(direction) > HOMINY_CONV_WEIGHT_GRADIENT ||
      code_of(settings.algorithm) < HOMINY_CONV_AUTO || code_of(settings.algorithm) > HOMINY_CONV_WINOGRAD4 ||
      code_of(settings.activation) < HOMINY_ACTIVATION_NONE || code_of(settings.activation) > HOMINY_ACTIVATION_SILU)
    return HOMINY_BAD_VALUE;
  const auto run = [&](auto element) {
    using T = decltype(element);
    // The others need something of everything; a product over nothing is the bias.
    const bool degenerate = is_empty(x) || is_empty(weight) || is_empty(out);
    const hominy_conv_algorithm algorithm =
        degenerate ? HOMINY_CONV_PRODUCT : choose<T>(direction, p, settings, packed_ahead);
    if (algorithm == HOMINY_CONV_AUTO) return HOMINY_BAD_VALUE;
    return f(p, algorithm, element);
  };
  return p.dtype == HOMINY_FLOAT32 ? run(0.0f) : run(0.0);
}

}  // namespace

hominy_conv_algorithm conv_algorithm(hominy_conv_direction direction, const hominy_tensor* x,
                                     const hominy_tensor* weight, const hominy_tensor* out,
                                     const hominy_conv* settings) {
  hominy_conv_algorithm chosen = HOMINY_CONV_AUTO;
  with_problem(direction, x, weight, out, *settings, false, [&](const problem&, hominy_conv_algorithm algorithm, auto) {
    chosen = algorithm;
    return HOMINY_OK;
  });
  return chosen;
}

int64_t conv_packed_size(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                         const hominy_tensor* out, const hominy_conv* settings) {
  int64_t size = 0;
  with_problem(direction, x, weight, out, *settings, true,
               [&](const problem& p, hominy_conv_algorithm algorithm, auto element) {
                 size = packed_size<decltype(element)>(direction, p, algorithm);
                 return HOMINY_OK;
               });
  return size;
}

hominy_status conv_pack(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                        const hominy_tensor* out, const hominy_conv* settings, void* packed) {
  return with_problem(direction, x, weight, out, *settings, true,
                      [&](const problem& p, hominy_conv_algorithm algorithm, auto element) {
                        if (packed_size<decltype(element)>(direction, p, algorithm) > 0)
                          pack<decltype(element)>(direction, p, algorithm, (char*)packed);
                        return HOMINY_OK;
                      });
}

int64_t conv_workspace_size(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                            const hominy_tensor* out, const hominy_conv* settings) {
  int64_t size = 0;
  for (int packed = 0; packed < 2; packed++)
    with_problem(direction, x, weight, out, *settings, packed,
                 [&](const problem& p, hominy_conv_algorithm algorithm, auto element) {
                   size = maximum_of(size,
                                     scratch_size<decltype(element)>(direction, p, algorithm, packed, num_threads()));
                   return HOMINY_OK;
                 });
  return size;
}

hominy_status conv(hominy_conv_direction direction, const hominy_tensor* x, const hominy_tensor* weight,
                   const hominy_tensor* out, const hominy_tensor* bias, const hominy_tensor* residual,
                   const void* packed, const hominy_conv* settings, void* workspace, int64_t workspace_size) {
  const hominy_tensor* result = direction == HOMINY_CONV_INPUT_GRADIENT ? x : out;
  conv_store store{};
  if (bias) {
    if (bias->dtype != out->dtype) return HOMINY_BAD_DTYPE;
    if (bias->ndim != 1 || result->ndim < 2 || bias->shape[0] != result->shape[1]) return HOMINY_BAD_SHAPE;
    store.bias = (const char*)bias->data;
    store.bias_step = bias->strides[0];
  }
  if (residual) {
    if (residual->dtype != out->dtype) return HOMINY_BAD_DTYPE;
    if (residual->ndim != result->ndim || result->ndim > HOMINY_MAX_NDIM) return HOMINY_BAD_SHAPE;
    for (int32_t d = 0; d < result->ndim; d++)
      if (residual->shape[d] != result->shape[d]) return HOMINY_BAD_SHAPE;
  }
  return with_problem(direction, x, weight, out, *settings, packed != nullptr,
                      [&](const problem& p, hominy_conv_algorithm algorithm, auto element) {
                        using T = decltype(element);
                        if (is_empty(direction == HOMINY_CONV_WEIGHT_GRADIENT ? weight : result)) return HOMINY_OK;
                        store.activation = settings->activation;
                        if (residual) store.residual = read_images(residual);
                        if (direction == HOMINY_CONV_WEIGHT_GRADIENT && (is_empty(x) || is_empty(out))) {
                          clear_weights<T>(p.shape, p.weight);
                          return HOMINY_OK;
                        }
                        // One thread's is enough: fewer workers take part where there is less than was asked for.
                        const int64_t least = scratch_size<T>(direction, p, algorithm, packed != nullptr, 1);
                        if (least > 0 && (!workspace || workspace_size < least)) return HOMINY_NO_WORKSPACE;
                        compute<T>(direction, p, algorithm, (const char*)packed, store, (char*)workspace,
                                   workspace_size);
                        return HOMINY_OK;
                      });
}

}  // namespace hominy::HOMINY_LEVEL
