// Convolutions: arguments into the settings of the C interface, an output in its input's memory order.
#include <pybind11/stl.h>

#include "bindings.hpp"

namespace hominy {
namespace {

const char* const algorithm_names[] = {"auto", "product", "depthwise", "grouped", "winograd2", "winograd4"};

hominy_conv_algorithm algorithm_of(const char* op, const std::string& name) {
  for (int i = 0; i < 6; ++i)
    if (name == algorithm_names[i]) return hominy_conv_algorithm(i);
  raise_value(op, "algorithm", "one of auto, product, depthwise, grouped, winograd2, winograd4", "'" + name + "'");
}

using sizes = std::vector<int64_t>;
using pairs = std::vector<std::pair<int64_t, int64_t>>;

// What every function of this file is told of the convolution.
struct geometry {
  const char* op;
  sizes stride;
  pairs padding;
  sizes dilation;
  int64_t groups;
  hominy_conv settings;

  geometry(const char* op, const sizes& stride, const pairs& padding, const sizes& dilation, int64_t groups,
           const std::string& algorithm, bool exact)
      : op(op), stride(stride), padding(padding), dilation(dilation), groups(groups), settings{} {
    const size_t space = stride.size();
    if (space < 1 || space > 3) raise_value(op, "stride", "1 to 3 numbers", std::to_string(space));
    if (padding.size() != space || dilation.size() != space)
      raise_value(op, "padding, dilation", "as many numbers as stride's " + std::to_string(space),
                  std::to_string(padding.size()) + ", " + std::to_string(dilation.size()));
    for (size_t d = 0; d < space; ++d) {
      if (stride[d] < 1) raise_value(op, "stride", "positive numbers", std::to_string(stride[d]));
      if (dilation[d] < 1) raise_value(op, "dilation", "positive numbers", std::to_string(dilation[d]));
      if (padding[d].first < 0 || padding[d].second < 0) raise_value(op, "padding", "no negative number", "one");
      settings.stride[d] = stride[d];
      settings.padding[d] = padding[d].first;
      settings.dilation[d] = dilation[d];
    }
    if (groups < 1) raise_value(op, "groups", "a positive number", std::to_string(groups));
    settings.groups = groups;
    settings.algorithm = algorithm_of(op, algorithm);
    settings.exact = exact;
  }

  void require_space(const char* argument, const hominy_tensor& t) const {
    if (t.ndim != int(stride.size()) + 2)
      raise_value(op, argument, std::to_string(stride.size() + 2) + " dimensions", shape_text(t));
  }

  // Of out, for images and a kernel of these sizes along dimension d of space.
  int64_t out_size(int d, int64_t in, int64_t kernel) const {
    int64_t padded, span;
    if (__builtin_add_overflow(in, padding[d].first, &padded) ||
        __builtin_add_overflow(padded, padding[d].second, &padded) ||
        __builtin_mul_overflow(kernel - 1, dilation[d], &span))
      throw std::overflow_error(std::string("[") + op + "] the size of the padded input overflows int64");
    return padded > span && kernel > 0 ? (padded - span - 1) / stride[d] + 1 : 0;
  }
};

// As backends/reference_conv.py: what is in C order, too, or cannot be told apart counts as C order.
bool lies_channels_last(const hominy_tensor& t) {
  if (is_c_contiguous(t) || t.shape[1] == 1) return false;
  bool spacious = false;
  for (int d = 2; d < t.ndim; ++d) {
    if (t.shape[d] <= 1) continue;
    if (std::abs(t.strides[d]) <= std::abs(t.strides[1])) return false;
    spacious = true;
  }
  return spacious;
}

// An array of t's shape, its channels innermost or in C order; fills in t.
py::object allocate_images(const char* op, hominy_tensor& t, bool channels_last) {
  if (!channels_last) return allocate(op, t);
  int8_t order[HOMINY_MAX_NDIM] = {0};
  for (int d = 2; d < t.ndim; ++d) order[d - 1] = int8_t(d);
  order[t.ndim - 1] = 1;
  return allocate(op, t, order);
}

// A declared size of images or weights, whose order alone matters.
hominy_tensor shaped(int32_t dtype, const sizes& shape, bool channels_last) {
  hominy_tensor t{};
  t.dtype = dtype;
  t.ndim = int32_t(shape.size());
  int64_t bytes = dtype_size(dtype);
  const auto lay = [&](int d) {
    t.shape[d] = shape[size_t(d)];
    t.strides[d] = bytes;
    bytes *= t.shape[d] > 0 ? t.shape[d] : 1;
  };
  if (channels_last) lay(1);
  for (int d = t.ndim - 1; d > 0; --d)
    if (d > 1 || !channels_last) lay(d);
  lay(0);
  return t;
}

// Weights packed ahead: a cache line that says for which call, then what the kernel made, both aligned.
constexpr int64_t cache_line = 64;

char* packed_start(const hominy_tensor& bytes) {
  return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(bytes.data) + cache_line - 1) / cache_line * cache_line);
}

