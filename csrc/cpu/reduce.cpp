// Every reduction becomes one shape of work: rows of `width` neighbouring lanes, combined lane by lane.
//
//   plan    Dimensions are sorted by stride and merged. If the innermost one is kept, its elements are the lanes
//           ("columns"); if it is reduced, it is cut into rows of several vectors whose lanes are combined at the end.
//           Both at once when columns are few: x (N,3) over axis 0 is read as rows of 42*3 lanes ("fold" 42).
//   panel   Up to 2 KB of lanes. Blocks of 16 rows are combined in registers, block results in a binary tree.
//   tasks   Panels, and slices of the rows where panels are few, are spread over threads.
#include "reduce.hpp"

#include <math.h>

#include "dimensions.hpp"
#include "lane_access.hpp"
#include "parallel_for.hpp"
#include "vector_math.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t block_rows = 16;
constexpr int64_t tree_bytes = 49152;   // on the stack of each thread: a panel is as wide as its tree's height allows,
constexpr int64_t widest_panel = 2048;  // up to this many bytes,
constexpr int64_t narrowest_panel = 768;      // and any tree has room for panels of these
constexpr int64_t slice_bytes = 16384;        // on the caller's stack: results of slices of the rows
constexpr int64_t elements_per_task = 32768;  // about 3 us: less is not worth a second thread
constexpr int64_t most_tasks = 64;

template <class T>
constexpr int64_t tile_lanes = 8 * lanes<T>;  // what one pass over a block holds in registers

// combine() works on a scalar as on vectors of any width; identity() is its neutral element.
struct sum_of {
  template <class V>
  static V combine(V a, V b) {
    return a + b;
  }
  template <class T>
  static constexpr T identity() {
    return T(0);
  }
};
struct product_of {
  template <class V>
  static V combine(V a, V b) {
    return a * b;
  }
  template <class T>
  static constexpr T identity() {
    return T(1);
  }
};
struct largest_of {
  template <class V>
  static auto beats(V a, V b) {
    return (a > b) | (a != a);
  }
  template <class V>
  static V combine(V a, V b) {
    return beats(b, a) ? b : a;
  }
  // at_least() is one instruction, but loses a NaN in b.
  static vec<float> combine(vec<float> a, vec<float> b) { return b != b ? b : at_least<float>(a, b); }
  static vec<double> combine(vec<double> a, vec<double> b) { return b != b ? b : at_least<double>(a, b); }
  template <class T>
  static constexpr T identity() {
    return T(-INFINITY);
  }
};
struct smallest_of {
  template <class V>
  static auto beats(V a, V b) {
    return (a < b) | (a != a);
  }
  template <class V>
  static V combine(V a, V b) {
    return beats(b, a) ? b : a;
  }
  static vec<float> combine(vec<float> a, vec<float> b) { return b != b ? b : at_most<float>(a, b); }
  static vec<double> combine(vec<double> a, vec<double> b) { return b != b ? b : at_most<double>(a, b); }
  template <class T>
  static constexpr T identity() {
    return T(INFINITY);
  }
};

// ---- plan ----

using dimension_pair = dimension<2>;  // strides of x and of out; 0 in out marks a reduced dimension

struct plan {
  char* data[2];                                                // x, out
  dimension_pair kept[HOMINY_MAX_NDIM], rows[HOMINY_MAX_NDIM];  // outermost first; rows are never empty
  int kept_count, rows_count;
  int64_t columns, column_stride, column_out_stride;  // kept lanes, contiguous where column_stride is the item size
  int64_t fold;                                       // each row holds the columns this many times over
  int64_t tail;  // lanes of one more, shorter row at the end of each run of the innermost rows dimension
  int64_t kept_total, rows_total, reduced_total;  // panels' outer index; rows without tails; elements a result
};

