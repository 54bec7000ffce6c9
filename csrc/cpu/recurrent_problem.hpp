// What forward and backward share: a call's descriptors, read and checked; rows and steps; packed weights; how work is
// dealt out to threads.
#pragma once
#include "dimensions.hpp"
#include "matmul_tile.hpp"
#include "parallel_for.hpp"
#include "recurrent_cell.hpp"

namespace hominy::HOMINY_LEVEL {

// For code that runs once a call or row: small rather than fast.
#define HOMINY_SMALL __attribute__((cold, noinline))

// Hands out 64-byte aligned pieces of a workspace; without one it only counts.
struct arena {
  char* base;
  int64_t used;
  template <class T>
  T* take(int64_t count) {
    T* const piece = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += round_up(count * int64_t(sizeof(T)), 64);
    return piece;
  }
};

// ---- Sizes ----------------------------------------------------------------------------------------------------------

struct recurrent_shape {
  int32_t cell, directions;
  int64_t gates;                 // G: of the weights
  int64_t kept_gates;            // that the forward leaves for backward
  int64_t input, units, state;   // I, H, P
  int64_t vector;                // elements of a vector
  int64_t padded, padded_state;  // H and P in whole vectors
  bool projected, reset_before, standard;
  int64_t steps, batch, rows;  // up to the longest length, B, N: rows of all steps
  int64_t time;                // T of arrays that are not packed
  int64_t keep_every;
  int32_t dtype;

  bool keeps_gates() const { return kept_gates > 0 && keep_every == 1; }
  bool keeps_checkpoints() const { return cell == HOMINY_CELL_LSTM && keep_every > 1; }
  bool two_stages() const { return projected || reset_before; }

  // Gates of a row: blocks of two vectors of units, in a block gate after gate. The last block has just the units that
  // are left, so that a product's vectors run across its gates and the end of the row alone is padded: 600 sums of H =
  // 150 are 608, not 640. With the reset before the product gates are multiplied apart, and each is padded.
  int64_t block_units() const { return 2 * vector; }
  int64_t gate_units(int64_t block) const {
    const int64_t left = units - block * block_units();
    return minimum_of(block_units(), reset_before ? round_up(left, vector) : left);
  }
  int64_t gates_row(int64_t count) const {
    const int64_t last = (units - 1) / block_units();
    return last * block_units() * count + round_up(gate_units(last) * count, vector);
  }

  int64_t checkpoints() const { return steps > 0 ? (steps - 1) / keep_every : 0; }
  // Elements of `kept` a direction. A vector more: the last of a row's last gate reaches past its end.
  int64_t kept() const {
    if (keeps_gates()) return rows * (gates_row(kept_gates) + (cell == HOMINY_CELL_LSTM ? padded : 0)) + vector;
    return keeps_checkpoints() ? checkpoints() * batch * padded : 0;
  }
};

// The rows of step t are first[t] .. first[t + 1] - 1 of all rows in packed order.
struct row_list {
  int64_t steps;
  const int64_t* first;
  int64_t active(int64_t t) const { return t < 0 || t >= steps ? 0 : first[t + 1] - first[t]; }
};

// x, y, or a gradient of theirs: (T, B, n), or (N, n) in packed order. Strides in bytes.
struct sequence {
  char* data;
  bool packed;
  int64_t step, row, element;

