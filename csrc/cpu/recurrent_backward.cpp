// Backward, from the outside in:
//
//   recurrent_backward   reads the call; blocks of steps, from the last to the first:
//     forward_walk         where gates were not kept: the block's steps once more
//     backward_walk        one direction, some rows, step by step:
//       take_step            gradient of h = gradient of y + (gradients of the later step's gates) R, tile by tile;
//                            each goes through the cell while it lies in the first-level cache (recurrent_cell.hpp)
//     add_weights, multiply_x   the gradients of weights and of x: products over all rows of the block
//
// The gradients of the gates' arguments, d, are the one thing that is written for every step. Both kinds of products
// read them where they lie: as rows for the gradients of h and x, as columns for those of weights.
#include "elementwise.hpp"
#include "matmul_dots.hpp"
#include "recurrent.hpp"
#include "recurrent_walk.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t added_rows = 256;  // whose contributions to a weight are summed apart
// A block of steps: its d stays in a near cache for the products that read it, unless so few rows are in it that adding
// to the weights' gradients would take as long.
constexpr int64_t block_bytes = 1 << 20, least_rows = added_rows, most_rows = 512;

HOMINY_SMALL int64_t steps_in_block(const recurrent_shape& s) {
  if (s.keep_every > 1) return minimum_of(s.keep_every, maximum_of<int64_t>(s.steps, 1));
  const int64_t row = s.gates * s.units * (vector_bytes / s.vector);
  const int64_t rows = maximum_of(least_rows, minimum_of(most_rows, block_bytes / row));
  const int64_t most = maximum_of<int64_t>(1, rows / maximum_of<int64_t>(s.batch, 1));
  return parts_of(maximum_of<int64_t>(s.steps, 1), parts_of(maximum_of<int64_t>(s.steps, 1), most));
}

int64_t tasks_for(double multiply_adds, int64_t items) {
  return maximum_of<int64_t>(1, minimum_of(items, minimum_of<int64_t>(64, int64_t(multiply_adds / (1 << 19)))));
}

// Rows in strips: `rows` times two vectors of columns each, the last strip perhaps one vector wide. Up to half a vector
// of columns may be left for products that take them the other way round, as rows of `left` elements behind the strips:
// of 100 columns 4, which as a vector of their own cost a twentieth of the whole.
template <class T>
struct row_strips {
  T* data;
  int64_t padded, left, rows;

  static row_strips measure(int64_t columns, bool leaves) {
    const int64_t rest = columns % lanes<T>, left = leaves && rest <= lanes<T> / 2 ? rest : 0;
    return {nullptr, left ? columns - left : round_up(columns, lanes<T>), left, 0};
  }
  int64_t all() const { return left ? padded + lanes<T> : padded; }  // columns, in whole vectors
  T* left_at(int64_t r) const { return data + padded * rows + r * left; }
  int64_t width(int64_t strip) const { return block_width<T>(padded, strip); }
  T* at(int64_t strip, int64_t r) const { return data + strip * block_units<T> * rows + r * width(strip); }

  // Rows r .. r + count - 1 <- the caller's, or zeros.
  void fill(int64_t r, const exact_rows<T>& from, int64_t count, int64_t columns) const {
    for (int64_t strip = 0; strip * block_units<T> < padded; ++strip)
      for (int64_t i = 0; i < count; ++i)
        for (int64_t j = 0; j < width(strip); j += lanes<T>) {
          const int64_t column = strip * block_units<T> + j;
          store(at(strip, r + i) + j, from.get(i, column, maximum_of<int64_t>(0, columns - column)));
        }
    for (int64_t i = 0; left && i < count; ++i) store_partial(left_at(r + i), from.get(i, padded, left), left);
  }
};

// sums += the sums of `columns` columns of d over `rows` rows.
template <class T>
void add_columns(const T* d, int64_t d_row, int64_t rows, int64_t columns, T* sums) {
  for (int64_t j = 0; j < columns; j += lanes<T>) {
    const int64_t count = minimum_of<int64_t>(lanes<T>, columns - j);
    vec<T> sum[4] = {};
    for (int64_t r = 0; r < rows; ++r) sum[r % 4] += load_partial(d + r * d_row + j, count);
    store_partial(sums + j, load_partial(sums + j, count) + ((sum[0] + sum[1]) + (sum[2] + sum[3])), count);
  }
}

// The block of two vectors of d's columns in d^T times the columns that the strips leave.
template <class T>
void add_left(const T* d, int64_t d_row, int64_t columns, int64_t block, const row_strips<T>& strips, int64_t r0,
              int64_t deep, T* sums) {
  constexpr int64_t size = sizeof(T);
  alignas(64) T tile[max_tile_rows * block_units<T>];
  alignas(64) const T zeros[block_units<T>] = {};
  const int64_t first = block * block_units<T>, count = minimum_of(block_units<T>, columns - first),
                width = round_up(count, lanes<T>);
  tiles<T>().by[width > lanes<T>][strips.left](
      deep, reinterpret_cast<const char*>(strips.left_at(r0)), size, strips.left * size,
      reinterpret_cast<const char*>(d + r0 * d_row + first), d_row * size, 0, reinterpret_cast<const char*>(zeros), 0,
      reinterpret_cast<char*>(tile), width * size);
  for (int64_t j = 0; j < count; ++j)
    for (int64_t i = 0; i < strips.left; ++i)
      sums[(first + j) * strips.all() + strips.padded + i] += tile[i * width + j];
}

