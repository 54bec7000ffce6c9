// hominy._native: one Python function a kernel. Each checks its arrays against the kernel's contract, allocates the
// output, releases the interpreter lock, calls the kernel, and turns a status code into an exception. It never
// computes.
//
// The functions have the names and arguments of every backend (see backends/reference.py, the specification). A call
// that has no kernel here, an integer product say, returns a `Declined` with the reason.
#include "array_check.hpp"
#include "cpu/parallel_for.hpp"

namespace hominy {
namespace {

const hominy_kernels* kernels = nullptr;

// Below this many elements a kernel ends sooner than handing the interpreter lock to and fro would take.
constexpr int64_t unlock_elements = 16 * 1024;

py::object declined_object(const std::string& reason) {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> type;
  return type
      .call_once_and_store_result(
          [] { return py::object(py::module_::import("hominy.backends.declined").attr("Declined")); })
      .get_stored()(reason);
}

// Wraps the body of every function below.
template <class Body>
py::object declining(Body&& body) {
  try {
    return body();
  } catch (const declined& refusal) {
    return declined_object(refusal.reason);
  }
}

void require_ok(const char* op, hominy_status status) {
  std::string prefix = std::string("[") + op + "] ";
  switch (status) {
    case HOMINY_OK: return;
    case HOMINY_BAD_DTYPE: throw py::type_error(prefix + "the kernel does not compute these dtypes");
    case HOMINY_BAD_SHAPE: throw py::value_error(prefix + "the kernel does not accept these shapes");
    case HOMINY_OVERFLOW: throw std::overflow_error(prefix + "a product of sizes overflows int64");
    case HOMINY_BAD_INDEX: throw py::index_error(prefix + "an index is out of range");
    case HOMINY_BAD_VALUE: throw py::value_error(prefix + "a scalar argument is out of range");
    case HOMINY_NO_WORKSPACE: throw std::bad_alloc();
  }
  throw std::runtime_error(prefix + "unknown status " + std::to_string(int(status)));
}

bool is_scalar(py::handle h) { return PyFloat_Check(h.ptr()) || PyLong_Check(h.ptr()); }

// An operand that may be a Python number: it takes the other operand's dtype.
struct operand {
  hominy_tensor tensor;
  union {
    float f32;
    double f64;
  } number;

