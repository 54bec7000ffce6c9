// Forward, from the outside in:
//
//   recurrent        reads the call, packs weights, deals directions and rows out to threads
//   forward_walk     one direction, some rows: chunk after chunk of steps
//     multiply_input   x W + b of a chunk, as one product
//     take_step        h' R added tile by tile; each tile of sums goes through the cell while it lies in the
//                      first-level cache (recurrent_cell.hpp)
//     take_row         the same of a single row, with the input product of the next chunk beside it
//
// What differs between cells is in take_step's two stages, in start_apart and apply_cell.
#include "recurrent.hpp"

#include "recurrent_walk.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t chunk_rows = 128;  // of the input product: their gates are still in a near cache when steps read them
constexpr int64_t rows_by_step = 8;  // so many rows of a step make good panels

}  // namespace

template <class T>
HOMINY_SMALL forward_walk<T>::forward_walk(const recurrent_shape& shape, const hominy_recurrent_direction& direction,
                                           const cell_functions<T>& functions, const row_list& rows,
                                           const hominy_tensor* x, bool with_y, T* kept, bool keeps, bool computes,
                                           arena& workspace)
    : shape(shape),
      direction(direction),
      functions(functions),
      rows(rows),
      x(describe_sequence(x)),
      y(with_y ? describe_sequence(direction.y) : sequence{}),
      finishes(with_y),
      weights([&] {
        arena packed{static_cast<char*>(const_cast<void*>(direction.packed)), 0};
        return packed_weights<T>(shape, direction, direction.packed || !computes ? packed : workspace);
      }()),
      packs(!direction.packed),
      gates_first(0),
      keeps(keeps),
      computes(computes) {
  arena nowhere{nullptr, 0};
  arena& from = computes ? workspace : nowhere;
  const int64_t batch = shape.batch;
  h_row = state_row<T>(shape.padded_state);
  h[0] = from.take<T>(batch * h_row);
  h[1] = from.take<T>(batch * h_row);
  c = shape.cell == HOMINY_CELL_LSTM ? from.take<T>(batch * shape.padded) : nullptr;
  middle_row = state_row<T>(shape.padded);
  middle = shape.two_stages() ? from.take<T>(batch * middle_row) : nullptr;
  beside = batch == 1 && shape.input > 0 && !shape.two_stages();
  chunk_steps = beside ? int64_t(beside_rows) : parts_of(chunk_rows, maximum_of<int64_t>(batch, 1));
  chunk_steps = minimum_of(maximum_of<int64_t>(shape.steps, 1), chunk_steps);
  const bool whole = shape.rows == shape.steps * batch;
  const bool in_order = this->x.in_packed_order(batch, whole);
  merges = in_order || batch < rows_by_step;
  gathered = merges && !in_order ? from.take<T>(chunk_steps * batch * shape.input) : nullptr;
  cells = checkpoints = nullptr;
  slots = keeps ? shape.kept_gates : shape.gates;
  gates_row = shape.gates_row(slots);
  if (keeps) {
    gates = kept;
    cells = shape.cell == HOMINY_CELL_LSTM && kept ? kept + shape.rows * gates_row : nullptr;
  } else {
    gates = from.take<T>((beside ? 2 : 1) * chunk_steps * batch * gates_row + lanes<T>);
    checkpoints = shape.keeps_checkpoints() ? kept : nullptr;
  }
  row_sums = from.take<T>(shape.gates_row(shape.gates) + lanes<T>);
  ahead = from.take<place>(parts_of(shape.padded, block_units<T>));
}

// Rows that start at step s get their initial state, and, where a walk resumes, the others what the step before left.
template <class T>
HOMINY_SMALL void forward_walk<T>::begin_rows(int64_t s, int64_t b0, int64_t b1, bool resumes) {
  const int64_t known = maximum_of(b0, minimum_of(b1, active(s - 1))), now = minimum_of(b1, active(s));
  T* const state = h[s & 1];
  if (now > known) {
    copy_rows(rows_from<T>(describe_matrix(direction.h0), known), state + known * h_row, h_row, now - known,
              shape.state, shape.padded_state);
    if (c)
      copy_rows(rows_from<T>(describe_matrix(direction.c0), known), c + known * shape.padded, shape.padded, now - known,
                shape.units, shape.padded);
  }
  if (!resumes || known <= b0) return;
  const sequence from = describe_sequence(direction.y);
  const exact_rows<T> h_before{from.at(rows, time_of(s - 1), b0), from.row, from.element};
  copy_rows(h_before, state + b0 * h_row, h_row, known - b0, shape.state, shape.padded_state);
  if (c) {
    const T* const kept = checkpoints + (s / shape.keep_every - 1) * shape.batch * shape.padded;
    memcpy(c + b0 * shape.padded, kept + b0 * shape.padded, size_t((known - b0) * shape.padded) * sizeof(T));
  }
}