  char* at(const row_list& rows, int64_t t, int64_t b) const {
    return !data ? nullptr : data + (packed ? (rows.first[t] + b) * row : t * step + b * row);
  }
  // Rows of one step go on where those of the step before end.
  bool in_packed_order(int64_t batch, bool all_active) const {
    return packed || (all_active && (batch == 1 || step == batch * row));
  }
  int64_t row_stride(int64_t batch) const { return packed || batch > 1 ? row : step; }
};

inline sequence describe_sequence(const hominy_tensor* t) {
  if (!t) return {};
  char* data = static_cast<char*>(t->data);
  if (t->ndim == 2) return {data, true, 0, t->strides[0], t->strides[1]};
  return {data, false, t->strides[0], t->strides[1], t->strides[2]};
}

// A matrix of the caller's, or nothing. Strides in bytes.
struct matrix {
  char* data = nullptr;
  int64_t row = 0, column = 0;
};
inline matrix describe_matrix(const hominy_tensor* t) {
  if (!t) return {};
  return {static_cast<char*>(t->data), t->ndim > 1 ? t->strides[0] : 0, t->strides[t->ndim - 1]};
}
template <class T>
inline exact_rows<T> rows_from(const matrix& m, int64_t b) {
  return {m.data ? m.data + b * m.row : nullptr, m.row, m.column};
}

// HOMINY_OK for an array of that dtype and these sizes, and for none.
hominy_status check_array(const hominy_tensor* t, int32_t dtype, int ndim, int64_t n0, int64_t n1 = 0, int64_t n2 = 0);

// Reads the cell and one direction's weights, all of w_ih's dtype: everything of the shape but steps, batch and rows.
hominy_status read_cell(const hominy_recurrent* cell, const hominy_recurrent_direction* direction,
                        recurrent_shape* shape);
// Reads a whole call but for states and results,
hominy_status read_problem(const hominy_recurrent* cell, const hominy_recurrent_direction* directions,
                           const hominy_tensor* x, const hominy_tensor* lengths, recurrent_shape* shape);
// which this checks; in `forward` h_n and c_n are results.
hominy_status check_directions(const recurrent_shape& shape, const hominy_recurrent_direction* directions,
                               const hominy_tensor* x, bool forward);
// Lists the rows of each step; false if the lengths are no longer those that read_problem saw.
bool list_rows(const recurrent_shape& shape, const hominy_tensor* lengths, int64_t* first);

template <class T>
cell_functions<T> make_functions(const hominy_recurrent* cell) {
  const auto make = [&](int i) {
    return make_gate_function<T>(cell->activation[i], cell->alpha[i], cell->beta[i], cell->clip);
  };
  cell_functions<T> f{make(0), {}, {}, cell->coupled != 0};
  if (cell->cell != HOMINY_CELL_RNN) f.candidate = make(1);
  if (cell->cell == HOMINY_CELL_LSTM) f.out = make(2);
  return f;
}

// ---- Products on packed weights -------------------------------------------------------------------------------------

template <class T>
constexpr int64_t block_units = 2 * lanes<T>;  // of one tile's width
template <class T>
constexpr int64_t tile_depth = 2048 / sizeof(T);  // of k: a panel of rows stays in the first-level cache

// Columns in blocks, each of them strips of two vectors (the last of one, perhaps): k rows of as many elements as the
// strip is wide. The columns of a block are the gates' as gates_row has them; of a single gate a block is one strip.
template <class T>
inline int64_t block_width(int64_t padded, int64_t block) {
  return minimum_of(block_units<T>, padded - block * block_units<T>);
}
template <class T>
inline T* strip_of(T* packed, int64_t gates, int64_t k, int64_t block, int64_t strip = 0) {
  return packed + (block * gates + strip) * block_units<T> * k;
}

// The first of several panels asks for the strip that comes next; a single one would drive out what it is about to read.
inline bool next_strip(const panel_list& panels, int64_t panel) { return panels.count > 1 && panel == 0; }

// c = start + a @ strip. Strides of a in bytes, of start and c in elements. fetch: ask for the following strip on the
// way.
template <class T>
inline void multiply_strip(int64_t rows, int64_t width, int64_t k, const char* a, int64_t a_row, int64_t a_step,
                           const T* strip, bool fetch, const T* start, int64_t start_row, T* c, int64_t c_row) {
  constexpr int64_t size = sizeof(T);
  const int shape = width == lanes<T> ? 0 : fetch ? fetching_shape : 1;
  const int64_t b_step = width * size, ahead = k * b_step;
  int64_t done = 0;
  do {
    const int64_t deep = minimum_of(tile_depth<T>, k - done);
    tiles<T>().by[shape][rows](
        deep, a + done * a_step, a_row, a_step, reinterpret_cast<const char*>(strip) + done * b_step, b_step, ahead,
        reinterpret_cast<const char*>(start), start_row * size, reinterpret_cast<char*>(c), c_row * size);
    start = c;
    start_row = c_row;
    done += deep;
  } while (done < k);
}

// packed <- w (gates * units, k), as above; of one gate, w may be (k, units).
template <class T>
void pack_gates(T* packed, const matrix& w, const recurrent_shape& s, int64_t k);
template <class T>
void pack_weights(T* packed, const matrix& w, bool transposed, int64_t units, int64_t k);
template <class T>
void pack_peephole(T* to, const recurrent_shape& s, const hominy_recurrent_direction& d);

// A direction's weights as the forward reads them.
template <class T>
struct packed_weights {
  T *input, *recurrent, *projection;
  T* bias;            // a row of gates: both, added; gru: b_hh's share of n is apart
  T* recurrent_bias;  // gru: (padded)
  T* peephole;        // (3, padded), or nullptr

  packed_weights(const recurrent_shape& s, const hominy_recurrent_direction& d, arena& from);
  void fill(const recurrent_shape& s, const hominy_recurrent_direction& d);
};

// ---- Threads --------------------------------------------------------------------------------------------------------

// Rows know nothing of one another, nor do directions: where there are enough of them, each task takes some through all
// steps and no thread waits for another. Otherwise each step's units are dealt out. Neither cuts a sum.
struct task_plan {
  int64_t row_tasks;   // a direction's rows are dealt to so many tasks,
  int64_t step_tasks;  // or the units of every step
};
task_plan plan_tasks(const recurrent_shape& s);

}  // namespace hominy::HOMINY_LEVEL