// sums (columns, strips.all()) += d^T strips, for `columns` columns of d; column_sums (columns), unless it is nullptr,
// += theirs. Every element is a chain of sums over added_rows rows each.
template <class T>
void add_outer_products(const T* d, int64_t d_row, int64_t columns, const row_strips<T>& strips, T* sums,
                        T* column_sums) {
  constexpr int64_t size = sizeof(T);
  if (strips.rows == 0 || columns == 0) return;
  const panel_list panels(columns);
  const int64_t across = maximum_of<int64_t>(1, parts_of(strips.padded, block_units<T>)), whole = panels.count * across,
                items = whole + (strips.left ? parts_of(columns, block_units<T>) : 0), row = strips.all();
  const int64_t tasks = num_threads() == 1 ? 1 : tasks_for(double(columns) * double(row) * double(strips.rows), items);
  parallel_for(tasks, [&](int64_t task) {
    const share mine(items, tasks, task);
    for (int64_t r0 = 0; r0 < strips.rows; r0 += added_rows) {
      const int64_t deep = minimum_of(added_rows, strips.rows - r0);
      for (int64_t i = mine.first; i < mine.first + mine.count; ++i) {
        if (i >= whole) {
          add_left(d, d_row, columns, i - whole, strips, r0, deep, sums);
          continue;
        }
        alignas(64) T tile[max_tile_rows * block_units<T>];
        alignas(64) const T zeros[block_units<T>] = {};
        const int64_t strip = i / panels.count, panel = i % panels.count, width = strips.width(strip);
        const int64_t column = panels.begin(panel), count = panels.rows(panel);
        T* const to = sums + column * row + strip * block_units<T>;
        for (int64_t k = 0; k < count; ++k)
          for (int64_t j = 0; j < width; j += 64 / size) __builtin_prefetch(to + k * row + j, 1);
        if (width > 0)
          tiles<T>().by[width > lanes<T>][count](deep, reinterpret_cast<const char*>(d + r0 * d_row + column), size,
                                                 d_row * size, reinterpret_cast<const char*>(strips.at(strip, r0)),
                                                 width * size, 0, reinterpret_cast<const char*>(zeros), 0,
                                                 reinterpret_cast<char*>(tile), width * size);
        for (int64_t k = 0; k < count; ++k)
          for (int64_t j = 0; j < width; j += lanes<T>) {
            T* const p = to + k * row + j;
            store(p, load(p) + load(tile + k * width + j));
          }
        if (column_sums && strip == 0) add_columns(d + r0 * d_row + column, d_row, deep, count, column_sums + column);
      }
    }
  });
}

// The layout of d, one gate beside the other:
//   rnn d_h;  lstm d_i, d_f, d_g, d_o;  gru d_r, d_z, d_n, r d_n: the last in place of d_n where h' R is concerned, but
//   not with the reset before the product.
template <class T>
struct backward_walk {
  const recurrent_shape& shape;
  const hominy_recurrent_direction& direction;
  const hominy_recurrent_gradients& gradients;
  const cell_functions<T>& functions;
  row_list rows;
  sequence y, y_gradient;
  int64_t d_gates, d_row, gate_rows;  // gate_rows: of W

  forward_walk<T> again;  // its gates are what this walk reads
  T* recurrent;           // R, packed for products with d
  T* projection;          // the same of w_hr
  T* h_gradient;          // of h, from later blocks of steps or from h_n: (batch, padded_state)
  T* c_gradient;          // lstm: (batch, padded)
  T* through;             // gru: (batch, padded)
  T* c_start;             // lstm: c0 (batch, padded)
  T* peephole;            // (3, padded), or nullptr
  T* d;
  row_strips<T> x_rows, h_before;  // x and h' of each row
  row_strips<T> middle;            // gru with the reset before the product: r h'; lstm with a projection: h before it
  T* projected;                    // gradient of the projection: (rows, projected_row)
  int64_t projected_row;
  T* input;                                    // W, packed for products with d: strips, then rows of columns left
  T *of_input, *of_recurrent, *of_projection;  // sums of the weights' gradients, (gate_rows, all())
  T *of_bias, *of_peephole;
  int64_t sums_bytes;         // of all these
  int64_t low = 0, high = 0;  // the block's steps of time, low <= t < high

  backward_walk(const recurrent_shape& shape, const hominy_recurrent_direction& direction,
                const hominy_recurrent_gradients& gradients, const cell_functions<T>& functions, const row_list& rows,
                const hominy_tensor* x, T* kept, arena& from);

