// The matrix product, from the outside in:
//
//   matmul             checks descriptors, folds batch dimensions, deals the batch out to threads
//   multiply_split     a long k and a small out: parts of k as products of their own, then added
//   multiply           one product, on the road that its plan names:
//     multiply_tiles     packs what threads share, deals a grid of tiles out to them
//       multiply_block     one thread's share: blocks of k x strips of columns x panels of rows
//         multiply_tile      (matmul_tile.hpp) one tile in registers
//     multiply_flat      few rows of a against columns of b that are contiguous: nothing is transposed
//     multiply_row       one row of a against contiguous rows of b
//
// A panel is a tile's height of rows of a, a strip a tile's width of columns of b.
#include "matmul.hpp"

#include "activation.hpp"
#include "lane_access.hpp"
#include "matmul_dots.hpp"
#include "matmul_tile.hpp"
#include "parallel_for.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

// Of k: a strip of b and a dozen panels of a stay in the second-level cache.
template <class T>
constexpr int64_t deepest_block = 2048 / sizeof(T);
constexpr int64_t shallow_block = 128;        // the same where b is read in place from afar
constexpr int64_t rows_ahead = 24;            // of b, asked for before their use where they come from afar
constexpr int64_t max_packed_rows = 2048;     // of a at a time,
constexpr int64_t max_packed_columns = 2048;  // and of b: what lies packed in the last-level cache
constexpr int64_t panels_in_cache = 12;       // of a, in one thread's second-level cache
constexpr double read_in_place = 2 << 20;     // bytes of an operand; packing more repays its way through the caches
constexpr double least_task = 1 << 18;        // multiply-adds that repay handing a task to a thread
constexpr int64_t max_tasks = 256;
constexpr int64_t max_parts = 16;

// One product, strides in bytes. bias[i * bias_row + j * bias_column]: transposing a product makes it run along rows.
struct product {
  int64_t m, k, n;
  const char* a;
  int64_t a_row, a_step;
  const char* b;
  int64_t b_step, b_column;
  char* out;
  int64_t out_row, out_column;
  const char* bias;
  int64_t bias_row, bias_column;
  hominy_activation activation;
};

template <class T>
void exchange(T& x, T& y) {
  const T kept = x;
  x = y;
  y = kept;
}

// out^T = b^T a^T.
void transpose_product(product& x) {
  exchange(x.m, x.n);
  exchange(x.a, x.b);
  exchange(x.a_row, x.b_column);
  exchange(x.a_step, x.b_step);
  exchange(x.out_row, x.out_column);
  exchange(x.bias_row, x.bias_column);
}

// ---- The plan: how a product is computed, from its shape and strides alone ------------------------------------------

struct plan {
  enum { in_tiles, flat, one_row } road;
  bool pack_a, pack_b;  // or read in place
  bool own_b;           // packed strip by strip in the task that uses it, into scratch of its place
  bool far_b;           // in place, but not in a near cache
  int64_t m_block, n_block, k_span, k_block;
  int log2_vectors;  // a strip's width
  int64_t parts;     // of k, summed apart
  int64_t scratch;   // bytes, of one part,
  int64_t own_size;  // the last of them a place's, where places pack for themselves
  int64_t places;    // that have such scratch
};

