// Normalisation, embedding, dropout.
#include "bindings.hpp"

namespace hominy {
namespace {

// A list (a weight, a mean): `size` elements of `like`'s dtype, in one dimension or in like's last `dims`; or None.
struct list_argument {
  hominy_tensor tensor;
  const hominy_tensor* pointer = nullptr;
  py::object keep;

  list_argument(const char* op, const char* argument, py::handle h, const hominy_tensor& like, int64_t size,
                int dims = 1) {
    if (h.is_none()) return;
    tensor = describe_floating(op, argument, h);
    decline_mixed_dtypes(like, tensor);
    bool fits = tensor.ndim == dims && element_count(tensor) == size;
    for (int d = 0; fits && dims > 1 && d < dims; ++d) fits = tensor.shape[d] == like.shape[like.ndim - dims + d];
    if (!fits) raise_value(op, argument, "an array of " + std::to_string(size) + " elements", shape_text(tensor));
    tensor = in_c_order(op, tensor, keep);
    if (reinterpret_cast<uintptr_t>(tensor.data) % uintptr_t(dtype_size(tensor.dtype)) != 0) {
      hominy_tensor aligned = tensor;
      keep = allocate(op, aligned);
      require_ok(op, kernels->copy(&tensor, &aligned));
      tensor = aligned;
    }
    tensor.ndim = 1;
    tensor.shape[0] = size;
    tensor.strides[0] = dtype_size(tensor.dtype);
    pointer = &tensor;
  }
};

// A new list of `size` elements, or None where it is not wanted.
struct list_result {
  hominy_tensor tensor;
  const hominy_tensor* pointer = nullptr;
  py::object array = py::none();

