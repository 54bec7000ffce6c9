// Reading and checking a call, packing weights.
#include "recurrent_problem.hpp"

namespace hominy::HOMINY_LEVEL {

namespace {
int64_t lanes_of(int32_t dtype) { return dtype == HOMINY_FLOAT32 ? lanes<float> : lanes<double>; }
}  // namespace

HOMINY_SMALL hominy_status check_array(const hominy_tensor* t, int32_t dtype, int ndim, int64_t n0, int64_t n1,
                                       int64_t n2) {
  if (!t) return HOMINY_OK;
  if (t->dtype != dtype) return HOMINY_BAD_DTYPE;
  if (t->ndim != ndim) return HOMINY_BAD_SHAPE;
  const int64_t expected[] = {n0, n1, n2};
  for (int d = 0; d < ndim; ++d)
    if (t->shape[d] < 0 || t->shape[d] != expected[d]) return HOMINY_BAD_SHAPE;
  return HOMINY_OK;
}

HOMINY_SMALL hominy_status read_cell(const hominy_recurrent* cell, const hominy_recurrent_direction* d,
                                     recurrent_shape* shape) {
  recurrent_shape& s = *shape;
  s = {};
  s.cell = cell->cell;
  s.directions = cell->directions;
  if (s.cell < HOMINY_CELL_RNN || s.cell > HOMINY_CELL_GRU || s.directions < 1 || s.directions > 2)
    return HOMINY_BAD_VALUE;
  const int functions = s.cell == HOMINY_CELL_LSTM ? 3 : s.cell == HOMINY_CELL_GRU ? 2 : 1;
  static const int32_t usual[] = {HOMINY_GATE_SIGMOID, HOMINY_GATE_TANH, HOMINY_GATE_TANH};
  s.standard = s.cell != HOMINY_CELL_RNN && !(cell->clip > 0) && !cell->coupled && !cell->reset_before;
  for (int i = 0; i < functions; ++i) {
    if (cell->activation[i] < HOMINY_GATE_SIGMOID || cell->activation[i] > HOMINY_GATE_SOFTPLUS)
      return HOMINY_BAD_VALUE;
    s.standard &= cell->activation[i] == usual[i];
  }
  if (cell->clip < 0 || cell->clip != cell->clip || cell->keep_every < 1) return HOMINY_BAD_VALUE;
  s.keep_every = cell->keep_every;
  s.reset_before = s.cell == HOMINY_CELL_GRU && cell->reset_before;
  s.gates = s.cell == HOMINY_CELL_LSTM ? 4 : s.cell == HOMINY_CELL_GRU ? 3 : 1;
  s.kept_gates = s.cell == HOMINY_CELL_RNN ? 0 : s.reset_before ? 3 : 4;
  if (!d->w_ih || !d->w_hh || d->w_ih->ndim != 2 || d->w_hh->ndim != 2) return HOMINY_BAD_SHAPE;
  const int32_t dtype = s.dtype = d->w_ih->dtype;
  if (dtype != HOMINY_FLOAT32 && dtype != HOMINY_FLOAT64) return HOMINY_BAD_DTYPE;
  if (d->w_ih->shape[0] <= 0 || d->w_ih->shape[0] % s.gates != 0) return HOMINY_BAD_SHAPE;
  s.units = d->w_ih->shape[0] / s.gates;
  s.input = d->w_ih->shape[1];
  s.projected = d->w_hr != nullptr;
  if (s.projected && (s.cell != HOMINY_CELL_LSTM || d->w_hr->ndim != 2)) return HOMINY_BAD_SHAPE;
  s.state = s.projected ? d->w_hr->shape[0] : s.units;
  if (s.state < 1 || s.input < 0) return HOMINY_BAD_SHAPE;
  if (d->peephole) {
    if (s.cell != HOMINY_CELL_LSTM) return HOMINY_BAD_SHAPE;
    s.standard = false;
  }
  constexpr double most = 1e18;
  if (16.0 * sizeof(double) * (double(s.units) + 64) * (double(s.input) + double(s.state) + 64) > most)
    return HOMINY_OVERFLOW;
  const int64_t rows = s.gates * s.units;
  const hominy_status checks[] = {check_array(d->w_ih, dtype, 2, rows, s.input),
                                  check_array(d->w_hh, dtype, 2, rows, s.state),
                                  check_array(d->b_ih, dtype, 1, rows),
                                  check_array(d->b_hh, dtype, 1, rows),
                                  check_array(d->w_hr, dtype, 2, s.state, s.units),
                                  check_array(d->peephole, dtype, 2, 3, s.units)};
  for (hominy_status status : checks)
    if (status != HOMINY_OK) return status;
  s.vector = lanes_of(dtype);
  s.padded = round_up(s.units, s.vector);
  s.padded_state = round_up(s.state, s.vector);
  return HOMINY_OK;
}

HOMINY_SMALL hominy_status read_problem(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                                        const hominy_tensor* x, const hominy_tensor* lengths, recurrent_shape* shape) {
  recurrent_shape& s = *shape;
  hominy_status status = read_cell(cell, directions, shape);
  if (status != HOMINY_OK) return status;
  if (s.directions == 2) {
    recurrent_shape second;
    status = read_cell(cell, directions + 1, &second);
    if (status != HOMINY_OK) return status;
    if (second.dtype != s.dtype || second.input != s.input || second.units != s.units || second.state != s.state)
      return HOMINY_BAD_SHAPE;
    s.standard &= second.standard;
  }
  if (x->dtype != s.dtype) return HOMINY_BAD_DTYPE;
  const bool packed = x->ndim == 2;
  if ((!packed && x->ndim != 3) || (packed && !lengths)) return HOMINY_BAD_SHAPE;
  for (int d = 0; d < x->ndim; ++d)
    if (x->shape[d] < 0) return HOMINY_BAD_SHAPE;
  if (x->shape[x->ndim - 1] != s.input) return HOMINY_BAD_SHAPE;
  if (!packed) {
    s.steps = s.time = x->shape[0];
    s.batch = x->shape[1];
  }
  constexpr double most = 1e18;
  const double widest = 16.0 * sizeof(double) * (double(s.units) + double(s.state) + double(s.input) + 64);
  if (widest * (double(s.steps) + 2) * (double(s.batch) + 2) > most) return HOMINY_OVERFLOW;
  s.rows = s.steps * s.batch;
  if (lengths) {
    if (lengths->dtype != HOMINY_INT64) return HOMINY_BAD_DTYPE;
    if (lengths->ndim != 1 || lengths->shape[0] < 0 || (!packed && lengths->shape[0] != s.batch))
      return HOMINY_BAD_SHAPE;
    s.batch = lengths->shape[0];
    s.rows = 0;
    int64_t before = x->shape[0];
    s.steps = 0;
    for (int64_t b = 0; b < s.batch; ++b) {
      const int64_t length = load_scalar<int64_t>(static_cast<const char*>(lengths->data) + b * lengths->strides[0]);
      if (length < 0 || length > before) return HOMINY_BAD_VALUE;
      if (b == 0) s.steps = length;
      before = length;
      if (__builtin_add_overflow(s.rows, length, &s.rows)) return HOMINY_OVERFLOW;
    }
    if (packed && s.rows != x->shape[0]) return HOMINY_BAD_VALUE;
    if (widest * (double(s.steps) + 2) * (double(s.batch) + 2) > most) return HOMINY_OVERFLOW;
  }
  return HOMINY_OK;
}

HOMINY_SMALL hominy_status check_directions(const recurrent_shape& s, const hominy_recurrent_direction* directions,
                                            const hominy_tensor* x, bool forward) {
  const int32_t dtype = s.dtype;
  for (int i = 0; i < s.directions; ++i) {
    const hominy_recurrent_direction& d = directions[i];
    if (!d.y) return HOMINY_BAD_SHAPE;
    const bool has_cells = s.cell == HOMINY_CELL_LSTM;
    if (!has_cells && (d.c0 || (forward && d.c_n))) return HOMINY_BAD_SHAPE;
    const hominy_status checks[] = {x->ndim == 2 ? check_array(d.y, dtype, 2, s.rows, s.state)
                                                 : check_array(d.y, dtype, 3, s.time, s.batch, s.state),
                                    check_array(d.h0, dtype, 2, s.batch, s.state),
                                    check_array(d.c0, dtype, 2, s.batch, s.units),
                                    forward ? check_array(d.h_n, dtype, 2, s.batch, s.state) : HOMINY_OK,
                                    forward ? check_array(d.c_n, dtype, 2, s.batch, s.units) : HOMINY_OK};
    for (hominy_status status : checks)
      if (status != HOMINY_OK) return status;
  }
  return HOMINY_OK;
}

HOMINY_SMALL bool list_rows(const recurrent_shape& s, const hominy_tensor* lengths, int64_t* first) {
  for (int64_t t = 0; t <= s.steps; ++t) first[t] = lengths ? 0 : t * s.batch;
  if (!lengths) return true;
  int64_t total = 0, before = s.steps;
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t length = load_scalar<int64_t>(static_cast<const char*>(lengths->data) + b * lengths->strides[0]);
    if (length < 0 || length > before || (total += length) > s.rows) return false;
    // Steps from `length` on have b rows.
    for (int64_t t = length; t < before; ++t) first[t + 1] = b;
    before = length;
  }
  for (int64_t t = 0; t < before; ++t) first[t + 1] = s.batch;
  for (int64_t t = 0; t < s.steps; ++t) first[t + 1] += first[t];
  return total == s.rows;
}