template <class T>
plan make_plan(const product& x) {
  constexpr int64_t size = sizeof(T);
  plan how{};
  how.parts =
      x.m * x.n <= 128 * 128 && x.k >= 2048 && x.k >= 8 * maximum_of(x.m, x.n) ? minimum_of(max_parts, x.k / 512) : 1;
  const int64_t k = parts_of(x.k, how.parts);
  const bool b_along_k = x.b_step == size && x.b_column != size;
  if (b_along_k && double(x.m) * (5 + double(k) / 160) < 0.4 * double(k)) {
    how.road = plan::flat;
    how.pack_a = x.a_step != size;
    how.scratch = how.pack_a ? x.m * packed_row<T>(k) : 0;
    return how;
  }
  if (x.m == 1 && x.b_column == size) {
    how.road = plan::one_row;
    return how;
  }
  const double a_size = double(x.m) * double(k) * size, b_size = double(k) * double(x.n) * size;
  const bool one_group = x.m <= panels_in_cache * max_tile_rows;  // of panels: strips of b come from afar only once
  how.pack_b = x.b_column != size || (x.m > 48 && b_size > (one_group ? 2 : 1) * read_in_place);
  how.far_b = !how.pack_b && x.m <= 48 && b_size > 128 * 1024;
  const bool rows_collide = x.m > 4 && k > 64 && x.a_row % 4096 == 0;  // a panel's rows fight for the same cache sets
  how.pack_a = rows_collide || (x.a_step != size && x.n > 64 && a_size > read_in_place);
  how.m_block = parts_of(x.m, parts_of(x.m, max_packed_rows));
  const int64_t rows = parts_of(how.m_block, parts_of(how.m_block, max_tile_rows));
  how.log2_vectors = how.pack_b ? 1 : log2_widest_tile(rows);
  const int64_t strip = lanes<T> << how.log2_vectors;
  // Each strip meets all of a in one task: packed there, it never leaves that core's caches.
  how.own_b = b_along_k && one_group;
  how.n_block = how.own_b ? x.n : round_up(parts_of(x.n, parts_of(x.n, max_packed_columns)), strip);
  how.k_block = k ? parts_of(k, parts_of(k, how.far_b ? shallow_block : deepest_block<T>)) : 0;
  how.k_span = how.pack_b && !how.own_b ? how.k_block : k;
  how.places = 1;
  how.own_size = how.own_b ? round_up(strip * how.k_block * size, 64) : 0;
  if (how.pack_a) how.scratch += round_up(how.m_block * packed_row<T>(how.k_span), 64);
  if (how.pack_b) how.scratch += how.own_b ? how.own_size : how.n_block * how.k_span * size;
  return how;
}

// Whether the transposed product is the better one: rows of out contiguous, and no strip mostly empty.
template <class T>
bool better_transposed(const product& x) {
  constexpr int64_t size = sizeof(T);
  const bool narrow = x.n <= lanes<T> / 2 && x.n < x.m;
  const bool out_along_columns = x.out_row == size && x.out_column != size && x.m > lanes<T> / 2;
  return narrow || out_along_columns;
}

// ---- One thread's share ---------------------------------------------------------------------------------------------

// rows x columns elements between a contiguous tile, `tile_row` elements a row, and a block of any strides.
template <class T>
void gather(T* tile, int64_t tile_row, const char* from, int64_t row_stride, int64_t column_stride, int64_t rows,
            int64_t columns) {
  for (int64_t i = 0; i < rows; i++, tile += tile_row, from += row_stride)
    if (column_stride == int64_t(sizeof(T)))
      copy_elements(tile, (const T*)from, columns);
    else
      for (int64_t j = 0; j < columns; j++) tile[j] = load_scalar<T>(from + j * column_stride);
}
template <class T>
void scatter(char* to, int64_t row_stride, int64_t column_stride, const T* tile, int64_t tile_row, int64_t rows,
             int64_t columns) {
  for (int64_t i = 0; i < rows; i++, tile += tile_row, to += row_stride)
    if (column_stride == int64_t(sizeof(T)))
      copy_elements((T*)to, tile, columns);
    else
      for (int64_t j = 0; j < columns; j++) memcpy(to + j * column_stride, tile + j, sizeof(T));
}

// The operands of a block as the tile kernels find them, packed or in place. a: panel at row i from the block's first
// at a + i * a_pitch, its rows a_row apart; b: strip at column j at b + j * b_pitch.
struct sources {
  const char* a;
  int64_t a_pitch, a_row, a_step;
  bool a_in_panels;  // a_row apart are elements, and a_step is the panel's height
  const char* b;
  int64_t b_pitch, b_step;
  bool b_in_strips;  // b_step is the strip's width
  char* own;         // where this share's strips are to be packed, or NULL; b is the block's first element then
};

// Steps [k0, k0 + depth) of n columns of b into strips, `pitch` bytes a column apart.
template <class T>
void pack_strips(char* to, int64_t pitch, const product& x, const char* b, int64_t n, int64_t strip, int64_t k0,
                 int64_t depth) {
  int64_t columns;
  for (int64_t j0 = 0; j0 < n; j0 += columns) {
    const int64_t width = n - j0 >= strip ? strip : lanes<T>;  // as multiply_block walks them
    columns = minimum_of(width, n - j0);
    pack_rows((T*)(to + j0 * pitch) + k0 * width, width, b + j0 * x.b_column + k0 * x.b_step, x.b_step, x.b_column,
              depth, columns);
  }
}

