// The walk of one direction through its steps: forward, and again where backward recomputes what was not kept.
#pragma once
#include "recurrent_problem.hpp"

namespace hominy::HOMINY_LEVEL {

// Calls f(block, panel) for all of them, dealt out to `tasks`; a block's panels follow one another.
template <class F>
inline void for_tiles(int64_t tasks, int64_t blocks, int64_t panels, F f) {
  const int64_t items = blocks * panels;
  parallel_for(minimum_of(tasks, items), [&](int64_t task) __attribute__((noinline)) {
    const share mine(items, minimum_of(tasks, items), task);
    for (int64_t i = mine.first; i < mine.first + mine.count; ++i) f(i / panels, i % panels);
  });
}

// `rows` rows of `units` elements of the caller's into rows padded with zeros, and back.
template <class T>
HOMINY_SMALL void copy_rows(const exact_rows<T>& from, T* to, int64_t to_row, int64_t rows, int64_t units,
                            int64_t padded) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < padded; j += lanes<T>)
      store(to + r * to_row + j, from.get(r, j, maximum_of<int64_t>(0, units - j)));
}
template <class T>
HOMINY_SMALL void copy_rows_out(const T* from, int64_t from_row, const exact_rows<T>& to, int64_t rows, int64_t units) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < units; j += lanes<T>) to.put(r, j, load(from + r * from_row + j), units - j);
}

// A row of `state` elements as panels read it: an odd number of cache lines, so that rows fall into different sets.
template <class T>
inline int64_t state_row(int64_t state) {
  return (round_up(state * int64_t(sizeof(T)), 64) / 64 | 1) * 64 / int64_t(sizeof(T));
}

template <class T>
struct forward_walk {
  const recurrent_shape& shape;
  const hominy_recurrent_direction& direction;
  const cell_functions<T>& functions;
  row_list rows;
  sequence x, y;  // y.data may be null: not wanted
  bool finishes;  // writes h_n and c_n

  packed_weights<T> weights;
  bool packs;  // the weights are not packed yet
  int64_t h_row;
  T* h[2];    // of even and odd steps
  T* c;       // lstm: (batch, padded)
  T* middle;  // of a step in two stages: (batch, h_row of units)
  int64_t middle_row;
  T* gathered;  // x of a chunk, where its rows do not lie one after another
  // Gates of all steps if they are kept, else of a chunk: what the input product leaves, overwritten by results.
  T* gates;
  int64_t slots, gates_row;  // gates of a row, kept or not yet; its elements
  int64_t gates_first;       // number of the row that `gates` begins with
  bool keeps;
  T* cells;        // kept c, rows as gates
  T* checkpoints;  // kept c of every keep_every-th step
  int64_t chunk_steps;

  bool computes;  // or only knows where things are, for backward

  // `kept`: where gates and c are, or are to be, left (`keeps`), else c of every keep_every-th step, or nullptr.
  forward_walk(const recurrent_shape& shape, const hominy_recurrent_direction& direction,
               const cell_functions<T>& functions, const row_list& rows, const hominy_tensor* x, bool with_y, T* kept,
               bool keeps, bool computes, arena& workspace);

  void pack() {
    if (packs) weights.fill(shape, direction);
  }
  // Steps [begin, end) in the direction's order, of rows [b0, b1).
  void run(int64_t begin, int64_t end, int64_t b0, int64_t b1, int64_t tasks);

  int64_t time_of(int64_t s) const { return direction.reverse ? shape.steps - 1 - s : s; }
  int64_t active(int64_t s) const { return s < 0 ? 0 : rows.active(time_of(s)); }

 private:
  bool merges;  // the input product of all rows of a chunk runs as over one matrix
  bool beside;  // one row: the input product of the next chunk runs beside the steps of this one
  T* row_sums;  // of a step with one row
  struct place {
    int64_t strip, k;
  };
  place* ahead;  // how far each task has come in the next chunk: a strip of its own, and a step of k

  // Steps whose gates are computed ahead, of rows [b0, b1). Tasks with other rows may be at other steps.
  struct chunk {
    int64_t t0, t1, b0, b1;
    bool merged, second;  // `second`: of two places where gates lie, if the next chunk is computed beside this one
    bool runs_beside() const { return t1 - t0 == beside_rows; }  // a chunk that follows
  };
  struct strip_range;
  T* gates_at(const chunk& part, int64_t t, int64_t b) const {
    if (keeps) return gates + (rows.first[t] + b - gates_first) * gates_row;
    const int64_t before = part.merged ? rows.first[t] - rows.first[part.t0] : (t - part.t0) * shape.batch;
    return gates + (part.second * chunk_steps + before + b) * gates_row;
  }
  void begin_rows(int64_t s, int64_t b0, int64_t b1, bool resumes);
  void end_rows(int64_t s, int64_t b0, int64_t b1);
  void multiply_input(const chunk& part, int64_t tasks);
  forward_panel<T> panel_of(int64_t s, const chunk& part, int64_t r, int64_t count, int64_t block, int64_t units,
                            int64_t width) const;
  void apply_cell(const forward_panel<T>& p) const;
  void start_apart(const forward_panel<T>& p, int64_t block, T* sums, int64_t sums_row) const;
  void take_step(int64_t s, const chunk& part, int64_t tasks);
  void take_row(int64_t s, const chunk& part, const chunk& next, int64_t tasks);
  int64_t strip_tasks(int64_t tasks) const { return minimum_of(tasks, parts_of(shape.padded, block_units<T>)); }
  bool multiply_ahead(const chunk& next, const strip_range& mine, place& at, const row_of_strips<T>* row);
  bool finish_ahead(const chunk& next, int64_t tasks);
};

}  // namespace hominy::HOMINY_LEVEL