template <class T>
plan make_plan(const hominy_tensor& x, const hominy_tensor& out) {
  plan p{};
  int64_t out_strides[HOMINY_MAX_NDIM];
  p.kept_total = p.rows_total = p.reduced_total = 1;
  for (int d = 0; d < x.ndim; ++d) {
    const bool reduced = out.shape[d] == 1;
    out_strides[d] = reduced ? 0 : out.strides[d];
    if (reduced) p.reduced_total *= x.shape[d];
  }
  p.data[0] = static_cast<char*>(x.data);
  p.data[1] = static_cast<char*>(out.data);
  dimension_pair dims[HOMINY_MAX_NDIM];
  int count = collect_dimensions<2>(x.shape, x.ndim, -1, {x.strides, out_strides}, p.data, dims);
  const auto is_reduced = [](const dimension_pair& d) { return d.stride[1] == 0; };

  p.columns = 1;
  p.column_stride = p.column_out_stride = sizeof(T);
  if (count > 0 && !is_reduced(dims[count - 1])) {
    const dimension_pair& lane = dims[--count];
    p.columns = lane.size;
    p.column_stride = lane.stride[0];
    p.column_out_stride = lane.stride[1];
  } else if (count > 0) {
    p.column_stride = dims[count - 1].stride[0];
  }

  // Fold the run above the columns into the row if it follows on from them.
  p.fold = 1;
  dimension_pair run{1, {0, 0}};
  if (count > 0 && is_reduced(dims[count - 1]) && dims[count - 1].stride[0] == p.columns * p.column_stride &&
      p.columns <= tile_lanes<T> / 2) {
    run = dims[--count];
    bool other_rows = false;
    for (int d = 0; d < count; ++d) other_rows |= is_reduced(dims[d]);
    const int64_t most = (other_rows ? narrowest_panel / int64_t(sizeof(T)) : tile_lanes<T>) / p.columns;
    if (run.size <= most && (other_rows || p.columns > 1))
      p.fold = run.size;
    else if (p.columns > 1)
      p.fold = tile_lanes<T> / p.columns;
    else
      p.fold = run.size >= tile_lanes<T> ? tile_lanes<T>
               : run.size >= lanes<T>    ? run.size / lanes<T> * lanes<T>
                                         : run.size;
    p.tail = run.size % p.fold * p.columns;
    run.size /= p.fold;
    run.stride[0] *= p.fold;
  }
  for (int d = 0; d < count; ++d) {
    const bool reduced = is_reduced(dims[d]);
    (reduced ? p.rows[p.rows_count++] : p.kept[p.kept_count++]) = dims[d];
    (reduced ? p.rows_total : p.kept_total) *= dims[d].size;
  }
  if (run.size > 1 || p.tail > 0 || p.rows_count == 0) {
    p.rows[p.rows_count++] = run;
    p.rows_total *= run.size;
  }
  return p;
}

// ---- panel ----

// Combines `width` lanes of many rows: each block of up to 16 rows in registers, block results in a binary tree whose
// level k holds 2^k blocks (the binary digits of `blocks` say which levels are occupied).
template <class Op, class T, bool unit>
class panel {
 public:
  panel(int64_t widest, int64_t lane_stride)
      : level_size((widest - 1) / lanes<T> * lanes<T> + lanes<T>), lane_stride(lane_stride) {}

  void start(int64_t lanes_wanted) {
    width = lanes_wanted;
    blocks = 0;
  }

  // One run: `rows` rows and, if tail > 0, the first `tail` lanes of one more.
  void add_run(const char* x, int64_t rows, int64_t row_stride, int64_t tail) {
    for (; rows > block_rows; rows -= block_rows, x += block_rows * row_stride) add_block(x, block_rows, row_stride, 0);
    add_block(x, rows, row_stride, tail);
  }

  // The result, `width` lanes padded to whole vectors.
  T* finish() {
    int top = 0;
    while (!(blocks >> top & 1)) ++top;
    for (int k = top + 1; blocks >> k; ++k) {
      if (!(blocks >> k & 1)) continue;
      for (int64_t at = 0; at < width; at += lanes<T>)
        store(level(top) + at, Op::combine(load(level(k) + at), load(level(top) + at)));
    }
    return level(top);
  }

 private:
  void add_block(const char* x, int64_t rows, int64_t row_stride, int64_t tail) {
    int64_t at = 0;
    if constexpr (unit) {
      for (; at + 8 * lanes<T> <= width; at += 8 * lanes<T>) add_tile<8>(x, rows, row_stride, tail, at);
      if (at + 4 * lanes<T> <= width) add_tile<4>(x, rows, row_stride, tail, at), at += 4 * lanes<T>;
      if (at + 2 * lanes<T> <= width) add_tile<2>(x, rows, row_stride, tail, at), at += 2 * lanes<T>;
    }
    for (; at + lanes<T> <= width; at += lanes<T>) add_tile<1>(x, rows, row_stride, tail, at);
    if (at < width) {
      // The last vector overlaps its neighbour, whose lanes come out the same once more, so nothing is masked; only a
      // panel narrower than a vector has empty lanes.
      if (width >= lanes<T>)
        add_tile<1>(x, rows, row_stride, tail, width - lanes<T>);
      else
        add_narrow(x, rows, row_stride, tail);
    }
    ++blocks;
  }