  T* input_left(int64_t column) const { return input + (x_rows.padded + column) * gate_rows; }
  int64_t block_of(int64_t t, int64_t b) const { return rows.first[t] - rows.first[low] + b; }
  void prepare();
  void enter(int64_t begin, int64_t end);
  void run(int64_t begin, int64_t end, int64_t b0, int64_t b1, int64_t tasks);
  void add_weights();
  void multiply_left(int64_t count, const char* from, T* sums) const;
  void multiply_x(const sequence& out, bool adds);
  void finish();

 private:
  void take_step(int64_t s, int64_t end, int64_t b0, int64_t b1, int64_t tasks);
  void carry(int64_t s, int64_t b0, int64_t b1, int64_t tasks);
  padded_rows<const T> cells_before(int64_t s, int64_t r, int64_t first) const;
  void add_product(int64_t t, int64_t r, int64_t count, int64_t block, T* sums, bool fetch) const;
  void sum_peepholes();
};

template <class T>
HOMINY_SMALL backward_walk<T>::backward_walk(const recurrent_shape& shape, const hominy_recurrent_direction& direction,
                                             const hominy_recurrent_gradients& gradients,
                                             const cell_functions<T>& functions, const row_list& rows,
                                             const hominy_tensor* x, T* kept, arena& from)
    : shape(shape),
      direction(direction),
      gradients(gradients),
      functions(functions),
      rows(rows),
      y(describe_sequence(direction.y)),
      y_gradient(describe_sequence(gradients.y)),
      d_gates(shape.cell == HOMINY_CELL_RNN ? 1
              : shape.reset_before          ? 3
                                            : 4),
      d_row(state_row<T>(d_gates * shape.units)),
      gate_rows(shape.gates * shape.units),
      again([&] {
        const bool recomputes = shape.kept_gates > 0 && !shape.keeps_gates();
        const int64_t most = recomputes ? steps_in_block(shape) * shape.batch : 0;
        const int64_t gates_row = shape.gates_row(shape.kept_gates);
        T* const gates = recomputes ? from.take<T>(most * (gates_row + shape.padded) + lanes<T>) : kept;
        forward_walk<T> walk(shape, direction, functions, rows, x, false, gates, true, recomputes, from);
        if (recomputes) {
          walk.cells = walk.c && gates ? gates + most * gates_row : nullptr;
          walk.checkpoints = kept;
        }
        return walk;
      }()) {
  const int64_t batch = shape.batch, most = steps_in_block(shape) * batch;
  const bool lstm = shape.cell == HOMINY_CELL_LSTM, gru = shape.cell == HOMINY_CELL_GRU;
  recurrent = from.take<T>(shape.gates * shape.units * shape.padded_state);
  projection = shape.projected ? from.take<T>(shape.state * shape.padded) : nullptr;
  h_gradient = from.take<T>(batch * shape.padded_state);
  c_gradient = lstm ? from.take<T>(batch * shape.padded) : nullptr;
  through = gru ? from.take<T>(batch * shape.padded) : nullptr;
  c_start = lstm ? from.take<T>(batch * shape.padded) : nullptr;
  peephole = direction.peephole ? from.take<T>(3 * shape.padded) : nullptr;
  projected_row = state_row<T>(shape.state);
  d = from.take<T>(most * d_row);
  projected = shape.projected ? from.take<T>(most * projected_row) : nullptr;
  const auto strips = [&](int64_t columns, bool leaves) {
    row_strips<T> made = row_strips<T>::measure(columns, leaves);
    made.data = from.take<T>(most * made.all());
    return made;
  };
  x_rows = strips(shape.input, true);
  h_before = strips(shape.state, !gru);  // gru's cell reads whole vectors there
  middle = strips(shape.two_stages() ? shape.units : 0, false);
  input = from.take<T>(gate_rows * x_rows.all());
  const int64_t sums_begin = from.used;
  of_input = from.take<T>(gate_rows * x_rows.all());
  of_recurrent = from.take<T>(gate_rows * h_before.all());
  of_projection = from.take<T>(shape.projected ? shape.state * shape.padded : 0);
  of_bias = from.take<T>(round_up(d_gates * shape.units, lanes<T>));
  of_peephole = from.take<T>(3 * shape.padded);
  sums_bytes = from.used - sums_begin;
}

// Before the first block.
template <class T>
HOMINY_SMALL void backward_walk<T>::prepare() {
  pack_weights<T>(recurrent, describe_matrix(direction.w_hh), true, shape.state, gate_rows);
  matrix w = describe_matrix(direction.w_ih);
  pack_weights<T>(input, w, true, shape.input - x_rows.left, gate_rows);
  w.data += x_rows.padded * w.column;
  pack_rows<T>(input_left(0), gate_rows, w.data, w.column, w.row, x_rows.left, gate_rows);
  if (projection) pack_weights<T>(projection, describe_matrix(direction.w_hr), true, shape.units, shape.state);
  if (peephole) pack_peephole(peephole, shape, direction);
  if (again.computes) again.pack();
  memset(of_input, 0, size_t(sums_bytes));
  copy_rows(rows_from<T>(describe_matrix(gradients.h_n), 0), h_gradient, shape.padded_state, shape.batch, shape.state,
            shape.padded_state);
  if (through) memset(through, 0, size_t(shape.batch * shape.padded) * sizeof(T));
  if (!c_gradient) return;
  copy_rows(rows_from<T>(describe_matrix(gradients.c_n), 0), c_gradient, shape.padded, shape.batch, shape.units,
            shape.padded);
  copy_rows(rows_from<T>(describe_matrix(direction.c0), 0), c_start, shape.padded, shape.batch, shape.units,
            shape.padded);
}

