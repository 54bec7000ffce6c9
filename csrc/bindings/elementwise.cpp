// Arithmetic, activations and their gradients, comparison, selection, copies.
#include "bindings.hpp"

namespace hominy {
namespace {

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

// The operations' names, in the order of their enumerators.
#define HOMINY_NAME(name) #name,
const char* const unary_names[] = {HOMINY_UNARY_OPERATIONS(HOMINY_NAME)};
const char* const binary_names[] = {HOMINY_BINARY_OPERATIONS(HOMINY_NAME)};
const char* const compare_names[] = {HOMINY_COMPARE_OPERATIONS(HOMINY_NAME)};
#undef HOMINY_NAME

// How many scalar parameters (p, q of hominy.h) an operation takes.
int scalar_count(const std::string& name) {
  for (const char* prefix : {"softplus", "clamp"})
    if (name.rfind(prefix, 0) == 0) return 2;
  for (const char* prefix : {"leaky_relu", "elu"})
    if (name.rfind(prefix, 0) == 0) return 1;
  return 0;
}

}  // namespace

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

}  // namespace hominy
