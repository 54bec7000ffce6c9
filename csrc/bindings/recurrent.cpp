// Recurrent layers: whole sequences, their gradients, single steps.
#include <atomic>
#include <memory>

#include "bindings.hpp"

namespace hominy {
namespace {

constexpr int weight_count = 6;
const char* const weight_names[weight_count] = {"weight_ih", "weight_hh", "bias_ih",
                                                "bias_hh",   "weight_hr", "peephole"};

int32_t gate_activation_of(const char* op, const std::string& name) {
  static const char* const names[] = {"sigmoid",     "tanh",         "relu", "leaky_relu", "thresholded_relu", "affine",
                                      "scaled_tanh", "hard_sigmoid", "elu",  "softsign",   "softplus"};
  for (int i = 0; i < 11; ++i)
    if (name == names[i]) return i;
  std::string all = names[0];
  for (int i = 1; i < 11; ++i) all += std::string(", ") + names[i];
  raise_value(op, "activations", "names among " + all, "'" + name + "'");
}

hominy_recurrent read_cell(const char* op, const std::string& name, py::handle options, int directions) {
  hominy_recurrent cell{};
  cell.directions = directions;
  cell.keep_every = 1;
  if (name == "lstm" || name == "gru") {
    cell.cell = name == "lstm" ? HOMINY_CELL_LSTM : HOMINY_CELL_GRU;
    cell.activation[1] = cell.activation[2] = HOMINY_GATE_TANH;
  } else if (name == "rnn_tanh" || name == "rnn_relu") {
    cell.activation[0] = name == "rnn_tanh" ? HOMINY_GATE_TANH : HOMINY_GATE_RELU;
  } else {
    raise_value(op, "cell", "one of rnn_tanh, rnn_relu, lstm, gru", "'" + name + "'");
  }
  if (options.is_none()) return cell;
  py::tuple all = py::reinterpret_borrow<py::tuple>(options);
  if (!py::isinstance<py::tuple>(options) || all.size() != 5)
    raise_value(op, "options", "(activations, clip, coupled, reset_before, keep_every)", py::str(options));
  if (!all[0].is_none()) {
    const size_t count = cell.cell == HOMINY_CELL_LSTM ? 3 : cell.cell == HOMINY_CELL_GRU ? 2 : 1;
    py::tuple functions = all[0].cast<py::tuple>();
    if (functions.size() != count)
      raise_value(op, "activations", std::to_string(count) + " of them", std::to_string(functions.size()));
    for (size_t i = 0; i < count; ++i) {
      py::tuple one = functions[i].cast<py::tuple>();
      if (one.size() != 3)
        raise_value(op, "activations", "(name, alpha, beta) each", py::str(py::object(functions[i])));
      cell.activation[i] = gate_activation_of(op, one[0].cast<std::string>());
      cell.alpha[i] = one[1].cast<double>();
      cell.beta[i] = one[2].cast<double>();
      const bool by_sign = cell.activation[i] == HOMINY_GATE_LEAKY_RELU || cell.activation[i] == HOMINY_GATE_ELU;
      if (by_sign && cell.alpha[i] < 0)  // the result's sign says no longer which branch it came from
        throw declined{"the slope of this activation does not follow from its result where alpha is negative"};
    }
  }
  cell.clip = all[1].cast<double>();
  cell.coupled = all[2].cast<bool>();
  cell.reset_before = all[3].cast<bool>();
  cell.keep_every = all[4].cast<int64_t>();
  if (!(cell.clip >= 0)) raise_value(op, "clip", "a number of at least 0", std::to_string(cell.clip));
  if (cell.keep_every < 1) raise_value(op, "keep_every", "at least 1", std::to_string(cell.keep_every));
  return cell;
}

hominy_tensor shaped(const hominy_tensor& like, std::initializer_list<int64_t> shape) {
  hominy_tensor t;
  t.dtype = like.dtype;
  t.ndim = 0;
  for (int64_t n : shape) t.shape[t.ndim++] = n;
  return t;
}

// Part `i` of `parts` along axis `axis`, which is dropped if `drop`.
hominy_tensor part_of(hominy_tensor t, int axis, int64_t i, int64_t parts, bool drop) {
  const int64_t size = t.shape[axis] / parts;
  t.data = static_cast<char*>(t.data) + i * size * t.strides[axis];
  t.shape[axis] = size;
  if (!drop) return t;
  for (int d = axis; d + 1 < t.ndim; ++d) {
    t.shape[d] = t.shape[d + 1];
    t.strides[d] = t.strides[d + 1];
  }
  --t.ndim;
  return t;
}

hominy_tensor swap_first_two(hominy_tensor t) {
  std::swap(t.shape[0], t.shape[1]);
  std::swap(t.strides[0], t.strides[1]);
  return t;
}

// What the arguments of a call become, and the checks that name them.
struct recurrent_call {
  const char* op;
  hominy_recurrent cell;
  int directions;
  int64_t gates, units, state, input, batch = 0, steps = 0;
  hominy_tensor weights[2][weight_count], x, lengths, h0[2], c0[2];
  hominy_recurrent_direction direction[2] = {};
  bool has_lengths = false, packed = false, batch_first = false;