// The share of out in panels [panel, panel_end) and columns [column, column_end) of a block of `depth` steps of k.
// x.out and x.bias are the block's; x.n its columns.
template <class T>
void multiply_block(const product& x, const plan& how, const sources& from, const panel_list& panels, int64_t depth,
                    bool first, bool last, int64_t panel, int64_t panel_end, int64_t column, int64_t column_end) {
  constexpr int64_t size = sizeof(T);
  alignas(64) T edge[deepest_block<T> * lanes<T>];           // a strip of b that ends within a vector, filled up
  alignas(64) T staged[max_accumulators * lanes<T>];         // a tile of out, where it cannot be written in place
  alignas(64) T bias_row[max_tile_vectors * lanes<T>] = {};  // what a strip's sums start from
  for (int64_t k0 = 0; k0 < depth || k0 == 0; k0 += how.k_block) {
    const int64_t k = minimum_of(how.k_block, depth - k0);
    const bool starts = first && k0 == 0, ends = last && k0 + k == depth;
    const bool in_strips = from.own || from.b_in_strips;
    const int64_t b_pitch = from.own ? k * size : from.b_pitch;
    if (from.own)
      pack_strips<T>(from.own, b_pitch, x, from.b + column * x.b_column + k0 * x.b_step, column_end - column,
                     lanes<T> << how.log2_vectors, 0, k);
    int64_t columns;
    for (int64_t j0 = column; j0 < column_end; j0 += columns) {
      const int64_t left = column_end - j0;
      int log2_vectors = how.log2_vectors;
      while (log2_vectors > 0 && left < (lanes<T> << log2_vectors)) log2_vectors--;
      const int64_t vectors = int64_t(1) << log2_vectors, width = vectors * lanes<T>;
      const bool narrow = left < width;
      columns = narrow ? left : width;

      const char* b = from.own ? from.own + (j0 - column) * b_pitch : from.b + j0 * b_pitch;
      int64_t b_step = from.b_step;
      if (in_strips) {
        b_step = width * size;
        if (!from.own) b += k0 * b_step;
      } else if (narrow) {
        pack_rows(edge, width, b + k0 * b_step, b_step, size, k, columns);
        b = (const char*)edge;
        b_step = width * size;
      } else {
        b += k0 * b_step;
      }
      const int64_t ahead = in_strips ? width * b_pitch : rows_ahead * b_step;
      if (starts && x.bias && !x.bias_row)
        gather(bias_row, width, x.bias + j0 * x.bias_column, 0, x.bias_column, 1, columns);

      for (int64_t r = panel; r < panel_end; r++) {
        const int64_t i0 = panels.begin(r), rows = panels.rows(r);
        const int64_t a_step = from.a_in_panels ? rows * size : from.a_step;
        const char* a = from.a + i0 * from.a_pitch + k0 * a_step;
        char* const out = x.out + i0 * x.out_row + j0 * x.out_column;
        const bool in_place = !narrow && x.out_column == size;
        char* const c = in_place ? out : (char*)staged;
        const int64_t c_row = in_place ? x.out_row : width * size;
        const char* start = c;
        int64_t start_row = c_row;
        if (!starts) {
          if (!in_place) gather(staged, width, out, x.out_row, x.out_column, rows, columns);
        } else if (x.bias && x.bias_row) {
          for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < width; j++) staged[i * width + j] = load_scalar<T>(x.bias + (i0 + i) * x.bias_row);
          start = (const char*)staged;
          start_row = width * size;
        } else {
          start = (const char*)bias_row;
          start_row = 0;
        }
        if (how.pack_a)
          for (int64_t i = rows; i < 2 * rows; i++)
            for (int64_t v = 0; v < vectors; v++)
              __builtin_prefetch(out + i * x.out_row + v * vector_bytes, 1);  // the next tile's sums
        // While the first panel is at work on a strip, the next one comes nearer.
        const bool fetches = log2_vectors == 1 && r == panel && (how.far_b || from.b_in_strips);
        tiles<T>().by[fetches ? fetching_shape : log2_vectors][rows](k, a, from.a_row, a_step, b, b_step, ahead, start,
                                                                     start_row, c, c_row);
        if (ends) activate<T>(x.activation, c, c_row, rows, vectors);
        if (!in_place) scatter(out, x.out_row, x.out_column, staged, width, rows, columns);
      }
    }
    if (k == 0) break;
  }
}