  void set_number(const char* op, const char* argument, py::handle h, int32_t dtype) {
    double value = PyFloat_AsDouble(h.ptr());
    if (value == -1.0 && PyErr_Occurred()) {
      PyErr_Clear();
      throw std::overflow_error(std::string("[") + op + "] " + argument +
                                ": expected a number in float64's range, got an integer beyond it");
    }
    tensor.dtype = dtype;
    tensor.ndim = 0;
    tensor.data = &number;
    if (dtype == HOMINY_FLOAT32)
      number.f32 = float(value);
    else
      number.f64 = value;
  }
};

// An input that overlaps the output in part is replaced by a copy, held by `keep`.
void detach_from(const char* op, hominy_tensor& in, const hominy_tensor& out, py::object& keep) {
  if (!overlaps_partly(in, out)) return;
  hominy_tensor fresh = in;
  keep = allocate(op, fresh);
  require_ok(op, kernels->copy(&in, &fresh));
  in = fresh;
}

// The output of an elementwise call: the caller's array, checked, or a new one in its operands' order.
py::object elementwise_output(const char* op, py::handle given, hominy_tensor& out,
                              const hominy_tensor* const* operands, int count) {
  if (given.is_none()) {
    bool contiguous = true;
    for (int k = 0; k < count; ++k) contiguous &= is_c_contiguous(*operands[k]);
    if (contiguous || out.ndim < 2) return allocate(op, out);
    int8_t order[HOMINY_MAX_NDIM];
    keep_order(out, operands, count, order);
    return allocate(op, out, order);
  }
  hominy_tensor target = describe(op, "out", given);
  require_shape(op, "out", out, target);
  require_same_dtype(op, "out", out, target);
  if (!(py::detail::array_proxy(given.ptr())->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_))
    raise_value(op, "out", "a writeable array", "a read-only one");
  out = target;
  return py::reinterpret_borrow<py::object>(given);
}

py::object run_unary(hominy_unary operation, const char* op, py::handle x_array, double p, double q, py::handle given) {
  return declining([&]() -> py::object {
    hominy_tensor x = describe_floating(op, "input", x_array), out = x;
    const hominy_tensor* operands[] = {&x};
    py::object result = elementwise_output(op, given, out, operands, 1), keep;
    detach_from(op, x, out, keep);
    unlocked without_lock(element_count(out) >= unlock_elements);
    require_ok(op, kernels->unary(operation, &x, p, q, &out));
    return result;
  });
}

// Two operands, of which one may be a Python number, broadcast to `out`'s shape.
void describe_pair(const char* op, py::handle a_array, py::handle b_array, operand& a, operand& b, hominy_tensor& out) {
  bool a_number = is_scalar(a_array), b_number = is_scalar(b_array);
  if (a_number && b_number) throw declined{"two numbers and no array"};
  if (!a_number) a.tensor = describe_floating(op, "input", a_array);
  if (!b_number) b.tensor = describe_floating(op, "other", b_array);
  if (a_number) a.set_number(op, "input", a_array, b.tensor.dtype);
  if (b_number) b.set_number(op, "other", b_array, a.tensor.dtype);
  decline_mixed_dtypes(a.tensor, b.tensor);
  out = a.tensor;
  if (!broadcast_shape(out, b.tensor))
    raise_value(op, "other", "a shape that broadcasts with " + shape_text(a.tensor), shape_text(b.tensor));
  a.tensor = broadcast_to(a.tensor, out);
  b.tensor = broadcast_to(b.tensor, out);
}

py::object run_binary(hominy_binary operation, const char* op, py::handle a_array, py::handle b_array, double p,
                      double q, py::handle given) {
  return declining([&]() -> py::object {
    operand a, b;
    hominy_tensor out;
    describe_pair(op, a_array, b_array, a, b, out);
    const hominy_tensor* operands[] = {&a.tensor, &b.tensor};
    py::object result = elementwise_output(op, given, out, operands, 2), keep_a, keep_b;
    if (!given.is_none()) {
      detach_from(op, a.tensor, out, keep_a);
      detach_from(op, b.tensor, out, keep_b);
    }
    unlocked without_lock(element_count(out) >= unlock_elements);
    require_ok(op, kernels->binary(operation, &a.tensor, &b.tensor, p, q, &out));
    return result;
  });
}

py::object run_compare(hominy_compare operation, const char* op, py::handle a_array, py::handle b_array) {
  return declining([&]() -> py::object {
    operand a, b;
    hominy_tensor out;
    describe_pair(op, a_array, b_array, a, b, out);
    out.dtype = HOMINY_BOOL;
    const hominy_tensor* operands[] = {&a.tensor, &b.tensor};
    py::object result = elementwise_output(op, py::none(), out, operands, 2);
    unlocked without_lock(element_count(out) >= unlock_elements);
    require_ok(op, kernels->compare(operation, &a.tensor, &b.tensor, &out));
    return result;
  });
}

py::object run_where(py::handle condition_array, py::handle a_array, py::handle b_array) {
  return declining([&]() -> py::object {
    hominy_tensor condition = describe("where", "condition", condition_array);
    if (condition.dtype != HOMINY_BOOL)
      throw py::type_error(std::string("[where] condition: expected dtype bool, got ") + dtype_name(condition.dtype));
    operand a, b;
    hominy_tensor out;
    describe_pair("where", a_array, b_array, a, b, out);
    hominy_tensor pair = out;
    if (!broadcast_shape(out, condition))
      raise_value("where", "condition", "a shape that broadcasts with " + shape_text(pair), shape_text(condition));
    condition = broadcast_to(condition, out);
    a.tensor = broadcast_to(a.tensor, out);
    b.tensor = broadcast_to(b.tensor, out);
    const hominy_tensor* operands[] = {&condition, &a.tensor, &b.tensor};
    py::object result = elementwise_output("where", py::none(), out, operands, 3);
    unlocked without_lock(element_count(out) >= unlock_elements);
    require_ok("where", kernels->where(&condition, &a.tensor, &b.tensor, &out));
    return result;
  });
}

py::object run_copy(py::handle x_array, py::handle given) {
  return declining([&]() -> py::object {
    hominy_tensor x = describe("copy", "x", x_array), out = x;
    if (!given.is_none()) {
      hominy_tensor target = describe("copy", "out", given);
      if (!broadcast_shape(out, target) || !same_shape(out, target))
        raise_value("copy", "x", "a shape that broadcasts to " + shape_text(target), shape_text(x));
      if (target.dtype != x.dtype)
        throw declined{std::string("native copies between equal dtypes, not ") + dtype_name(x.dtype) + " to " +
                       dtype_name(target.dtype)};
      x = broadcast_to(x, out);
    }
    const hominy_tensor* operands[] = {&x};
    py::object result = elementwise_output("copy", given, out, operands, 1), keep;
    detach_from("copy", x, out, keep);
    unlocked without_lock(element_count(out) >= unlock_elements);
    require_ok("copy", kernels->copy(&x, &out));
    return result;
  });
}

// A read-only view of `x_array` stretched to `shape`: np.broadcast_to takes 3 us, and each gradient of a sum is one.
py::object run_broadcast_to(py::handle x_array, py::handle shape) {
  return declining([&]() -> py::object {
    hominy_tensor x = describe("broadcast_to", "input", x_array), out;
    const char* const expected = "native takes the shape as a tuple of integers to which the array broadcasts";
    if (!PyTuple_Check(shape.ptr()) || PyTuple_GET_SIZE(shape.ptr()) > HOMINY_MAX_NDIM) throw declined{expected};
    out.ndim = int32_t(PyTuple_GET_SIZE(shape.ptr()));
    for (int i = 0; i < out.ndim; ++i) {
      int overflow = 0;
      PyObject* size = PyTuple_GET_ITEM(shape.ptr(), i);
      out.shape[i] = PyLong_Check(size) ? PyLong_AsLongLongAndOverflow(size, &overflow) : -1;
      if (overflow || out.shape[i] < 0) throw declined{expected};
    }
    hominy_tensor fitted = out;
    if (x.ndim > out.ndim || !broadcast_shape(fitted, x) || !same_shape(fitted, out)) throw declined{expected};
    try {
      return view_of(x_array, broadcast_to(x, out));
    } catch (py::error_already_set&) {  // more elements than NumPy counts
      throw declined{expected};
    }
  });
}

// Allocates `out` (ndim and shape as x but for the reduced dimensions) without those dimensions when !keepdim, and
// leaves in `out` the descriptor that still has them.
py::object reduced_output(const char* op, hominy_tensor& out, const bool* dropped, bool keepdim) {
  if (keepdim) return allocate(op, out);
  hominy_tensor small = out;
  small.ndim = 0;
  for (int i = 0; i < out.ndim; ++i)
    if (!dropped[i]) small.shape[small.ndim++] = out.shape[i];
  py::object result = allocate(op, small);
  out.data = small.data;
  for (int i = 0, k = 0; i < out.ndim; ++i) out.strides[i] = dropped[i] ? 0 : small.strides[k++];
  return result;
}

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

// Scratch memory for the length of one call.
class workspace {
 public:
  explicit workspace(int64_t bytes) : block_(bytes > 0 ? pool_allocate(bytes) : nullptr) {
    if (bytes > 0 && !block_) throw std::bad_alloc();
  }
  ~workspace() { pool_release(block_); }
  workspace(const workspace&) = delete;
  workspace& operator=(const workspace&) = delete;
  void* data() const { return block_; }