  // Lanes [at, at + count vectors) of one block.
  template <int count>
  void add_tile(const char* x, int64_t rows, int64_t row_stride, int64_t tail, int64_t at) {
    const int64_t vector_stride = lanes<T> * lane_stride;
    const char* p = x + at * lane_stride;
    vec<T> result[count];
#pragma GCC unroll 8
    for (int v = 0; v < count; ++v) result[v] = load_lanes<T, unit>(p + v * vector_stride, lane_stride);
    for (int64_t row = 1; row < rows; ++row) {
      p += row_stride;
#pragma GCC unroll 8
      for (int v = 0; v < count; ++v)
        result[v] = Op::combine(result[v], load_lanes<T, unit>(p + v * vector_stride, lane_stride));
    }
    p += row_stride;
    if (tail > at)
#pragma GCC unroll 8
      for (int v = 0; v < count; ++v)
        result[v] = Op::combine(
            result[v], load_padded<T, unit>(p + v * vector_stride, lane_stride, tail - at - v * lanes<T>, identity));
    push<count>(result, at);
  }

  void add_narrow(const char* x, int64_t rows, int64_t row_stride, int64_t tail) {
    vec<T> result[1] = {load_padded<T, unit>(x, lane_stride, width, identity)};
    for (int64_t row = 1; row < rows; ++row)
      result[0] = Op::combine(result[0], load_padded<T, unit>(x + row * row_stride, lane_stride, width, identity));
    if (tail > 0)
      result[0] = Op::combine(result[0], load_padded<T, unit>(x + rows * row_stride, lane_stride, tail, identity));
    push<1>(result, 0);
  }

  template <int count>
  void push(vec<T> (&result)[count], int64_t at) {
    int k = 0;
    for (; blocks >> k & 1; ++k)
#pragma GCC unroll 8
      for (int v = 0; v < count; ++v) result[v] = Op::combine(load(level(k) + at + v * lanes<T>), result[v]);
#pragma GCC unroll 8
    for (int v = 0; v < count; ++v) store(level(k) + at + v * lanes<T>, result[v]);
  }

  static constexpr T identity = Op::template identity<T>();
  T* level(int k) { return tree + k * level_size; }

  const int64_t level_size, lane_stride;
  int64_t width;
  uint64_t blocks;
  alignas(vector_bytes) T tree[tree_bytes / sizeof(T)];
};

// The `fold` copies of `columns` lanes in `lane` into the first of them. lane has room for whole vectors.
template <class Op, class T>
void combine_folds(T* lane, int64_t columns, int64_t fold) {
  if (columns == 1) {
    for (; fold % lanes<T> != 0; ++fold) lane[fold] = Op::template identity<T>();
    for (int64_t vectors = fold / lanes<T>; vectors > 1; vectors -= vectors / 2)
      for (int64_t v = 0; v < vectors / 2; ++v) {
        T* const to = lane + v * lanes<T>;
        store(to, Op::combine(load(to), load(to + (vectors - vectors / 2) * lanes<T>)));
      }
    lane[0] = combine_lanes<T>(load(lane), [](auto a, auto b) { return Op::combine(a, b); });
    return;
  }
  for (; fold > 1; fold -= fold / 2) {
    const int64_t n = fold / 2 * columns;
    const T* upper = lane + (fold - fold / 2) * columns;
    int64_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) store(lane + i, Op::combine(load(lane + i), load(upper + i)));
    for (; i < n; ++i) lane[i] = Op::combine(lane[i], upper[i]);
  }
}

template <class T>
void write_results(const T* result, int64_t n, char* out, int64_t out_stride, bool mean, int64_t count) {
  const T divisor = mean ? T(count) : T(1);
  int64_t i = 0;
  if (out_stride == int64_t(sizeof(T)))
    for (; i + lanes<T> <= n; i += lanes<T>) {
      const vec<T> v = load(result + i);
      store(reinterpret_cast<T*>(out) + i, mean ? v / divisor : v);
    }
  for (; i < n; ++i) store_scalar(out + i * out_stride, mean ? result[i] / divisor : result[i]);
}