// ---- One product ----------------------------------------------------------------------------------------------------

// out is cut into a grid of tasks: panels x strips each, near-square, small enough to occupy many threads and large
// enough to be worth a thread's while. No sum is cut, so the grid may be anything.
struct task_grid {
  int64_t panels, strips, down, across;
  // own_places: where each task packs its strips of b, for how many at once; else 0.
  task_grid(double work, const panel_list& rows, int64_t strip_count, int64_t strip_width, int64_t own_places) {
    int64_t wanted = work < 2 * least_task ? 1 : tasks_worth(work, least_task, max_tasks);
    panels = wanted == 1 ? rows.count : minimum_of(rows.count, panels_in_cache);
    strips = strip_count;
    if (own_places > 0) {  // a strip in several tasks would be packed in each
      strips = parts_of(strip_count, wanted);
      wanted = own_places == 1 ? 1 : minimum_of(wanted, 2 * minimum_of<int64_t>(num_threads(), own_places));
    }
    for (;;) {
      down = parts_of(rows.count, panels);
      across = parts_of(strip_count, strips);
      if (down * across >= wanted || (panels == 1 && strips == 1)) break;
      if (panels == 1 || (strips > 1 && strips * strip_width >= panels * rows.height))
        strips = parts_of(strips, 2);
      else
        panels = parts_of(panels, 2);
    }
  }
};

template <class T>
void pack_a_panel(char* to, const sources& from, const panel_list& panels, const product& x, int64_t i, int64_t p,
                  int64_t depth, int64_t panel) {
  const int64_t i0 = panels.begin(panel), rows = panels.rows(panel);
  const char* source = x.a + (i + i0) * x.a_row + p * x.a_step;
  if (from.a_in_panels)
    pack_rows((T*)(to + i0 * from.a_pitch), rows, source, x.a_step, x.a_row, depth, rows);
  else
    for (int64_t r = 0; r < rows; r++)
      copy_elements((T*)(to + (i0 + r) * from.a_pitch), (const T*)(source + r * x.a_row), depth, 2 * x.a_row);
}