// Rows that took their last step leave their state.
template <class T>
HOMINY_SMALL void forward_walk<T>::end_rows(int64_t s, int64_t b0, int64_t b1) {
  const int64_t next = s + 1 < shape.steps ? active(s + 1) : 0;
  const int64_t first = maximum_of(b0, next), end = minimum_of(b1, active(s));
  if (first >= end) return;
  if (direction.h_n)
    copy_rows_out(h[(s + 1) & 1] + first * h_row, h_row, rows_from<T>(describe_matrix(direction.h_n), first),
                  end - first, shape.state);
  if (direction.c_n)
    copy_rows_out(c + first * shape.padded, shape.padded, rows_from<T>(describe_matrix(direction.c_n), first),
                  end - first, shape.units);
}

template <class T>
void forward_walk<T>::multiply_input(const chunk& part, int64_t tasks) {
  const int64_t t0 = part.t0, t1 = part.t1, b0 = part.b0, b1 = part.b1;
  constexpr int64_t size = sizeof(T);
  const int64_t blocks = parts_of(shape.padded, block_units<T>), k = shape.input;
  const auto multiply = [&](int64_t block, int64_t count, const char* a, int64_t a_row, int64_t a_step, T* out,
                            bool fetch) {
    const int64_t columns = round_up(shape.gates * shape.gate_units(block), lanes<T>);
    out += block * block_units<T> * slots;
    for (int64_t first = 0; first < columns; first += block_units<T>) {
      const int64_t width = minimum_of(block_units<T>, columns - first), next = first + block_units<T>;
      fetch_rows<1>(next < columns ? out + next : out + count * gates_row, gates_row, count, width);
      multiply_strip<T>(count, width, k, a, a_row, a_step,
                        strip_of<T>(weights.input, shape.gates, k, block, first / block_units<T>), fetch,
                        weights.bias + block * block_units<T> * shape.gates + first, 0, out + first, gates_row);
    }
  };
  const double work = double(rows.first[t1] - rows.first[t0]) * double(k) * double(shape.gates * shape.padded);
  if (tasks > 1) tasks = maximum_of<int64_t>(1, tasks_worth(work, 1 << 17, 4 * tasks));
  if (!part.merged) {
    const panel_list most(minimum_of(b1, maximum_of(rows.active(t0), rows.active(t1 - 1))) - b0);
    if (most.count <= 0) return;
    for_tiles(tasks, blocks, (t1 - t0) * most.count, [&](int64_t block, int64_t i) {
      const int64_t t = t0 + i / most.count, panel = i % most.count;
      const panel_list panels(maximum_of<int64_t>(0, minimum_of(b1, rows.active(t)) - b0));
      if (panel >= panels.count) return;
      const int64_t b = b0 + panels.begin(panel);
      multiply(block, panels.rows(panel), x.at(rows, t, b), x.row_stride(shape.batch), x.element, gates_at(part, t, b),
               i == 0);
    });
    return;
  }
  const char* from = x.at(rows, t0, 0);
  int64_t a_row = x.row_stride(shape.batch), a_step = x.element;
  if (gathered) {
    for (int64_t t = t0; t < t1; ++t)
      for (int64_t b = 0; b < rows.active(t); ++b) {
        T* const to = gathered + (rows.first[t] - rows.first[t0] + b) * k;
        const char* const row = x.at(rows, t, b);
        if (a_step == size)
          copy_elements(to, reinterpret_cast<const T*>(row), k);
        else
          for (int64_t i = 0; i < k; ++i) to[i] = load_scalar<T>(row + i * a_step);
      }
    from = reinterpret_cast<const char*>(gathered);
    a_row = k * size;
    a_step = size;
  }
  const panel_list panels(rows.first[t1] - rows.first[t0]);
  T* const out = gates_at(part, t0, 0);
  for_tiles(tasks, blocks, panels.count, [&](int64_t block, int64_t panel) {
    const int64_t r = panels.begin(panel);
    multiply(block, panels.rows(panel), from + r * a_row, a_row, a_step, out + r * gates_row, panel == 0);
  });
}