// Rows of the flat range `rows`, run by run.
template <class Panel>
void add_rows(const plan& p, const share& rows, const char* x, Panel& tree) {
  const int innermost = p.rows_count - 1;
  const dimension_pair& run = p.rows[innermost];
  odometer<2> row(p.rows, p.rows_count, rows.first);
  for (int64_t left = rows.count; left > 0;) {
    const int64_t n = minimum_of(left, run.size - row.index[innermost]);
    const bool completes = row.index[innermost] + n == run.size;
    tree.add_run(x + row.offset[0], n, run.stride[0], completes ? p.tail : 0);
    row.advance(n);
    left -= n;
  }
}

template <class Op, class T, bool unit>
void run_plan(const plan& p, bool mean) {
  // Wide rows are cut into panels of nearly equal numbers of whole vectors. No block is empty, so there are at most as
  // many as rows.
  int levels = 1;
  while (levels < 63 && p.rows_total >> levels) ++levels;
  const int64_t most_lanes = minimum_of(widest_panel, tree_bytes / levels) / vector_bytes * lanes<T>;
  const int64_t row_width = p.columns * p.fold;
  int64_t panels = (row_width - 1) / most_lanes + 1;
  const int64_t panel_width = ((row_width - 1) / panels / lanes<T> + 1) * lanes<T>;
  panels = (row_width - 1) / panel_width + 1;

  const int64_t outputs = p.kept_total * panels;
  const int64_t per_output = minimum_of(panel_width, p.columns);
  const int64_t elements = p.kept_total * p.columns * p.reduced_total;
  int64_t tasks = maximum_of<int64_t>(1, minimum_of(elements / elements_per_task, most_tasks));
  // Few panels: their rows are cut into slices too, whose results wait in `partial` to be combined in order.
  constexpr int64_t most_partials = slice_bytes / int64_t(sizeof(T));
  int64_t slices = 1;
  if (outputs < 16 && tasks > outputs) {
    slices = minimum_of(tasks / outputs, most_partials / (outputs * per_output));
    slices = maximum_of<int64_t>(1, minimum_of(slices, p.rows_total / block_rows));
  }
  const int64_t items = outputs * slices;
  tasks = minimum_of(tasks, items);
  T partial[most_partials];

  // Items are counted slice by slice, panel by panel, kept index by kept index.
  auto run_task = [&](int64_t task) {
    const share mine(items, tasks, task);
    panel<Op, T, unit> tree(minimum_of(panel_width, row_width), p.column_stride);
    odometer<2> kept(p.kept, p.kept_count, mine.first / (slices * panels));
    int64_t panel_index = mine.first / slices % panels, slice = mine.first % slices;
    const dimension_pair& run = p.rows[p.rows_count - 1];
    for (int64_t item = mine.first; item < mine.first + mine.count; ++item) {
      const int64_t column = panel_index * panel_width;  // of the row; 0 where rows are folded
      const int64_t width = minimum_of(panel_width, row_width - column);
      tree.start(width);
      const char* x = p.data[0] + kept.offset[0] + column * p.column_stride;
      if (slices == 1 && p.rows_count == 1)
        tree.add_run(x, run.size, run.stride[0], p.tail);
      else
        add_rows(p, share(p.rows_total, slices, slice), x, tree);
      T* result = tree.finish();
      if (p.fold > 1) combine_folds<Op>(result, p.columns, p.fold);
      const int64_t results = minimum_of(width, p.columns - column);
      if (slices == 1)
        write_results(result, results, p.data[1] + kept.offset[1] + column * p.column_out_stride, p.column_out_stride,
                      mean, p.reduced_total);
      else
        memcpy(partial + (slice * outputs + item / slices) * per_output, result, size_t(results) * sizeof(T));
      if (++slice < slices) continue;
      slice = 0;
      if (++panel_index < panels) continue;
      panel_index = 0;
      kept.advance();
    }
  };
  parallel_for(tasks, run_task);
  if (slices == 1) return;

  // partial: (slices, outputs, per_output)
  const int64_t per_slice = outputs * per_output;
  for (int64_t step = 1; step < slices; step *= 2)
    for (int64_t s = 0; s + step < slices; s += 2 * step)
      for (int64_t i = 0; i < per_slice; ++i)
        partial[s * per_slice + i] = Op::combine(partial[s * per_slice + i], partial[(s + step) * per_slice + i]);
  odometer<2> kept(p.kept, p.kept_count, 0);
  for (int64_t output = 0; output < outputs; ++output) {
    const int64_t column = output % panels * panel_width;
    write_results(partial + output * per_output, minimum_of(per_output, p.columns - column),
                  p.data[1] + kept.offset[1] + column * p.column_out_stride, p.column_out_stride, mean,
                  p.reduced_total);
    if ((output + 1) % panels == 0) kept.advance();
  }
}