template <class T>
void multiply_tiles(const product& x, const plan& how, char* scratch) {
  constexpr int64_t size = sizeof(T);
  const int64_t strip = lanes<T> << how.log2_vectors;
  char* const packed_a = scratch;
  char* const packed_b = scratch + (how.pack_a ? round_up(how.m_block * packed_row<T>(how.k_span), 64) : 0);
  for (int64_t j = 0; j < x.n; j += how.n_block)
    for (int64_t i = 0; i < x.m; i += how.m_block)
      for (int64_t p = 0; p < x.k || p == 0; p += how.k_span) {
        const int64_t m = minimum_of(how.m_block, x.m - i), n = minimum_of(how.n_block, x.n - j);
        const int64_t depth = minimum_of(how.k_span, x.k - p);
        const panel_list panels(m);
        const int64_t strips = parts_of(n, strip);
        const task_grid grid(double(m) * double(n) * double(depth), panels, strips, strip, how.own_b ? how.places : 0);
        const bool serial = grid.down * grid.across == 1;

        product block = x;
        block.out += i * x.out_row + j * x.out_column;
        if (x.bias) block.bias += i * x.bias_row + j * x.bias_column;
        block.n = n;
        sources from{};
        from.a_in_panels = how.pack_a && x.a_step != size;
        from.b_in_strips = how.pack_b && !how.own_b;
        if (!how.pack_a) {
          from.a = x.a + i * x.a_row + p * x.a_step;
          from.a_pitch = from.a_row = x.a_row;
          from.a_step = x.a_step;
        } else {
          from.a = packed_a;
          from.a_pitch = from.a_in_panels ? depth * size : packed_row<T>(how.k_span);
          from.a_row = from.a_in_panels ? size : from.a_pitch;
          from.a_step = size;
        }
        const char* const b = x.b + j * x.b_column + p * x.b_step;
        from.b = from.b_in_strips ? packed_b : b;
        from.b_pitch = from.b_in_strips ? depth * size : size;
        from.b_step = x.b_step;

        if (how.pack_a || from.b_in_strips) {
          // Steps of k that are packed side by side: a few rows, or squares to transpose where b lies along k.
          const int64_t slice = x.b_column == size ? 8 : 8 * lanes<T>;
          const int64_t slices = from.b_in_strips ? parts_of(depth, slice) : 0;
          const int64_t items = slices + (how.pack_a ? panels.count : 0);
          const int64_t tasks = serial ? 1 : minimum_of<int64_t>(16, items);
          parallel_for(tasks, [&](int64_t task) {
            for (int64_t item = items * task / tasks; item < items * (task + 1) / tasks; item++)
              if (item < slices)
                pack_strips<T>(packed_b, from.b_pitch, x, b, n, strip, item * slice,
                               minimum_of(slice, depth - item * slice));
              else
                pack_a_panel<T>(packed_a, from, panels, x, i, p, depth, item - slices);
          });
        }
        parallel_for_places(
            grid.down * grid.across, how.own_b ? how.places : INT64_MAX, [&](int64_t task, int64_t place) {
              const int64_t panel = task / grid.across * grid.panels, first = task % grid.across * grid.strips;
              const int64_t end = minimum_of(n, (first + grid.strips) * strip);
              const int64_t some = how.own_b ? strip : n;
              sources mine = from;
              if (how.own_b) mine.own = packed_b + place * how.own_size;
              for (int64_t column = first * strip; column < end; column += some)
                multiply_block<T>(block, how, mine, panels, depth, p == 0, p + depth == x.k, panel,
                                  minimum_of(panels.count, panel + grid.panels), column,
                                  minimum_of(end, column + some));
            });
        if (depth == 0) break;
      }
}

// Few rows of a against columns of b that lie along k, as in a layer's y = x W^T.
template <class T>
void multiply_flat(const product& x, const plan& how, char* scratch) {
  const char* a = x.a;
  int64_t a_row = x.a_row;
  if (how.pack_a) {
    a = scratch;
    a_row = packed_row<T>(x.k);
    for (int64_t i = 0; i < x.m; i++) gather((T*)(scratch + i * a_row), 0, x.a + i * x.a_row, 0, x.a_step, 1, x.k);
  }
  const int64_t groups = parts_of(x.n, dot_columns);
  const double work = double(x.m) * double(x.n) * double(x.k);
  const int64_t wanted = work < 2 * least_task ? 1 : tasks_worth(work, least_task, max_tasks);
  const int64_t tasks = minimum_of(groups, wanted);
  parallel_for(tasks, [&](int64_t task) {
    alignas(64) T sums[round_up(dot_rows * dot_columns, lanes<T>)] = {};
    for (int64_t group = groups * task / tasks; group < groups * (task + 1) / tasks; group++) {
      const int64_t j0 = group * dot_columns, columns = minimum_of<int64_t>(dot_columns, x.n - j0);
      for (int64_t i0 = 0; i0 < x.m; i0 += dot_rows) {
        const int64_t rows = minimum_of<int64_t>(dot_rows, x.m - i0);
        dots<T>().by[rows][columns](x.k, a + i0 * a_row, a_row, x.b + j0 * x.b_column, x.b_column, sums);
        if (x.bias)
          for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
              sums[i * columns + j] += load_scalar<T>(x.bias + (i0 + i) * x.bias_row + (j0 + j) * x.bias_column);
        activate<T>(x.activation, (char*)sums, 0, 1, parts_of(rows * columns, lanes<T>));
        scatter(x.out + i0 * x.out_row + j0 * x.out_column, x.out_row, x.out_column, sums, columns, rows, columns);
      }
    }
  });
}