  list_result(const char* op, const hominy_tensor& like, int64_t size, bool wanted = true) {
    if (!wanted) return;
    tensor.dtype = like.dtype;
    tensor.ndim = 1;
    tensor.shape[0] = size;
    array = allocate(op, tensor);
    pointer = &tensor;
  }
};

// An output in x's memory order.
py::object allocate_like(const char* op, const hominy_tensor& x, hominy_tensor& out) {
  out = x;
  const hominy_tensor* operands[] = {&x};
  return elementwise_output(op, py::none(), out, operands, 1);
}

hominy_tensor describe_of_ndim(const char* op, const char* argument, py::handle h, int ndim) {
  hominy_tensor t = describe_floating(op, argument, h);
  if (t.ndim != ndim) raise_value(op, argument, std::to_string(ndim) + " dimensions", "shape " + shape_text(t));
  return t;
}

// The gradient beside x: of its shape, and of its memory order, else by a copy.
hominy_tensor gradient_beside(const char* op, py::handle h, const hominy_tensor& x, py::object& keep) {
  hominy_tensor gradient = describe_floating(op, "grad", h);
  decline_mixed_dtypes(x, gradient);
  require_shape(op, "grad", x, gradient);
  bool alike = true;
  for (int d = 0; d < x.ndim; ++d) alike &= x.shape[d] == 1 || x.strides[d] == gradient.strides[d];
  if (alike) return gradient;
  hominy_tensor fresh;
  keep = allocate_like(op, x, fresh);
  require_ok(op, kernels->copy(&gradient, &fresh));
  return fresh;
}

// Dimensions [first, last) as one. They follow on each other: no copy is made.
void merge_dimensions(hominy_tensor& t, int first, int last) {
  int64_t size = 1;
  for (int d = first; d < last; ++d) size *= t.shape[d];
  const int64_t stride = last > first ? t.strides[last - 1] : dtype_size(t.dtype);
  const int moved = t.ndim - last;
  for (int i = 0; i < moved; ++i) {  // of none, the others move up: from the end, none overwrites another
    const int d = last > first ? i : moved - 1 - i;
    t.shape[first + 1 + d] = t.shape[last + d];
    t.strides[first + 1 + d] = t.strides[last + d];
  }
  t.shape[first] = size;
  t.strides[first] = stride;
  t.ndim += 1 - (last - first);
}

// (..., the last `dims`) as (M, N).
void merge_to_rows(hominy_tensor& t, int dims) {
  if (t.ndim == 2 && dims == 1) return;
  merge_dimensions(t, t.ndim - dims, t.ndim);
  merge_dimensions(t, 0, t.ndim - 1);
}

// x as the layer norms take it: two dimensions of any strides, or more in C order, by a copy where it is not.
hominy_tensor describe_rows(const char* op, py::handle h, int64_t dims, py::object& keep) {
  hominy_tensor x = describe_floating(op, "input", h);
  if (dims < 1 || dims > x.ndim)
    raise_value(op, "dims", "an integer in [1, " + std::to_string(x.ndim) + "]", std::to_string(dims));
  if (x.ndim == HOMINY_MAX_NDIM) throw declined{"native needs a dimension more than this array has"};
  return x.ndim == 2 && dims == 1 ? x : in_c_order(op, x, keep);
}

py::object run_layer_norm(py::handle x_array, py::handle weight_array, py::handle bias_array, int64_t dims,
                          double epsilon, bool rms) {
  return declining([&]() -> py::object {
    const char* op = "layer_norm";
    py::object keep;
    hominy_tensor whole = describe_rows(op, x_array, dims, keep), out;
    py::object result = allocate_like(op, whole, out);
    hominy_tensor x = whole;
    merge_to_rows(x, int(dims));
    merge_to_rows(out, int(dims));
    list_argument weight(op, "weight", weight_array, whole, x.shape[1], int(dims));
    list_argument bias(op, "bias", bias_array, whole, x.shape[1], int(dims));
    list_result mean(op, x, x.shape[0], !rms), rstd(op, x, x.shape[0]);
    {
      unlocked without_lock(element_count(x) >= unlock_elements);
      require_ok(op,
                 kernels->layer_norm(rms, &x, weight.pointer, bias.pointer, epsilon, &out, mean.pointer, rstd.pointer));
    }
    return py::make_tuple(result, mean.array, rstd.array);
  });
}

py::object run_layer_norm_backward(py::handle gradient_array, py::handle x_array, py::handle weight_array,
                                   py::handle mean_array, py::handle rstd_array, int64_t dims, int needs) {
  return declining([&]() -> py::object {
    const char* op = "layer_norm_backward";
    py::object keep, keep_gradient, result = py::none();
    hominy_tensor whole = describe_rows(op, x_array, dims, keep), out;
    hominy_tensor gradient = gradient_beside(op, gradient_array, whole, keep_gradient), x = whole;
    if (needs & 1) {
      result = allocate_like(op, whole, out);
      merge_to_rows(out, int(dims));
    }
    merge_to_rows(x, int(dims));
    merge_to_rows(gradient, int(dims));
    list_argument weight(op, "weight", weight_array, whole, x.shape[1], int(dims));
    list_argument mean(op, "mean", mean_array, x, x.shape[0]), rstd(op, "rstd", rstd_array, x, x.shape[0]);
    if (!rstd.pointer) raise_value(op, "rstd", "an array", "None");
    // The lists' gradients have the shape of x's last `dims`.
    py::object lists[] = {py::none(), py::none()};
    hominy_tensor of_lists[2];
    for (int i = 0; i < 2; ++i) {
      if (!(needs >> (i + 1) & 1)) continue;
      of_lists[i] = whole;
      of_lists[i].ndim = int32_t(dims);
      for (int d = 0; d < dims; ++d) of_lists[i].shape[d] = whole.shape[whole.ndim - dims + d];
      lists[i] = allocate(op, of_lists[i]);
      merge_dimensions(of_lists[i], 0, of_lists[i].ndim);
    }
    const int64_t bytes = needs & 6 ? kernels->layer_norm_workspace_size(&x) : 0;
    workspace scratch(bytes);
    {
      unlocked without_lock(element_count(x) >= unlock_elements);
      require_ok(op, kernels->layer_norm_backward(&gradient, &x, weight.pointer, mean.pointer, rstd.pointer,
                                                  needs & 1 ? &out : nullptr, needs & 2 ? &of_lists[0] : nullptr,
                                                  needs & 4 ? &of_lists[1] : nullptr, scratch.data(), bytes));
    }
    return py::make_tuple(result, lists[0], lists[1]);
  });
}

// (N, C, *) as (N, C, S), in the memory formats where * is one run; the others are the operator's to copy.
hominy_tensor as_channels(const char* op, hominy_tensor t) {
  if (t.ndim < 2) raise_value(op, "input", "at least 2 dimensions (N, C, ...)", "shape " + shape_text(t));
  if (t.ndim == HOMINY_MAX_NDIM) throw declined{"native needs a dimension more than this array has"};
  for (int d = 2; d + 1 < t.ndim; ++d)
    if (t.shape[d] != 1 && t.strides[d] != t.shape[d + 1] * t.strides[d + 1])
      throw declined{"native takes positions that follow on each other"};
  merge_dimensions(t, 2, t.ndim);
  return t;
}

int64_t checked_statistics(const char* op, const hominy_tensor& x, int64_t groups) {
  if (groups < 0 || (groups > 0 && x.shape[1] % groups != 0))
    raise_value(op, "groups", "0, or a divisor of the number of channels, " + std::to_string(x.shape[1]),
                std::to_string(groups));
  return groups ? x.shape[0] * groups : x.shape[1];
}

py::object run_channel_norm(py::handle x_array, py::handle weight_array, py::handle bias_array, py::handle mean_array,
                            py::handle variance_array, int64_t groups, double epsilon) {
  return declining([&]() -> py::object {
    const char* op = "channel_norm";
    hominy_tensor whole = describe_floating(op, "input", x_array), out;
    const hominy_tensor x = as_channels(op, whole);
    const int64_t statistics = checked_statistics(op, x, groups);
    list_argument weight(op, "weight", weight_array, x, x.shape[1]), bias(op, "bias", bias_array, x, x.shape[1]);
    list_argument mean(op, "mean", mean_array, x, statistics), variance(op, "variance", variance_array, x, statistics);
    const bool fixed = mean.pointer && variance.pointer;
    list_result new_mean(op, x, statistics, !fixed), new_variance(op, x, statistics, !fixed);
    py::object result = allocate_like(op, whole, out);
    out = as_channels(op, out);
    const int64_t bytes = kernels->channel_norm_workspace_size(&x, groups);
    workspace scratch(bytes);
    {
      unlocked without_lock(element_count(x) >= unlock_elements);
      require_ok(op,
                 kernels->channel_norm(&x, weight.pointer, bias.pointer, groups, epsilon, fixed,
                                       fixed ? mean.pointer : new_mean.pointer,
                                       fixed ? variance.pointer : new_variance.pointer, &out, scratch.data(), bytes));
    }
    return py::make_tuple(result, new_mean.array, new_variance.array);
  });
}

py::object run_channel_norm_backward(py::handle gradient_array, py::handle x_array, py::handle weight_array,
                                     py::handle mean_array, py::handle variance_array, int64_t groups, double epsilon,
                                     bool fixed, int needs) {
  return declining([&]() -> py::object {
    const char* op = "channel_norm_backward";
    py::object keep, result = py::none();
    hominy_tensor whole = describe_floating(op, "input", x_array), out;
    const hominy_tensor x = as_channels(op, whole);
    const hominy_tensor gradient = as_channels(op, gradient_beside(op, gradient_array, whole, keep));
    const int64_t statistics = checked_statistics(op, x, groups);
    list_argument weight(op, "weight", weight_array, x, x.shape[1]);
    list_argument mean(op, "mean", mean_array, x, statistics), variance(op, "variance", variance_array, x, statistics);
    if (!mean.pointer || !variance.pointer) raise_value(op, "mean, variance", "arrays", "None");
    if (needs & 1) {
      result = allocate_like(op, whole, out);
      out = as_channels(op, out);
    }
    list_result of_weight(op, x, x.shape[1], needs & 2), of_bias(op, x, x.shape[1], needs & 4);
    const int64_t bytes = kernels->channel_norm_workspace_size(&x, groups);
    workspace scratch(bytes);
    {
      unlocked without_lock(element_count(x) >= unlock_elements);
      require_ok(op, kernels->channel_norm_backward(&gradient, &x, weight.pointer, mean.pointer, variance.pointer,
                                                    groups, epsilon, fixed, needs & 1 ? &out : nullptr,
                                                    of_weight.pointer, of_bias.pointer, scratch.data(), bytes));
    }
    return py::make_tuple(result, of_weight.array, of_bias.array);
  });
}

// Row numbers (N) int64, and the error that names the one out of range.
hominy_tensor describe_indices(const char* op, py::handle h) {
  hominy_tensor indices = describe(op, "input", h);
  if (indices.dtype != HOMINY_INT64)
    throw py::type_error(std::string("[") + op + "] input: expected dtype int64, got " + dtype_name(indices.dtype));
  if (indices.ndim != 1) raise_value(op, "input", "1 dimension", "shape " + shape_text(indices));
  return indices;
}

void require_ok_rows(const char* op, hominy_status status, const hominy_tensor& indices, int64_t rows) {
  if (status == HOMINY_BAD_INDEX)
    for (int64_t n = 0; n < indices.shape[0]; ++n) {
      int64_t index;
      memcpy(&index, static_cast<const char*>(indices.data) + n * indices.strides[0], sizeof index);
      if (index < 0 || index >= rows)
        throw py::index_error(std::string("[") + op + "] input: expected indices in [0, " + std::to_string(rows) +
                              "), got " + std::to_string(index));
    }
  require_ok(op, status);
}

py::object run_embedding(py::handle table_array, py::handle indices_array) {
  return declining([&]() -> py::object {
    const char* op = "embedding";
    hominy_tensor table = describe_of_ndim(op, "weight", table_array, 2);
    hominy_tensor indices = describe_indices(op, indices_array), out = table;
    out.shape[0] = indices.shape[0];
    py::object result = allocate(op, out);
    hominy_status status;
    {
      unlocked without_lock(element_count(out) >= unlock_elements);
      status = kernels->embedding(&table, &indices, &out);
    }
    require_ok_rows(op, status, indices, table.shape[0]);
    return result;
  });
}

py::object run_embedding_backward(py::handle gradient_array, py::handle indices_array, int64_t rows, int64_t ignored) {
  return declining([&]() -> py::object {
    const char* op = "embedding_backward";
    hominy_tensor gradient = describe_of_ndim(op, "grad", gradient_array, 2);
    hominy_tensor indices = describe_indices(op, indices_array), out = gradient;
    if (gradient.shape[0] != indices.shape[0])
      raise_value(op, "grad", std::to_string(indices.shape[0]) + " rows", shape_text(gradient));
    if (rows < 0) raise_value(op, "rows", "an integer of at least 0", std::to_string(rows));
    out.shape[0] = rows;
    py::object result = allocate(op, out);
    hominy_status status;
    {
      unlocked without_lock(element_count(out) + element_count(gradient) >= unlock_elements);
      status = kernels->embedding_backward(&gradient, &indices, ignored, &out);
    }
    require_ok_rows(op, status, indices, rows);
    return result;
  });
}

py::object run_dropout(py::handle x_array, double p, uint64_t seed) {
  return declining([&]() -> py::object {
    const char* op = "dropout";
    py::object keep;
    hominy_tensor x = in_c_order(op, describe_floating(op, "input", x_array), keep), out = x;
    py::object result = allocate(op, out);
    if (!(p >= 0 && p <= 1)) raise_value(op, "p", "a number in [0, 1]", std::to_string(p));
    unlocked without_lock(element_count(x) >= unlock_elements);
    require_ok(op, kernels->dropout(&x, p, seed, &out));
    return result;
  });
}

}  // namespace

void bind_layers(py::module_& m) {
  m.def("layer_norm", run_layer_norm, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("dims"),
        py::arg("epsilon"), py::arg("rms"));
  m.def("layer_norm_backward", run_layer_norm_backward, py::arg("grad"), py::arg("x"), py::arg("weight"),
        py::arg("mean"), py::arg("rstd"), py::arg("dims"), py::arg("needs"));
  m.def("channel_norm", run_channel_norm, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("mean"),
        py::arg("variance"), py::arg("groups"), py::arg("epsilon"));
  m.def("channel_norm_backward", run_channel_norm_backward, py::arg("grad"), py::arg("x"), py::arg("weight"),
        py::arg("mean"), py::arg("variance"), py::arg("groups"), py::arg("epsilon"), py::arg("fixed"),
        py::arg("needs"));
  m.def("embedding", run_embedding, py::arg("weight"), py::arg("indices"));
  m.def("embedding_backward", run_embedding_backward, py::arg("grad"), py::arg("indices"), py::arg("rows"),
        py::arg("ignored"));
  m.def("dropout", run_dropout, py::arg("x"), py::arg("p"), py::arg("seed"));
}

}  // namespace hominy