// ---- short rows ----

// n <= block_rows * tile_lanes neighbours as one vector.
template <class Op, class T>
[[gnu::always_inline]] inline vec<T> combine_row(const char* x, int64_t n) {
  constexpr int64_t item = sizeof(T);
  vec<T> all = load_padded<T, true>(x, item, n, Op::template identity<T>());
  int64_t i = lanes<T>;
  if (n >= tile_lanes<T>) {
    vec<T> part[8] = {all};
#pragma GCC unroll 8
    for (int v = 1; v < 8; ++v) part[v] = load_lanes<T, true>(x + v * vector_bytes, item);
    for (i = tile_lanes<T>; i + tile_lanes<T> <= n; i += tile_lanes<T>)
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v)
        part[v] = Op::combine(part[v], load_lanes<T, true>(x + i * item + v * vector_bytes, item));
#pragma GCC unroll 8
    for (int step = 4; step > 0; step /= 2)
#pragma GCC unroll 8
      for (int v = 0; v < step; ++v) part[v] = Op::combine(part[v], part[v + step]);
    all = part[0];
  }
  for (; i + lanes<T> <= n; i += lanes<T>) all = Op::combine(all, load_lanes<T, true>(x + i * item, item));
  if (i < n) all = Op::combine(all, load_padded<T, true>(x + i * item, item, n - i, Op::template identity<T>()));
  return all;
}

// Many rows of reduced_total neighbours, one result each: as many rows as lanes at a time, so that their lanes are
// combined all at once. One after the other, rows of 8 to 100 elements took 5 times as long.
template <class Op, class T>
void reduce_short_rows(const plan& p, bool mean) {
  const int64_t n = p.reduced_total, groups = (p.kept_total - 1) / lanes<T> + 1;
  const T divisor = mean ? T(n) : T(1);
  const int inner = p.kept_count - 1;
  const int64_t tasks =
      minimum_of(groups, maximum_of<int64_t>(1, minimum_of(p.kept_total * n / elements_per_task, most_tasks)));
  parallel_for(tasks, [&](int64_t task) {
    const share mine(groups, tasks, task);
    odometer<2> kept(p.kept, p.kept_count, mine.first * lanes<T>);
    for (int64_t group = mine.first; group < mine.first + mine.count; ++group) {
      const int64_t count = minimum_of<int64_t>(lanes<T>, p.kept_total - group * lanes<T>);
      vec<T> row[lanes<T>] = {};
      // Where the group lies within one dimension, offsets are a multiplication; else the odometer gives them.
      const bool even = kept.index[inner] + count <= p.kept[inner].size;
      int64_t x_offset[lanes<T>], out_offset[lanes<T>] = {};
      for (int64_t r = 0; r < count; ++r) {
        x_offset[r] = kept.offset[0] + (even ? r * p.kept[inner].stride[0] : 0);
        out_offset[r] = kept.offset[1] + (even ? r * p.kept[inner].stride[1] : 0);
        if (!even) kept.advance();
      }
      if (even) kept.advance(count);
      for (int64_t r = 0; r < count; ++r) row[r] = combine_row<Op, T>(p.data[0] + x_offset[r], n);
      vec<T> result = combine_rows<T>(row, [](auto a, auto b) { return Op::combine(a, b); });
      if (mean) result = result / divisor;
      if (even && p.kept[inner].stride[1] == int64_t(sizeof(T)))
        store_lanes<T, true>(p.data[1] + out_offset[0], sizeof(T), result, count);
      else
        for (int64_t r = 0; r < count; ++r) store_scalar<T>(p.data[1] + out_offset[r], result[r]);
    }
  });
}

template <class Op, class T>
void reduce_as(const hominy_tensor& x, const hominy_tensor& out, bool mean) {
  const plan p = make_plan<T>(x, out);
  const bool unit = p.column_stride == int64_t(sizeof(T));
  // All that one result combines lies side by side.
  const bool one_run = p.columns == 1 && p.rows_count == 1 && p.fold * p.rows_total + p.tail == p.reduced_total &&
                       (p.rows_total == 1 || p.rows[0].stride[0] == p.fold * int64_t(sizeof(T)));
  if (unit && one_run && p.fold > 1 && p.kept_total > 1 && p.reduced_total <= block_rows * tile_lanes<T>)
    reduce_short_rows<Op, T>(p, mean);
  else if (unit)
    run_plan<Op, T, true>(p, mean);
  else
    run_plan<Op, T, false>(p, mean);
}