// Of everything that decides what is packed (FNV-1a).
uint64_t signature_of(const geometry& g, const hominy_tensor& x, const hominy_tensor& weight, bool channels_last) {
  uint64_t hash = 14695981039346656037u;
  const auto add = [&](int64_t value) {
    for (int i = 0; i < 8; ++i) hash = (hash ^ (uint64_t(value) >> 8 * i & 255)) * 1099511628211u;
  };
  for (const char* name = kernels->isa; *name; ++name) add(*name);
  for (const hominy_tensor* t : {&x, &weight})
    for (int d = 0; d < t->ndim; ++d) add(t->shape[d]);
  for (size_t d = 0; d < g.stride.size(); ++d)
    for (int64_t value : {g.stride[d], g.padding[d].first, g.padding[d].second, g.dilation[d]}) add(value);
  for (int64_t value :
       {int64_t(x.dtype), g.groups, int64_t(g.settings.algorithm), int64_t(g.settings.exact), int64_t(channels_last)})
    add(value);
  return hash;
}

[[noreturn]] void raise_algorithm(const geometry& g) {
  raise_value(g.op, "algorithm", "one that computes this convolution",
              std::string("'") + algorithm_names[g.settings.algorithm] + "'");
}

py::object compute(const geometry& g, hominy_conv_direction direction, const hominy_tensor& x,
                   const hominy_tensor& weight, const hominy_tensor& out, const hominy_tensor* bias,
                   const hominy_tensor* residual, const void* packed, py::object result) {
  const int64_t bytes = kernels->conv_workspace_size(direction, &x, &weight, &out, &g.settings);
  workspace scratch(bytes);
  hominy_status status;
  {
    double work = double(element_count(out));
    for (int d = 1; d < weight.ndim; ++d) work *= double(weight.shape[d]);
    unlocked without_lock(work > 256.0 * 1024);
    status = kernels->conv(direction, &x, &weight, &out, bias, residual, packed, &g.settings, scratch.data(), bytes);
  }
  if (status == HOMINY_BAD_VALUE) raise_algorithm(g);
  require_ok(g.op, status);
  return result;
}

const hominy_tensor* optional_tensor(const char* op, const char* argument, py::handle array, const hominy_tensor& like,
                                     hominy_tensor& t) {
  if (array.is_none()) return nullptr;
  t = describe_floating(op, argument, array);
  decline_mixed_dtypes(like, t);
  return &t;
}

void require_weight(const geometry& g, const hominy_tensor& weight, int64_t channels, bool transposed) {
  g.require_space("weight", weight);
  const int64_t expected = transposed ? weight.shape[0] : weight.shape[1] * g.groups;
  if (channels != expected || weight.shape[0] % g.groups != 0)
    raise_value(g.op, "weight",
                "channels to follow " + std::to_string(channels) + " in " + std::to_string(g.groups) + " groups",
                shape_text(weight));
}