template <class T>
forward_panel<T> forward_walk<T>::panel_of(int64_t s, const chunk& part, int64_t r, int64_t count, int64_t block,
                                           int64_t units, int64_t width) const {
  const int64_t t = time_of(s), first = block * block_units<T>;
  forward_panel<T> p{};
  p.rows = count;
  p.units = minimum_of(width, units - first);
  p.width = width;
  p.gates = {gates_at(part, t, r) + first * slots, gates_row};
  p.gate = shape.gate_units(block);
  p.keeps = keeps;
  p.h_before = {h[s & 1] + r * h_row + first, h_row};
  p.h = {h[(s + 1) & 1] + r * h_row + first, h_row};
  if (middle) p.middle = {middle + r * middle_row + first, middle_row};
  if (c) p.c = {c + r * shape.padded + first, shape.padded};
  if (cells) p.cells = {cells + (rows.first[t] + r - gates_first) * shape.padded + first, shape.padded};
  if (weights.peephole) p.peephole = weights.peephole + first;
  p.peephole_row = shape.padded;
  if (y.data) p.y = {y.at(rows, t, r) + first * y.element, y.row, y.element};
  return p;
}

template <class T>
void forward_walk<T>::apply_cell(const forward_panel<T>& p) const {
  const bool fast = fast_type<T> && shape.standard, clips = functions.gate.clip < T(__builtin_inf());
  if (shape.cell == HOMINY_CELL_LSTM)
    fast ? lstm_forward<T, fast_type<T>>(p, functions) : lstm_forward<T, false>(p, functions);
  else if (shape.reset_before)
    gru_forward_reset<T>(p, functions);
  else if (shape.cell == HOMINY_CELL_GRU)
    fast ? gru_forward<T, fast_type<T>>(p, functions) : gru_forward<T, false>(p, functions);
  else if (functions.gate.code == HOMINY_GATE_TANH && !clips)
    rnn_forward<T>(p, [](vec<T> v) {
      if constexpr (fast_type<T>)
        return quick_tanh(v);
      else
        return tanh<T>(v);
    });
  else if (functions.gate.code == HOMINY_GATE_RELU && !clips)
    rnn_forward<T>(p, [](vec<T> v) { return at_least<T>(v, vec<T>{}); });
  else
    rnn_forward<T>(p, [&](vec<T> v) { return activate_gate<T>(functions.gate, v); });
}

// Sums start from what the input product left; gru's of n, which are multiplied by r, from their bias.
template <class T>
void forward_walk<T>::start_apart(const forward_panel<T>& p, int64_t block, T* sums, int64_t sums_row) const {
  for (int64_t i = 0; i < p.rows; ++i) {
    copy_elements(sums + i * sums_row, p.gates.at(i, 0), 2 * p.gate);
    copy_elements(sums + i * sums_row + 2 * p.gate, weights.recurrent_bias + block * block_units<T>, p.gate);
  }
}

