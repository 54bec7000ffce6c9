// Pooling, interpolation, and moving elements within planes.
#include "bindings.hpp"

namespace hominy {
namespace {

// (counts, positions, weights, divisors) for each dimension of space, as hominy_windows; dimensions that are missing,
// in front, are of one position that reads the one input.
struct window_lists {
  hominy_windows windows[3];
  std::vector<py::object> keep;

  window_lists(const char* op, py::handle axes, int dims) {
    static const int32_t one[] = {1}, zero[] = {0};
    for (hominy_windows& w : windows) w = {1, 1, one, zero, nullptr, nullptr};
    if (!PyTuple_Check(axes.ptr()) || PyTuple_GET_SIZE(axes.ptr()) != dims)
      raise_value(op, "windows", "a tuple of " + std::to_string(dims) + " lists", py::repr(axes).cast<std::string>());
    for (int d = 0; d < dims; ++d) {
      py::handle lists = PyTuple_GET_ITEM(axes.ptr(), d);
      if (!PyTuple_Check(lists.ptr()) || PyTuple_GET_SIZE(lists.ptr()) != 4)
        raise_value(op, "windows", "(counts, positions, weights, divisors)", py::repr(lists).cast<std::string>());
      const auto item = [&](int i) { return py::handle(PyTuple_GET_ITEM(lists.ptr(), i)); };
      hominy_windows& w = windows[3 - dims + d];
      hominy_tensor counts = list(op, "counts", item(0), HOMINY_INT32, 1);
      hominy_tensor positions = list(op, "positions", item(1), HOMINY_INT32, 2);
      w.size = counts.shape[0];
      w.most = positions.shape[0];
      if (positions.shape[1] != w.size)
        raise_value(op, "positions", std::to_string(w.size) + " columns", shape_text(positions));
      w.counts = static_cast<const int32_t*>(counts.data);
      w.positions = static_cast<const int32_t*>(positions.data);
      if (!item(2).is_none()) {
        hominy_tensor weights = list(op, "weights", item(2), HOMINY_FLOAT64, 2);
        require_shape(op, "weights", positions, weights);
        w.weights = static_cast<const double*>(weights.data);
      }
      if (!item(3).is_none()) {
        hominy_tensor divisors = list(op, "divisors", item(3), HOMINY_FLOAT64, 1);
        require_shape(op, "divisors", counts, divisors);
        w.divisors = static_cast<const double*>(divisors.data);
      }
    }
  }