// One row of a: b is read once, a few rows at a time, into sums that stay in the first-level cache. Columns are shared
// out in pieces as wide as the number of threads allows: memory likes long rows, and no sum is cut.
template <class T>
void multiply_row(const product& x) {
  constexpr int64_t widest = 8192 / sizeof(T), depth = 4;
  const int64_t sharers = double(x.n) * double(x.k) < 2 * least_task ? 1 : num_threads();
  const int64_t chunk = minimum_of(widest, round_up(parts_of(x.n, sharers), lanes<T>));
  const int64_t chunks = parts_of(x.n, chunk), tasks = sharers == 1 ? 1 : chunks;
  parallel_for(tasks, [&](int64_t task) {
    alignas(64) T sums[widest];
    for (int64_t j0 = chunks * task / tasks * chunk; j0 < chunks * (task + 1) / tasks * chunk; j0 += chunk) {
      const int64_t columns = minimum_of(chunk, x.n - j0);
      const char* b = x.b + j0 * int64_t(sizeof(T));
      memset(sums, 0, size_t(round_up(columns, lanes<T>)) * sizeof(T));
      if (x.bias) gather(sums, 0, x.bias + j0 * x.bias_column, 0, x.bias_column, 1, columns);
      int64_t p = 0;
      for (; p < x.k; p += depth) {
        T row[depth];
        const int64_t rows = minimum_of(depth, x.k - p);
        for (int64_t q = 0; q < rows; q++) row[q] = load_scalar<T>(x.a + (p + q) * x.a_step);
        if (rows == depth)
          add_rows<T, depth>(sums, columns, row, b + p * x.b_step, x.b_step);
        else
          for (int64_t q = 0; q < rows; q++) add_rows<T, 1>(sums, columns, row + q, b + (p + q) * x.b_step, x.b_step);
      }
      activate<T>(x.activation, (char*)sums, 0, 1, parts_of(columns, lanes<T>));
      scatter(x.out + j0 * x.out_column, 0, x.out_column, sums, 0, 1, columns);
    }
  });
}

template <class T>
void multiply(const product& x, const plan& how, char* scratch) {
  if (how.road == plan::in_tiles)
    multiply_tiles<T>(x, how, scratch);
  else if (how.road == plan::flat)
    multiply_flat<T>(x, how, scratch);
  else
    multiply_row<T>(x);
}

// A small out and a long k: `parts` products into scratch, side by side, then their sum in order.
template <class T>
void multiply_split(const product& x, const plan& how, char* scratch) {
  constexpr int64_t size = sizeof(T);
  const int64_t padded = round_up(x.n, lanes<T>), partial_bytes = x.m * padded * size;
  char* const rest = scratch + how.parts * partial_bytes;
  const int64_t depth = parts_of(x.k, how.parts);
  parallel_for(how.parts, [&](int64_t part) {
    product partial = x;
    const int64_t p = minimum_of(x.k, part * depth);
    partial.k = minimum_of(depth, x.k - p);
    partial.a += p * x.a_step;
    partial.b += p * x.b_step;
    partial.out = scratch + part * partial_bytes;
    partial.out_row = padded * size;
    partial.out_column = size;
    partial.bias = nullptr;
    partial.activation = HOMINY_ACTIVATION_NONE;
    multiply<T>(partial, how, rest + part * how.scratch);
  });
  for (int64_t i = 0; i < x.m; i++) {
    char* const row = scratch + i * padded * size;
    if (x.bias)
      for (int64_t j = 0; j < x.n; j++) {
        T* const sum = (T*)row + j;
        *sum += load_scalar<T>(x.bias + i * x.bias_row + j * x.bias_column);
      }
    for (int64_t j = 0; j < padded; j += lanes<T>) {
      vec<T> sum = load((T*)row + j);
      for (int64_t part = 1; part < how.parts; part++) sum += load((T*)(row + part * partial_bytes) + j);
      store((T*)row + j, sum);
    }
    activate<T>(x.activation, row, 0, 1, padded / lanes<T>);
    scatter(x.out + i * x.out_row, x.out_row, x.out_column, (T*)row, padded, 1, x.n);
  }
}

// ---- The call -------------------------------------------------------------------------------------------------------

// The batch's dimensions that are left after folding, outermost first, and one product of it.
struct batch_of_products {
  int64_t items;
  int32_t ndim;
  int64_t shape[HOMINY_MAX_NDIM], a[HOMINY_MAX_NDIM], b[HOMINY_MAX_NDIM], out[HOMINY_MAX_NDIM];  // strides
  product first;
  plan how;
  int64_t scratch;  // of one product
};