namespace {

// f(i) for i < count, on threads where `elements` are many.
template <class F>
void deal_out(int64_t count, int64_t elements, F f) {
  const int64_t tasks = elements < 1 << 15 ? 1 : minimum_of<int64_t>(count, 16);
  parallel_for(tasks, [&](int64_t task) {
    const share mine(count, tasks, task);
    for (int64_t i = mine.first; i < mine.first + mine.count; ++i) f(i);
  });
}

}  // namespace

template <class T>
void pack_gates(T* packed, const matrix& w, const recurrent_shape& s, int64_t k) {
  deal_out(parts_of(s.units, block_units<T>) * s.gates, s.gates * s.units * k, [&](int64_t i) {
    const int64_t block = i / s.gates, strip = i % s.gates, first = block * block_units<T>;
    const int64_t of_gate = s.gate_units(block), columns = round_up(of_gate * s.gates, lanes<T>);
    const int64_t begin = strip * block_units<T>, end = minimum_of(begin + block_units<T>, columns);
    T* const to = strip_of<T>(packed, s.gates, k, block, strip);
    for (int64_t column = begin; column < end;) {  // the part of each gate
      const int64_t gate = minimum_of(column / of_gate, s.gates - 1), unit = column - gate * of_gate;
      const int64_t next = gate + 1 < s.gates ? minimum_of(end, (gate + 1) * of_gate) : end;
      const int64_t exist =
          maximum_of<int64_t>(0, minimum_of(minimum_of(of_gate, s.units - first) - unit, next - column));
      const char* const from = w.data + (gate * s.units + first + (exist > 0 ? unit : 0)) * w.row;
      pack_columns<T>(to + column - begin, next - column, end - begin, from, w.column, w.row, k, exist);
      column = next;
    }
  });
}