template <class T>
void reduce_typed(hominy_reduce operation, const hominy_tensor& x, const hominy_tensor& out) {
  switch (operation) {
    case HOMINY_REDUCE_prod: return reduce_as<product_of, T>(x, out, false);
    case HOMINY_REDUCE_amax: return reduce_as<largest_of, T>(x, out, false);
    case HOMINY_REDUCE_amin: return reduce_as<smallest_of, T>(x, out, false);
    default: return reduce_as<sum_of, T>(x, out, operation == HOMINY_REDUCE_mean);
  }
}

template <class T>
void fill(const hominy_tensor& out, int64_t count, T value) {
  dimension<1> dims[HOMINY_MAX_NDIM];
  for (int d = 0; d < out.ndim; ++d) dims[d] = {out.shape[d], {out.strides[d]}};
  odometer<1> position(dims, out.ndim, 0);
  for (int64_t i = 0; i < count; ++i, position.advance())
    store_scalar(static_cast<char*>(out.data) + position.offset[0], value);
}

// ---- index of the extreme ----

// Whether `later` takes the place of `best`, which stands before it: better, or the first NaN. On vectors lane by lane.
template <class Op, class V>
auto replaces(V best, V later) {
  return (best == best) & Op::beats(later, best);
}

template <class T>
struct extreme {
  T value;
  int64_t index;
};

template <class T>
using index_type = typename integer_of<T>::type;
constexpr int64_t arg_panel = 1024;                 // bytes of a row of columns
constexpr int64_t most_indices = int64_t(1) << 30;  // the indices of a float32 lane are carried as int32

template <class T>
mask_vec<T> lane_indices() {
  mask_vec<T> lane;
  for (int i = 0; i < lanes<T>; ++i) lane[i] = i;
  return lane;
}

// The extreme of each lane so far and where it stood.
template <class Op, class T>
struct lane_extremes {
  vec<T> value;
  mask_vec<T> index;

  void take(vec<T> now, mask_vec<T> at) {
    const mask_vec<T> better = replaces<Op>(value, now);
    value = better ? now : value;
    index = better ? at : index;
  }
};

// First extreme of 1 <= n <= most_indices elements.
template <class Op, class T, bool unit>
extreme<T> extreme_of_row(const char* x, int64_t stride, int64_t n) {
  constexpr int64_t step = 4 * lanes<T>;
  constexpr index_type<T> nowhere = 0x7fffffff;
  const auto combine = [](auto a, auto b) { return Op::combine(a, b); };
  const T identity = Op::template identity<T>();
  // best[0] starts with real elements, so that a row of nothing but identities has an index too.
  const mask_vec<T> lane = lane_indices<T>();
  lane_extremes<Op, T> best[4];
  best[0] = {load_padded<T, unit>(x, stride, n, identity), lane};
  int64_t i = lanes<T>;
  const int used = n >= 2 * step ? 4 : 1;
  if (used > 1) {
#pragma GCC unroll 8
    for (int v = 1; v < 4; ++v) best[v] = {broadcast(identity), mask_vec<T>{} + nowhere};
    for (i = 0; i + step <= n; i += step)
#pragma GCC unroll 8
      for (int v = 0; v < 4; ++v) {
        const int64_t at = i + v * lanes<T>;
        best[v].take(load_lanes<T, unit>(x + at * stride, stride), lane + index_type<T>(at));
      }
  }
  for (; i < n; i += lanes<T>)
    best[0].take(load_padded<T, unit>(x + i * stride, stride, n - i, identity), lane + index_type<T>(i));
  vec<T> all = best[0].value;
#pragma GCC unroll 8
  for (int v = 1; v < used; ++v) all = combine(all, best[v].value);
  const T value = combine_lanes<T>(all, combine);
  mask_vec<T> first = mask_vec<T>{} + nowhere;
#pragma GCC unroll 8
  for (int v = 0; v < used; ++v) {
    const mask_vec<T> here = value == value ? best[v].value == value : best[v].value != best[v].value;
    first = here & (best[v].index < first) ? best[v].index : first;
  }
  return {value, combine_lanes<index_type<T>>(first, [](auto a, auto b) { return a < b ? a : b; })};
}

