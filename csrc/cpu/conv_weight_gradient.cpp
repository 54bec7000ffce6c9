#include "conv_weight_gradient.hpp"

#include "conv_rows.hpp"
#include "parallel_for.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t most_positions = 256;  // of a block
constexpr int64_t most_panels = 12;      // of patch elements, and
template <class T>
constexpr int64_t most_columns = 16 * lanes<T>;  // of out channels in one task: its sums stay in the second-level cache
template <class T>
constexpr int64_t strip_width = 2 * lanes<T>;
constexpr int64_t longest_step = 512;      // bytes between positions read in place: of longer rows, pieces are packed
constexpr int64_t shortest_run = 6;        // of positions that is worth rows of the image, and
constexpr int64_t least_piece = 8;         // of elements of a patch that lie together in one
constexpr int64_t most_sums = 192 * 1024;  // bytes: all sums of a patch stay in the second-level cache
constexpr int64_t wanted_tasks = 8;
constexpr int64_t max_parts = 16;
constexpr double least_task = 1 << 18;

enum class patches {
  in_place,  // one tap, at every position of x
  in_rows,   // of x, copied with zeros at their ends: a patch is a piece of each of a few rows
  down,      // packed, a patch a row
  across     // packed, a patch a column
};

// Whether the positions of an image, and of all images, lie space[2] apart, each row behind the one before. A dimension of
// one may have any stride, which says nothing (and as the innermost, not where a row's next position would be).
inline bool rows_follow(const conv_images& images, const int64_t (&extent)[3]) {
  return (extent[2] > 1 || volume(extent) == 1) && (extent[1] == 1 || images.space[1] == extent[2] * images.space[2]) &&
         (extent[0] == 1 || images.space[0] == extent[1] * extent[2] * images.space[2]);
}
inline bool images_follow(const conv_images& images, const int64_t (&extent)[3], int64_t batch) {
  return batch == 1 || (extent[2] > 1 && images.batch == volume(extent) * images.space[2]);
}

sampling sample_patches(const conv_shape& shape, const conv_images& x) {
  sampling from{};
  from.batch = shape.batch;
  from.channels = shape.in_channels;
  from.in = x;
  for (int d = 0; d < 3; d++)
    from.axis[d] = {shape.out[d], shape.stride[d], shape.kernel[d], -shape.padding[d], shape.dilation[d], shape.in[d]};
  return from;
}

struct plan {
  patches source;
  image_rows rows;
  int64_t depth, row_groups, column_groups, parts, tasks;  // depth: channels x taps of a patch
  int64_t pieces, piece_length;                            // of a patch
  int64_t block_positions, part_positions;
  int64_t pieces_size, patch_size, gradient_size, sums_size, task_scratch, partial_size;  // bytes

  // The end of a block that begins at p: in rows, of so many whole rows or within one.
  int64_t block_end(int64_t p, int64_t end, int64_t row_length) const {
    int64_t deep = block_positions;
    if (source == patches::in_rows && row_length > deep) deep = minimum_of(deep, row_length - p % row_length);
    return minimum_of(end, p + deep);
  }
};

template <class T>
patches find_source(const conv_shape& shape, const conv_images& x, int64_t columns, image_rows& rows) {
  if (!channels_together<T>(x) || rows_together<T>(x)) return patches::across;
  bool one_tap = x.space[2] <= longest_step && rows_follow(x, shape.in) && images_follow(x, shape.in, shape.batch);
  for (int d = 0; d < 3; d++)
    one_tap =
        one_tap && shape.kernel[d] == 1 && shape.stride[d] == 1 && shape.padding[d] == 0 && shape.in[d] == shape.out[d];
  if (one_tap) return patches::in_place;
  const sampling from = sample_patches(shape, x);
  const int64_t run = minimum_of(shape.out[2], most_positions);
  const bool fits = run >= shortest_run && from.taps() > 1 &&
                    from.depth() <= most_sums / (columns * int64_t(sizeof(T))) && rows.plan<T>(from, run) &&
                    rows.piece_length >= least_piece;
  return fits ? patches::in_rows : patches::down;
}