// Checks the descriptors and fills in all but the activation; bias may be NULL.
template <class T>
hominy_status read_descriptors(const hominy_tensor* a, const hominy_tensor* b, const hominy_tensor* bias,
                               const hominy_tensor* out, batch_of_products& batch) {
  constexpr int64_t size = sizeof(T);
  const int32_t ndim = out->ndim;
  if (ndim < 2 || ndim > HOMINY_MAX_NDIM || a->ndim != ndim || b->ndim != ndim) return HOMINY_BAD_SHAPE;
  const int32_t rows = ndim - 2, columns = ndim - 1;
  product& x = batch.first;
  x = {};
  x.m = out->shape[rows];
  x.n = out->shape[columns];
  x.k = a->shape[columns];
  if (a->shape[rows] != x.m || b->shape[columns] != x.n || b->shape[rows] != x.k) return HOMINY_BAD_SHAPE;
  if (x.m < 0 || x.n < 0 || x.k < 0) return HOMINY_BAD_SHAPE;
  x.a = (const char*)a->data;
  x.b = (const char*)b->data;
  x.out = (char*)out->data;
  x.a_row = a->strides[rows];
  x.a_step = a->strides[columns];
  x.b_step = b->strides[rows];
  x.b_column = b->strides[columns];
  x.out_row = out->strides[rows];
  x.out_column = out->strides[columns];
  if (bias) {
    if (bias->dtype != out->dtype) return HOMINY_BAD_DTYPE;
    if (bias->ndim != 1 || bias->shape[0] != x.n) return HOMINY_BAD_SHAPE;
    x.bias = (const char*)bias->data;
    x.bias_column = bias->strides[0];
  }

  batch.items = 1;
  batch.ndim = 0;
  int64_t bytes = size;
  for (int32_t d = ndim - 1; d >= 0; d--)
    if (out->shape[d] > 0 && __builtin_mul_overflow(bytes, out->shape[d], &bytes)) return HOMINY_OVERFLOW;
  if (x.k > INT64_MAX / 128 / size) return HOMINY_OVERFLOW;
  for (int32_t d = 0; d < rows; d++) {
    const int64_t extent = out->shape[d];
    if (a->shape[d] != extent || b->shape[d] != extent || extent < 0) return HOMINY_BAD_SHAPE;
    batch.items *= extent;
    if (extent == 1) continue;
    batch.shape[batch.ndim] = extent;
    batch.a[batch.ndim] = a->strides[d];
    batch.b[batch.ndim] = b->strides[d];
    batch.out[batch.ndim] = out->strides[d];
    batch.ndim++;
  }
  if (batch.items == 0 || x.m == 0 || x.n == 0) {
    batch.items = 0;
    return HOMINY_OK;
  }
  // Batches of rows against one b are one taller product.
  while (batch.ndim > 0) {
    const int32_t d = batch.ndim - 1;
    const bool folds = x.m == 1 || (batch.a[d] == x.m * x.a_row && batch.out[d] == x.m * x.out_row);
    if (batch.b[d] != 0 || !folds) break;
    if (x.m == 1) {
      x.a_row = batch.a[d];
      x.out_row = batch.out[d];
    }
    x.m *= batch.shape[d];
    batch.items /= batch.shape[d];
    batch.ndim--;
  }
  // The stride of a dimension of size 1 says nothing: let it look contiguous.
  if (x.n == 1) x.b_column = x.out_column = size;
  if (x.k == 1) x.a_step = size;
  if (x.m == 1) x.a_row = x.out_row = 0;
  if (better_transposed<T>(x)) {
    transpose_product(x);
    for (int32_t d = 0; d < batch.ndim; d++) exchange(batch.a[d], batch.b[d]);
  }
  batch.how = make_plan<T>(x);
  batch.scratch = round_up(batch.how.scratch, 64);
  batch.how.scratch = batch.scratch;
  if (batch.how.parts > 1) batch.scratch = batch.how.parts * (batch.scratch + x.m * round_up(x.n, lanes<T>) * size);
  return HOMINY_OK;
}