template <class T>
void forward_walk<T>::take_step(int64_t s, const chunk& part, int64_t tasks) {
  constexpr int64_t size = sizeof(T);
  const int64_t t = time_of(s), row = part.b0, end = minimum_of(part.b1, rows.active(t));
  if (end <= row) return;
  const panel_list panels(end - row);
  const T* const before = h[s & 1];
  const int64_t in_product = shape.reset_before ? 2 : shape.gates;
  const int64_t blocks = parts_of(shape.padded, block_units<T>);
  for_tiles(tasks, blocks, panels.count, [&](int64_t block, int64_t panel) {
    alignas(64) T sums[(max_tile_rows * 4 * 2 + 1) * lanes<T>];
    const int64_t r = row + panels.begin(panel), count = panels.rows(panel), first = block * block_units<T>;
    forward_panel<T> p = panel_of(s, part, r, count, block, shape.units, block_width<T>(shape.padded, block));
    p.sums = sums;
    p.sums_row = round_up(in_product * p.gate, lanes<T>);
    p.fetch();
    const bool apart = shape.cell == HOMINY_CELL_GRU && !shape.reset_before, mixed = apart && p.gate < block_units<T>;
    if (mixed) start_apart(p, block, sums, p.sums_row);
    for (int64_t column = 0; column < p.sums_row; column += block_units<T>) {
      const int64_t strip = column / block_units<T>, next = column + block_units<T>;
      const bool of_n = apart && strip == 2, last = next >= p.sums_row;
      fetch_rows<0>(p.gates.at(last ? count : 0, last ? 0 : next), gates_row, count, block_units<T>);
      multiply_strip<T>(count, minimum_of(block_units<T>, p.sums_row - column), shape.state,
                        reinterpret_cast<const char*>(before + r * h_row), h_row * size, size,
                        strip_of<T>(weights.recurrent, shape.gates, shape.state, block, strip),
                        next_strip(panels, panel),
                        mixed  ? sums + column
                        : of_n ? weights.recurrent_bias + first
                               : p.gates.data + column,
                        mixed  ? p.sums_row
                        : of_n ? 0
                               : gates_row,
                        sums + column, p.sums_row);
    }
    apply_cell(p);
  });
  if (!shape.two_stages()) return;

  // The second product: h of lstm from what its projection reads, n of gru from r h'.
  const int64_t padded = shape.projected ? shape.padded_state : shape.padded;
  const int64_t columns = shape.projected ? shape.state : shape.units;
  for_tiles(tasks, parts_of(padded, block_units<T>), panels.count, [&](int64_t block, int64_t panel) {
    alignas(64) T sums[max_tile_rows * block_units<T>];
    alignas(64) const T zeros[block_units<T>] = {};
    const int64_t r = row + panels.begin(panel), count = panels.rows(panel);
    const int64_t width = block_width<T>(padded, block);
    forward_panel<T> p = panel_of(s, part, r, count, block, columns, width);
    p.sums = sums;
    p.sums_row = width;
    const T* const strip = shape.projected
                               ? strip_of<T>(weights.projection, 1, shape.units, block)
                               : strip_of<T>(weights.recurrent, 3, shape.units, block) + 2 * p.gate * shape.units;
    multiply_strip<T>(count, width, shape.units, reinterpret_cast<const char*>(middle + r * middle_row),
                      middle_row * size, size, strip, next_strip(panels, panel),
                      shape.projected ? zeros : p.gates.data + 2 * p.gate, shape.projected ? 0 : gates_row, sums,
                      width);
    if (shape.projected)
      rnn_forward<T>(p, [](vec<T> v) { return v; });
    else
      gru_forward_candidate<T>(p, functions);
  });
}

// A task's share of the strips of a product with one row.
template <class T>
struct forward_walk<T>::strip_range {
  int64_t block, blocks;      // the first, and how many
  int64_t first, whole, end;  // strips; up to `whole` they are two vectors wide
  strip_range(const recurrent_shape& s, int64_t tasks, int64_t task) {
    const share mine(parts_of(s.padded, block_units<T>), tasks, task);
    const int64_t columns = s.gates_row(s.gates), per_block = s.gates * block_units<T>;
    block = mine.first;
    blocks = mine.count;
    first = block * s.gates;
    end = parts_of(minimum_of(columns, (block + blocks) * per_block), block_units<T>);
    whole = minimum_of(end, columns / block_units<T>);
  }
};

