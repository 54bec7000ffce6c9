// Where NumPy arrays become tensor descriptors, and nowhere else: what is an array, which dtype it holds, how shapes
// broadcast, in which order an output is laid out, whether two arrays share memory.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "cpu/memory_pool.hpp"
#include "hominy.h"

namespace hominy {

namespace py = pybind11;

// A call that this backend leaves to another one, with the reason; see backends/declined.py.
struct declined {
  std::string reason;
};

inline const char* dtype_name(int32_t dtype) {
  static const char* const names[] = {"bool",  "uint8",   "int8",     "int16",   "int32",
                                      "int64", "float16", "bfloat16", "float32", "float64"};
  return names[dtype];
}

inline int64_t dtype_size(int32_t dtype) {
  static const int8_t sizes[] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
  return sizes[dtype];
}

inline bool is_floating(const hominy_tensor& t) { return t.dtype == HOMINY_FLOAT32 || t.dtype == HOMINY_FLOAT64; }

// NumPy's type numbers are part of its stable ABI; -1 for what hominy has no word for (byte-swapped arrays among them).
inline int32_t dtype_of(const py::detail::PyArray_Proxy* array) {
  const auto* descriptor = py::detail::array_descriptor1_proxy(array->descr);
  if (descriptor->byteorder == '>') return -1;
  using api = py::detail::npy_api;
  switch (descriptor->type_num) {
    case api::NPY_BOOL_: return HOMINY_BOOL;
    case api::NPY_UBYTE_: return HOMINY_UINT8;
    case api::NPY_BYTE_: return HOMINY_INT8;
    case api::NPY_SHORT_: return HOMINY_INT16;
    case api::NPY_INT_: return HOMINY_INT32;
    case api::NPY_LONG_: return sizeof(long) == 8 ? HOMINY_INT64 : HOMINY_INT32;
    case api::NPY_LONGLONG_: return HOMINY_INT64;
    case api::NPY_FLOAT_: return HOMINY_FLOAT32;
    case api::NPY_DOUBLE_: return HOMINY_FLOAT64;
    case 23: return HOMINY_FLOAT16;  // NPY_HALF
    default: return -1;
  }
}

[[noreturn]] inline void raise_value(const char* op, const char* argument, const std::string& expected,
                                     const std::string& got) {
  throw py::value_error(std::string("[") + op + "] " + argument + ": expected " + expected + ", got " + got);
}

inline std::string shape_text(const hominy_tensor& t) {
  std::string text = "(";
  for (int i = 0; i < t.ndim; ++i) text += (i ? ", " : "") + std::to_string(t.shape[i]);
  return text + (t.ndim == 1 ? ",)" : ")");
}

inline bool is_array(py::handle h) { return py::detail::npy_api::get().PyArray_Check_(h.ptr()); }

// The descriptor of a NumPy array. Shape and strides are copied: they stay true while the interpreter lock is released.
inline hominy_tensor describe(const char* op, const char* argument, py::handle h) {
  if (!is_array(h)) throw declined{std::string(argument) + " is not a NumPy array but " + Py_TYPE(h.ptr())->tp_name};
  const auto* array = py::detail::array_proxy(h.ptr());
  hominy_tensor t;
  t.dtype = dtype_of(array);
  if (t.dtype < 0)
    throw declined{std::string("native has no kernel for dtype ") +
                   py::str(py::handle(array->descr)).cast<std::string>()};
  if (array->nd > HOMINY_MAX_NDIM)
    raise_value(op, argument, "at most " + std::to_string(HOMINY_MAX_NDIM) + " dimensions", std::to_string(array->nd));
  t.data = array->data;
  t.ndim = array->nd;
  for (int i = 0; i < array->nd; ++i) {
    t.shape[i] = array->dimensions[i];
    t.strides[i] = array->strides[i];
  }
  return t;
}

inline hominy_tensor describe_floating(const char* op, const char* argument, py::handle h) {
  hominy_tensor t = describe(op, argument, h);
  if (!is_floating(t)) throw declined{std::string("native computes float32 and float64, not ") + dtype_name(t.dtype)};
  return t;
}

inline void require_same_dtype(const char* op, const char* argument, const hominy_tensor& expected,
                               const hominy_tensor& got) {
  if (expected.dtype != got.dtype)
    throw py::type_error(std::string("[") + op + "] " + argument + ": expected dtype " + dtype_name(expected.dtype) +
                         ", got " + dtype_name(got.dtype));
}

// The operands of a product or an elementwise operation: the caller brings them to one dtype first.
inline void decline_mixed_dtypes(const hominy_tensor& a, const hominy_tensor& b) {
  if (a.dtype != b.dtype)
    throw declined{std::string("native computes in one dtype, not ") + dtype_name(a.dtype) + " with " +
                   dtype_name(b.dtype)};
}

inline bool same_shape(const hominy_tensor& a, const hominy_tensor& b) {
  if (a.ndim != b.ndim) return false;
  for (int i = 0; i < a.ndim; ++i)
    if (a.shape[i] != b.shape[i]) return false;
  return true;
}

inline void require_shape(const char* op, const char* argument, const hominy_tensor& expected,
                          const hominy_tensor& got) {
  if (!same_shape(expected, got)) raise_value(op, argument, "shape " + shape_text(expected), shape_text(got));
}

inline int64_t element_count(const hominy_tensor& t) {
  int64_t count = 1;
  for (int i = 0; i < t.ndim; ++i) count *= t.shape[i];  // an existing array: NumPy has bounded it
  return count;
}

// NumPy's broadcasting: `shape` of `out` grows to hold `t`. false where the shapes do not fit.
inline bool broadcast_shape(hominy_tensor& out, const hominy_tensor& t) {
  if (t.ndim > out.ndim) {
    int shift = t.ndim - out.ndim;
    for (int i = out.ndim - 1; i >= 0; --i) out.shape[i + shift] = out.shape[i];
    for (int i = 0; i < shift; ++i) out.shape[i] = 1;
    out.ndim = t.ndim;
  }
  for (int i = 0; i < t.ndim; ++i) {
    int64_t& size = out.shape[out.ndim - t.ndim + i];
    if (size == t.shape[i] || t.shape[i] == 1) continue;
    if (size != 1) return false;
    size = t.shape[i];
  }
  return true;
}

// `t` seen with `target`'s shape: new and stretched dimensions get stride 0.
inline hominy_tensor broadcast_to(const hominy_tensor& t, const hominy_tensor& target) {
  if (same_shape(t, target)) return t;
  hominy_tensor wide;
  wide.data = t.data;
  wide.dtype = t.dtype;
  wide.ndim = target.ndim;
  int shift = target.ndim - t.ndim;
  for (int i = 0; i < target.ndim; ++i) {
    bool kept = i >= shift && t.shape[i - shift] == target.shape[i];
    wide.shape[i] = target.shape[i];
    wide.strides[i] = kept ? t.strides[i - shift] : 0;
  }
  return wide;
}

inline bool is_c_contiguous(const hominy_tensor& t) {
  for (int i = 0; i < t.ndim; ++i)
    if (t.shape[i] == 0) return true;
  int64_t step = dtype_size(t.dtype);
  for (int i = t.ndim - 1; i >= 0; --i) {
    if (t.shape[i] != 1 && t.strides[i] != step) return false;
    step *= t.shape[i];
  }
  return true;
}

// NumPy's 'K' order: the dimensions of `out.shape`, outermost first, so that the output walks memory as its operands
// do. nditer's rule, with its order of comparisons (operands that disagree make it matter): from the last dimension
// outwards, each is inserted inside those with larger strides, unless an operand objects.
inline void keep_order(const hominy_tensor& out, const hominy_tensor* const* operands, int count, int8_t* order) {
  const int last = out.ndim - 1;
  for (int i = last; i >= 0; --i) {
    int place = i;
    for (int j = i + 1; j <= last; ++j) {
      bool objection = false, wish = false;
      for (int k = 0; k < count; ++k) {
        int64_t outer = operands[k]->strides[i], inner = operands[k]->strides[order[j]];
        if (inner < 0) inner = -inner;
        if (outer < 0) outer = -outer;
        if (inner == 0 || outer == 0 || out.shape[i] == 1 || out.shape[order[j]] == 1) continue;
        (inner <= outer ? objection : wish) = true;
      }
      if (objection) break;
      if (wish) place = j;
    }
    for (int j = i; j < place; ++j) order[j] = order[j + 1];
    order[place] = int8_t(i);
  }
}

// From this size on, outputs come from the memory pool: below it NumPy's own small-block cache is quicker.
constexpr int64_t pooled_bytes = 16 * 1024;

// A new array for `out` (shape and dtype given; data and strides are filled in), its dimensions laid out in `order`
// (outermost first) or, without one, in C order.
inline py::object allocate(const char* op, hominy_tensor& out, const int8_t* order = nullptr) {
  static const int8_t type_numbers[] = {0, 2, 1, 3, 5, sizeof(long) == 8 ? 7 : 9, 23, -1, 11, 12};
  int64_t bytes = dtype_size(out.dtype);
  bool empty = false;
  for (int i = 0; i < out.ndim; ++i) empty |= out.shape[i] == 0;
  for (int k = out.ndim - 1; k >= 0; --k) {
    int i = order ? order[k] : k;
    out.strides[i] = bytes;
    if (__builtin_mul_overflow(bytes, empty ? (out.shape[i] ? out.shape[i] : 1) : out.shape[i], &bytes)) {
      if (!empty)
        throw std::overflow_error(std::string("[") + op + "] the output's size " + shape_text(out) +
                                  " overflows int64");
      bytes = dtype_size(out.dtype);
    }
  }
  auto& api = py::detail::npy_api::get();
  void* block = nullptr;
  if (!empty && bytes >= pooled_bytes && !(block = pool_allocate(bytes))) throw std::bad_alloc();
  Py_intptr_t shape[HOMINY_MAX_NDIM], strides[HOMINY_MAX_NDIM];
  for (int i = 0; i < out.ndim; ++i) {
    shape[i] = Py_intptr_t(out.shape[i]);
    strides[i] = Py_intptr_t(out.strides[i]);
  }
  constexpr int writeable = py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  PyObject* array =
      api.PyArray_NewFromDescr_(api.PyArray_Type_, api.PyArray_DescrFromType_(type_numbers[out.dtype]), out.ndim, shape,
                                order || block ? strides : nullptr, block,
                                block ? writeable | py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ : 0, nullptr);
  if (!array) {
    pool_release(block);
    throw py::error_already_set();
  }
  py::object result = py::reinterpret_steal<py::object>(array);
  if (block) {
    PyObject* owner = PyCapsule_New(block, "hominy.pool_block", [](PyObject* capsule) {
      pool_release(PyCapsule_GetPointer(capsule, "hominy.pool_block"));
    });
    if (!owner) {
      pool_release(block);
      throw py::error_already_set();
    }
    if (api.PyArray_SetBaseObject_(array, owner) != 0) throw py::error_already_set();
  }
  out.data = py::detail::array_proxy(array)->data;
  return result;
}

// A read-only array that looks at the memory of `base` as `t` describes it.
inline py::object view_of(py::handle base, const hominy_tensor& t) {
  auto& api = py::detail::npy_api::get();
  Py_intptr_t shape[HOMINY_MAX_NDIM], strides[HOMINY_MAX_NDIM];
  for (int i = 0; i < t.ndim; ++i) {
    shape[i] = Py_intptr_t(t.shape[i]);
    strides[i] = Py_intptr_t(t.strides[i]);
  }
  PyObject* descriptor = py::detail::array_proxy(base.ptr())->descr;
  Py_INCREF(descriptor);
  PyObject* array =
      api.PyArray_NewFromDescr_(api.PyArray_Type_, descriptor, t.ndim, shape, strides, t.data, 0, nullptr);
  if (!array) throw py::error_already_set();
  py::object result = py::reinterpret_steal<py::object>(array);
  Py_INCREF(base.ptr());
  if (api.PyArray_SetBaseObject_(array, base.ptr()) != 0) throw py::error_already_set();
  return result;
}

// The bytes [low, high) that `t` touches.
inline void extent(const hominy_tensor& t, const char*& low, const char*& high) {
  low = high = static_cast<const char*>(t.data);
  for (int i = 0; i < t.ndim; ++i) {
    if (t.shape[i] == 0) {
      high = low;
      return;
    }
    (t.strides[i] < 0 ? low : high) += (t.shape[i] - 1) * t.strides[i];
  }
  high += dtype_size(t.dtype);
}

// Memory shared in a way that a kernel does not allow: any overlap other than being exactly the same view.
inline bool overlaps_partly(const hominy_tensor& in, const hominy_tensor& out) {
  if (in.data == out.data && same_shape(in, out)) {
    bool same = true;
    for (int i = 0; i < in.ndim; ++i) same &= in.shape[i] == 1 || in.strides[i] == out.strides[i];
    if (same) return false;
  }
  const char *in_low, *in_high, *out_low, *out_high;
  extent(in, in_low, in_high);
  extent(out, out_low, out_high);
  return in_low < out_high && out_low < in_high;
}

// Releases the interpreter lock for the length of a kernel that runs longer than some 10 us.
class unlocked {
 public:
  explicit unlocked(bool worth_it) : state_(worth_it ? PyEval_SaveThread() : nullptr) {}
  // A daemon thread that comes back while the interpreter is shutting down gets no lock: before Python 3.14 it is
  // unwound from inside PyEval_RestoreThread, past objects that need the lock to die. It stays here instead, as 3.14
  // has it.
  ~unlocked() {
    if (!state_) return;
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }
  unlocked(const unlocked&) = delete;
  unlocked& operator=(const unlocked&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace hominy