// After the last.
template <class T>
HOMINY_SMALL void backward_walk<T>::finish() {
  const auto put = [](const T* from, int64_t from_row, const hominy_tensor* to, int64_t count, int64_t columns) {
    if (to) copy_rows_out(from, from_row, rows_from<T>(describe_matrix(to), 0), count, columns);
  };
  put(h_gradient, shape.padded_state, gradients.h0, shape.batch, shape.state);
  put(c_gradient, shape.padded, gradients.c0, shape.batch, shape.units);
  put(of_input, x_rows.all(), gradients.w_ih, gate_rows, shape.input);
  put(of_recurrent, h_before.all(), gradients.w_hh, gate_rows, shape.state);
  put(of_projection, shape.padded, gradients.w_hr, shape.state, shape.units);
  put(of_peephole, shape.padded, gradients.peephole, 3, shape.units);
  put(of_bias, 0, gradients.b_ih, 1, gate_rows);
  const bool apart = d_gates > shape.gates;  // gru's r d_n
  if (apart) memcpy(of_bias + 2 * shape.units, of_bias + 3 * shape.units, size_t(shape.units) * sizeof(T));
  put(of_bias, 0, gradients.b_hh, 1, gate_rows);
}

// Steps [begin, end), in the direction's order, are the block.
template <class T>
HOMINY_SMALL void backward_walk<T>::enter(int64_t begin, int64_t end) {
  low = minimum_of(again.time_of(begin), again.time_of(end - 1));
  high = low + end - begin;
  if (again.computes) again.gates_first = rows.first[low];
  x_rows.rows = h_before.rows = middle.rows = rows.first[high] - rows.first[low];
  const matrix h0 = describe_matrix(direction.h0);
  const auto rows_of = [&](const sequence& of, int64_t t, int64_t b) {
    return exact_rows<T>(of.at(rows, t, b), of.row, of.element);
  };
  parallel_for(end - begin, [&](int64_t step) {
    const int64_t s = begin + step, t = again.time_of(s), row = block_of(t, 0);
    const int64_t active = rows.active(t), known = minimum_of(active, again.active(s - 1));
    x_rows.fill(row, rows_of(again.x, t, 0), active, shape.input);
    if (known > 0) h_before.fill(row, rows_of(y, again.time_of(s - 1), 0), known, shape.state);
    h_before.fill(row + known, rows_from<T>(h0, known), active - known, shape.state);
  });
}

// c of the step before s, of rows from r on that took part in it.
template <class T>
padded_rows<const T> backward_walk<T>::cells_before(int64_t s, int64_t r, int64_t first) const {
  if (s == 0) return {c_start + r * shape.padded + first, shape.padded};
  if (!shape.keeps_gates() && s % shape.keep_every == 0)
    return {again.checkpoints + ((s / shape.keep_every - 1) * shape.batch + r) * shape.padded + first, shape.padded};
  const int64_t row = rows.first[again.time_of(s - 1)] + r - again.gates_first;
  return {again.cells + row * shape.padded + first, shape.padded};
}

// sums (count, width) += d of step t, rows from r on, times the block of columns of R.
template <class T>
void backward_walk<T>::add_product(int64_t t, int64_t r, int64_t count, int64_t block, T* sums, bool fetch) const {
  constexpr int64_t size = sizeof(T);
  const int64_t width = block_width<T>(shape.padded_state, block);
  const T* const strip = strip_of<T>(recurrent, 1, gate_rows, block);
  const auto add = [&](int64_t from, int64_t row, int64_t k) {
    multiply_strip<T>(count, width, k, reinterpret_cast<const char*>(d + block_of(t, r) * d_row + from), d_row * size,
                      size, strip + row * width, fetch, sums, width, sums, width);
  };
  const bool gru = shape.cell == HOMINY_CELL_GRU;
  add(0, 0, gru ? 2 * shape.units : gate_rows);
  if (gru && !shape.reset_before) add(3 * shape.units, 2 * shape.units, shape.units);
}

// h_gradient of rows [b0, b1), which took part in step s and not in the one before, or whose block ends there.
template <class T>
void backward_walk<T>::carry(int64_t s, int64_t b0, int64_t b1, int64_t tasks) {
  if (b0 >= b1) return;
  const panel_list panels(b1 - b0);
  for_tiles(tasks, parts_of(shape.padded_state, block_units<T>), panels.count, [&](int64_t block, int64_t panel) {
    alignas(64) T sums[max_tile_rows * block_units<T>];
    const int64_t r0 = b0 + panels.begin(panel), count = panels.rows(panel), first = block * block_units<T>;
    const int64_t width = block_width<T>(shape.padded_state, block);
    for (int64_t r = 0; r < count; ++r)
      for (int64_t j = 0; j < width; j += lanes<T>)
        store(sums + r * width + j, through ? load(through + (r0 + r) * shape.padded + first + j) : vec<T>{});
    add_product(again.time_of(s), r0, count, block, sums, next_strip(panels, panel));
    for (int64_t r = 0; r < count; ++r)
      copy_elements(h_gradient + (r0 + r) * shape.padded_state + first, sums + r * width, width);
  });
}