// One row: a step is reading R. Two strips at a time, since the two sums of one would wait for each other, and beside
// them what is due of the input product of the next chunk. Odd steps go backwards and begin with what the one before
// read last.
template <class T>
void forward_walk<T>::take_row(int64_t s, const chunk& part, const chunk& next, int64_t tasks) {
  const int64_t t = time_of(s), k = shape.state;
  const bool back = s & 1, apart = shape.cell == HOMINY_CELL_GRU;
  const T* const before = h[s & 1] + part.b0 * h_row;
  tasks = strip_tasks(tasks);
  parallel_for(tasks, [&](int64_t task) __attribute__((noinline)) {
    const strip_range mine(shape, tasks, task);
    place at = ahead[task];
    const auto block_of = [&](int64_t block) {
      forward_panel<T> p = panel_of(s, part, part.b0, 1, block, shape.units, block_width<T>(shape.padded, block));
      p.sums = row_sums + block * block_units<T> * shape.gates;
      return p;
    };
    if (apart)
      for (int64_t block = mine.block; block < mine.block + mine.blocks; ++block) {
        const forward_panel<T> p = block_of(block);
        start_apart(p, block, p.sums, 0);
      }
    const T* const start = apart ? row_sums : gates_at(part, t, part.b0);
    const int64_t pairs = (mine.whole - mine.first) / 2, items = mine.end - mine.first - pairs;
    for (int64_t n = 0; n < items; ++n) {
      const int64_t i = back ? items - 1 - n : n;
      const int64_t column = (mine.first + i + minimum_of(i, pairs)) * block_units<T>;
      const T* const strips = weights.recurrent + column * k;
      if (i >= pairs)
        multiply_strip<T>(1, minimum_of(block_units<T>, shape.gates_row(shape.gates) - column), k,
                          reinterpret_cast<const char*>(before), 0, sizeof(T), strips, 0, start + column, 0,
                          row_sums + column, 0);
      else if (row_of_strips<T> row{k, before, strips, start + column, row_sums + column};
               !multiply_ahead(next, mine, at, &row))
        multiply_strips<T>(row);
    }
    ahead[task] = at;
    for (int64_t block = mine.block; block < mine.block + mine.blocks; ++block) apply_cell(block_of(block));
  });
}

// Goes on with the input product of a chunk of beside_rows rows: beside `row`, or without it to the end of a strip.
// False if nothing is left.
template <class T>
bool forward_walk<T>::multiply_ahead(const chunk& next, const strip_range& mine, place& at,
                                     const row_of_strips<T>* row) {
  if (!next.runs_beside()) return false;
  constexpr int64_t size = sizeof(T), strip_columns = block_units<T>;
  const int64_t k = shape.input, strip = mine.first + at.strip;
  const int64_t deep = row ? minimum_of(k - at.k, row->k / 2) : k - at.k;
  if (strip >= (row ? mine.whole : mine.end) || deep == 0) return false;
  const char* const a = x.at(rows, next.t0, 0) + at.k * x.element;
  const int64_t a_row = x.row_stride(shape.batch),
                width = minimum_of(strip_columns, shape.gates_row(shape.gates) - strip * strip_columns);
  const T* const b = weights.input + strip * strip_columns * k + at.k * width;
  const int64_t skipped = slots == shape.gates ? 0 : strip / shape.gates * (slots - shape.gates);
  T* const out = gates_at(next, next.t0, 0) + (strip + skipped) * strip_columns;
  const T* const start = at.k == 0 ? weights.bias + strip * strip_columns : out;
  const int64_t start_row = at.k == 0 ? 0 : gates_row;
  if (row)
    multiply_strips_beside_tile<T>(*row, deep, a, a_row, x.element, reinterpret_cast<const char*>(b),
                                   reinterpret_cast<const char*>(start), start_row * size, reinterpret_cast<char*>(out),
                                   gates_row * size);
  else
    multiply_strip<T>(beside_rows, width, deep, a, a_row, x.element, b, 0, start, start_row, out, gates_row);
  at.k += deep;
  if (at.k == k) at = {at.strip + 1, 0};
  return true;
}

// Multiplies the rest of the next chunk, which no row took along; false if that chunk is not one to run beside rows.
template <class T>
bool forward_walk<T>::finish_ahead(const chunk& next, int64_t tasks) {
  if (!next.runs_beside()) return false;
  tasks = strip_tasks(tasks);
  bool left = false;
  for (int64_t task = 0; task < tasks; ++task) {
    const strip_range its(shape, tasks, task);
    left |= ahead[task].strip < its.end - its.first;
  }
  if (left)
    parallel_for(tasks, [&](int64_t task) {
      while (multiply_ahead(next, strip_range(shape, tasks, task), ahead[task], nullptr)) {
      }
    });
  memset(ahead, 0, size_t(tasks) * sizeof *ahead);
  return true;
}