  recurrent_call(const char* op, py::handle weight_arrays, const std::string& name, py::handle options) : op(op) {
    if (!py::isinstance<py::tuple>(weight_arrays))
      raise_value(op, "weights", "a tuple of tuples", py::str(weight_arrays));
    py::tuple all = py::reinterpret_borrow<py::tuple>(weight_arrays);
    directions = int(all.size());
    if (directions != 1 && directions != 2) raise_value(op, "weights", "1 or 2 directions", std::to_string(all.size()));
    cell = read_cell(op, name, options, directions);
    gates = cell.cell == HOMINY_CELL_LSTM ? 4 : cell.cell == HOMINY_CELL_GRU ? 3 : 1;
    for (int i = 0; i < directions; ++i) read_weights(i, all[size_t(i)]);
  }

  void read_weights(int i, py::handle given) {
    if (!py::isinstance<py::tuple>(given) || py::reinterpret_borrow<py::tuple>(given).size() != weight_count)
      raise_value(op, "weights", "(weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peephole)", py::str(given));
    py::tuple list = py::reinterpret_borrow<py::tuple>(given);
    hominy_recurrent_direction& d = direction[i];
    const hominy_tensor** slots[weight_count] = {&d.w_ih, &d.w_hh, &d.b_ih, &d.b_hh, &d.w_hr, &d.peephole};
    for (int w = 0; w < weight_count; ++w) {
      if (list[size_t(w)].is_none()) continue;
      hominy_tensor& t = weights[i][w];
      t = describe_floating(op, weight_names[w], list[size_t(w)]);
      if (i > 0 || w > 0) decline_mixed_dtypes(weights[0][0], t);
      *slots[w] = &t;
    }
    for (int w = 0; w < 2; ++w)
      if (!*slots[w]) raise_value(op, weight_names[w], "an array", "None");
    const hominy_tensor& w_ih = *d.w_ih;
    if (w_ih.ndim != 2 || w_ih.shape[0] < 1 || w_ih.shape[0] % gates != 0)
      raise_value(op, "weight_ih", "(" + std::to_string(gates) + " * hidden_size, input_size)", shape_text(w_ih));
    if (i == 0) {
      units = w_ih.shape[0] / gates;
      input = w_ih.shape[1];
      state = d.w_hr && d.w_hr->ndim == 2 ? d.w_hr->shape[0] : units;
    }
    if (d.w_hr && cell.cell != HOMINY_CELL_LSTM) raise_value(op, "weight_hr", "None but for lstm", shape_text(*d.w_hr));
    if (d.peephole && cell.cell != HOMINY_CELL_LSTM)
      raise_value(op, "peephole", "None but for lstm", shape_text(*d.peephole));
    if (i == 1 && (d.w_hr != nullptr) != (direction[0].w_hr != nullptr))
      raise_value(op, "weight_hr", "both directions with or without it", "one");
    const int64_t rows = gates * units;
    expect(weight_names[0], w_ih, {rows, input});
    expect(weight_names[1], *d.w_hh, {rows, state});
    if (d.b_ih) expect(weight_names[2], *d.b_ih, {rows});
    if (d.b_hh) expect(weight_names[3], *d.b_hh, {rows});
    if (d.w_hr) expect(weight_names[4], *d.w_hr, {state, units});
    if (d.peephole) expect(weight_names[5], *d.peephole, {3, units});
  }

  void expect(const char* argument, const hominy_tensor& t, std::initializer_list<int64_t> shape) const {
    const hominy_tensor wanted = shaped(t, shape);
    if (!same_shape(wanted, t)) raise_value(op, argument, "shape " + shape_text(wanted), shape_text(t));
  }