template <class T>
void backward_walk<T>::take_step(int64_t s, int64_t end, int64_t b0, int64_t b1, int64_t tasks) {
  constexpr int64_t size = sizeof(T);
  const int64_t t = again.time_of(s), active = minimum_of(b1, again.active(s));
  // Rows below `after` get their gradient from the later step's d, the others from h_gradient.
  const int64_t after = s + 1 < end ? minimum_of(b1, again.active(s + 1)) : b0;
  carry(s + 1, maximum_of(b0, active), after, tasks);
  if (active <= b0) return;
  const int64_t both = minimum_of(active, after);
  const bool lstm = shape.cell == HOMINY_CELL_LSTM, gru = shape.cell == HOMINY_CELL_GRU;
  const bool fast = fast_type<T> && shape.standard;
  const int64_t kept_row = shape.gates_row(shape.kept_gates);

  const auto panel_of = [&](int64_t r, int64_t count, int64_t first, int64_t width) {
    backward_panel<T> p{};
    p.rows = count;
    p.units = minimum_of(width, shape.units - first);
    p.sums_row = width;
    p.gate = shape.gate_units(first / block_units<T>);
    const int64_t row = rows.first[t] + r - again.gates_first;
    if (shape.kept_gates > 0) p.gates = {again.gates + row * kept_row + first * shape.kept_gates, kept_row};
    if (lstm) {
      p.cells = {again.cells + row * shape.padded + first, shape.padded};
      p.continuing = again.active(s - 1) - r;
      p.cells_start = {c_start + r * shape.padded + first, shape.padded};
      p.cells_before = cells_before(s, r, first);
      p.c = {c_gradient + r * shape.padded + first, shape.padded};
      if (peephole) p.peephole = peephole + first;
      p.peephole_row = shape.padded;
    }
    if (gru) p.through = {through + r * shape.padded + first, shape.padded};
    const int64_t in_block = block_of(t, r);
    if (gru) p.h_before = {h_before.at(first / block_units<T>, in_block), width};
    if (!lstm && !gru) p.y = {y.at(rows, t, r) + first * y.element, y.row, y.element};
    p.d = {reinterpret_cast<char*>(d + in_block * d_row + first), d_row * size, size};
    p.d_gates = d_gates;
    p.d_gate = shape.units * size;
    if (shape.reset_before) p.middle = {middle.at(first / block_units<T>, in_block), width};
    return p;
  };

  // Panels of the rows with a later step come first, then those of the others.
  const panel_list continued(both > b0 ? both - b0 : 0), ending(active - maximum_of(both, b0));
  for_tiles(
      tasks, parts_of(shape.padded_state, block_units<T>), continued.count + ending.count,
      [&](int64_t block, int64_t panel) {
        alignas(64) T sums[max_tile_rows * block_units<T>];
        const bool continues = panel < continued.count;
        const panel_list& panels = continues ? continued : ending;
        if (!continues) panel -= continued.count;
        const int64_t r0 = (continues ? b0 : maximum_of(both, b0)) + panels.begin(panel), count = panels.rows(panel);
        const int64_t first = block * block_units<T>, width = block_width<T>(shape.padded_state, block);
        const exact_rows<T> from_y{y_gradient.data ? y_gradient.at(rows, t, r0) + first * y_gradient.element : nullptr,
                                   y_gradient.row, y_gradient.element};
        for (int64_t r = 0; r < count; ++r)
          for (int64_t j = 0; j < width; j += lanes<T>) {
            vec<T> sum = from_y.get(r, j, maximum_of<int64_t>(0, shape.state - first - j));
            if (!continues)
              sum += load(h_gradient + (r0 + r) * shape.padded_state + first + j);
            else if (through)
              sum += load(through + (r0 + r) * shape.padded + first + j);
            store(sums + r * width + j, sum);
          }
        backward_panel<T> p = panel_of(r0, count, first, width);
        if (!shape.two_stages()) p.fetch(shape.kept_gates);
        if (continues) add_product(again.time_of(s + 1), r0, count, block, sums, next_strip(panels, panel));
        if (shape.projected) {
          for (int64_t r = 0; r < count; ++r)
            copy_elements(projected + block_of(t, r0 + r) * projected_row + first, sums + r * width, width);
          return;
        }
        p.sums = sums;
        if (lstm)
          fast ? lstm_backward<T, fast_type<T>>(p, functions) : lstm_backward<T, false>(p, functions);
        else if (shape.reset_before)
          gru_backward_candidate<T>(p, functions);
        else if (gru)
          fast ? gru_backward<T, fast_type<T>>(p, functions) : gru_backward<T, false>(p, functions);
        else
          rnn_backward<T>(p, functions);
      });
  if (!shape.two_stages()) return;

  const panel_list panels(active - b0);
  for_tiles(tasks, parts_of(shape.padded, block_units<T>), panels.count, [&](int64_t block, int64_t panel) {
    alignas(64) T sums[max_tile_rows * block_units<T>];
    alignas(64) const T zeros[block_units<T>] = {};
    const int64_t r0 = b0 + panels.begin(panel), count = panels.rows(panel), first = block * block_units<T>;
    const int64_t width = block_width<T>(shape.padded, block);
    backward_panel<T> p = panel_of(r0, count, first, width);
    p.sums = sums;
    const int64_t all = 3 * shape.units;
    if (shape.projected) {
      multiply_strip<T>(count, width, shape.state,
                        reinterpret_cast<const char*>(projected + block_of(t, r0) * projected_row),
                        projected_row * size, size, strip_of<T>(projection, 1, shape.state, block),
                        next_strip(panels, panel), zeros, 0, sums, width);
      fast ? lstm_backward<T, fast_type<T>>(p, functions) : lstm_backward<T, false>(p, functions);
    } else {
      multiply_strip<T>(count, width, shape.units,
                        reinterpret_cast<const char*>(d + block_of(t, r0) * d_row + 2 * shape.units), d_row * size,
                        size, strip_of<T>(recurrent, 1, all, block) + 2 * shape.units * width,
                        next_strip(panels, panel), zeros, 0, sums, width);
      gru_backward_reset<T>(p, functions);
    }
  });
}