template <class T>
plan make_plan(const conv_shape& shape, const conv_images& x) {
  constexpr int64_t size = sizeof(T);
  plan how{};
  how.depth = shape.in_channels * volume(shape.kernel);
  const int64_t positions = shape.batch * volume(shape.out);
  if (positions == 0 || how.depth == 0 || shape.out_channels == 0) return how;
  const int64_t columns = round_up(minimum_of(shape.out_channels, most_columns<T>), lanes<T>);
  how.source = find_source<T>(shape, x, columns, how.rows);
  const bool in_rows = how.source == patches::in_rows;
  how.pieces = in_rows ? how.rows.pieces : 1;
  how.piece_length = how.depth / how.pieces;
  how.row_groups = in_rows ? 1 : parts_of(parts_of(how.depth, max_tile_rows), most_panels);
  how.column_groups = parts_of(shape.out_channels, most_columns<T>);
  how.block_positions = most_positions;
  int64_t unit = lanes<T>, runs = 1;  // unit: of positions that parts are made of
  if (in_rows && shape.out[2] <= most_positions) {
    runs = maximum_of<int64_t>(1, minimum_of(most_positions / shape.out[2], rows_in_cache / how.rows.run_pitch));
    unit = shape.out[2];
    how.block_positions = runs * unit;
  } else if (in_rows) {
    how.block_positions = parts_of(shape.out[2], parts_of(shape.out[2], most_positions));
  }
  const int64_t blocks = shape.groups * how.row_groups * how.column_groups;
  const double work = double(positions) * double(how.depth) * double(shape.out_channels) * double(shape.groups);
  const int64_t wanted = tasks_worth(work, least_task, wanted_tasks - 1) + 1;
  how.parts = minimum_of(minimum_of(max_parts, parts_of(wanted, blocks)), parts_of(positions, most_positions));
  how.part_positions = round_up(parts_of(positions, how.parts), unit);
  how.parts = parts_of(positions, how.part_positions);
  how.tasks = blocks * how.parts;
  const int64_t rows = in_rows ? how.depth : minimum_of(how.depth, most_panels * max_tile_rows);
  const int64_t deep = minimum_of(how.block_positions, how.part_positions);
  how.pieces_size = round_up(how.pieces * int64_t(sizeof(int64_t)), 64);
  if (in_rows) how.patch_size = runs * how.rows.run_pitch;
  if (how.source == patches::down) how.patch_size = deep * packed_row<T>(rows);
  if (how.source == patches::across) how.patch_size = rows * packed_row<T>(deep);
  how.gradient_size = deep * columns * size;
  how.sums_size = rows * columns * size;
  how.task_scratch = round_up(how.patch_size + how.gradient_size + how.sums_size, 64);
  how.partial_size =
      how.parts == 1 ? 0 : round_up(shape.groups * how.depth * round_up(shape.out_channels, lanes<T>) * size, 64);
  return how;
}

// to[k][j] for a strip of the gradient: its positions down, `columns` of its channels across.
template <class T>
void pack_gradient(T* to, int64_t width, const conv_images& gradient, int64_t channel, const position_run* runs,
                   int64_t run_count, int64_t columns) {
  for (int64_t r = 0; r < run_count; r++) {
    const position_run& run = runs[r];
    const char* from = gradient.data + run.image * gradient.batch + channel * gradient.channel;
    for (int d = 0; d < 3; d++) from += run.q[d] * gradient.space[d];
    pack_rows(to + run.first * width, width, from, gradient.space[2], gradient.channel, run.count, columns);
  }
}

}  // namespace

template <class T>
int64_t product_weight_gradient_scratch(const conv_shape& shape, const conv_images& x, int64_t threads) {
  const plan how = make_plan<T>(shape, x);
  return how.pieces_size + how.parts * how.partial_size + minimum_of(threads, how.tasks) * how.task_scratch;
}