  // (T, B, n), batch-first (B, T, n) or packed (N, n), as (T, B, n) or (N, n).
  hominy_tensor time_first(const hominy_tensor& t) const { return batch_first && !packed ? swap_first_two(t) : t; }

  void read_input(py::handle x_array, py::handle lengths_array, py::handle h0_array, py::handle c0_array,
                  bool is_batch_first, bool reverse) {
    batch_first = is_batch_first;
    x = describe_floating(op, "input", x_array);
    decline_mixed_dtypes(weights[0][0], x);
    has_lengths = !lengths_array.is_none();
    packed = x.ndim == 2 && has_lengths;
    if ((x.ndim != 3 && !packed) || x.shape[x.ndim - 1] != input)
      raise_value(op, "input",
                  (batch_first ? "(batch, time, input_size=" : "(time, batch, input_size=") + std::to_string(input) +
                      "), or (rows, input_size) with lengths",
                  shape_text(x));
    x = time_first(x);
    if (!packed) {
      steps = x.shape[0];
      batch = x.shape[1];
    }
    if (has_lengths) read_lengths(lengths_array);
    read_states(h0_array, "h0", h0, state, &hominy_recurrent_direction::h0);
    if (cell.cell != HOMINY_CELL_LSTM && !c0_array.is_none()) raise_value(op, "c0", "None but for lstm", "an array");
    read_states(c0_array, "c0", c0, units, &hominy_recurrent_direction::c0);
    for (int i = 0; i < directions; ++i) direction[i].reverse = directions == 2 ? i : reverse;
  }

  void read_lengths(py::handle array) {
    lengths = describe(op, "lengths", array);
    if (lengths.dtype != HOMINY_INT64)
      throw py::type_error(std::string("[") + op + "] lengths: expected dtype int64, got " + dtype_name(lengths.dtype));
    if (lengths.ndim != 1 || (!packed && lengths.shape[0] != batch))
      raise_value(op, "lengths", packed ? "1 dimension" : "(batch=" + std::to_string(batch) + ",)",
                  shape_text(lengths));
    batch = lengths.shape[0];
    int64_t before = packed ? x.shape[0] : steps, total = 0;
    for (int64_t b = 0; b < batch; ++b) {
      int64_t length;
      memcpy(&length, static_cast<const char*>(lengths.data) + b * lengths.strides[0], sizeof length);
      if (length < 0 || length > before)
        raise_value(op, "lengths", "numbers from 0 to " + std::to_string(before) + " that do not increase",
                    std::to_string(length) + " at position " + std::to_string(b));
      if (packed && b == 0) steps = length;
      before = length;
      total += length;
      if (packed && total > x.shape[0]) break;
    }
    if (packed && total != x.shape[0])
      raise_value(op, "lengths", "a sum of " + std::to_string(x.shape[0]) + ", the rows of input",
                  std::to_string(total) + (total > x.shape[0] ? " and more" : ""));
  }

  void read_states(py::handle array, const char* argument, hominy_tensor (&into)[2], int64_t size,
                   const hominy_tensor* hominy_recurrent_direction::* slot) {
    if (array.is_none()) return;
    const hominy_tensor t = read_state(array, argument, size);
    for (int i = 0; i < directions; ++i) {
      into[i] = part_of(t, 0, i, directions, true);
      direction[i].*slot = &into[i];
    }
  }
  hominy_tensor read_state(py::handle array, const char* argument, int64_t size) const {
    const hominy_tensor t = describe_floating(op, argument, array);
    decline_mixed_dtypes(x, t);
    expect(argument, t, {directions, batch, size});
    return t;
  }

  // (T, B, D * P) in the input's order of dimensions.
  hominy_tensor output_shape() const {
    const int64_t width = directions * state;
    return packed        ? shaped(x, {x.shape[0], width})
           : batch_first ? shaped(x, {batch, steps, width})
                         : shaped(x, {steps, batch, width});
  }
  // Direction i's share of an array of that shape.
  hominy_tensor output_of(const hominy_tensor& y, int i) const {
    return part_of(time_first(y), packed ? 1 : 2, i, directions, false);
  }
  const hominy_tensor* lengths_or_null() const { return has_lengths ? &lengths : nullptr; }
  bool worth_unlocking() const {
    const double rows = packed ? double(x.shape[0]) : double(steps) * double(batch);
    return rows * double(gates * units) * double(input + state) > 256.0 * 1024;
  }
};

// Weights packed ahead, and the scratch memory of steps.
struct prepared_weights {
  std::string cell_name;
  hominy_recurrent cell;
  const hominy_kernels* level;
  int32_t dtype;
  int directions;
  int64_t units, state, input;
  hominy_tensor shapes[2][weight_count];  // of the weights; their data is not looked at again
  hominy_recurrent_direction direction[2] = {};
  int64_t packed_bytes[2] = {};
  void* packed[2] = {};