template <class T>
void backward_walk<T>::run(int64_t begin, int64_t end, int64_t b0, int64_t b1, int64_t tasks) {
  if (again.computes) again.run(begin, end, b0, b1, tasks);
  for (int64_t s = end - 1; s >= begin; --s) take_step(s, end, b0, b1, tasks);
  carry(begin, b0, minimum_of(b1, again.active(begin)), tasks);
}

// i and f look at c', o at c.
template <class T>
HOMINY_SMALL void backward_walk<T>::sum_peepholes() {
  for (int64_t t = low; t < high; ++t) {
    const int64_t s = again.time_of(t), known = again.active(s - 1);
    const padded_rows<const T> before = cells_before(s, 0, 0);
    for (int64_t b = 0; b < rows.active(t); ++b) {
      const exact_rows<T> here{reinterpret_cast<char*>(d + block_of(t, b) * d_row), 0, sizeof(T)};
      const T* const c = again.cells + (rows.first[t] + b - again.gates_first) * shape.padded;
      const T* const c_before = b < known ? before.at(b, 0) : c_start + b * shape.padded;
      for (int64_t g = 0; g < 3; ++g)
        for (int64_t j = 0; j < shape.units; j += lanes<T>) {
          T* const sum = of_peephole + g * shape.padded + j;
          const vec<T> of_gate = here.get(0, (g < 2 ? g : 3) * shape.units + j, shape.units - j);
          store(sum, load(sum) + of_gate * load((g < 2 ? c_before : c) + j));
        }
    }
  }
}

// The block's share of the weights' gradients.
template <class T>
HOMINY_SMALL void backward_walk<T>::add_weights() {
  const int64_t units = shape.units, count = x_rows.rows;
  const bool gru = shape.cell == HOMINY_CELL_GRU, biases = gradients.b_ih || gradients.b_hh;
  if (gradients.w_ih || biases) add_outer_products(d, d_row, gate_rows, x_rows, of_input, of_bias);
  if (gradients.w_hh || biases) {
    add_outer_products<T>(d, d_row, gru ? 2 * units : gate_rows, h_before, of_recurrent, nullptr);
    T* const of_n = of_recurrent + 2 * units * h_before.all();
    if (shape.reset_before)
      add_outer_products<T>(d + 2 * units, d_row, units, middle, of_n, nullptr);
    else if (gru)
      add_outer_products(d + 3 * units, d_row, units, h_before, of_n, of_bias + 3 * units);
  }
  if (gradients.peephole) sum_peepholes();
  if (!gradients.w_hr) return;
  const int64_t first_row = rows.first[low] - again.gates_first, kept_row = shape.gates_row(shape.kept_gates);
  for (int64_t r = 0; r < count; ++r)
    for (int64_t j = 0; j < shape.padded; j += lanes<T>) {
      const int64_t block = j / block_units<T>, in_block = j % block_units<T>;
      const int64_t gate_o = (j - in_block) * shape.kept_gates + 3 * shape.gate_units(block) + in_block;
      const vec<T> o = load(again.gates + (first_row + r) * kept_row + gate_o);
      const vec<T> c = load(again.cells + (first_row + r) * shape.padded + j);
      store(middle.at(block, r) + in_block, o * out_function<T, false>(functions, c));
    }
  add_outer_products<T>(projected, projected_row, shape.state, middle, of_projection, nullptr);
}