template <class T>
void forward_walk<T>::run(int64_t begin, int64_t end, int64_t b0, int64_t b1, int64_t tasks) {
  const bool alone = b1 - b0 == shape.batch;  // not one of several tasks with rows of their own
  const auto chunk_from = [&](int64_t s) {
    const int64_t until = minimum_of(end, s + chunk_steps), t0 = minimum_of(time_of(s), time_of(until - 1));
    return chunk{t0, t0 + until - s, b0, b1, merges && alone, beside && (s / chunk_steps & 1)};
  };
  if (beside) memset(ahead, 0, size_t(parts_of(shape.padded, block_units<T>)) * sizeof *ahead);
  bool ready = false;
  for (int64_t s = begin; s < end;) {
    const chunk part = chunk_from(s), next = beside && s + chunk_steps < end ? chunk_from(s + chunk_steps) : chunk{};
    if (!ready) multiply_input(part, tasks);
    for (const int64_t until = s + part.t1 - part.t0; s < until; ++s) {
      if (checkpoints && finishes && s == 0)  // rows that begin later are copied, too
        memset(c + b0 * shape.padded, 0, size_t((b1 - b0) * shape.padded) * sizeof(T));
      if (checkpoints && finishes && s > 0 && s % shape.keep_every == 0)
        memcpy(checkpoints + ((s / shape.keep_every - 1) * shape.batch + b0) * shape.padded, c + b0 * shape.padded,
               size_t((b1 - b0) * shape.padded) * sizeof(T));
      begin_rows(s, b0, b1, s == begin && s > 0);
      if (alone && active(s) == 1 && !shape.two_stages())
        take_row(s, part, next, tasks);
      else
        take_step(s, part, tasks);
      if (finishes) end_rows(s, b0, b1);
    }
    ready = finish_ahead(next, tasks);
  }
}

template struct forward_walk<float>;
template struct forward_walk<double>;

// ---- The call -------------------------------------------------------------------------------------------------------

namespace {

// Zero where rows have ended, and the states of rows without a step.
template <class T>
HOMINY_SMALL void fill_the_rest(const recurrent_shape& s, const row_list& rows, const hominy_recurrent_direction& d) {
  const sequence y = describe_sequence(d.y);
  if (!y.packed)
    for (int64_t t = 0; t < s.time; ++t)
      for (int64_t b = rows.active(t); b < s.batch; ++b)
        for (int64_t j = 0; j < s.state; j += lanes<T>)
          exact_rows<T>{y.at(rows, t, b), 0, y.element}.put(0, j, vec<T>{}, s.state - j);
  const auto copy_state = [&](const hominy_tensor* from, const hominy_tensor* to, int64_t units) {
    const int64_t first = rows.active(0);
    if (!to) return;
    const exact_rows<T> source = rows_from<T>(describe_matrix(from), first),
                        target = rows_from<T>(describe_matrix(to), first);
    for (int64_t r = 0; r < s.batch - first; ++r)
      for (int64_t j = 0; j < units; j += lanes<T>) target.put(r, j, source.get(r, j, units - j), units - j);
  };
  copy_state(d.h0, d.h_n, s.state);
  copy_state(d.c0, d.c_n, s.units);
}

template <class T>
HOMINY_SMALL hominy_status recurrent_of(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                                        const hominy_tensor* x, const hominy_tensor* lengths, void* kept,
                                        int64_t kept_size, char* workspace, int64_t* workspace_size) {
  recurrent_shape shape;
  hominy_status status = read_problem(cell, directions, x, lengths, &shape);
  if (status != HOMINY_OK) return status;
  const bool measures = !workspace && *workspace_size < 0;
  if (!measures) {
    status = check_directions(shape, directions, x, true);
    if (status != HOMINY_OK) return status;
    if (kept && kept_size != shape.directions * shape.kept() * int64_t(sizeof(T))) return HOMINY_BAD_VALUE;
  }
  const bool keeps = shape.keeps_gates() && (kept || measures);
  const cell_functions<T> functions = make_functions<T>(cell);
  arena from{workspace, 0};
  int64_t* const first = from.take<int64_t>(shape.steps + 1);
  const row_list rows{shape.steps, first};
  const auto walk_of = [&](int i) {
    T* const its_kept = kept ? static_cast<T*>(kept) + i * shape.kept() : nullptr;
    return forward_walk<T>(shape, directions[i], functions, rows, x, !measures, its_kept, keeps && kept, true, from);
  };
  if (measures) {
    for (int i = 0; i < shape.directions; ++i) walk_of(i);
    *workspace_size = from.used;
    return HOMINY_OK;
  }
  {
    arena counted{nullptr, 0};
    counted.take<int64_t>(shape.steps + 1);
    for (int i = 0; i < shape.directions; ++i)
      forward_walk<T>(shape, directions[i], functions, rows, x, true, nullptr, keeps, true, counted);
    if (*workspace_size < counted.used || !workspace) return HOMINY_NO_WORKSPACE;
  }
  if (!list_rows(shape, lengths, first)) return HOMINY_BAD_VALUE;
  forward_walk<T> walks[] = {walk_of(0), walk_of(shape.directions - 1)};  // the same twice, if there is one
  for (int i = 0; i < shape.directions; ++i) {
    walks[i].pack();
    fill_the_rest<T>(shape, rows, directions[i]);
  }
  const task_plan tasks = plan_tasks(shape);
  const auto run = [&](int64_t task) {
    const share mine(shape.batch, tasks.row_tasks, task / shape.directions);
    if (mine.count > 0)
      walks[task % shape.directions].run(0, shape.steps, mine.first, mine.first + mine.count, tasks.step_tasks);
  };
  if (tasks.step_tasks > 1)
    for (int i = 0; i < shape.directions; ++i) run(i);
  else
    parallel_for(shape.directions * tasks.row_tasks, run);
  return HOMINY_OK;
}

}  // namespace