 private:
  void* block_;
};

// Rows of a that lie at one stride and meet the same b are rows of one larger product: (B, M, K) @ (K, N) is
// (B*M, K) @ (K, N). `a` and `out` lose the batch dimensions that fold into m; b loses the same ones.
void fold_batch_into_rows(hominy_tensor& a, hominy_tensor& b, hominy_tensor& out) {
  while (a.ndim > 2) {
    int batch = a.ndim - 3, row = a.ndim - 2;
    bool shared = b.strides[batch] == 0 || a.shape[batch] == 1;
    bool one_stride = a.shape[batch] == 1 || (a.strides[batch] == a.strides[row] * a.shape[row] &&
                                              out.strides[batch] == out.strides[row] * out.shape[row]);
    if (!shared || !one_stride) return;
    int64_t rows = a.shape[batch] * a.shape[row];
    for (hominy_tensor* t : {&a, &out}) {
      t->shape[batch] = rows;
      t->strides[batch] = t->strides[row];
      t->shape[row] = t->shape[row + 1];
      t->strides[row] = t->strides[row + 1];
      --t->ndim;
    }
    b.shape[batch] = b.shape[row];
    b.strides[batch] = b.strides[row];
    b.shape[row] = b.shape[row + 1];
    b.strides[row] = b.strides[row + 1];
    --b.ndim;
  }
}

void multiply(const char* op, hominy_tensor a, hominy_tensor b, const hominy_tensor* bias, hominy_activation activation,
              hominy_tensor out) {
  fold_batch_into_rows(a, b, out);
  double work = double(element_count(out)) * double(a.shape[a.ndim - 1]);
  const int64_t scratch_bytes = kernels->matmul_workspace_size(&a, &b, &out);  // asked once: threads may change
  workspace scratch(scratch_bytes);
  unlocked without_lock(work > 256.0 * 1024);
  require_ok(op, kernels->matmul(&a, &b, bias, activation, &out, scratch.data(), scratch_bytes));
}

// A vector as a matrix: a new dimension of size 1 at `axis`.
void insert_axis(hominy_tensor& t, int axis) {
  for (int i = t.ndim; i > axis; --i) {
    t.shape[i] = t.shape[i - 1];
    t.strides[i] = t.strides[i - 1];
  }
  t.shape[axis] = 1;
  t.strides[axis] = 0;
  ++t.ndim;
}

py::object run_matmul(py::handle a_array, py::handle b_array) {
  return declining([&]() -> py::object {
    const char* op = "matmul";
    hominy_tensor a = describe_floating(op, "input", a_array), b = describe_floating(op, "other", b_array);
    decline_mixed_dtypes(a, b);
    if (a.ndim == 0) raise_value(op, "input", "at least 1 dimension", "0");
    if (b.ndim == 0) raise_value(op, "other", "at least 1 dimension", "0");
    std::string given = shape_text(b);
    bool a_vector = a.ndim == 1, b_vector = b.ndim == 1;
    if (a_vector) insert_axis(a, 0);
    if (b_vector) insert_axis(b, 1);
    int64_t m = a.shape[a.ndim - 2], k = a.shape[a.ndim - 1], n = b.shape[b.ndim - 1];
    if (b.shape[b.ndim - 2] != k)
      raise_value(op, "other", "(..., k=" + std::to_string(k) + ", n) to follow a's " + shape_text(a), given);
    // Batch dimensions broadcast; the matrix dimensions are put back behind them.
    hominy_tensor a_batch = a, b_batch = b, out = a;
    a_batch.ndim -= 2;
    b_batch.ndim -= 2;
    out.ndim -= 2;
    if (!broadcast_shape(out, b_batch))
      raise_value(op, "other", "batch dimensions that broadcast with a's " + shape_text(a_batch), shape_text(b_batch));
    hominy_tensor a_wide = broadcast_to(a_batch, out), b_wide = broadcast_to(b_batch, out);
    for (int i = 2; i > 0; --i) {
      a_wide.shape[a_wide.ndim] = a.shape[a.ndim - i];
      a_wide.strides[a_wide.ndim++] = a.strides[a.ndim - i];
      b_wide.shape[b_wide.ndim] = b.shape[b.ndim - i];
      b_wide.strides[b_wide.ndim++] = b.strides[b.ndim - i];
    }
    out.shape[out.ndim++] = m;
    out.shape[out.ndim++] = n;
    bool dropped[HOMINY_MAX_NDIM] = {};
    dropped[out.ndim - 2] = a_vector;
    dropped[out.ndim - 1] = b_vector;
    py::object result = reduced_output(op, out, dropped, !a_vector && !b_vector);
    multiply(op, a_wide, b_wide, nullptr, HOMINY_ACTIVATION_NONE, out);
    return result;
  });
}

hominy_activation activation_of(const char* op, const std::string& name) {
  static const char* const names[] = {"none", "relu", "sigmoid", "tanh", "gelu", "silu"};
  for (int i = 0; i < 6; ++i)
    if (name == names[i]) return hominy_activation(i);
  raise_value(op, "activation", "one of none, relu, sigmoid, tanh, gelu, silu", "'" + name + "'");
}

py::object run_linear(py::handle x_array, py::handle weight_array, py::handle bias_array,
                      const std::string& activation) {
  return declining([&]() -> py::object {
    const char* op = "linear";
    hominy_tensor x = describe_floating(op, "input", x_array), weight = describe_floating(op, "weight", weight_array),
                  bias;
    decline_mixed_dtypes(x, weight);
    if (weight.ndim != 2)
      throw declined{"native multiplies by a matrix of weights, not by shape " + shape_text(weight)};
    if (x.ndim == 0 || x.shape[x.ndim - 1] != weight.shape[1])
      raise_value(op, "input", "(..., in_features=" + std::to_string(weight.shape[1]) + ")", shape_text(x));
    const hominy_tensor* bias_or_null = nullptr;
    if (!bias_array.is_none()) {
      bias = describe_floating(op, "bias", bias_array);
      decline_mixed_dtypes(x, bias);
      if (bias.ndim != 1 || bias.shape[0] != weight.shape[0])
        raise_value(op, "bias", "(out_features=" + std::to_string(weight.shape[0]) + ",)", shape_text(bias));
      bias_or_null = &bias;
    }
    hominy_activation code = activation_of(op, activation);
    hominy_tensor out = x;
    out.shape[out.ndim - 1] = weight.shape[0];
    py::object result = allocate(op, out);
    // b = weight^T: (in, out), the same for every row of x.
    hominy_tensor b = x;
    b.data = weight.data;
    if (x.ndim == 1) {
      insert_axis(x, 0);
      insert_axis(out, 0);
      b.ndim = 2;
    }
    for (int i = 0; i + 2 < b.ndim; ++i) b.strides[i] = 0;
    b.shape[b.ndim - 2] = weight.shape[1];
    b.strides[b.ndim - 2] = weight.strides[1];
    b.shape[b.ndim - 1] = weight.shape[0];
    b.strides[b.ndim - 1] = weight.strides[0];
    multiply(op, x, b, bias_or_null, code, out);
    return result;
  });
}

// (..., n) as a matrix of rows, by a copy (held by `keep`) where the strides of several dimensions have none.
hominy_tensor as_rows(const char* op, hominy_tensor t, py::object& keep) {
  if (t.ndim == 2) return t;
  if (!is_c_contiguous(t)) {
    hominy_tensor fresh = t;
    keep = allocate(op, fresh);
    require_ok(op, kernels->copy(&t, &fresh));
    t = fresh;
  }
  int64_t columns = t.shape[t.ndim - 1], rows = 1;
  for (int i = 0; i + 1 < t.ndim; ++i) rows *= t.shape[i];
  t.ndim = 2;
  t.shape[0] = rows;
  t.shape[1] = columns;
  t.strides[1] = dtype_size(t.dtype);
  t.strides[0] = columns * t.strides[1];
  return t;
}

py::object run_linear_backward(py::handle gradient_array, py::handle x_array, py::handle weight_array, int needs) {
  return declining([&]() -> py::object {
    const char* op = "linear_backward";
    hominy_tensor gradient = describe_floating(op, "grad", gradient_array);
    if (gradient.ndim == 0) raise_value(op, "grad", "(..., out_features)", "()");
    py::object keep_gradient, keep_x, keep_out;
    hominy_tensor g = as_rows(op, gradient, keep_gradient);
    py::object results[] = {py::none(), py::none(), py::none()};
    if (needs & 1) {
      hominy_tensor weight = describe_floating(op, "weight", weight_array), out = gradient;
      decline_mixed_dtypes(gradient, weight);
      if (weight.ndim != 2 || weight.shape[0] != g.shape[1])
        raise_value(op, "weight", "(out_features=" + std::to_string(g.shape[1]) + ", in_features)", shape_text(weight));
      out.shape[out.ndim - 1] = weight.shape[1];
      results[0] = allocate(op, out);
      multiply(op, g, weight, nullptr, HOMINY_ACTIVATION_NONE, as_rows(op, out, keep_out));
    }
    if (needs & 2) {
      hominy_tensor x = describe_floating(op, "input", x_array), out = g;
      decline_mixed_dtypes(gradient, x);
      if (x.ndim == 0) raise_value(op, "input", "(..., in_features)", "()");
      x = as_rows(op, x, keep_x);
      if (x.shape[0] != g.shape[0])
        raise_value(op, "input", "as many rows as grad's " + std::to_string(g.shape[0]), std::to_string(x.shape[0]));
      out.shape[0] = g.shape[1];
      out.shape[1] = x.shape[1];
      results[1] = allocate(op, out);
      hominy_tensor columns = g;  // grad^T
      columns.shape[0] = g.shape[1];
      columns.strides[0] = g.strides[1];
      columns.shape[1] = g.shape[0];
      columns.strides[1] = g.strides[0];
      multiply(op, columns, x, nullptr, HOMINY_ACTIVATION_NONE, out);
    }
    if (needs & 4) {
      hominy_tensor out = g;
      out.shape[0] = 1;
      const bool dropped[] = {true, false};
      results[2] = reduced_output(op, out, dropped, false);
      unlocked without_lock(element_count(g) >= unlock_elements);
      require_ok(op, kernels->reduce(HOMINY_REDUCE_sum, &g, &out));
    }
    return py::make_tuple(results[0], results[1], results[2]);
  });
}

// ---- Normalisation, embedding, dropout ------------------------------------------------------------------------------

// An array in C order: itself, or a copy that `keep` holds.
hominy_tensor in_c_order(const char* op, const hominy_tensor& t, py::object& keep) {
  if (is_c_contiguous(t)) return t;
  hominy_tensor fresh = t;
  keep = allocate(op, fresh);
  require_ok(op, kernels->copy(&t, &fresh));
  return fresh;
}

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

// The arrays of a whole-model step, one list a role: `values[i]`, `gradients[i]`, `states[0][i]`, ...
std::vector<hominy_parameter> collect_parameters(const char* op, const py::list& values, const py::list& gradients,
                                                 std::initializer_list<std::pair<const char*, py::object>> states) {
  std::vector<hominy_parameter> parameters(values.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    hominy_tensor value = describe_floating(op, "values", values[i]);
    auto pointer = [&](const char* role, const py::list& list, bool written) -> void* {
      if (list.size() != values.size())
        raise_value(op, role, std::to_string(values.size()) + " arrays", std::to_string(list.size()));
      hominy_tensor t = describe_floating(op, role, list[i]);
      require_shape(op, role, value, t);
      require_same_dtype(op, role, value, t);
      if (!is_c_contiguous(t))
        throw declined{std::string("native steps contiguous arrays; ") + role + " has a strided one"};
      if (written &&
          !(py::detail::array_proxy(py::object(list[i]).ptr())->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_))
        raise_value(op, role, "writeable arrays", "a read-only one");
      return t.data;
    };
    hominy_parameter& parameter = parameters[i];
    parameter.value = pointer("values", values, true);
    parameter.gradient = pointer("gradients", gradients, false);
    void** slots[] = {&parameter.state1, &parameter.state2, &parameter.state3};
    int slot = 0;
    for (const auto& [role, list] : states) *slots[slot++] = list.is_none() ? nullptr : pointer(role, list, true);
    while (slot < 3) *slots[slot++] = nullptr;
    parameter.size = element_count(value);
    parameter.dtype = value.dtype;
  }
  return parameters;
}

int64_t total_size(const std::vector<hominy_parameter>& parameters) {
  int64_t total = 0;
  for (const hominy_parameter& parameter : parameters) total += parameter.size;
  return total;
}

template <class Settings>
using step_kernel = hominy_status (*hominy_kernels::*)(const hominy_parameter*, int64_t, const Settings*);

template <class Settings>
py::object run_step(const char* op, step_kernel<Settings> kernel, const py::list& values, const py::list& gradients,
                    std::initializer_list<std::pair<const char*, py::object>> states, const Settings& settings) {
  return declining([&]() -> py::object {
    auto parameters = collect_parameters(op, values, gradients, states);
    unlocked without_lock(total_size(parameters) >= unlock_elements);
    require_ok(op, (kernels->*kernel)(parameters.data(), int64_t(parameters.size()), &settings));
    return py::none();
  });
}

py::object run_sgd_step(const py::list& values, const py::list& gradients, const py::object& buffers,
                        double learning_rate, double momentum, double dampening, double weight_decay, bool nesterov,
                        bool maximize, bool first_step) {
  return run_step<hominy_sgd>("sgd_step", &hominy_kernels::sgd_step, values, gradients, {{"buffers", buffers}},
                              {learning_rate, momentum, dampening, weight_decay, nesterov, maximize, first_step});
}

py::object run_adam_step(const py::list& values, const py::list& gradients, const py::list& exp_avgs,
                         const py::list& exp_avg_sqs, const py::object& max_exp_avg_sqs, int64_t step,
                         double learning_rate, double beta1, double beta2, double epsilon, double weight_decay,
                         bool decoupled, bool maximize) {
  return run_step<hominy_adam>(
      "adam_step", &hominy_kernels::adam_step, values, gradients,
      {{"exp_avgs", exp_avgs}, {"exp_avg_sqs", exp_avg_sqs}, {"max_exp_avg_sqs", max_exp_avg_sqs}},
      {learning_rate, beta1, beta2, epsilon, weight_decay, step, decoupled, maximize});
}

py::object run_nadam_step(const py::list& values, const py::list& gradients, const py::list& exp_avgs,
                          const py::list& exp_avg_sqs, int64_t step, double learning_rate, double beta1, double beta2,
                          double epsilon, double weight_decay, bool decoupled, bool maximize, double mu, double mu_next,
                          double mu_product) {
  return run_step<hominy_nadam>(
      "nadam_step", &hominy_kernels::nadam_step, values, gradients,
      {{"exp_avgs", exp_avgs}, {"exp_avg_sqs", exp_avg_sqs}},
      {learning_rate, beta1, beta2, epsilon, weight_decay, step, decoupled, maximize, mu, mu_next, mu_product});
}

py::object run_radam_step(const py::list& values, const py::list& gradients, const py::list& exp_avgs,
                          const py::list& exp_avg_sqs, int64_t step, double learning_rate, double beta1, double beta2,
                          double epsilon, double weight_decay, bool decoupled, bool maximize) {
  return run_step<hominy_adam>("radam_step", &hominy_kernels::radam_step, values, gradients,
                               {{"exp_avgs", exp_avgs}, {"exp_avg_sqs", exp_avg_sqs}},
                               {learning_rate, beta1, beta2, epsilon, weight_decay, step, decoupled, maximize});
}

py::object run_adamax_step(const py::list& values, const py::list& gradients, const py::list& exp_avgs,
                           const py::list& exp_infs, int64_t step, double learning_rate, double beta1, double beta2,
                           double epsilon, double weight_decay, bool maximize) {
  return run_step<hominy_adam>("adamax_step", &hominy_kernels::adamax_step, values, gradients,
                               {{"exp_avgs", exp_avgs}, {"exp_infs", exp_infs}},
                               {learning_rate, beta1, beta2, epsilon, weight_decay, step, false, maximize});
}

py::object run_rmsprop_step(const py::list& values, const py::list& gradients, const py::list& square_avgs,
                            const py::object& buffers, const py::object& grad_avgs, double learning_rate, double alpha,
                            double epsilon, double weight_decay, double momentum, bool maximize) {
  return run_step<hominy_rmsprop>(
      "rmsprop_step", &hominy_kernels::rmsprop_step, values, gradients,
      {{"square_avgs", square_avgs}, {"buffers", buffers}, {"grad_avgs", grad_avgs}},
      {learning_rate, alpha, epsilon, weight_decay, momentum, !grad_avgs.is_none(), maximize});
}

py::object run_adagrad_step(const py::list& values, const py::list& gradients, const py::list& sums, int64_t step,
                            double learning_rate, double learning_rate_decay, double epsilon, double weight_decay,
                            bool maximize) {
  return run_step<hominy_adagrad>("adagrad_step", &hominy_kernels::adagrad_step, values, gradients, {{"sums", sums}},
                                  {learning_rate, learning_rate_decay, epsilon, weight_decay, step, maximize});
}

py::object run_adadelta_step(const py::list& values, const py::list& gradients, const py::list& square_avgs,
                             const py::list& acc_deltas, double learning_rate, double rho, double epsilon,
                             double weight_decay, bool maximize) {
  return run_step<hominy_adadelta>("adadelta_step", &hominy_kernels::adadelta_step, values, gradients,
                                   {{"square_avgs", square_avgs}, {"acc_deltas", acc_deltas}},
                                   {learning_rate, rho, epsilon, weight_decay, maximize});
}

void bind_optimizers(py::module_& m) {
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
  m.def("sgd_step", run_sgd_step, py::arg("values"), py::arg("gradients"), py::arg("buffers"), py::arg("learning_rate"),
        py::arg("momentum"), py::arg("dampening"), py::arg("weight_decay"), py::arg("nesterov"), py::arg("maximize"),
        py::arg("first_step"));
  m.def("adam_step", run_adam_step, py::arg("values"), py::arg("gradients"), py::arg("exp_avgs"),
        py::arg("exp_avg_sqs"), py::arg("max_exp_avg_sqs"), py::arg("step"), py::arg("learning_rate"), py::arg("beta1"),
        py::arg("beta2"), py::arg("epsilon"), py::arg("weight_decay"), py::arg("decoupled"), py::arg("maximize"));
  m.def("nadam_step", run_nadam_step, py::arg("values"), py::arg("gradients"), py::arg("exp_avgs"),
        py::arg("exp_avg_sqs"), py::arg("step"), py::arg("learning_rate"), py::arg("beta1"), py::arg("beta2"),
        py::arg("epsilon"), py::arg("weight_decay"), py::arg("decoupled"), py::arg("maximize"), py::arg("mu"),
        py::arg("mu_next"), py::arg("mu_product"));
  m.def("radam_step", run_radam_step, py::arg("values"), py::arg("gradients"), py::arg("exp_avgs"),
        py::arg("exp_avg_sqs"), py::arg("step"), py::arg("learning_rate"), py::arg("beta1"), py::arg("beta2"),
        py::arg("epsilon"), py::arg("weight_decay"), py::arg("decoupled"), py::arg("maximize"));
  m.def("adamax_step", run_adamax_step, py::arg("values"), py::arg("gradients"), py::arg("exp_avgs"),
        py::arg("exp_infs"), py::arg("step"), py::arg("learning_rate"), py::arg("beta1"), py::arg("beta2"),
        py::arg("epsilon"), py::arg("weight_decay"), py::arg("maximize"));
  m.def("rmsprop_step", run_rmsprop_step, py::arg("values"), py::arg("gradients"), py::arg("square_avgs"),
        py::arg("buffers"), py::arg("grad_avgs"), py::arg("learning_rate"), py::arg("alpha"), py::arg("epsilon"),
        py::arg("weight_decay"), py::arg("momentum"), py::arg("maximize"));
  m.def("adagrad_step", run_adagrad_step, py::arg("values"), py::arg("gradients"), py::arg("sums"), py::arg("step"),
        py::arg("learning_rate"), py::arg("learning_rate_decay"), py::arg("epsilon"), py::arg("weight_decay"),
        py::arg("maximize"));
  m.def("adadelta_step", run_adadelta_step, py::arg("values"), py::arg("gradients"), py::arg("square_avgs"),
        py::arg("acc_deltas"), py::arg("learning_rate"), py::arg("rho"), py::arg("epsilon"), py::arg("weight_decay"),
        py::arg("maximize"));
}

// The levels of this build, widest first, and whether this machine runs each.
const char* const level_names[] = {"avx512", "avx2", "neon", "baseline"};

void select_isa(const std::string& name) {
  const hominy_kernels* table = hominy_get_kernels_for(name.c_str());
  if (!table) {
    std::string available;
    for (const char* level : level_names)
      if (hominy_get_kernels_for(level)) available += std::string(available.empty() ? "" : ", ") + level;
    raise_value("hominy", "HOMINY_ISA", "one of " + available + " on this machine", "'" + name + "'");
  }
  kernels = table;
}

// The operations' names, in the order of their enumerators.
#define HOMINY_NAME(name) #name,
const char* const unary_names[] = {HOMINY_UNARY_OPERATIONS(HOMINY_NAME)};
const char* const binary_names[] = {HOMINY_BINARY_OPERATIONS(HOMINY_NAME)};
const char* const compare_names[] = {HOMINY_COMPARE_OPERATIONS(HOMINY_NAME)};
const char* const reduce_names[] = {HOMINY_REDUCE_OPERATIONS(HOMINY_NAME)};
#undef HOMINY_NAME

// How many scalar parameters (p, q of hominy.h) an operation takes.
int scalar_count(const std::string& name) {
  for (const char* prefix : {"softplus", "clamp"})
    if (name.rfind(prefix, 0) == 0) return 2;
  for (const char* prefix : {"leaky_relu", "elu"})
    if (name.rfind(prefix, 0) == 0) return 1;
  return 0;
}

void bind_elementwise(py::module_& m) {
  const py::arg_v no_out = py::arg("out") = py::none();
  for (int i = 0; i < HOMINY_UNARY_COUNT; ++i) {
    const char* op = unary_names[i];
    auto operation = hominy_unary(i);
    if (int scalars = scalar_count(op); scalars == 0)
      m.def(
          op, [=](py::handle x, py::handle out) { return run_unary(operation, op, x, 0, 0, out); }, py::arg("x"),
          no_out);
    else if (scalars == 1)
      m.def(
          op, [=](py::handle x, double p, py::handle out) { return run_unary(operation, op, x, p, 0, out); },
          py::arg("x"), py::arg("p"), no_out);
    else
      m.def(
          op, [=](py::handle x, double p, double q, py::handle out) { return run_unary(operation, op, x, p, q, out); },
          py::arg("x"), py::arg("p"), py::arg("q"), no_out);
  }
  for (int i = 0; i < HOMINY_BINARY_COUNT; ++i) {
    const char* op = binary_names[i];
    auto operation = hominy_binary(i);
    if (int scalars = scalar_count(op); scalars == 0)
      m.def(
          op, [=](py::handle a, py::handle b, py::handle out) { return run_binary(operation, op, a, b, 0, 0, out); },
          py::arg("a"), py::arg("b"), no_out);
    else if (scalars == 1)
      m.def(
          op,
          [=](py::handle a, py::handle b, double p, py::handle out) {
            return run_binary(operation, op, a, b, p, 0, out);
          },
          py::arg("a"), py::arg("b"), py::arg("p"), no_out);
    else
      m.def(
          op,
          [=](py::handle a, py::handle b, double p, double q, py::handle out) {
            return run_binary(operation, op, a, b, p, q, out);
          },
          py::arg("a"), py::arg("b"), py::arg("p"), py::arg("q"), no_out);
  }
  for (int i = 0; i < HOMINY_COMPARE_COUNT; ++i)
    m.def(
        compare_names[i],
        [i](py::handle a, py::handle b) { return run_compare(hominy_compare(i), compare_names[i], a, b); },
        py::arg("a"), py::arg("b"));
  m.def("where", run_where, py::arg("condition"), py::arg("a"), py::arg("b"));
  m.def("copy", run_copy, py::arg("x"), no_out);
  m.def("broadcast_to", run_broadcast_to, py::arg("x"), py::arg("shape"));
}

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
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "hominy's compiled kernels, as the backend functions of backends/reference.py.";
  kernels = hominy_get_kernels();
  if (const char* forced = std::getenv("HOMINY_ISA"); forced && *forced) select_isa(forced);