// sums (count, lanes) <- the rows of d at `from` times the columns of W that its strips leave.
template <class T>
void backward_walk<T>::multiply_left(int64_t count, const char* from, T* sums) const {
  constexpr int64_t size = sizeof(T);
  for (int64_t r = 0; r < count; r += dot_rows)
    for (int64_t j = 0; j < x_rows.left; j += dot_columns) {
      T part[dot_rows * dot_columns];
      const int64_t height = minimum_of<int64_t>(dot_rows, count - r),
                    width = minimum_of<int64_t>(dot_columns, x_rows.left - j);
      dots<T>().by[height][width](gate_rows, from + r * d_row * size, d_row * size,
                                  reinterpret_cast<const char*>(input_left(j)), gate_rows * size, part);
      for (int64_t i = 0; i < height; ++i)
        memcpy(sums + (r + i) * lanes<T> + j, part + i * width, size_t(width * size));
    }
}

// The gradient of the block's x.
template <class T>
void backward_walk<T>::multiply_x(const sequence& out, bool adds) {
  constexpr int64_t size = sizeof(T);
  if (x_rows.rows == 0) return;
  const panel_list panels(x_rows.rows);
  const int64_t strips = parts_of(x_rows.padded, block_units<T>), blocks = strips + (x_rows.left > 0);
  const int64_t tasks = num_threads() == 1 ? 1
                                           : tasks_for(double(x_rows.rows) * double(x_rows.all()) * double(gate_rows),
                                                       blocks * panels.count);
  for_tiles(tasks, panels.count, blocks, [&](int64_t panel, int64_t block) {
    alignas(64) T sums[max_tile_rows * block_units<T>];
    alignas(64) const T zeros[block_units<T>] = {};
    const int64_t r0 = panels.begin(panel), count = panels.rows(panel);
    const int64_t first = minimum_of(x_rows.padded, block * block_units<T>),
                  width = block < strips ? x_rows.width(block) : lanes<T>;
    const char* const from = reinterpret_cast<const char*>(d + r0 * d_row);
    if (block < strips)
      multiply_strip<T>(count, width, gate_rows, from, d_row * size, size, strip_of<T>(input, 1, gate_rows, block),
                        true, zeros, 0, sums, width);
    else
      multiply_left(count, from, sums);
    int64_t t = low;
    for (int64_t r = 0; r < count; ++r) {
      const int64_t row = rows.first[low] + r0 + r;
      if (rows.first[t + 1] <= row) {  // the step of this row: the last that begins at it or before
        int64_t above = high;
        while (above - t > 1) (rows.first[(t + above) / 2] <= row ? t : above) = (t + above) / 2;
      }
      const exact_rows<T> to{out.at(rows, t, row - rows.first[t]) + first * out.element, 0, out.element};
      for (int64_t j = 0; j < width; j += lanes<T>) {
        const int64_t exist = shape.input - first - j;
        vec<T> v = load(sums + r * width + j);
        if (adds) v += to.get(0, j, exist);
        to.put(0, j, v, exist);
      }
    }
  });
}

// ---- The call -------------------------------------------------------------------------------------------------------

HOMINY_SMALL hominy_status check_gradients(const recurrent_shape& s, const hominy_recurrent_gradients& g,
                                           const hominy_recurrent_direction& d, const hominy_tensor* x) {
  const int32_t dtype = x->dtype;
  const int64_t rows = s.gates * s.units;
  const hominy_status checks[] = {
      x->ndim == 2 ? check_array(g.y, dtype, 2, s.rows, s.state) : check_array(g.y, dtype, 3, s.time, s.batch, s.state),
      check_array(g.h_n, dtype, 2, s.batch, s.state),
      check_array(g.c_n, dtype, 2, s.batch, s.units),
      check_array(g.h0, dtype, 2, s.batch, s.state),
      check_array(g.c0, dtype, 2, s.batch, s.units),
      check_array(g.w_ih, dtype, 2, rows, s.input),
      check_array(g.w_hh, dtype, 2, rows, s.state),
      check_array(g.b_ih, dtype, 1, rows),
      check_array(g.b_hh, dtype, 1, rows),
      check_array(g.w_hr, dtype, 2, s.state, s.units),
      check_array(g.peephole, dtype, 2, 3, s.units)};
  for (hominy_status status : checks)
    if (status != HOMINY_OK) return status;
  const bool lstm = s.cell == HOMINY_CELL_LSTM;
  if ((!lstm && (g.c_n || g.c0)) || (g.w_hr && !d.w_hr) || (g.peephole && !d.peephole)) return HOMINY_BAD_SHAPE;
  return HOMINY_OK;
}

HOMINY_SMALL void fill_zero(const hominy_tensor& t) {
  static const double zero = 0;
  hominy_tensor source = t;
  source.data = const_cast<double*>(&zero);
  for (int d = 0; d < t.ndim; ++d) source.strides[d] = 0;
  copy(&source, &t);
}