int64_t recurrent_packed_size(const hominy_recurrent* cell, const hominy_recurrent_direction* direction) {
  const auto measure = [&](auto zero) -> int64_t {
    using T = decltype(zero);
    recurrent_shape shape;
    if (read_cell(cell, direction, &shape) != HOMINY_OK) return 0;
    arena from{nullptr, 0};
    packed_weights<T>(shape, *direction, from);
    return from.used;
  };
  if (!direction->w_ih) return 0;
  return direction->w_ih->dtype == HOMINY_FLOAT32 ? measure(0.0f) : measure(0.0);
}

hominy_status recurrent_pack(const hominy_recurrent* cell, const hominy_recurrent_direction* direction, void* packed,
                             int64_t packed_size) {
  const auto pack = [&](auto zero) {
    using T = decltype(zero);
    recurrent_shape shape;
    const hominy_status status = read_cell(cell, direction, &shape);
    if (status != HOMINY_OK) return status;
    if (!packed || packed_size < recurrent_packed_size(cell, direction)) return HOMINY_NO_WORKSPACE;
    arena from{static_cast<char*>(packed), 0};
    packed_weights<T>(shape, *direction, from).fill(shape, *direction);
    return HOMINY_OK;
  };
  if (!direction->w_ih) return HOMINY_BAD_SHAPE;
  return direction->w_ih->dtype == HOMINY_FLOAT32 ? pack(0.0f) : pack(0.0);
}

int64_t recurrent_kept_size(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                            const hominy_tensor* x, const hominy_tensor* lengths) {
  const auto measure = [&](auto zero) -> int64_t {
    using T = decltype(zero);
    recurrent_shape shape;
    if (read_problem(cell, directions, x, lengths, &shape) != HOMINY_OK) return 0;
    return shape.directions * shape.kept() * int64_t(sizeof(T));
  };
  return x->dtype == HOMINY_FLOAT32 ? measure(0.0f) : measure(0.0);
}

int64_t recurrent_workspace_size(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                                 const hominy_tensor* x, const hominy_tensor* lengths) {
  int64_t size = -1;
  const hominy_status status = x->dtype == HOMINY_FLOAT32
                                   ? recurrent_of<float>(cell, directions, x, lengths, nullptr, 0, nullptr, &size)
                                   : recurrent_of<double>(cell, directions, x, lengths, nullptr, 0, nullptr, &size);
  return status == HOMINY_OK ? size : 0;
}

hominy_status recurrent(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                        const hominy_tensor* x, const hominy_tensor* lengths, void* kept, int64_t kept_size,
                        void* workspace, int64_t workspace_size) {
  if (workspace_size < 0) workspace_size = 0;
  char* const scratch = static_cast<char*>(workspace);
  if (x->dtype == HOMINY_FLOAT32)
    return recurrent_of<float>(cell, directions, x, lengths, kept, kept_size, scratch, &workspace_size);
  if (x->dtype == HOMINY_FLOAT64)
    return recurrent_of<double>(cell, directions, x, lengths, kept, kept_size, scratch, &workspace_size);
  return HOMINY_BAD_DTYPE;
}

}  // namespace hominy::HOMINY_LEVEL