template <class T>
void pack_weights(T* packed, const matrix& w, bool transposed, int64_t units, int64_t k) {
  const int64_t padded = round_up(units, lanes<T>);
  deal_out(parts_of(padded, block_units<T>), units * k, [&](int64_t block) {
    const int64_t first = block * block_units<T>, width = block_width<T>(padded, block);
    const char* const from = w.data + first * (transposed ? w.column : w.row);
    pack_rows<T>(strip_of<T>(packed, 1, k, block), width, from, transposed ? w.row : w.column,
                 transposed ? w.column : w.row, k, minimum_of(width, units - first));
  });
}

template <class T>
HOMINY_SMALL void pack_peephole(T* to, const recurrent_shape& s, const hominy_recurrent_direction& d) {
  const matrix p = describe_matrix(d.peephole);
  for (int64_t g = 0; g < 3; ++g)
    for (int64_t j = 0; j < s.padded; ++j)
      to[g * s.padded + j] = j < s.units ? load_scalar<T>(p.data + g * p.row + j * p.column) : T(0);
}

template <class T>
HOMINY_SMALL packed_weights<T>::packed_weights(const recurrent_shape& s, const hominy_recurrent_direction& d,
                                               arena& from) {
  const int64_t columns = s.gates_row(s.gates);
  input = from.take<T>(columns * s.input);
  recurrent = from.take<T>(columns * s.state);
  projection = s.projected ? from.take<T>(s.padded_state * s.units) : nullptr;
  bias = from.take<T>(columns);
  recurrent_bias = s.cell == HOMINY_CELL_GRU ? from.take<T>(s.padded) : nullptr;
  peephole = d.peephole ? from.take<T>(3 * s.padded) : nullptr;
}