template <class T>
void product_weight_gradient(const conv_shape& shape, const conv_images& gradient, const conv_images& x,
                             const conv_weights& out, char* scratch, int64_t scratch_size) {
  constexpr int64_t size = sizeof(T);
  const plan how = make_plan<T>(shape, x);
  if (how.tasks == 0) return;
  const int64_t taps = volume(shape.kernel), positions = shape.batch * volume(shape.out);
  const bool channels_first = how.source != patches::across;  // the order of a patch: (tap, channel), or (channel, tap)
  const sampling from = sample_patches(shape, x);
  // Positions of the gradient: rows that follow each other in memory are one.
  sampling plane = from;
  if (rows_follow(gradient, shape.out)) {
    plane.axis[2].count = volume(shape.out);
    plane.axis[0].count = plane.axis[1].count = 1;
    if (images_follow(gradient, shape.out, shape.batch)) {
      plane.axis[2].count *= shape.batch;
      plane.batch = 1;
    }
  }

  // Where element k of a patch lies in the weights of one out channel.
  const auto place_of = [&](int64_t k) {
    const int64_t channel = channels_first ? k % shape.in_channels : k / taps;
    const int64_t tap = channels_first ? k / shape.in_channels : k % taps;
    return channel * out.in + tap / (shape.kernel[2] * shape.kernel[1]) * out.space[0] +
           tap / shape.kernel[2] % shape.kernel[1] * out.space[1] + tap % shape.kernel[2] * out.space[2];
  };
  // Writes rows [k0, k0 + rows) of sums, (patch element, out channel) with `row` elements a row, as the weights of
  // group g, squares of them transposed; `parts` sums `step` elements apart are added first.
  const auto store_weights = [&](const T* from, int64_t row, int64_t parts, int64_t step, int64_t g, int64_t k0,
                                 int64_t rows, int64_t o0, int64_t columns) {
    for (int64_t k = 0; k < rows; k += lanes<T>) {
      const int64_t deep = minimum_of<int64_t>(lanes<T>, rows - k);
      int64_t at[lanes<T>];
      bool contiguous = deep == lanes<T>;
      for (int64_t i = 0; i < deep; i++) {
        at[i] = place_of(k0 + k + i);
        contiguous &= i == 0 || at[i] - at[i - 1] == size;
      }
      for (int64_t o = 0; o < columns; o += lanes<T>) {
        vec<T> square[lanes<T>] = {};
        for (int64_t i = 0; i < deep; i++) {
          const T* p = from + (k + i) * row + o;
          square[i] = load(p);
          for (int64_t part = 1; part < parts; part++) square[i] += load(p + part * step);
        }
        transpose<T>(square);
        char* to = out.data + (g * shape.out_channels + o0 + o) * out.out;
        for (int64_t j = 0; j < minimum_of<int64_t>(lanes<T>, columns - o); j++, to += out.out)
          if (contiguous)
            store((T*)(to + at[0]), square[j]);
          else
            for (int64_t i = 0; i < deep; i++) store_scalar(to + at[i], square[j][i]);
      }
    }
  };
  int64_t* const piece_at = (int64_t*)scratch;
  if (how.source == patches::in_rows)
    how.rows.place_pieces(from, piece_at);
  else
    piece_at[0] = 0;
  char* const partial = scratch + how.pieces_size;
  scratch += how.pieces_size + how.parts * how.partial_size;
  scratch_size -= how.pieces_size + how.parts * how.partial_size;

  const int64_t panel_count = parts_of(how.depth, max_tile_rows), all_columns = round_up(shape.out_channels, lanes<T>);
  parallel_for_places(how.tasks, scratch_size / how.task_scratch, [&](int64_t task, int64_t place) {
    char* const patch = scratch + place * how.task_scratch;
    T* const rows_of_gradient = (T*)(patch + how.patch_size);
    T* const sums = (T*)(patch + how.patch_size + how.gradient_size);
    position_run runs[most_positions];
    const vec<T> zeros[2] = {};
    const int64_t part = task % how.parts, row_group = task / how.parts % how.row_groups;
    const int64_t column_group = task / how.parts / how.row_groups % how.column_groups;
    const int64_t group = task / how.parts / how.row_groups / how.column_groups;
    const int64_t k0 = panel_count * row_group / how.row_groups * max_tile_rows;  // 0 where there is one group
    const int64_t k1 = minimum_of(how.depth, panel_count * (row_group + 1) / how.row_groups * max_tile_rows);
    const int64_t o0 = column_group * most_columns<T>;
    const int64_t columns = minimum_of(most_columns<T>, shape.out_channels - o0);
    const int64_t padded = round_up(columns, lanes<T>), rows = k1 - k0;
    const panel_list panels(how.pieces == 1 ? rows : how.piece_length);
    sampling mine = from;
    mine.in.data += group * shape.in_channels * x.channel;

    const int64_t end = minimum_of(positions, (part + 1) * how.part_positions);
    for (int64_t p = part * how.part_positions, block_end; p < end; p = block_end) {
      block_end = how.block_end(p, end, shape.out[2]);
      const int64_t deep = block_end - p;
      const char* a = patch;
      int64_t a_row = size, a_step = 0, run_at[most_positions] = {}, run_length = deep;
      if (how.source == patches::in_place) {
        a = mine.in.data + p * x.space[2] + k0 * size;
        a_step = x.space[2];
      } else if (how.source == patches::in_rows) {
        const char* at[most_positions];
        const int64_t run_count = find_runs(mine, p, deep, runs);
        how.rows.copy<T>(mine, runs, run_count, patch, at);
        for (int64_t r = 0; r < run_count; r++) run_at[r] = at[r] - patch;
        run_length = runs[0].count;
        a_step = shape.stride[2] * how.rows.pixel_pitch;
      } else if (how.source == patches::down) {
        a_step = packed_row<T>(rows);
        pack_patch_rows<T>(patch, a_step, mine, runs, find_runs(mine, p, deep, runs), k0, k1);
      } else {
        a_row = packed_row<T>(deep);
        a_step = size;
        pack_patch_columns((T*)patch, a_row / size, mine, runs, find_runs(mine, p, deep, runs), k0, k1);
      }
      // The gradient is read in place where its channels are neighbours and whole vectors, its positions one run and near.
      const int64_t plane_runs = find_runs(plane, p, deep, runs), channel = group * shape.out_channels + o0;
      const bool in_place =
          gradient.channel == size && columns % lanes<T> == 0 && plane_runs == 1 && gradient.space[2] <= longest_step;
      if (!in_place)
        for (int64_t j = 0; j < columns; j += strip_width<T>) {
          const int64_t some = minimum_of(strip_width<T>, columns - j), width = round_up(some, lanes<T>);
          pack_gradient(rows_of_gradient + j * deep, width, gradient, channel + j, runs, plane_runs, some);
        }
      const char* const first_row = gradient.data + runs[0].image * gradient.batch + runs[0].q[0] * gradient.space[0] +
                                    runs[0].q[1] * gradient.space[1] + runs[0].q[2] * gradient.space[2] +
                                    channel * size;
      const bool starts = p == part * how.part_positions;
      for (int64_t j = 0; j < columns; j += strip_width<T>) {
        const int64_t width = minimum_of(strip_width<T>, padded - j);
        const char* const b = in_place ? first_row + j * size : (const char*)(rows_of_gradient + j * deep);
        const int64_t b_step = in_place ? gradient.space[2] : width * size;
        for (int64_t i = 0; i < how.pieces * panels.count; i++) {
          const int64_t piece = i / panels.count, panel = i % panels.count, first = panels.begin(panel);
          T* const c = sums + (piece * how.piece_length + first) * padded + j;
          piecewise_tiles<T>().by[width / lanes<T>][panels.rows(panel)](
              deep, run_at, run_length, a + piece_at[piece] + first * a_row, a_row, a_step, 0, b, b_step,
              starts ? (const char*)zeros : (const char*)c, starts ? 0 : padded * size, (char*)c, padded * size);
        }
      }
    }
    if (how.parts == 1) {
      store_weights(sums, padded, 1, 0, group, k0, rows, o0, columns);
    } else {
      T* const to = (T*)(partial + part * how.partial_size) + (group * how.depth + k0) * all_columns + o0;
      for (int64_t k = 0; k < rows; k++) copy_elements(to + k * all_columns, sums + k * padded, padded);
    }
  });
  if (how.parts == 1) return;
  const int64_t slices = parts_of(how.depth, most_panels * max_tile_rows);
  parallel_for(shape.groups * slices, [&](int64_t task) {
    const int64_t k = task % slices * most_panels * max_tile_rows, group = task / slices;
    const T* from = (const T*)partial + (group * how.depth + k) * all_columns;
    store_weights(from, all_columns, how.parts, how.partial_size / size, group, k,
                  minimum_of(most_panels * max_tile_rows, how.depth - k), 0, shape.out_channels);
  });
}

template int64_t product_weight_gradient_scratch<float>(const conv_shape&, const conv_images&, int64_t);
template int64_t product_weight_gradient_scratch<double>(const conv_shape&, const conv_images&, int64_t);
template void product_weight_gradient<float>(const conv_shape&, const conv_images&, const conv_images&,
                                             const conv_weights&, char*, int64_t);
template void product_weight_gradient<double>(const conv_shape&, const conv_images&, const conv_images&,
                                              const conv_weights&, char*, int64_t);

}  // namespace hominy::HOMINY_LEVEL