// Whether threads take whole products of the batch, rather than share each.
bool deals_out_products(const batch_of_products& batch) {
  const product& x = batch.first;
  return batch.items >= 4 && double(x.m) * double(x.n) * double(x.k) <= 512.0 * 512 * 512;
}

template <class T>
int64_t workspace_size_of(const hominy_tensor* a, const hominy_tensor* b, const hominy_tensor* out) {
  batch_of_products batch;
  if (read_descriptors<T>(a, b, nullptr, out, batch) != HOMINY_OK || batch.items == 0) return 0;
  if (deals_out_products(batch)) return batch.scratch * minimum_of<int64_t>(num_threads(), batch.items);
  return batch.scratch + (batch.how.parts == 1 ? (num_threads() - 1) * batch.how.own_size : 0);
}

template <class T>
hominy_status matmul_of(const hominy_tensor* a, const hominy_tensor* b, const hominy_tensor* bias,
                        hominy_activation activation, const hominy_tensor* out, char* workspace,
                        int64_t workspace_size) {
  batch_of_products batch;
  const hominy_status status = read_descriptors<T>(a, b, bias, out, batch);
  if (status != HOMINY_OK || batch.items == 0) return status;
  if (workspace_size < batch.scratch || (batch.scratch > 0 && !workspace)) return HOMINY_NO_WORKSPACE;
  product& x = batch.first;
  x.activation = activation;

  const auto multiply_item = [&](int64_t item, char* scratch) {
    product one = x;
    for (int32_t d = batch.ndim - 1; d >= 0; d--) {
      const int64_t index = item % batch.shape[d];
      item /= batch.shape[d];
      one.a += index * batch.a[d];
      one.b += index * batch.b[d];
      one.out += index * batch.out[d];
    }
    if (batch.how.parts > 1)
      multiply_split<T>(one, batch.how, scratch);
    else
      multiply<T>(one, batch.how, scratch);
  };
  if (!deals_out_products(batch)) {
    if (batch.how.own_size > 0 && batch.how.parts == 1)
      batch.how.places += (workspace_size - batch.scratch) / batch.how.own_size;
    for (int64_t item = 0; item < batch.items; item++) multiply_item(item, workspace);
    return HOMINY_OK;
  }
  // A few products are a task; each place has scratch of its own.
  const double work = double(x.m) * double(x.n) * double(x.k);
  const int64_t some = maximum_of<int64_t>(1, minimum_of<int64_t>(batch.items / 4, int64_t(least_task / (work + 1))));
  int64_t places = work * double(batch.items) < 2 * least_task ? 1 : num_threads();
  if (batch.scratch > 0) places = minimum_of(places, workspace_size / batch.scratch);
  parallel_for_places(parts_of(batch.items, some), places, [&](int64_t task, int64_t place) {
    for (int64_t item = task * some; item < minimum_of(batch.items, (task + 1) * some); item++)
      multiply_item(item, workspace + place * batch.scratch);
  });
  return HOMINY_OK;
}

}  // namespace

int64_t matmul_workspace_size(const hominy_tensor* a, const hominy_tensor* b, const hominy_tensor* out) {
  if (out->dtype == HOMINY_FLOAT32) return workspace_size_of<float>(a, b, out);
  if (out->dtype == HOMINY_FLOAT64) return workspace_size_of<double>(a, b, out);
  return 0;
}

hominy_status matmul(const hominy_tensor* a, const hominy_tensor* b, const hominy_tensor* bias,
                     hominy_activation activation, const hominy_tensor* out, void* workspace, int64_t workspace_size) {
  if (a->dtype != out->dtype || b->dtype != out->dtype) return HOMINY_BAD_DTYPE;
  if (activation < HOMINY_ACTIVATION_NONE || activation > HOMINY_ACTIVATION_SILU) return HOMINY_BAD_VALUE;
  if (out->dtype == HOMINY_FLOAT32)
    return matmul_of<float>(a, b, bias, activation, out, (char*)workspace, workspace_size);
  if (out->dtype == HOMINY_FLOAT64)
    return matmul_of<double>(a, b, bias, activation, out, (char*)workspace, workspace_size);
  return HOMINY_BAD_DTYPE;
}

}  // namespace hominy::HOMINY_LEVEL