template <class T>
HOMINY_SMALL void packed_weights<T>::fill(const recurrent_shape& s, const hominy_recurrent_direction& d) {
  pack_gates<T>(input, describe_matrix(d.w_ih), s, s.input);
  pack_gates<T>(recurrent, describe_matrix(d.w_hh), s, s.state);
  if (projection) pack_weights<T>(projection, describe_matrix(d.w_hr), false, s.state, s.units);
  const matrix b_ih = describe_matrix(d.b_ih), b_hh = describe_matrix(d.b_hh);
  const auto element = [](const matrix& m, int64_t i) { return m.data ? load_scalar<T>(m.data + i * m.column) : T(0); };
  memset(bias, 0, size_t(s.gates_row(s.gates)) * sizeof(T));
  if (recurrent_bias) memset(recurrent_bias, 0, size_t(s.padded) * sizeof(T));
  for (int64_t g = 0; g < s.gates; ++g)
    for (int64_t j = 0; j < s.units; ++j) {
      const int64_t block = j / block_units<T>, first = block * block_units<T>;
      const bool apart = recurrent_bias && g == 2 && !s.reset_before;
      const T of_input = element(b_ih, g * s.units + j), of_state = element(b_hh, g * s.units + j);
      bias[first * s.gates + g * s.gate_units(block) + j - first] = apart ? of_input : of_input + of_state;
      if (apart) recurrent_bias[j] = of_state;
    }
  if (peephole) pack_peephole(peephole, s, d);
}

template void pack_weights(float*, const matrix&, bool, int64_t, int64_t);
template void pack_weights(double*, const matrix&, bool, int64_t, int64_t);
template void pack_peephole(float*, const recurrent_shape&, const hominy_recurrent_direction&);
template void pack_peephole(double*, const recurrent_shape&, const hominy_recurrent_direction&);
template struct packed_weights<float>;
template struct packed_weights<double>;

HOMINY_SMALL task_plan plan_tasks(const recurrent_shape& s) {
  const int64_t threads = num_threads();
  if (threads <= s.directions) return {1, 1};
  const double weights =
      double(s.gates) * double(s.padded) * double(s.state) * double(vector_bytes / lanes_of(s.dtype));
  const int64_t wanted = parts_of(threads, s.directions);
  // Fewer than six rows take as long as six: reading the weights decides.
  if (s.batch >= 6 * wanted && weights <= 768 * 1024) return {wanted, 1};
  const double rows = double(maximum_of<int64_t>(s.batch, 6)) / s.directions;
  const double work = double(s.gates) * double(s.units) * double(s.state) * rows;
  if (s.directions == 2 && threads < 4) return {1, 1};
  return {1, maximum_of<int64_t>(1, tasks_worth(work, 1 << 17, threads))};
}

}  // namespace hominy::HOMINY_LEVEL