template <class T>
HOMINY_SMALL hominy_status recurrent_backward_of(const hominy_recurrent* cell,
                                                 const hominy_recurrent_direction* directions,
                                                 const hominy_recurrent_gradients* gradients, const hominy_tensor* x,
                                                 const hominy_tensor* lengths, const void* kept, int64_t kept_size,
                                                 const hominy_tensor* x_gradient, char* workspace,
                                                 int64_t* workspace_size) {
  recurrent_shape s;
  hominy_status status = read_problem(cell, directions, x, lengths, &s);
  if (status != HOMINY_OK) return status;
  const bool measures = !gradients;
  static const hominy_recurrent_gradients none{};
  if (!measures) {
    status = check_directions(s, directions, x, false);
    for (int i = 0; i < s.directions && status == HOMINY_OK; ++i)
      status = check_gradients(s, gradients[i], directions[i], x);
    if (status == HOMINY_OK && x_gradient)
      status = x_gradient->ndim != x->ndim ? HOMINY_BAD_SHAPE
                                           : check_array(x_gradient, x->dtype, x->ndim, x->shape[0], x->shape[1],
                                                         x->ndim == 3 ? x->shape[2] : 0);
    if (status != HOMINY_OK) return status;
    const int64_t expected = s.directions * s.kept() * int64_t(sizeof(T));
    if (expected > 0 && (!kept || kept_size != expected)) return HOMINY_BAD_VALUE;
  }
  const int64_t per = steps_in_block(s);
  const cell_functions<T> functions = make_functions<T>(cell);
  const auto with_layout = [&](char* base, auto body) {
    arena from{base, 0}, nowhere{nullptr, 0};
    int64_t* const first = from.take<int64_t>(s.steps + 1);
    const auto walk = [&](int i, arena& its) {
      T* const its_kept = kept ? static_cast<T*>(const_cast<void*>(kept)) + i * s.kept() : nullptr;
      return backward_walk<T>(s, directions[i], measures ? none : gradients[i], functions, row_list{s.steps, first}, x,
                              its_kept, its);
    };
    backward_walk<T> walks[] = {walk(0, from), s.directions == 2 ? walk(1, from) : walk(0, nowhere)};
    return body(walks, first, from.used);
  };
  const int64_t needed = with_layout(nullptr, [](auto&, int64_t*, int64_t used) { return used; });
  if (measures) {
    *workspace_size = needed;
    return HOMINY_OK;
  }
  if (!workspace || *workspace_size < needed) return HOMINY_NO_WORKSPACE;

  return with_layout(workspace, [&](backward_walk<T>* walks, int64_t* first, int64_t) {
    if (!list_rows(s, lengths, first)) return HOMINY_BAD_VALUE;
    const task_plan tasks = plan_tasks(s);
    // Both directions add to x's gradient where neither writes all of it at once; rows beyond their length stay 0.
    const bool adds = s.directions == 2 && per < s.steps;
    if (x_gradient && (adds || (lengths && x->ndim == 3))) fill_zero(*x_gradient);
    for (int i = 0; i < s.directions; ++i) walks[i].prepare();
    for (int64_t begin = (parts_of(s.steps, per) - 1) * per; begin >= 0 && s.rows > 0; begin -= per) {
      const int64_t end = minimum_of(s.steps, begin + per);
      for (int i = 0; i < s.directions; ++i) walks[i].enter(begin, end);
      const auto run = [&](int64_t task) {
        const share mine(s.batch, tasks.row_tasks, task / s.directions);
        if (mine.count > 0)
          walks[task % s.directions].run(begin, end, mine.first, mine.first + mine.count, tasks.step_tasks);
      };
      if (tasks.step_tasks > 1)
        for (int i = 0; i < s.directions; ++i) run(i);
      else
        parallel_for(s.directions * tasks.row_tasks, run);
      for (int i = 0; i < s.directions; ++i) {
        walks[i].add_weights();
        if (x_gradient) walks[i].multiply_x(describe_sequence(x_gradient), adds || i > 0);
      }
    }
    for (int i = 0; i < s.directions; ++i) walks[i].finish();
    return HOMINY_OK;
  });
}

}  // namespace

int64_t recurrent_backward_workspace_size(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                                          const hominy_tensor* x, const hominy_tensor* lengths) {
  int64_t size = 0;
  const auto measure = [&](auto of) {
    return of(cell, directions, nullptr, x, lengths, nullptr, 0, nullptr, nullptr, &size);
  };
  const hominy_status status =
      x->dtype == HOMINY_FLOAT32 ? measure(recurrent_backward_of<float>) : measure(recurrent_backward_of<double>);
  return status == HOMINY_OK ? size : 0;
}

hominy_status recurrent_backward(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                                 const hominy_recurrent_gradients* gradients, const hominy_tensor* x,
                                 const hominy_tensor* lengths, const void* kept, int64_t kept_size,
                                 const hominy_tensor* x_gradient, void* workspace, int64_t workspace_size) {
  const auto run = [&](auto of) {
    return of(cell, directions, gradients, x, lengths, kept, kept_size, x_gradient, static_cast<char*>(workspace),
              &workspace_size);
  };
  if (x->dtype == HOMINY_FLOAT32) return run(recurrent_backward_of<float>);
  if (x->dtype == HOMINY_FLOAT64) return run(recurrent_backward_of<double>);
  return HOMINY_BAD_DTYPE;
}

}  // namespace hominy::HOMINY_LEVEL