  std::atomic<bool> busy{false};
  void* scratch = nullptr;
  int64_t scratch_bytes = 0, scratch_batch = -1, scratch_row = 0;

  prepared_weights() = default;
  prepared_weights(const prepared_weights&) = delete;
  ~prepared_weights() {
    for (void* block : packed) pool_release(block);
    pool_release(scratch);
  }
};

std::unique_ptr<prepared_weights> prepare_weights(py::handle weights, const std::string& name, py::handle options) {
  const char* op = "recurrent_prepare";
  recurrent_call call(op, weights, name, options);
  auto handle = std::make_unique<prepared_weights>();
  handle->cell_name = name;
  handle->cell = call.cell;
  handle->level = kernels;
  handle->dtype = call.weights[0][0].dtype;
  handle->directions = call.directions;
  handle->units = call.units;
  handle->state = call.state;
  handle->input = call.input;
  for (int i = 0; i < call.directions; ++i) {
    const hominy_recurrent_direction& from = call.direction[i];
    handle->packed_bytes[i] = kernels->recurrent_packed_size(&call.cell, &from);
    handle->packed[i] = pool_allocate(handle->packed_bytes[i]);
    if (!handle->packed[i]) throw std::bad_alloc();
    require_ok(op, kernels->recurrent_pack(&call.cell, &from, handle->packed[i], handle->packed_bytes[i]));
    hominy_recurrent_direction& d = handle->direction[i];
    const hominy_tensor* given[] = {from.w_ih, from.w_hh, from.b_ih, from.b_hh, from.w_hr, from.peephole};
    const hominy_tensor** slots[] = {&d.w_ih, &d.w_hh, &d.b_ih, &d.b_hh, &d.w_hr, &d.peephole};
    for (int w = 0; w < weight_count; ++w)
      if (given[w]) {
        handle->shapes[i][w] = *given[w];
        *slots[w] = &handle->shapes[i][w];
      }
    d.packed = handle->packed[i];
  }
  return handle;
}

py::object run_recurrent_prepare(py::handle weights, const std::string& name, py::handle options) {
  return declining([&]() -> py::object { return py::cast(prepare_weights(weights, name, options)); });
}

// What a cell computes: everything but what is kept for backward.
bool same_cell(const hominy_recurrent& a, const hominy_recurrent& b) {
  for (int i = 0; i < 3; ++i)
    if (a.activation[i] != b.activation[i] || a.alpha[i] != b.alpha[i] || a.beta[i] != b.beta[i]) return false;
  return a.cell == b.cell && a.directions == b.directions && a.clip == b.clip && a.coupled == b.coupled &&
         a.reset_before == b.reset_before;
}

py::object run_recurrent(py::handle x_array, py::handle lengths, py::handle weights, py::handle h0, py::handle c0,
                         const std::string& name, py::handle options, bool batch_first, bool reverse, bool keep,
                         const prepared_weights* prepared) {
  return declining([&]() -> py::object {
    const char* op = "recurrent";
    recurrent_call call(op, weights, name, options);
    call.read_input(x_array, lengths, h0, c0, batch_first, reverse);
    for (int i = 0; prepared && i < call.directions; ++i) {
      if (prepared->level != kernels || prepared->dtype != call.x.dtype || !same_cell(prepared->cell, call.cell) ||
          prepared->packed_bytes[i] != kernels->recurrent_packed_size(&call.cell, &call.direction[i]))
        raise_value(op, "prepared", "what recurrent_prepare gave for these weights", "another");
      call.direction[i].packed = prepared->packed[i];
    }
    hominy_tensor y = call.output_shape(), h_n = shaped(y, {call.directions, call.batch, call.state}),
                  c_n = shaped(y, {call.directions, call.batch, call.units}), kept = shaped(y, {0});
    const bool lstm = call.cell.cell == HOMINY_CELL_LSTM;
    py::object y_array = allocate(op, y), h_array = allocate(op, h_n), c_array = py::none(), kept_array = py::none();
    if (lstm) c_array = allocate(op, c_n);
    hominy_tensor parts[2][3];
    for (int i = 0; i < call.directions; ++i) {
      parts[i][0] = call.output_of(y, i);
      parts[i][1] = part_of(h_n, 0, i, call.directions, true);
      call.direction[i].y = &parts[i][0];
      call.direction[i].h_n = &parts[i][1];
      if (!lstm) continue;
      parts[i][2] = part_of(c_n, 0, i, call.directions, true);
      call.direction[i].c_n = &parts[i][2];
    }
    const int64_t kept_bytes =
        keep ? kernels->recurrent_kept_size(&call.cell, call.direction, &call.x, call.lengths_or_null()) : 0;
    if (keep) {
      kept.shape[0] = kept_bytes / dtype_size(kept.dtype);
      kept_array = allocate(op, kept);
    }
    const int64_t bytes =
        kernels->recurrent_workspace_size(&call.cell, call.direction, &call.x, call.lengths_or_null());
    workspace scratch(bytes);
    {
      unlocked without_lock(call.worth_unlocking());
      require_ok(op, kernels->recurrent(&call.cell, call.direction, &call.x, call.lengths_or_null(),
                                        kept_bytes > 0 ? kept.data : nullptr, kept_bytes, scratch.data(), bytes));
    }
    return py::make_tuple(y_array, h_array, c_array, kept_array);
  });
}

py::object run_recurrent_backward(py::handle grad_y, py::handle grad_h, py::handle grad_c, py::handle x_array,
                                  py::handle lengths, py::handle weights, py::handle h0, py::handle c0,
                                  py::handle y_array, py::handle kept_array, const std::string& name,
                                  py::handle options, bool batch_first, bool reverse, int needs) {
  return declining([&]() -> py::object {
    const char* op = "recurrent_backward";
    recurrent_call call(op, weights, name, options);
    call.read_input(x_array, lengths, h0, c0, batch_first, reverse);
    const int directions = call.directions;
    const bool lstm = call.cell.cell == HOMINY_CELL_LSTM;
    hominy_recurrent_gradients gradients[2] = {};

    // Inputs: y, its gradient and those of the last states.
    hominy_tensor y_parts[2], given[2][3];
    const hominy_tensor wanted_y = call.output_shape(), y = describe_floating(op, "output", y_array);
    decline_mixed_dtypes(call.x, y);
    require_shape(op, "output", wanted_y, y);
    hominy_tensor of_y, of_h, of_c;
    if (!grad_y.is_none()) {
      of_y = describe_floating(op, "grad_output", grad_y);
      decline_mixed_dtypes(call.x, of_y);
      require_shape(op, "grad_output", wanted_y, of_y);
    }
    if (!grad_h.is_none()) of_h = call.read_state(grad_h, "grad_h_n", call.state);
    if (!grad_c.is_none()) {
      if (!lstm) raise_value(op, "grad_c_n", "None but for lstm", "an array");
      of_c = call.read_state(grad_c, "grad_c_n", call.units);
    }
    for (int i = 0; i < directions; ++i) {
      y_parts[i] = call.output_of(y, i);
      call.direction[i].y = &y_parts[i];
      if (!grad_y.is_none()) gradients[i].y = &(given[i][0] = call.output_of(of_y, i));
      if (!grad_h.is_none()) gradients[i].h_n = &(given[i][1] = part_of(of_h, 0, i, directions, true));
      if (!grad_c.is_none()) gradients[i].c_n = &(given[i][2] = part_of(of_c, 0, i, directions, true));
    }
    const int64_t kept_bytes =
        kernels->recurrent_kept_size(&call.cell, call.direction, &call.x, call.lengths_or_null());
    hominy_tensor kept = describe_floating(op, "kept", kept_array);
    if (kept.dtype != call.x.dtype || kept.ndim != 1 || !is_c_contiguous(kept) ||
        kept.shape[0] * dtype_size(kept.dtype) != kept_bytes)
      raise_value(op, "kept",
                  "what recurrent kept: " + std::to_string(kept_bytes / dtype_size(call.x.dtype)) + " elements",
                  shape_text(kept));

    // Results.
    hominy_tensor dx, dh0, dc0, dweights[2][weight_count], states[2][2];
    py::object dx_array = py::none(), dh0_array = py::none(), dc0_array = py::none(), dweights_array = py::none();
    if (needs & 1) {
      dx = call.time_first(call.x);  // back to the caller's order
      dx_array = allocate(op, dx);
      dx = call.time_first(dx);
    }
    if (needs & 2) {
      py::tuple all(directions);
      for (int i = 0; i < directions; ++i) {
        const hominy_recurrent_direction& d = call.direction[i];
        const hominy_tensor* from[] = {d.w_ih, d.w_hh, d.b_ih, d.b_hh, d.w_hr, d.peephole};
        hominy_recurrent_gradients& g = gradients[i];
        const hominy_tensor** slots[] = {&g.w_ih, &g.w_hh, &g.b_ih, &g.b_hh, &g.w_hr, &g.peephole};
        py::tuple list(weight_count);
        for (int w = 0; w < weight_count; ++w) {
          py::object array = py::none();
          if (from[w]) {
            dweights[i][w] = *from[w];
            array = allocate(op, dweights[i][w]);
            *slots[w] = &dweights[i][w];
          }
          list[size_t(w)] = array;
        }
        all[size_t(i)] = list;
      }
      dweights_array = all;
    }
    if (needs & 4) {
      dh0 = shaped(call.x, {directions, call.batch, call.state});
      dh0_array = allocate(op, dh0);
    }
    if ((needs & 8) && lstm) {
      dc0 = shaped(call.x, {directions, call.batch, call.units});
      dc0_array = allocate(op, dc0);
    }
    for (int i = 0; i < directions; ++i) {
      if (!dh0_array.is_none()) gradients[i].h0 = &(states[i][0] = part_of(dh0, 0, i, directions, true));
      if (!dc0_array.is_none()) gradients[i].c0 = &(states[i][1] = part_of(dc0, 0, i, directions, true));
    }

    const int64_t bytes =
        kernels->recurrent_backward_workspace_size(&call.cell, call.direction, &call.x, call.lengths_or_null());
    workspace scratch(bytes);
    {
      unlocked without_lock(call.worth_unlocking());
      require_ok(op, kernels->recurrent_backward(&call.cell, call.direction, gradients, &call.x, call.lengths_or_null(),
                                                 kept_bytes > 0 ? kept.data : nullptr, kept_bytes,
                                                 needs & 1 ? &dx : nullptr, scratch.data(), bytes));
    }
    return py::make_tuple(dx_array, dweights_array, dh0_array, dc0_array);
  });
}

void require_writeable(const char* op, const char* argument, py::handle h) {
  if (!(py::detail::array_proxy(h.ptr())->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_))
    raise_value(op, argument, "a writeable array", "a read-only one");
}

py::object run_recurrent_step(prepared_weights& prepared, py::handle x_array, py::handle h_array, py::handle c_array,
                              py::handle h_out_array, py::handle c_out_array) {
  return declining([&]() -> py::object {
    const char* op = "recurrent_step";
    if (prepared.directions != 1) raise_value(op, "prepared", "one direction", "2");
    if (prepared.level != kernels)
      raise_value(op, "prepared", "weights packed for this ISA level", prepared.level->isa);
    const auto read = [&](const char* argument, py::handle h, int64_t batch, int64_t size) {
      hominy_tensor t = describe_floating(op, argument, h);
      if (t.dtype != prepared.dtype)
        throw py::type_error(std::string("[") + op + "] " + argument + ": expected dtype " +
                             dtype_name(prepared.dtype) + ", got " + dtype_name(t.dtype));
      if (t.ndim != 2 || (batch >= 0 && t.shape[0] != batch) || t.shape[1] != size)
        raise_value(
            op, argument,
            "(batch" + (batch >= 0 ? "=" + std::to_string(batch) : std::string()) + ", " + std::to_string(size) + ")",
            shape_text(t));
      return t;
    };
    hominy_tensor x = read("input", x_array, -1, prepared.input);
    const int64_t batch = x.shape[0];
    hominy_tensor h = read("h", h_array, batch, prepared.state),
                  h_out = read("h_out", h_out_array, batch, prepared.state);
    hominy_tensor c, c_out;
    require_writeable(op, "h_out", h_out_array);
    hominy_recurrent_direction d = prepared.direction[0];
    if (prepared.cell.cell == HOMINY_CELL_LSTM) {
      d.c0 = &(c = read("c", c_array, batch, prepared.units));
      d.c_n = &(c_out = read("c_out", c_out_array, batch, prepared.units));
      require_writeable(op, "c_out", c_out_array);
    }
    if (d.c_n && batch > 0 && h_out.data == c_out.data)
      raise_value(op, "c_out", "memory apart from h_out's", "an overlap");
    const hominy_tensor *outs[] = {&h_out, d.c_n}, *ins[] = {&x, &h, d.c0};
    for (const hominy_tensor* out : outs)
      for (const hominy_tensor* in : ins)
        if (out && in && overlaps_partly(*in, *out))
          raise_value(op, out == &h_out ? "h_out" : "c_out", "no memory of an argument's, or exactly its",
                      "an overlap");
    // One step: (1, batch, ...).
    hominy_tensor steps = shaped(x, {1, batch, prepared.input}), y = shaped(x, {1, batch, prepared.state});
    steps.data = x.data;
    y.data = h_out.data;
    steps.strides[0] = y.strides[0] = 0;
    for (int i = 0; i < 2; ++i) {
      steps.strides[i + 1] = x.strides[i];
      y.strides[i + 1] = h_out.strides[i];
    }
    d.h0 = &h;
    d.y = &y;
    const auto run = [&](void* scratch, int64_t bytes) {
      unlocked without_lock(double(batch) * double(prepared.input + prepared.state) * double(prepared.units) > 1 << 18);
      return kernels->recurrent(&prepared.cell, &d, &steps, nullptr, nullptr, 0, scratch, bytes);
    };
    if (prepared.busy.exchange(true)) {  // another thread is at work with the scratch memory
      const int64_t bytes = kernels->recurrent_workspace_size(&prepared.cell, &d, &steps, nullptr);
      workspace own(bytes);
      require_ok(op, run(own.data(), bytes));
      return py::none();
    }
    struct release {
      std::atomic<bool>& flag;
      ~release() { flag.store(false); }
    } when_done{prepared.busy};
    if (prepared.scratch_batch != batch || prepared.scratch_row != x.strides[0]) {  // what its size depends on
      prepared.scratch_batch = -1;
      const int64_t bytes = kernels->recurrent_workspace_size(&prepared.cell, &d, &steps, nullptr);
      if (bytes > prepared.scratch_bytes) {
        pool_release(prepared.scratch);
        prepared.scratch_bytes = 0;
        prepared.scratch = pool_allocate(bytes);
        if (!prepared.scratch) throw std::bad_alloc();
        prepared.scratch_bytes = bytes;
      }
      prepared.scratch_batch = batch;
      prepared.scratch_row = x.strides[0];
    }
    require_ok(op, run(prepared.scratch, prepared.scratch_bytes));
    return py::none();
  });
}

}  // namespace

void bind_recurrent(py::module_& m) {
  py::class_<prepared_weights>(m, "PreparedRecurrent", "Weights packed for recurrent and recurrent_step.")
      .def_readonly("cell", &prepared_weights::cell_name)
      .def_readonly("hidden_size", &prepared_weights::units)
      .def_readonly("state_size", &prepared_weights::state)
      .def_readonly("input_size", &prepared_weights::input);
  m.def("recurrent", run_recurrent, py::arg("x"), py::arg("lengths"), py::arg("weights"), py::arg("h0"), py::arg("c0"),
        py::arg("cell"), py::arg("options"), py::arg("batch_first"), py::arg("reverse"), py::arg("keep"),
        py::arg("prepared") = py::none());
  m.def("recurrent_backward", run_recurrent_backward, py::arg("grad_y"), py::arg("grad_h"), py::arg("grad_c"),
        py::arg("x"), py::arg("lengths"), py::arg("weights"), py::arg("h0"), py::arg("c0"), py::arg("y"),
        py::arg("kept"), py::arg("cell"), py::arg("options"), py::arg("batch_first"), py::arg("reverse"),
        py::arg("needs"));
  m.def("recurrent_prepare", run_recurrent_prepare, py::arg("weights"), py::arg("cell"), py::arg("options"));
  m.def("recurrent_step", run_recurrent_step, py::arg("prepared"), py::arg("x"), py::arg("h"), py::arg("c"),
        py::arg("h_out"), py::arg("c_out"));
}

}  // namespace hominy