py::object run_conv(py::handle x_array, py::handle weight_array, py::handle bias_array, py::handle residual_array,
                    const sizes& stride, const pairs& padding, const sizes& dilation, int64_t groups,
                    const std::string& activation, const std::string& algorithm, bool exact, py::handle packed_array) {
  return declining([&]() -> py::object {
    const char* op = "conv";
    const hominy_tensor x = describe_floating(op, "input", x_array);
    const hominy_tensor weight = describe_floating(op, "weight", weight_array);
    decline_mixed_dtypes(x, weight);
    geometry g(op, stride, padding, dilation, groups, algorithm, exact);
    g.settings.activation = activation_of(op, activation);
    g.require_space("input", x);
    require_weight(g, weight, x.shape[1], false);
    hominy_tensor out = x, bias, residual;
    out.shape[1] = weight.shape[0];
    for (int d = 2; d < x.ndim; ++d) {
      out.shape[d] = g.out_size(d - 2, x.shape[d], weight.shape[d]);
      if (out.shape[d] < 1)
        raise_value(op, "weight", "a kernel that fits into the padded input " + shape_text(x), shape_text(weight));
    }
    const hominy_tensor* bias_or_null = optional_tensor(op, "bias", bias_array, x, bias);
    const hominy_tensor* residual_or_null = optional_tensor(op, "residual", residual_array, x, residual);
    if (bias_or_null && (bias.ndim != 1 || bias.shape[0] != weight.shape[0]))
      raise_value(op, "bias", "(out_channels=" + std::to_string(weight.shape[0]) + ",)", shape_text(bias));
    if (residual_or_null) require_shape(op, "residual", out, residual);
    py::object result = allocate_images(op, out, lies_channels_last(x));
    const void* packed = nullptr;
    if (!packed_array.is_none()) {
      const hominy_tensor bytes = describe(op, "packed", packed_array);
      const int64_t size = kernels->conv_packed_size(HOMINY_CONV_FORWARD, &x, &weight, &out, &g.settings);
      const uint64_t expected = signature_of(g, x, weight, lies_channels_last(x));
      if (bytes.dtype != HOMINY_UINT8 || bytes.ndim != 1 || bytes.shape[0] != size + 2 * cache_line ||
          bytes.strides[0] != 1 || memcmp(packed_start(bytes), &expected, sizeof expected) != 0)
        raise_value(op, "packed", "what conv_pack makes for this call", shape_text(bytes));
      packed = packed_start(bytes) + cache_line;
    }
    return compute(g, HOMINY_CONV_FORWARD, x, weight, out, bias_or_null, residual_or_null, packed, result);
  });
}

py::object run_input_gradient(py::handle gradient_array, py::handle weight_array, py::handle bias_array,
                              const sizes& size, const sizes& stride, const pairs& padding, const sizes& dilation,
                              int64_t groups, const std::string& algorithm, bool exact) {
  return declining([&]() -> py::object {
    const char* op = "conv_input_gradient";
    const hominy_tensor gradient = describe_floating(op, "grad", gradient_array);
    const hominy_tensor weight = describe_floating(op, "weight", weight_array);
    decline_mixed_dtypes(gradient, weight);
    const geometry g(op, stride, padding, dilation, groups, algorithm, exact);
    g.require_space("grad", gradient);
    require_weight(g, weight, gradient.shape[1], true);
    if (size.size() != stride.size())
      raise_value(op, "size", std::to_string(stride.size()) + " numbers", std::to_string(size.size()));
    hominy_tensor x = gradient, bias;
    if (__builtin_mul_overflow(weight.shape[1], groups, &x.shape[1]))
      throw std::overflow_error("[conv_input_gradient] a product of sizes overflows int64");
    for (int d = 2; d < x.ndim; ++d) {
      x.shape[d] = size[size_t(d - 2)];
      if (x.shape[d] < 0) raise_value(op, "size", "no negative number", std::to_string(x.shape[d]));
    }
    const hominy_tensor* bias_or_null = optional_tensor(op, "bias", bias_array, gradient, bias);
    if (bias_or_null && (bias.ndim != 1 || bias.shape[0] != x.shape[1]))
      raise_value(op, "bias", "(channels=" + std::to_string(x.shape[1]) + ",)", shape_text(bias));
    py::object result = allocate_images(op, x, lies_channels_last(gradient));
    return compute(g, HOMINY_CONV_INPUT_GRADIENT, x, weight, gradient, bias_or_null, nullptr, nullptr, result);
  });
}