// First extremes of `width` <= a panel of neighbouring columns, n <= most_indices rows. Blocks of rows, as in `panel`,
// so that a page is not left after a few cache lines.
template <class Op, class T>
void extremes_of_columns(const char* x, int64_t stride, int64_t n, int64_t width, extreme<T>* result) {
  lane_extremes<Op, T> best[arg_panel / vector_bytes];
  const auto load_columns = [=](int64_t row, int64_t v) {
    return load_padded<T, true>(x + row * stride + v * vector_bytes, 0, width - v * lanes<T>, T(0));
  };
  const int64_t vectors = (width - 1) / lanes<T> + 1;
  for (int64_t v = 0; v < vectors; ++v) best[v] = {load_columns(0, v), mask_vec<T>{}};
  for (int64_t first = 1; first < n; first += block_rows) {
    const int64_t last = minimum_of(first + block_rows, n);
    for (int64_t v = 0; v < vectors; ++v) {
      lane_extremes<Op, T> own = best[v];
      for (int64_t row = first; row < last; ++row) own.take(load_columns(row, v), mask_vec<T>{} + index_type<T>(row));
      best[v] = own;
    }
  }
  for (int64_t i = 0; i < width; ++i) {
    const auto& own = best[i / lanes<T>];
    result[i] = {own.value[i % lanes<T>], own.index[i % lanes<T>]};
  }
}

template <class Op, class T>
void arg_reduce_as(const hominy_tensor& x, int axis, const hominy_tensor& out, int64_t elements) {
  char* data[2] = {static_cast<char*>(x.data), static_cast<char*>(out.data)};
  dimension_pair dims[HOMINY_MAX_NDIM];
  int count = collect_dimensions<2>(x.shape, x.ndim, axis, {x.strides, out.strides}, data, dims);
  const int64_t n = x.shape[axis], stride = x.strides[axis];
  const bool unit = stride == int64_t(sizeof(T)) || n == 1;
  constexpr int64_t most_width = arg_panel / int64_t(sizeof(T)), most_partials = 1024;
  // Lanes run along the axis, or along neighbouring columns where the axis is not contiguous and they are.
  dimension_pair columns{1, {0, 0}};
  if (!unit && count > 0 && dims[count - 1].stride[0] == int64_t(sizeof(T))) columns = dims[--count];
  const int64_t panels = (columns.size - 1) / most_width + 1;
  const int64_t outputs = elements / n / columns.size * panels;

  int64_t tasks = maximum_of<int64_t>(1, minimum_of(elements / elements_per_task, most_tasks));
  int64_t slices = 1;
  const int64_t per_output = minimum_of(columns.size, most_width);
  if (outputs < 16 && tasks > outputs)
    slices = maximum_of<int64_t>(
        1, minimum_of(minimum_of(tasks / outputs, most_partials / (outputs * per_output)), n / (16 * lanes<T>)));
  const int64_t items = outputs * slices;
  tasks = minimum_of(tasks, items);
  extreme<T> partial[most_partials];

  parallel_for(tasks, [&](int64_t task) {
    const share mine(items, tasks, task);
    odometer<2> kept(dims, count, mine.first / (slices * panels));
    int64_t panel_index = mine.first / slices % panels, slice = mine.first % slices;
    for (int64_t item = mine.first; item < mine.first + mine.count; ++item) {
      const share rows(n, slices, slice);
      const int64_t column = panel_index * most_width, width = minimum_of(most_width, columns.size - column);
      const char* p = data[0] + kept.offset[0] + column * columns.stride[0] + rows.first * stride;
      extreme<T> chunk[most_width], whole[most_width];
      extreme<T>* best = slices > 1 ? partial + item * per_output : whole;
      for (int64_t first = 0; first < rows.count; first += most_indices) {
        const int64_t n_chunk = minimum_of(most_indices, rows.count - first);
        if (columns.size > 1)
          extremes_of_columns<Op, T>(p + first * stride, stride, n_chunk, width, chunk);
        else
          chunk[0] = unit ? extreme_of_row<Op, T, true>(p + first * stride, stride, n_chunk)
                          : extreme_of_row<Op, T, false>(p + first * stride, stride, n_chunk);
        for (int64_t i = 0; i < width; ++i)
          if (first == 0 || replaces<Op>(best[i].value, chunk[i].value))
            best[i] = {chunk[i].value, rows.first + first + chunk[i].index};
      }
      if (slices == 1)
        for (int64_t i = 0; i < width; ++i)
          store_scalar(data[1] + kept.offset[1] + (column + i) * columns.stride[1], best[i].index);
      if (++slice < slices) continue;
      slice = 0;
      if (++panel_index < panels) continue;
      panel_index = 0;
      kept.advance();
    }
  });
  if (slices == 1) return;

  // partial: (outputs, slices, per_output)
  odometer<2> kept(dims, count, 0);
  for (int64_t output = 0; output < outputs; ++output) {
    const int64_t column = output % panels * most_width;
    for (int64_t i = 0; i < minimum_of(most_width, columns.size - column); ++i) {
      const extreme<T>* candidate = partial + output * slices * per_output + i;
      extreme<T> best = *candidate;
      for (int64_t s = 1; s < slices; ++s) {
        candidate += per_output;
        if (replaces<Op>(best.value, candidate->value)) best = *candidate;
      }
      store_scalar(data[1] + kept.offset[1] + (column + i) * columns.stride[1], best.index);
    }
    if ((output + 1) % panels == 0) kept.advance();
  }
}

}  // namespace

