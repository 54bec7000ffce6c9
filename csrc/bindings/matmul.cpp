// Products: matmul, the linear layer and its gradients.
#include "bindings.hpp"

namespace hominy {

hominy_activation activation_of(const char* op, const std::string& name) {
  static const char* const names[] = {"none", "relu", "sigmoid", "tanh", "gelu", "silu"};
  for (int i = 0; i < 6; ++i)
    if (name == names[i]) return hominy_activation(i);
  raise_value(op, "activation", "one of none, relu, sigmoid, tanh, gelu, silu", "'" + name + "'");
}

namespace {

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

}  // namespace

void bind_products(py::module_& m) {
  m.def("matmul", run_matmul, py::arg("a"), py::arg("b"));
  m.def("linear", run_linear, py::arg("x"), py::arg("weight"), py::arg("bias") = py::none(),
        py::arg("activation") = "none");
  m.def("linear_backward", run_linear_backward, py::arg("grad"), py::arg("x"), py::arg("weight"), py::arg("needs"));
}

}  // namespace hominy
