// hominy._native: one Python function a kernel. Each checks its arrays against the kernel's contract, allocates the
// output, releases the interpreter lock, calls the kernel, and turns a status code into an exception. It never
// computes. A file a family of kernels; what they share stands here.
//
// The functions have the names and arguments of every backend (see backends/reference.py, the specification). A call
// that has no kernel here, an integer product say, returns a `Declined` with the reason.
#pragma once
#include "array_check.hpp"
#include "cpu/parallel_for.hpp"

namespace hominy {

extern const hominy_kernels* kernels;  // of the ISA level in use

void bind_elementwise(py::module_& m);
void bind_reductions(py::module_& m);
void bind_products(py::module_& m);
void bind_convolutions(py::module_& m);
void bind_layers(py::module_& m);
void bind_recurrent(py::module_& m);
void bind_optimizers(py::module_& m);
void bind_pooling(py::module_& m);

// Below this many elements a kernel ends sooner than handing the interpreter lock to and fro would take.
constexpr int64_t unlock_elements = 16 * 1024;

inline py::object declined_object(const std::string& reason) {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> type;
  return type
      .call_once_and_store_result(
          [] { return py::object(py::module_::import("hominy.backends.declined").attr("Declined")); })
      .get_stored()(reason);
}

// Wraps the body of every function below.
template <class Body>
inline py::object declining(Body&& body) {
  try {
    return body();
  } catch (const declined& refusal) {
    return declined_object(refusal.reason);
  }
}

inline void require_ok(const char* op, hominy_status status) {
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

// An input that overlaps the output in part is replaced by a copy, held by `keep`.
inline void detach_from(const char* op, hominy_tensor& in, const hominy_tensor& out, py::object& keep) {
  if (!overlaps_partly(in, out)) return;
  hominy_tensor fresh = in;
  keep = allocate(op, fresh);
  require_ok(op, kernels->copy(&in, &fresh));
  in = fresh;
}

// The output of an elementwise call: the caller's array, checked, or a new one in its operands' order.
inline py::object elementwise_output(const char* op, py::handle given, hominy_tensor& out,
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

// Allocates `out` (ndim and shape as x but for the reduced dimensions) without those dimensions when !keepdim, and
// leaves in `out` the descriptor that still has them.
inline py::object reduced_output(const char* op, hominy_tensor& out, const bool* dropped, bool keepdim) {
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

// The activation that products and convolutions apply in the store.
hominy_activation activation_of(const char* op, const std::string& name);

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

// An array in C order: itself, or a copy that `keep` holds.
inline hominy_tensor in_c_order(const char* op, const hominy_tensor& t, py::object& keep) {
  if (is_c_contiguous(t)) return t;
  hominy_tensor fresh = t;
  keep = allocate(op, fresh);
  require_ok(op, kernels->copy(&t, &fresh));
  return fresh;
}

}  // namespace hominy