hominy_status reduce(hominy_reduce operation, const hominy_tensor* x, const hominy_tensor* out) {
  if (operation < 0 || operation >= HOMINY_REDUCE_COUNT) return HOMINY_BAD_VALUE;
  if ((x->dtype != HOMINY_FLOAT32 && x->dtype != HOMINY_FLOAT64) || out->dtype != x->dtype) return HOMINY_BAD_DTYPE;
  if (x->ndim < 0 || x->ndim > HOMINY_MAX_NDIM || out->ndim != x->ndim) return HOMINY_BAD_SHAPE;
  for (int d = 0; d < x->ndim; ++d)
    if (out->shape[d] != x->shape[d] && out->shape[d] != 1) return HOMINY_BAD_SHAPE;
  int64_t elements, results;
  if (hominy_status status = count_elements(*x, &elements)) return status;
  if (hominy_status status = count_elements(*out, &results)) return status;
  if (results == 0) return HOMINY_OK;
  if (elements == 0) {
    if (operation == HOMINY_REDUCE_amax || operation == HOMINY_REDUCE_amin) return HOMINY_BAD_SHAPE;
    const double nothing = operation == HOMINY_REDUCE_sum ? 0 : operation == HOMINY_REDUCE_prod ? 1 : double(NAN);
    if (x->dtype == HOMINY_FLOAT32)
      fill(*out, results, float(nothing));
    else
      fill(*out, results, nothing);
  } else if (x->dtype == HOMINY_FLOAT32) {
    reduce_typed<float>(operation, *x, *out);
  } else {
    reduce_typed<double>(operation, *x, *out);
  }
  return HOMINY_OK;
}

hominy_status arg_reduce(int32_t smallest, const hominy_tensor* x, int32_t axis, const hominy_tensor* out) {
  if ((x->dtype != HOMINY_FLOAT32 && x->dtype != HOMINY_FLOAT64) || out->dtype != HOMINY_INT64) return HOMINY_BAD_DTYPE;
  if (x->ndim < 1 || x->ndim > HOMINY_MAX_NDIM || out->ndim != x->ndim) return HOMINY_BAD_SHAPE;
  if (axis < 0 || axis >= x->ndim) return HOMINY_BAD_VALUE;
  for (int d = 0; d < x->ndim; ++d)
    if (out->shape[d] != (d == axis ? 1 : x->shape[d])) return HOMINY_BAD_SHAPE;
  int64_t elements, results;
  if (hominy_status status = count_elements(*x, &elements)) return status;
  if (hominy_status status = count_elements(*out, &results)) return status;
  if (results == 0) return HOMINY_OK;
  if (elements == 0) return HOMINY_BAD_SHAPE;
  if (x->dtype == HOMINY_FLOAT32)
    smallest ? arg_reduce_as<smallest_of, float>(*x, axis, *out, elements)
             : arg_reduce_as<largest_of, float>(*x, axis, *out, elements);
  else
    smallest ? arg_reduce_as<smallest_of, double>(*x, axis, *out, elements)
             : arg_reduce_as<largest_of, double>(*x, axis, *out, elements);
  return HOMINY_OK;
}

}  // namespace hominy::HOMINY_LEVEL