py::object run_weight_gradient(py::handle gradient_array, py::handle x_array, const sizes& size, const sizes& stride,
                               const pairs& padding, const sizes& dilation, int64_t groups,
                               const std::string& algorithm, bool exact) {
  return declining([&]() -> py::object {
    const char* op = "conv_weight_gradient";
    const hominy_tensor gradient = describe_floating(op, "grad", gradient_array);
    const hominy_tensor x = describe_floating(op, "input", x_array);
    decline_mixed_dtypes(gradient, x);
    const geometry g(op, stride, padding, dilation, groups, algorithm, exact);
    g.require_space("grad", gradient);
    g.require_space("input", x);
    if (size.size() != stride.size())
      raise_value(op, "size", std::to_string(stride.size()) + " numbers", std::to_string(size.size()));
    if (gradient.shape[0] != x.shape[0] || x.shape[1] % groups != 0 || gradient.shape[1] % groups != 0)
      raise_value(op, "input", "the batch of grad's " + shape_text(gradient) + " and channels of whole groups",
                  shape_text(x));
    hominy_tensor weight = x;
    weight.shape[0] = gradient.shape[1];
    weight.shape[1] = x.shape[1] / groups;
    for (int d = 2; d < x.ndim; ++d) {
      weight.shape[d] = size[size_t(d - 2)];
      if (weight.shape[d] < 0) raise_value(op, "size", "no negative number", std::to_string(weight.shape[d]));
    }
    py::object result = allocate(op, weight);
    return compute(g, HOMINY_CONV_WEIGHT_GRADIENT, x, weight, gradient, nullptr, nullptr, nullptr, result);
  });
}

py::object run_pack(py::handle weight_array, const sizes& x_shape, bool channels_last, const sizes& stride,
                    const pairs& padding, const sizes& dilation, int64_t groups, const std::string& algorithm,
                    bool exact) {
  return declining([&]() -> py::object {
    const char* op = "conv_pack";
    const hominy_tensor weight = describe_floating(op, "weight", weight_array);
    const geometry g(op, stride, padding, dilation, groups, algorithm, exact);
    if (x_shape.size() != stride.size() + 2)
      raise_value(op, "x_shape", "(N, C, *space)", std::to_string(x_shape.size()));
    require_weight(g, weight, x_shape[1], false);
    const hominy_tensor x = shaped(weight.dtype, x_shape, channels_last);
    sizes out_shape = x_shape;
    out_shape[1] = weight.shape[0];
    for (int d = 2; d < x.ndim; ++d) out_shape[size_t(d)] = g.out_size(d - 2, x.shape[d], weight.shape[d]);
    const hominy_tensor out = shaped(weight.dtype, out_shape, channels_last);
    const int64_t size = kernels->conv_packed_size(HOMINY_CONV_FORWARD, &x, &weight, &out, &g.settings);
    if (size == 0) {  // nothing to pack, or a call that cannot be
      const hominy_status status = kernels->conv_pack(HOMINY_CONV_FORWARD, &x, &weight, &out, &g.settings, nullptr);
      if (status == HOMINY_BAD_VALUE) raise_algorithm(g);
      require_ok(op, status);
      return py::none();
    }
    hominy_tensor bytes{};
    bytes.dtype = HOMINY_UINT8;
    bytes.ndim = 1;
    bytes.shape[0] = size + 2 * cache_line;
    py::object result = allocate(op, bytes);
    const uint64_t signature = signature_of(g, x, weight, channels_last);
    memset(packed_start(bytes), 0, cache_line);
    memcpy(packed_start(bytes), &signature, sizeof signature);
    unlocked without_lock(size > 256 * 1024);
    require_ok(
        op, kernels->conv_pack(HOMINY_CONV_FORWARD, &x, &weight, &out, &g.settings, packed_start(bytes) + cache_line));
    return result;
  });
}

