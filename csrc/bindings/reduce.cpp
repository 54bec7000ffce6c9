// Reductions, softmax, cross entropy.
#include "bindings.hpp"

namespace hominy {
namespace {

// Marks the axes to drop: a tuple of distinct integers in [0, ndim), or None for all. Whatever else an operator's user
// may write is left to the operator to understand or to refuse.
void mark_axes(py::handle axes, int32_t ndim, bool* dropped) {
  if (axes.is_none()) {
    for (int32_t i = 0; i < ndim; ++i) dropped[i] = true;
    return;
  }
  const char* const expected = "native takes axes as a tuple of distinct integers that are not negative";
  if (!PyTuple_Check(axes.ptr()) || (ndim > 0 && PyTuple_GET_SIZE(axes.ptr()) == 0)) throw declined{expected};
  for (py::handle item : py::reinterpret_borrow<py::tuple>(axes)) {
    int overflow = 0;
    long long axis = PyLong_Check(item.ptr()) ? PyLong_AsLongLongAndOverflow(item.ptr(), &overflow) : -1;
    if (overflow || axis < 0 || axis >= ndim || dropped[axis]) throw declined{expected};
    dropped[axis] = true;
  }
}

py::object run_reduce(hominy_reduce operation, const char* op, py::handle x_array, py::handle axes, bool keepdim,
                      py::handle dtype) {
  return declining([&]() -> py::object {
    if (!dtype.is_none()) throw declined{"native reduces in the input's dtype"};
    hominy_tensor x = describe_floating(op, "input", x_array), out = x;
    bool dropped[HOMINY_MAX_NDIM] = {};
    mark_axes(axes, x.ndim, dropped);
    for (int32_t axis = 0; axis < x.ndim; ++axis) {
      if (!dropped[axis]) continue;
      out.shape[axis] = 1;
      if (x.shape[axis] == 0 && (operation == HOMINY_REDUCE_amax || operation == HOMINY_REDUCE_amin))
        raise_value(op, "input", "at least one element to reduce", "shape " + shape_text(x));
    }
    py::object result = reduced_output(op, out, dropped, keepdim);
    unlocked without_lock(element_count(x) >= unlock_elements);
    require_ok(op, kernels->reduce(operation, &x, &out));
    return result;
  });
}

int32_t checked_axis(const char* op, const hominy_tensor& x, int64_t axis) {
  if (axis < 0 || axis >= x.ndim)
    raise_value(op, "axis", "an integer in [0, " + std::to_string(x.ndim) + ")", std::to_string(axis));
  return int32_t(axis);
}

py::object run_arg_reduce(bool smallest, const char* op, py::handle x_array, int64_t axis, bool keepdim) {
  return declining([&]() -> py::object {
    hominy_tensor x = describe_floating(op, "input", x_array), out = x;
    bool dropped[HOMINY_MAX_NDIM] = {};
    dropped[checked_axis(op, x, axis)] = true;
    if (x.shape[axis] == 0) raise_value(op, "input", "at least one element to reduce", "shape " + shape_text(x));
    out.shape[axis] = 1;
    out.dtype = HOMINY_INT64;
    py::object result = reduced_output(op, out, dropped, keepdim);
    unlocked without_lock(element_count(x) >= unlock_elements);
    require_ok(op, kernels->arg_reduce(smallest, &x, int32_t(axis), &out));
    return result;
  });
}

py::object run_softmax(bool logarithm, const char* op, py::handle x_array, int64_t axis) {
  return declining([&]() -> py::object {
    hominy_tensor x = describe_floating(op, "input", x_array), out = x;
    checked_axis(op, x, axis);
    const hominy_tensor* operands[] = {&x};
    py::object result = elementwise_output(op, py::none(), out, operands, 1);
    unlocked without_lock(element_count(x) >= unlock_elements);
    require_ok(op, kernels->softmax(logarithm, &x, int32_t(axis), &out));
    return result;
  });
}

py::object run_softmax_backward(bool logarithm, const char* op, py::handle gradient_array, py::handle y_array,
                                int64_t axis) {
  return declining([&]() -> py::object {
    hominy_tensor gradient = describe_floating(op, "gradient", gradient_array), y = describe_floating(op, "y", y_array);
    require_shape(op, "gradient", y, gradient);
    require_same_dtype(op, "gradient", y, gradient);
    checked_axis(op, y, axis);
    hominy_tensor out = y;
    const hominy_tensor* operands[] = {&y};
    py::object result = elementwise_output(op, py::none(), out, operands, 1);
    unlocked without_lock(element_count(y) >= unlock_elements);
    require_ok(op, kernels->softmax_backward(logarithm, &gradient, &y, int32_t(axis), &out));
    return result;
  });
}

// What cross entropy and its gradient share: logits (N, C), target (N) int64, weight (C) or none.
struct classification {
  hominy_tensor logits, target, weight;
  const hominy_tensor* weight_or_null = nullptr;