  bind_elementwise(m);
  bind_reductions(m);
  m.def("cross_entropy", run_cross_entropy, py::arg("logits"), py::arg("target"), py::arg("weight"),
        py::arg("ignore_index"), py::arg("label_smoothing"));
  m.def("cross_entropy_backward", run_cross_entropy_backward, py::arg("gradient"), py::arg("logits"), py::arg("target"),
        py::arg("weight"), py::arg("ignore_index"), py::arg("label_smoothing"), py::arg("logsumexp"));
  m.def("matmul", run_matmul, py::arg("a"), py::arg("b"));
  m.def("linear", run_linear, py::arg("x"), py::arg("weight"), py::arg("bias") = py::none(),
        py::arg("activation") = "none");
  m.def("linear_backward", run_linear_backward, py::arg("grad"), py::arg("x"), py::arg("weight"), py::arg("needs"));
  bind_optimizers(m);

  m.def("isa", [] { return kernels->isa; }, "The ISA level in use.");
  m.def("select_isa", select_isa, py::arg("name"),
        "Use another level from now on (tests of every level in one process).");
  m.def(
      "isa_levels",
      [] {
        py::dict levels;
        for (const char* name : level_names) levels[name] = hominy_get_kernels_for(name) != nullptr;
        return levels;
      },
      "Level names, widest first, and whether this machine runs each.");
  m.def("num_threads", &num_threads);
  m.def("num_threads_reason", &num_threads_reason);
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("pool_empty", &pool_empty, py::call_guard<py::gil_scoped_release>());
  m.def("pool_statistics", [] {
    pool_statistics s = pool_get_statistics();
    py::dict facts;
    facts["in_use_bytes"] = s.in_use_bytes;
    facts["free_bytes"] = s.free_bytes;
    facts["bound_bytes"] = s.bound_bytes;
    facts["peak_bytes"] = s.peak_bytes;
    facts["hits"] = s.hits;
    facts["misses"] = s.misses;
    return facts;
  });
  m.attr("kernel_table") = py::capsule(kernels, "hominy_kernels");
  m.attr("abi_version") = HOMINY_ABI_VERSION;
}

}  // namespace hominy