std::string run_algorithm(const std::string& direction, const sizes& x_shape, const sizes& weight_shape,
                          bool channels_last, const sizes& stride, const pairs& padding, const sizes& dilation,
                          int64_t groups, const py::object& dtype, bool exact) {
  const char* op = "conv_algorithm";
  const geometry g(op, stride, padding, dilation, groups, "auto", exact);
  const int32_t type = py::dtype::from_args(dtype).itemsize() == 8 ? HOMINY_FLOAT64 : HOMINY_FLOAT32;
  if (x_shape.size() != stride.size() + 2 || weight_shape.size() != stride.size() + 2)
    raise_value(op, "x_shape, weight_shape", std::to_string(stride.size() + 2) + " numbers each", "others");
  const hominy_tensor x = shaped(type, x_shape, channels_last), weight = shaped(type, weight_shape, false);
  require_weight(g, weight, x.shape[1], false);
  sizes out_shape = x_shape;
  out_shape[1] = weight.shape[0];
  for (int d = 2; d < x.ndim; ++d) out_shape[size_t(d)] = g.out_size(d - 2, x.shape[d], weight.shape[d]);
  const hominy_tensor out = shaped(type, out_shape, channels_last);
  static const char* const directions[] = {"forward", "input_gradient", "weight_gradient"};
  for (int i = 0; i < 3; ++i)
    if (direction == directions[i])
      return algorithm_names[kernels->conv_algorithm(hominy_conv_direction(i), &x, &weight, &out, &g.settings)];
  raise_value(op, "direction", "one of forward, input_gradient, weight_gradient", "'" + direction + "'");
}

}  // namespace

void bind_convolutions(py::module_& m) {
  m.def("conv", run_conv, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("residual"), py::arg("stride"),
        py::arg("padding"), py::arg("dilation"), py::arg("groups"), py::arg("activation") = "none",
        py::arg("algorithm") = "auto", py::arg("exact") = false, py::arg("packed") = py::none());
  m.def("conv_input_gradient", run_input_gradient, py::arg("grad"), py::arg("weight"), py::arg("bias"), py::arg("size"),
        py::arg("stride"), py::arg("padding"), py::arg("dilation"), py::arg("groups"), py::arg("algorithm") = "auto",
        py::arg("exact") = false);
  m.def("conv_weight_gradient", run_weight_gradient, py::arg("grad"), py::arg("x"), py::arg("size"), py::arg("stride"),
        py::arg("padding"), py::arg("dilation"), py::arg("groups"), py::arg("algorithm") = "auto",
        py::arg("exact") = false);
  m.def("conv_pack", run_pack, py::arg("weight"), py::arg("x_shape"), py::arg("channels_last"), py::arg("stride"),
        py::arg("padding"), py::arg("dilation"), py::arg("groups"), py::arg("algorithm") = "auto",
        py::arg("exact") = false);
  m.def("conv_algorithm", run_algorithm, py::arg("direction"), py::arg("x_shape"), py::arg("weight_shape"),
        py::arg("channels_last"), py::arg("stride"), py::arg("padding"), py::arg("dilation"), py::arg("groups"),
        py::arg("dtype"), py::arg("exact"));
}

}  // namespace hominy