  classification(const char* op, py::handle logits_array, py::handle target_array, py::handle weight_array) {
    logits = describe_floating(op, "logits", logits_array);
    if (logits.ndim != 2) raise_value(op, "logits", "shape (N, C)", shape_text(logits));
    target = describe(op, "target", target_array);
    if (target.dtype != HOMINY_INT64)
      throw py::type_error(std::string("[") + op + "] target: expected dtype int64, got " + dtype_name(target.dtype));
    require_rows(op, "target", target);
    if (weight_array.is_none()) return;
    weight = describe_floating(op, "weight", weight_array);
    require_same_dtype(op, "weight", logits, weight);
    if (weight.ndim != 1 || weight.shape[0] != logits.shape[1])
      raise_value(op, "weight", "shape (C=" + std::to_string(logits.shape[1]) + ",)", shape_text(weight));
    weight_or_null = &weight;
  }

  void require_rows(const char* op, const char* argument, const hominy_tensor& t) const {
    if (t.ndim != 1 || t.shape[0] != logits.shape[0])
      raise_value(op, argument, "shape (N=" + std::to_string(logits.shape[0]) + ",)", shape_text(t));
  }

  // An index error names the target; the array may have changed since, then the plain message must do.
  void require_ok_index(const char* op, hominy_status status, int64_t ignore_index) const {
    if (status == HOMINY_BAD_INDEX)
      for (int64_t n = 0; n < target.shape[0]; ++n) {
        int64_t t;
        memcpy(&t, static_cast<const char*>(target.data) + n * target.strides[0], sizeof t);
        if (t != ignore_index && (t < 0 || t >= logits.shape[1]))
          throw py::index_error(std::string("[") + op + "] target: expected classes in [0, " +
                                std::to_string(logits.shape[1]) + "), got " + std::to_string(t) + " at row " +
                                std::to_string(n));
      }
    require_ok(op, status);
  }
};

py::object run_cross_entropy(py::handle logits, py::handle target, py::handle weight, int64_t ignore_index,
                             double label_smoothing) {
  return declining([&]() -> py::object {
    const char* op = "cross_entropy";
    classification in(op, logits, target, weight);
    hominy_tensor losses = in.logits, logsumexp;
    losses.ndim = 1;
    logsumexp = losses;
    py::object losses_array = allocate(op, losses), logsumexp_array = allocate(op, logsumexp);
    hominy_status status;
    {
      unlocked without_lock(element_count(in.logits) >= unlock_elements);
      status = kernels->cross_entropy(&in.logits, &in.target, in.weight_or_null, ignore_index, label_smoothing, &losses,
                                      &logsumexp);
    }
    in.require_ok_index(op, status, ignore_index);
    return py::make_tuple(losses_array, logsumexp_array);
  });
}

// The mean of the losses, (), and logsumexp, (N,), where every row counts.
py::object run_cross_entropy_mean(py::handle logits, py::handle target, int64_t ignore_index, double label_smoothing) {
  return declining([&]() -> py::object {
    const char* op = "cross_entropy";
    classification in(op, logits, target, py::none());
    const int64_t rows = in.target.shape[0];
    for (int64_t n = 0; n < rows; ++n) {
      int64_t t;
      memcpy(&t, static_cast<const char*>(in.target.data) + n * in.target.strides[0], sizeof t);
      if (t == ignore_index) throw declined{"a row is ignored"};
    }
    hominy_tensor logsumexp = in.logits, losses, mean;
    logsumexp.ndim = 1;
    losses = mean = logsumexp;
    py::object logsumexp_array = allocate(op, logsumexp);
    workspace scratch(rows * dtype_size(losses.dtype));
    losses.data = scratch.data();
    losses.strides[0] = dtype_size(losses.dtype);
    mean.ndim = 0;
    py::object mean_array = allocate(op, mean);
    mean.ndim = mean.shape[0] = 1;
    hominy_status status;
    {
      unlocked without_lock(element_count(in.logits) >= unlock_elements);
      status =
          kernels->cross_entropy(&in.logits, &in.target, nullptr, ignore_index, label_smoothing, &losses, &logsumexp);
      if (status == HOMINY_OK) status = kernels->reduce(HOMINY_REDUCE_mean, &losses, &mean);
    }
    in.require_ok_index(op, status, ignore_index);
    return py::make_tuple(mean_array, logsumexp_array);
  });
}

py::object run_cross_entropy_backward(py::handle gradient_array, py::handle logits, py::handle target,
                                      py::handle weight, int64_t ignore_index, double label_smoothing,
                                      py::handle logsumexp_array) {
  return declining([&]() -> py::object {
    const char* op = "cross_entropy_backward";
    classification in(op, logits, target, weight);
    hominy_tensor gradient = describe_floating(op, "gradient", gradient_array);
    hominy_tensor logsumexp = describe_floating(op, "logsumexp", logsumexp_array);
    in.require_rows(op, "gradient", gradient);
    in.require_rows(op, "logsumexp", logsumexp);
    require_same_dtype(op, "gradient", in.logits, gradient);
    require_same_dtype(op, "logsumexp", in.logits, logsumexp);
    hominy_tensor out = in.logits;
    const hominy_tensor* operands[] = {&in.logits};
    py::object result = elementwise_output(op, py::none(), out, operands, 1);
    hominy_status status;
    {
      unlocked without_lock(element_count(out) >= unlock_elements);
      status = kernels->cross_entropy_backward(&gradient, &in.logits, &in.target, in.weight_or_null, ignore_index,
                                               label_smoothing, &logsumexp, &out);
    }
    in.require_ok_index(op, status, ignore_index);
    return result;
  });
}

#define HOMINY_NAME(name) #name,
const char* const reduce_names[] = {HOMINY_REDUCE_OPERATIONS(HOMINY_NAME)};
#undef HOMINY_NAME

}  // namespace

void bind_reductions(py::module_& m) {
  for (int i = 0; i < HOMINY_REDUCE_COUNT; ++i)
    m.def(
        reduce_names[i],
        [i](py::handle x, py::handle axes, bool keepdim, py::handle dtype) {
          return run_reduce(hominy_reduce(i), reduce_names[i], x, axes, keepdim, dtype);
        },
        py::arg("x"), py::arg("axes"), py::arg("keepdim") = false, py::arg("dtype") = py::none());
  for (bool smallest : {false, true}) {
    const char* op = smallest ? "argmin" : "argmax";
    m.def(
        op, [=](py::handle x, int64_t axis, bool keepdim) { return run_arg_reduce(smallest, op, x, axis, keepdim); },
        py::arg("x"), py::arg("axis"), py::arg("keepdim") = false);
  }
  for (bool logarithm : {false, true}) {
    const char* op = logarithm ? "log_softmax" : "softmax";
    const char* backward = logarithm ? "log_softmax_backward" : "softmax_backward";
    m.def(
        op, [=](py::handle x, int64_t axis) { return run_softmax(logarithm, op, x, axis); }, py::arg("x"),
        py::arg("axis"));
    m.def(
        backward,
        [=](py::handle gradient, py::handle y, int64_t axis) {
          return run_softmax_backward(logarithm, backward, gradient, y, axis);
        },
        py::arg("gradient"), py::arg("y"), py::arg("axis"));
  }
  m.def("cross_entropy", run_cross_entropy, py::arg("logits"), py::arg("target"), py::arg("weight"),
        py::arg("ignore_index"), py::arg("label_smoothing"));
  m.def("cross_entropy_mean", run_cross_entropy_mean, py::arg("logits"), py::arg("target"), py::arg("ignore_index"),
        py::arg("label_smoothing"));
  m.def("cross_entropy_backward", run_cross_entropy_backward, py::arg("gradient"), py::arg("logits"), py::arg("target"),
        py::arg("weight"), py::arg("ignore_index"), py::arg("label_smoothing"), py::arg("logsumexp"));
}

}  // namespace hominy