 private:
  hominy_tensor list(const char* op, const char* argument, py::handle h, int32_t dtype, int ndim) {
    hominy_tensor t = describe(op, argument, h);
    if (t.dtype != dtype || t.ndim != ndim)
      raise_value(op, argument, std::string(dtype_name(dtype)) + " of " + std::to_string(ndim) + " dimensions",
                  std::string(dtype_name(t.dtype)) + " of shape " + shape_text(t));
    if (is_c_contiguous(t) && reinterpret_cast<uintptr_t>(t.data) % uintptr_t(dtype_size(dtype)) == 0) return t;
    hominy_tensor fresh = t;
    keep.push_back(allocate(op, fresh));
    require_ok(op, kernels->copy(&t, &fresh));
    return fresh;
  }
};

// Of dimensions 1 (channels) and the last: which has its elements side by side?
bool channels_together(const hominy_tensor& t) {
  const int64_t item = dtype_size(t.dtype);
  const int last = t.ndim - 1;
  return t.shape[1] > 1 && t.strides[1] == item && !(t.shape[last] > 1 && t.strides[last] == item);
}
bool rows_together(const hominy_tensor& t) {
  return t.shape[t.ndim - 1] <= 1 || t.strides[t.ndim - 1] == dtype_size(t.dtype);
}

// (N, C, *space) whose channels, or else positions in a row, lie side by side: by a copy where neither do.
hominy_tensor describe_images(const char* op, py::handle h, py::object& keep) {
  hominy_tensor x = describe_floating(op, "input", h);
  if (x.ndim < 3 || x.ndim > 5) raise_value(op, "input", "3 to 5 dimensions (N, C, *space)", shape_text(x));
  if (channels_together(x) || rows_together(x)) return x;
  hominy_tensor fresh = x;
  int8_t order[HOMINY_MAX_NDIM];
  const hominy_tensor* operands[] = {&x};
  keep_order(x, operands, 1, order);
  keep = allocate(op, fresh, order);
  require_ok(op, kernels->copy(&x, &fresh));
  return fresh;
}

// A new array (N, C, the windows' sizes) in x's memory order.
py::object allocate_pooled(const char* op, const hominy_tensor& x, const window_lists& lists, int32_t dtype,
                           hominy_tensor& out) {
  int8_t order[HOMINY_MAX_NDIM];
  const hominy_tensor* operands[] = {&x};
  keep_order(x, operands, 1, order);
  out = x;
  out.dtype = dtype;
  for (int d = 2; d < x.ndim; ++d) out.shape[d] = lists.windows[3 - x.ndim + d].size;
  return allocate(op, out, is_c_contiguous(x) ? nullptr : order);
}

// With three dimensions of space, new ones in front.
hominy_tensor with_depth(const hominy_tensor& t) {
  hominy_tensor wide = t;
  const int more = 5 - t.ndim;
  for (int d = t.ndim - 1; d >= 2; --d) {
    wide.shape[d + more] = t.shape[d];
    wide.strides[d + more] = t.strides[d];
  }
  for (int d = 2; d < 2 + more; ++d) {
    wide.shape[d] = 1;
    wide.strides[d] = 0;
  }
  wide.ndim = 5;
  return wide;
}

py::object run_resample(py::handle x_array, py::handle axes) {
  return declining([&]() -> py::object {
    const char* op = "resample";
    py::object keep;
    const hominy_tensor images = describe_images(op, x_array, keep), x = with_depth(images);
    const window_lists lists(op, axes, images.ndim - 2);
    hominy_tensor pooled;
    py::object result = allocate_pooled(op, images, lists, images.dtype, pooled);
    const hominy_tensor out = with_depth(pooled);
    const int64_t bytes = kernels->resample_workspace_size(&x, lists.windows);
    if (bytes < 0) throw std::overflow_error("[resample] the windows' lists overflow int64");
    workspace scratch(bytes);
    {
      unlocked without_lock(element_count(x) + element_count(out) >= unlock_elements);
      require_ok(op, kernels->resample(&x, lists.windows, &out, scratch.data(), bytes));
    }
    return result;
  });
}

py::object run_max_pool(py::handle x_array, py::handle axes, int64_t index_bytes) {
  return declining([&]() -> py::object {
    const char* op = "max_pool";
    py::object keep, index_array = py::none();
    const hominy_tensor images = describe_images(op, x_array, keep), x = with_depth(images);
    if (index_bytes != 0 && index_bytes != 4 && index_bytes != 8)
      raise_value(op, "index_bytes", "0, 4 or 8", std::to_string(index_bytes));
    if (x.dtype == HOMINY_FLOAT32 || index_bytes == 4) {
      int64_t plane = 1;
      for (int d = 2; d < 5; ++d) plane *= x.shape[d];
      if (plane > INT32_MAX) throw declined{"native counts the elements of a plane in int32"};
    }
    const window_lists lists(op, axes, images.ndim - 2);
    hominy_tensor pooled, pooled_indices;
    py::object result = allocate_pooled(op, images, lists, images.dtype, pooled);
    if (index_bytes)
      index_array = allocate_pooled(op, images, lists, index_bytes == 4 ? HOMINY_INT32 : HOMINY_INT64, pooled_indices);
    const hominy_tensor out = with_depth(pooled);
    const hominy_tensor indices = index_bytes ? with_depth(pooled_indices) : out;
    const int64_t bytes = kernels->max_pool_workspace_size(&x, lists.windows);
    if (bytes < 0) throw std::overflow_error("[max_pool] the windows' lists overflow int64");
    workspace scratch(bytes);
    {
      unlocked without_lock(element_count(x) + element_count(out) >= unlock_elements);
      require_ok(op,
                 kernels->max_pool(&x, lists.windows, &out, index_bytes ? &indices : nullptr, scratch.data(), bytes));
    }
    return py::make_tuple(result, index_array);
  });
}

// The gradient beside indices, whose shape and memory order it takes, by a copy where it has others.
py::object run_max_pool_backward(py::handle gradient_array, py::handle index_array, py::handle axes) {
  return declining([&]() -> py::object {
    const char* op = "max_pool_backward";
    py::object keep, keep_indices;
    hominy_tensor gradient = describe_floating(op, "grad", gradient_array);
    hominy_tensor listed = describe(op, "indices", index_array);
    if (listed.dtype != (gradient.dtype == HOMINY_FLOAT32 ? HOMINY_INT32 : HOMINY_INT64))
      throw declined{std::string("native takes int32 indices beside float32, int64 beside float64, not ") +
                     dtype_name(listed.dtype) + " beside " + dtype_name(gradient.dtype)};
    if (gradient.ndim < 3 || gradient.ndim > 5)
      raise_value(op, "grad", "3 to 5 dimensions (N, C, *space)", shape_text(gradient));
    require_shape(op, "indices", gradient, listed);
    if (!channels_together(listed) && !rows_together(listed)) listed = in_c_order(op, listed, keep_indices);
    bool alike = true;
    for (int d = 0; d < listed.ndim; ++d) alike &= listed.shape[d] == 1 || listed.strides[d] == gradient.strides[d];
    if (!alike) {
      hominy_tensor fresh = gradient;
      int8_t order[HOMINY_MAX_NDIM];
      const hominy_tensor* operands[] = {&listed};
      keep_order(listed, operands, 1, order);
      keep = allocate(op, fresh, order);
      require_ok(op, kernels->copy(&gradient, &fresh));
      gradient = fresh;
      for (int d = 0; d < listed.ndim; ++d)
        if (listed.shape[d] > 1 && listed.strides[d] != gradient.strides[d]) {  // indices with gaps between them
          hominy_tensor dense = listed;
          keep_indices = allocate(op, dense, order);
          require_ok(op, kernels->copy(&listed, &dense));
          listed = dense;
          break;
        }
    }
    const window_lists lists(op, axes, gradient.ndim - 2);
    hominy_tensor pooled;
    py::object result = allocate_pooled(op, listed, lists, gradient.dtype, pooled);
    const hominy_tensor x = with_depth(gradient), indices = with_depth(listed), out = with_depth(pooled);
    const int64_t bytes = kernels->max_pool_workspace_size(&x, lists.windows);
    if (bytes < 0) throw std::overflow_error("[max_pool_backward] the windows' lists overflow int64");
    workspace scratch(bytes);
    {
      unlocked without_lock(element_count(x) + element_count(out) >= unlock_elements);
      require_ok(op, kernels->max_pool_backward(&x, &indices, lists.windows, &out, scratch.data(), bytes));
    }
    return result;
  });
}

// ---- Within planes --------------------------------------------------------------------------------------------------

constexpr int8_t channels_last[][5] = {{0, 2, 1}, {0, 2, 3, 1}, {0, 2, 3, 4, 1}};

// (N, C, *space) as (N, C, positions): by a copy where the positions do not follow on each other.
hominy_tensor as_planes(const char* op, hominy_tensor t, bool by_channels, py::object& keep) {
  bool follows_on = true;
  int64_t size = 1;
  for (int d = t.ndim - 1; d >= 2; --d) {
    follows_on &= t.shape[d] == 1 || t.strides[d] == size * t.strides[t.ndim - 1];
    size *= t.shape[d];
  }
  if (!follows_on) {
    hominy_tensor fresh = t;
    keep = allocate(op, fresh, by_channels ? channels_last[t.ndim - 3] : nullptr);
    require_ok(op, kernels->copy(&t, &fresh));
    t = fresh;
  }
  t.strides[2] = t.strides[t.ndim - 1];
  t.shape[2] = size;
  t.ndim = 3;
  return t;
}

hominy_tensor describe_planes(const char* op, const char* argument, py::handle h, bool indices) {
  hominy_tensor t = indices ? describe(op, argument, h) : describe_floating(op, argument, h);
  if (indices && t.dtype != HOMINY_INT64 && t.dtype != HOMINY_INT32)
    throw py::type_error(std::string("[") + op + "] indices: expected dtype int64, got " + dtype_name(t.dtype));
  if (t.ndim < 3 || t.ndim > 5) raise_value(op, argument, "3 to 5 dimensions (N, C, *space)", shape_text(t));
  return t;
}

void require_ok_indices(const char* op, hominy_status status, const hominy_tensor& indices, int64_t plane) {
  if (status == HOMINY_BAD_INDEX)
    for (int64_t i = 0; i < element_count(indices); ++i) {
      const int64_t p = i % indices.shape[2], c = i / indices.shape[2] % indices.shape[1];
      const int64_t n = i / indices.shape[2] / indices.shape[1];
      const char* at = static_cast<const char*>(indices.data) + n * indices.strides[0] + c * indices.strides[1] +
                       p * indices.strides[2];
      int64_t index = 0;
      if (indices.dtype == HOMINY_INT32) {
        int32_t narrow;
        memcpy(&narrow, at, sizeof narrow);
        index = narrow;
      } else {
        memcpy(&index, at, sizeof index);
      }
      if (index < 0 || index >= plane)
        throw py::index_error(std::string("[") + op + "] indices: expected integers in [0, " + std::to_string(plane) +
                              "), got " + std::to_string(index));
    }
  require_ok(op, status);
}

py::object run_gather_planes(py::handle x_array, py::handle index_array) {
  return declining([&]() -> py::object {
    const char* op = "gather_planes";
    py::object keep, keep_indices;
    const hominy_tensor x = describe_planes(op, "input", x_array, false);
    const hominy_tensor listed = describe_planes(op, "indices", index_array, true);
    if (x.shape[0] != listed.shape[0] || x.shape[1] != listed.shape[1])
      raise_value(op, "indices", "the batch and channels of " + shape_text(x), shape_text(listed));
    const bool by_channels = channels_together(listed);
    hominy_tensor out = listed;
    out.dtype = x.dtype;
    py::object result = allocate(op, out, by_channels ? channels_last[out.ndim - 3] : nullptr), unused;
    const hominy_tensor planes = as_planes(op, x, channels_together(x), keep);
    const hominy_tensor indices = as_planes(op, listed, by_channels, keep_indices);
    const hominy_tensor target = as_planes(op, out, by_channels, unused);
    hominy_status status;
    {
      unlocked without_lock(element_count(out) >= unlock_elements);
      status = kernels->gather_planes(&planes, &indices, &target);
    }
    require_ok_indices(op, status, indices, planes.shape[2]);
    return result;
  });
}

py::object run_scatter_planes(py::handle x_array, py::handle index_array, const py::tuple& size, bool sum) {
  return declining([&]() -> py::object {
    const char* op = "scatter_planes";
    py::object keep, keep_indices;
    const hominy_tensor x = describe_planes(op, "input", x_array, false);
    const hominy_tensor listed = describe_planes(op, "indices", index_array, true);
    require_shape(op, "indices", x, listed);
    if (int(size.size()) != x.ndim - 2)
      raise_value(op, "size", std::to_string(x.ndim - 2) + " sizes", std::to_string(size.size()));
    const bool by_channels = channels_together(listed);
    hominy_tensor out = x;
    for (int d = 2; d < x.ndim; ++d) {
      out.shape[d] = size[size_t(d - 2)].cast<int64_t>();
      if (out.shape[d] < 0) raise_value(op, "size", "sizes of at least 0", std::to_string(out.shape[d]));
    }
    py::object result = allocate(op, out, by_channels ? channels_last[out.ndim - 3] : nullptr), unused;
    const hominy_tensor planes = as_planes(op, x, by_channels, keep);
    const hominy_tensor indices = as_planes(op, listed, by_channels, keep_indices);
    const hominy_tensor target = as_planes(op, out, by_channels, unused);
    hominy_status status;
    {
      unlocked without_lock(element_count(out) >= unlock_elements);
      status = kernels->scatter_planes(sum, &planes, &indices, &target);
    }
    require_ok_indices(op, status, indices, target.shape[2]);
    return result;
  });
}

}  // namespace

void bind_pooling(py::module_& m) {
  m.def("resample", run_resample, py::arg("x"), py::arg("windows"));
  m.def("max_pool", run_max_pool, py::arg("x"), py::arg("windows"), py::arg("index_bytes"));
  m.def("max_pool_backward", run_max_pool_backward, py::arg("grad"), py::arg("indices"), py::arg("windows"));
  m.def("gather_planes", run_gather_planes, py::arg("x"), py::arg("indices"));
  m.def("scatter_planes", run_scatter_planes, py::arg("x"), py::arg("indices"), py::arg("size"), py::arg("sum"));
}

}  // namespace hominy
