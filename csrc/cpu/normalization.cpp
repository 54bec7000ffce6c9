// Layer norm: a row is read, while it lies in the first-level cache, three times: sum, squares about the mean, result.
//
// Channel norm (batch, group and instance norm) takes its statistics piece by piece and puts them together in double
// precision (Chan, Golub, LeVeque 1983, https://doi.org/10.1080/00031305.1983.10483115); a second pass over memory is
// one multiply-add an element. What is a piece depends on the memory order of x (N, C, S):
//
//   rows      positions are neighbours (NCHW): the S elements of one channel of one batch item
//   columns   channels are neighbours (channels last): some positions of one batch item, all channels side by side
//
// Backward: dx = scale g + slope (x - mean) + offset with three numbers a channel, from the sums of g and g (x - mean).
#include "normalization.hpp"

#include <math.h>

#include "dimensions.hpp"
#include "lane_access.hpp"
#include "parallel_for.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t block = 2048;        // elements of a row that are summed apart
constexpr int64_t rows_together = 32;  // of a column: summed apart, and read twice from the first-level cache
constexpr int64_t panel = 4;           // vectors of columns
constexpr int64_t elements_per_task = 16384;
constexpr int64_t most_tasks = 64;

// Calls f(item) for every item, in tasks that are worth a thread's while.
template <class F>
void for_each(int64_t items, int64_t elements, F f) {
  const int64_t tasks = minimum_of(items, maximum_of<int64_t>(1, minimum_of(elements / elements_per_task, most_tasks)));
  parallel_for(tasks, [&](int64_t task) {
    const share mine(items, tasks, task);
    for (int64_t i = 0; i < mine.count; ++i) f(mine.first + i);
  });
}

struct moments {
  double count, mean, squares;  // squares: the sum of (x - mean)^2
  void add(double n, double its_mean, double its_squares) {
    const double total = count + n, apart = its_mean - mean;
    if (total == 0) return;
    mean += apart * (n / total);
    squares += its_squares + apart * apart * (count * n / total);
    count = total;
  }
};

// f(vector, first element) summed over n elements; f must give 0 for lanes beyond the end, which hold `padding`.
template <class T, bool unit, class F>
inline T sum_row(const char* x, int64_t stride, int64_t n, T padding, F f) {
  vec<T> sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * lanes<T> <= n; i += 4 * lanes<T>)
    for (int v = 0; v < 4; ++v) {
      const int64_t at = i + v * lanes<T>;
      sum[v] += f(load_lanes<T, unit>(x + at * stride, stride), at);
    }
  for (; i < n; i += lanes<T>) sum[0] += f(load_padded<T, unit>(x + i * stride, stride, n - i, padding), i);
  return sum_lanes<T>((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

template <class T, bool unit>
moments moments_of_row(const char* x, int64_t stride, int64_t n) {
  moments all{};
  for (int64_t first = 0; first < n; first += block) {
    const int64_t here = minimum_of(block, n - first);
    const char* p = x + first * stride;
    const T mean = sum_row<T, unit>(p, stride, here, T(0), [](vec<T> v, int64_t) { return v; }) / T(here);
    const T squares =
        sum_row<T, unit>(p, stride, here, mean, [=](vec<T> v, int64_t) { return (v - mean) * (v - mean); });
    all.add(double(here), double(mean), double(squares));
  }
  return all;
}

template <class T>
const T* contiguous(const hominy_tensor* t) {
  return t ? static_cast<const T*>(t->data) : nullptr;
}

// Of x's dtype and shape; NULL is right where an array may be absent.
hominy_status like(const hominy_tensor* t, const hominy_tensor* x) {
  if (!t) return HOMINY_OK;
  if (t->dtype != x->dtype) return HOMINY_BAD_DTYPE;
  if (t->ndim != x->ndim) return HOMINY_BAD_SHAPE;
  for (int d = 0; d < t->ndim; ++d)
    if (t->shape[d] != x->shape[d]) return HOMINY_BAD_SHAPE;
  return HOMINY_OK;
}

// A list: one dimension of n neighbours of x's dtype, aligned to their size; or NULL.
hominy_status list_of(const hominy_tensor* t, const hominy_tensor* x, int64_t n) {
  if (!t) return HOMINY_OK;
  if (t->dtype != x->dtype) return HOMINY_BAD_DTYPE;
  const int64_t size = x->dtype == HOMINY_FLOAT32 ? 4 : 8;
  const bool fits = t->ndim == 1 && t->shape[0] == n && (n < 2 || t->strides[0] == size);
  return fits && reinterpret_cast<uintptr_t>(t->data) % uintptr_t(size) == 0 ? HOMINY_OK : HOMINY_BAD_SHAPE;
}

hominy_status first_refusal(const hominy_status* checks, int count) {
  for (int i = 0; i < count; ++i)
    if (checks[i] != HOMINY_OK) return checks[i];
  return HOMINY_OK;
}

// ---- Layer norm -----------------------------------------------------------------------------------------------------

struct rows_of {
  int64_t m, n;
  int64_t row[3], step[3];  // strides of x, gradient, out
  const char *x, *gradient;
  char* out;
};

template <class T, bool unit>
void normalize_row(const rows_of& r, int64_t i, bool rms, const T* weight, const T* bias, double epsilon, T* mean,
                   T* rstd) {
  const char* x = r.x + i * r.row[0];
  char* out = r.out + i * r.row[2];
  moments of{};
  if (rms)
    for (int64_t first = 0; first < r.n; first += block)
      of.squares += double(sum_row<T, unit>(x + first * r.step[0], r.step[0], minimum_of(block, r.n - first), T(0),
                                            [](vec<T> v, int64_t) { return v * v; }));
  else
    of = moments_of_row<T, unit>(x, r.step[0], r.n);
  const double count = double(maximum_of<int64_t>(r.n, 1));
  const T center = T(of.mean), scale = T(1 / ::sqrt(of.squares / count + epsilon));
  if (mean) mean[i] = center;
  rstd[i] = scale;
  for_vectors<T>(r.n, [&](int64_t j, auto count) {
    vec<T> y = (load_count<T, unit>(x + j * r.step[0], r.step[0], count) - center) * scale;
    if (weight) y *= load_count(weight + j, count);
    if (bias) y += load_count(bias + j, count);
    store_count<T, unit>(out + j * r.step[2], r.step[2], y, count);
  });
}

template <class T>
void normalize_rows(const rows_of& r, bool rms, const T* weight, const T* bias, double epsilon, T* mean, T* rstd) {
  const bool unit = r.step[0] == sizeof(T) && r.step[2] == sizeof(T);
  for_each(r.m, r.m * r.n, [&](int64_t i) {
    if (unit)
      normalize_row<T, true>(r, i, rms, weight, bias, epsilon, mean, rstd);
    else
      normalize_row<T, false>(r, i, rms, weight, bias, epsilon, mean, rstd);
  });
}

// How the rows are dealt out where they are also summed down the columns. Each task keeps four rows of sums: of weight
// and bias, of the last `rows_together` rows and of all before them, so that no sum has more than a few hundred terms.
int64_t column_tasks(int64_t m, int64_t n) {
  return maximum_of<int64_t>(1, minimum_of(most_tasks, minimum_of(m / rows_together, m * n / elements_per_task)));
}

template <class T>
void add_to(T* sums, T* last, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    sums[j] += last[j];
    last[j] = 0;
  }
}

template <class T, bool unit>
void row_gradient(const rows_of& r, int64_t i, const T* weight, const T* mean, const T* rstd, T* weight_sums,
                  T* bias_sums) {
  const char *x = r.x + i * r.row[0], *g = r.gradient + i * r.row[1];
  char* out = r.out ? r.out + i * r.row[2] : nullptr;
  const T center = mean ? mean[i] : T(0), scale = rstd[i];
  const auto z = [&](int64_t j, auto count) {
    return (load_count<T, unit>(x + j * r.step[0], r.step[0], count) - center) * scale;
  };
  const auto weighted = [&](vec<T> v, int64_t j, auto count) { return weight ? v * load_count(weight + j, count) : v; };
  double sum = 0, product = 0;  // of g w, of g w z
  for (int64_t first = 0; first < r.n; first += block) {
    vec<T> sums{}, products{};
    for_vectors<T>(minimum_of(block, r.n - first), [&](int64_t i, auto count) {
      const int64_t j = first + i;
      const vec<T> here = load_count<T, unit>(g + j * r.step[1], r.step[1], count);
      const vec<T> normal = z(j, count), gw = weighted(here, j, count);
      sums += gw;
      products += gw * normal;
      if (weight_sums) store_count(weight_sums + j, load_count(weight_sums + j, count) + here * normal, count);
      if (bias_sums) store_count(bias_sums + j, load_count(bias_sums + j, count) + here, count);
    });
    sum += double(sum_lanes<T>(sums));
    product += double(sum_lanes<T>(products));
  }
  if (!out) return;
  const T less = mean ? T(sum / double(r.n)) : T(0), slope = T(product / double(r.n));
  for_vectors<T>(r.n, [&](int64_t j, auto count) {
    const vec<T> gw = weighted(load_count<T, unit>(g + j * r.step[1], r.step[1], count), j, count);
    store_count<T, unit>(out + j * r.step[2], r.step[2], scale * (gw - less - z(j, count) * slope), count);
  });
}

template <class T>
void rows_gradient(const rows_of& r, const T* weight, const T* mean, const T* rstd, T* weight_gradient,
                   T* bias_gradient, T* sums) {
  constexpr int64_t size = sizeof(T);
  const bool unit = r.step[0] == size && r.step[1] == size && (!r.out || r.step[2] == size);
  const auto row = [&](int64_t i, T* of_weight, T* of_bias) {
    if (unit)
      row_gradient<T, true>(r, i, weight, mean, rstd, of_weight, of_bias);
    else
      row_gradient<T, false>(r, i, weight, mean, rstd, of_weight, of_bias);
  };
  if (!weight_gradient && !bias_gradient) return for_each(r.m, r.m * r.n, [&](int64_t i) { row(i, nullptr, nullptr); });
  const int64_t tasks = column_tasks(r.m, r.n);
  parallel_for(tasks, [&](int64_t task) {
    T* const mine = sums + task * 4 * r.n;  // all of weight, all of bias, the last of each
    memset(mine, 0, size_t(4 * r.n * size));
    T* const last_weight = weight_gradient ? mine + 2 * r.n : nullptr;
    T* const last_bias = bias_gradient ? mine + 3 * r.n : nullptr;
    const share rows(r.m, tasks, task);
    for (int64_t i = 0; i < rows.count; ++i) {
      row(rows.first + i, last_weight, last_bias);
      if (i % rows_together == rows_together - 1 || i == rows.count - 1) add_to(mine, mine + 2 * r.n, 2 * r.n);
    }
  });
  for (int64_t task = 1; task < tasks; ++task) add_to(sums, sums + task * 4 * r.n, 2 * r.n);
  if (weight_gradient) memcpy(weight_gradient, sums, size_t(r.n * size));
  if (bias_gradient) memcpy(bias_gradient, sums + r.n, size_t(r.n * size));
}

// ---- Channel norm ---------------------------------------------------------------------------------------------------

// x (0), gradient (1) and out (2) as (batch, channels, positions).
struct channels_of {
  int64_t batch, channels, positions;
  int64_t stride[3][3];
  const char* data[3];
  bool columns, unit;
  int64_t pieces;  // of a batch item

  int64_t elements() const { return batch * channels * positions; }
  int64_t count(int64_t piece) const { return share(positions, pieces, piece).count; }
  const char* at(int which, int64_t n, int64_t c, int64_t s) const {
    return data[which] + n * stride[which][0] + c * stride[which][1] + s * stride[which][2];
  }
};

channels_of describe(const hominy_tensor* x, const hominy_tensor* gradient, const hominy_tensor* out, bool across) {
  channels_of shape{x->shape[0], x->shape[1], x->shape[2], {}, {}, false, true, 1};
  const hominy_tensor* all[] = {x, gradient, out};
  for (int a = 0; a < 3; ++a) {
    if (!all[a]) continue;
    shape.data[a] = static_cast<const char*>(all[a]->data);
    for (int d = 0; d < 3; ++d) shape.stride[a][d] = all[a]->strides[d];
  }
  const int64_t size = x->dtype == HOMINY_FLOAT32 ? 4 : 8;
  shape.columns = shape.positions == 1 || (shape.stride[0][1] == size && shape.stride[0][2] != size);
  bool merges = across && shape.columns;
  for (int a = 0; a < 3; ++a)
    if (all[a] && shape.positions > 1) merges = merges && shape.stride[a][0] == shape.positions * shape.stride[a][2];
  if (merges) {
    for (int a = 0; a < 3; ++a)
      if (shape.positions == 1) shape.stride[a][2] = shape.stride[a][0];
    shape.positions *= shape.batch;
    shape.batch = 1;
  }
  for (int a = 0; a < 3; ++a)
    if (all[a]) shape.unit = shape.unit && shape.stride[a][shape.columns ? 1 : 2] == size;
  if (shape.columns && shape.batch > 0)
    shape.pieces = maximum_of<int64_t>(1, minimum_of((most_tasks - 1) / shape.batch + 1,
                                                     minimum_of(shape.positions / rows_together,
                                                                shape.positions * shape.channels / elements_per_task)));
  return shape;
}

// Two numbers of each channel of each piece: mean and squares, or the sums of g and g (x - mean).
template <class T>
struct piece_sums {
  T *first, *second;
};

template <class T, bool unit>
void row_sums(const channels_of& x, int64_t n, int64_t c, const T* center, T& first, T& second) {
  const int64_t stride = x.stride[0][2], g_stride = x.stride[1][2];
  const char* p = x.at(0, n, c, 0);
  if (!center) {
    const moments of = moments_of_row<T, unit>(p, stride, x.positions);
    first = T(of.mean);
    second = T(of.squares);
    return;
  }
  const char* g = x.at(1, n, c, 0);
  double sum = 0, product = 0;
  for (int64_t start = 0; start < x.positions; start += block) {
    vec<T> sums{}, products{};
    for_vectors<T>(minimum_of(block, x.positions - start), [&](int64_t i, auto count) {
      const vec<T> here = load_count<T, unit>(g + (start + i) * g_stride, g_stride, count);
      sums += here;
      products += here * (load_count<T, unit>(p + (start + i) * stride, stride, count) - *center);
    });
    sum += double(sum_lanes<T>(sums));
    product += double(sum_lanes<T>(products));
  }
  first = T(sum);
  second = T(product);
}

// Positions [s0, end) of `vectors` vectors of channels from c on, added to what first and second hold of the s0 - start
// positions before.
template <class T, bool unit, int vectors, class Count>
void panel_sums(const channels_of& x, int64_t n, int64_t start, int64_t s0, int64_t end, int64_t c, Count width,
                const T* center, T* first, T* second) {
  const auto at = [&](int which, int64_t s, int v) {
    return load_count<T, unit>(x.at(which, n, c + v * lanes<T>, s), x.stride[which][1], width);
  };
  vec<T> sum[vectors] = {}, product[vectors] = {};
  if (center) {
    vec<T> middle[vectors];
    for (int v = 0; v < vectors; ++v) middle[v] = load_count(center + c + v * lanes<T>, width);
    for (int64_t s = s0; s < end; ++s)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        const vec<T> g = at(1, s, v);
        sum[v] += g;
        product[v] += g * (at(0, s, v) - middle[v]);
      }
  } else {
    for (int64_t s = s0; s < end; ++s)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[v] += at(0, s, v);
    for (int v = 0; v < vectors; ++v) sum[v] /= T(end - s0);
    for (int64_t s = s0; s < end; ++s)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        const vec<T> apart = at(0, s, v) - sum[v];
        product[v] += apart * apart;
      }
  }
  const T before = T(s0 - start), of_these = T(end - s0) / T(end - start);
  for (int v = 0; v < vectors; ++v) {
    T *const one = first + c + v * lanes<T>, *const two = second + c + v * lanes<T>;
    const vec<T> held = load_count(one, width), apart = sum[v] - held;
    if (center) {
      store_count(one, held + sum[v], width);
      store_count(two, load_count(two, width) + product[v], width);
    } else {  // moments::add, a lane each
      store_count(one, held + apart * of_these, width);
      store_count(two, load_count(two, width) + product[v] + apart * apart * (before * of_these), width);
    }
  }
}

// All channels of one piece, rows_together positions at a time, so that memory is read from end to end.
template <class T, bool unit>
void column_sums(const channels_of& x, int64_t n, int64_t piece, const T* center, T* first, T* second) {
  const share positions(x.positions, x.pieces, piece);
  const int64_t start = positions.first, stop = start + positions.count;
  memset(first, 0, size_t(x.channels) * sizeof(T));
  memset(second, 0, size_t(x.channels) * sizeof(T));
  for (int64_t s = start; s < stop; s += rows_together) {
    const int64_t end = minimum_of(stop, s + rows_together);
    int64_t c = 0;
    for (; c + panel * lanes<T> <= x.channels; c += panel * lanes<T>)
      panel_sums<T, unit, panel>(x, n, start, s, end, c, whole{}, center, first, second);
    for_vectors<T>(x.channels - c, [&](int64_t i, auto width) {
      panel_sums<T, unit, 1>(x, n, start, s, end, c + i, width, center, first, second);
    });
  }
}

// center: NULL for moments, else (coefficient rows, channels). Result: [batch item, piece, channel].
template <class T, bool unit>
void sum_pieces(const channels_of& x, const T* center, int64_t center_row, piece_sums<T> sums) {
  if (x.columns)
    for_each(x.batch * x.pieces, x.elements(), [&](int64_t i) {
      column_sums<T, unit>(x, i / x.pieces, i % x.pieces, center ? center + i / x.pieces * center_row : nullptr,
                           sums.first + i * x.channels, sums.second + i * x.channels);
    });
  else
    for_each(x.batch * x.channels, x.elements(), [&](int64_t i) {
      const int64_t n = i / x.channels, c = i % x.channels;
      row_sums<T, unit>(x, n, c, center ? center + n * center_row + c : nullptr, sums.first[i], sums.second[i]);
    });
}

// out = scale[0] y + scale[1] (x - center) + scale[2] where y is the gradient; forward, without one, scale[1] is used.
template <class T>
struct coefficients {
  const T *center, *scale, *slope, *offset;
  int64_t row;  // between batch items; 0: all alike
};

template <class T, bool unit, bool backward>
void map_channels(const channels_of& x, const coefficients<T>& k) {
  const auto result = [](vec<T> v, vec<T> g, vec<T> center, vec<T> scale, vec<T> slope, vec<T> offset) {
    if constexpr (backward)
      return scale * g + (slope * (v - center) + offset);
    else
      return (v - center) * scale + offset;
  };
  if (x.columns)
    for_each(x.batch * x.positions, x.elements(), [&](int64_t i) {
      const int64_t n = i / x.positions, s = i % x.positions, row = n * k.row;
      const char* const p[] = {x.at(0, n, 0, s), x.at(1, n, 0, s), x.at(2, n, 0, s)};
      for_vectors<T>(x.channels, [&](int64_t c, auto count) {
        const vec<T> v = load_count<T, unit>(p[0] + c * x.stride[0][1], x.stride[0][1], count);
        vec<T> g{}, slope{};
        if constexpr (backward) {
          g = load_count<T, unit>(p[1] + c * x.stride[1][1], x.stride[1][1], count);
          slope = load_count(k.slope + row + c, count);
        }
        store_count<T, unit>(const_cast<char*>(p[2]) + c * x.stride[2][1], x.stride[2][1],
                             result(v, g, load_count(k.center + row + c, count), load_count(k.scale + row + c, count),
                                    slope, load_count(k.offset + row + c, count)),
                             count);
      });
    });
  else
    for_each(x.batch * x.channels, x.elements(), [&](int64_t i) {
      const int64_t n = i / x.channels, c = i % x.channels, at = n * k.row + c;
      const vec<T> center = broadcast(k.center[at]), scale = broadcast(k.scale[at]), offset = broadcast(k.offset[at]),
                   slope = broadcast(backward ? k.slope[at] : T(0));
      const char* const p[] = {x.at(0, n, c, 0), x.at(1, n, c, 0), x.at(2, n, c, 0)};
      for_vectors<T>(x.positions, [&](int64_t s, auto count) {
        vec<T> g{};
        if constexpr (backward) g = load_count<T, unit>(p[1] + s * x.stride[1][2], x.stride[1][2], count);
        const vec<T> v = load_count<T, unit>(p[0] + s * x.stride[0][2], x.stride[0][2], count);
        store_count<T, unit>(const_cast<char*>(p[2]) + s * x.stride[2][2], x.stride[2][2],
                             result(v, g, center, scale, slope, offset), count);
      });
    });
}

// Where the pieces of the workspace lie.
template <class T>
struct channel_scratch {
  double *sums, *products, *counts;  // a statistic each
  piece_sums<T> pieces;
  T *center, *scale, *slope, *offset;  // (coefficient rows, channels)
  int64_t bytes;

  channel_scratch(const channels_of& x, int64_t groups, char* base) {
    const int64_t statistics = groups ? x.batch * groups : x.channels, rows = groups ? x.batch : 1;
    const int64_t parts = x.batch * x.pieces * x.channels, list = rows * x.channels;
    sums = (double*)base;
    products = sums + statistics;
    counts = products + statistics;
    T* next = (T*)(counts + statistics);
    T** const part_lists[] = {&pieces.first, &pieces.second};
    for (T** place : part_lists) {
      *place = next;
      next += parts;
    }
    T** const channel_lists[] = {&center, &scale, &slope, &offset};
    for (T** place : channel_lists) {
      *place = next;
      next += list;
    }
    bytes = (char*)next - base;
  }
};

template <class T>
struct channel_norm_of {
  const channels_of x;
  const int64_t groups;
  const T *weight, *bias;
  const double epsilon;
  T *mean, *variance;
  channel_scratch<T> scratch;

  int64_t statistics() const { return groups ? x.batch * groups : x.channels; }
  int64_t statistic(int64_t n, int64_t c) const { return groups ? n * groups + c / (x.channels / groups) : c; }
  int64_t coefficient_rows() const { return groups ? x.batch : 1; }
  int64_t row() const { return groups ? x.channels : 0; }

  // f(batch item, piece, channel, index of its numbers) in an order that depends on the shape alone.
  template <class F>
  void for_each_part(F f) const {
    int64_t i = 0;
    for (int64_t n = 0; n < x.batch; ++n)
      for (int64_t piece = 0; piece < x.pieces; ++piece)
        for (int64_t c = 0; c < x.channels; ++c) f(n, piece, c, i++);
  }
  template <class F>
  void for_each_coefficient(F f) const {
    for (int64_t n = 0; n < coefficient_rows(); ++n)
      for (int64_t c = 0; c < x.channels; ++c) f(n * x.channels + c, c, statistic(n, c));
  }

  void find_statistics() const {
    if (x.unit)
      sum_pieces<T, true>(x, nullptr, 0, scratch.pieces);
    else
      sum_pieces<T, false>(x, nullptr, 0, scratch.pieces);
    memset(scratch.sums, 0, size_t(3 * statistics()) * sizeof(double));
    for_each_part([&](int64_t n, int64_t piece, int64_t c, int64_t i) {
      const int64_t at = statistic(n, c);
      moments of{scratch.counts[at], scratch.sums[at], scratch.products[at]};
      of.add(double(x.columns ? x.count(piece) : x.positions), double(scratch.pieces.first[i]),
             double(scratch.pieces.second[i]));
      scratch.counts[at] = of.count;
      scratch.sums[at] = of.mean;
      scratch.products[at] = of.squares;
    });
    for (int64_t at = 0; at < statistics(); ++at) {
      mean[at] = scratch.counts[at] > 0 ? T(scratch.sums[at]) : T(NAN);
      variance[at] = T(scratch.products[at] / scratch.counts[at]);
    }
  }

  void forward(bool fixed) const {
    if (!fixed) find_statistics();
    for_each_coefficient([&](int64_t i, int64_t c, int64_t at) {
      scratch.center[i] = mean[at];
      scratch.scale[i] = T((weight ? double(weight[c]) : 1) / ::sqrt(double(variance[at]) + epsilon));
      scratch.offset[i] = bias ? bias[c] : T(0);
    });
    const coefficients<T> k{scratch.center, scratch.scale, nullptr, scratch.offset, row()};
    if (x.unit)
      map_channels<T, true, false>(x, k);
    else
      map_channels<T, false, false>(x, k);
  }

  void backward(bool fixed, T* weight_gradient, T* bias_gradient) const {
    for_each_coefficient([&](int64_t i, int64_t, int64_t at) { scratch.center[i] = mean[at]; });
    if (x.unit)
      sum_pieces<T, true>(x, scratch.center, row(), scratch.pieces);
    else
      sum_pieces<T, false>(x, scratch.center, row(), scratch.pieces);
    memset(scratch.sums, 0, size_t(3 * statistics()) * sizeof(double));
    const auto rstd = [&](int64_t at) { return 1 / ::sqrt(double(variance[at]) + epsilon); };
    for_each_part([&](int64_t n, int64_t piece, int64_t c, int64_t i) {
      const int64_t at = statistic(n, c);
      const double w = weight ? double(weight[c]) : 1;
      scratch.sums[at] += w * double(scratch.pieces.first[i]);
      scratch.products[at] += w * double(scratch.pieces.second[i]);
      scratch.counts[at] += double(x.columns ? x.count(piece) : x.positions);
    });
    if (x.data[2]) {
      for_each_coefficient([&](int64_t i, int64_t c, int64_t at) {
        const double r = rstd(at), count = scratch.counts[at];
        scratch.scale[i] = T(r * (weight ? double(weight[c]) : 1));
        scratch.slope[i] = fixed ? T(0) : T(-r * r * r * scratch.products[at] / count);
        scratch.offset[i] = fixed ? T(0) : T(-r * scratch.sums[at] / count);
      });
      const coefficients<T> k{scratch.center, scratch.scale, scratch.slope, scratch.offset, row()};
      if (x.unit)
        map_channels<T, true, true>(x, k);
      else
        map_channels<T, false, true>(x, k);
    }
    // Channel by channel, the pieces in order.
    const int64_t parts = x.batch * x.pieces;
    for (int64_t c = 0; c < x.channels; ++c) {
      double of_weight = 0, of_bias = 0;
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t i = part * x.channels + c;
        of_bias += double(scratch.pieces.first[i]);
        if (x.positions > 0) of_weight += double(scratch.pieces.second[i]) * rstd(statistic(part / x.pieces, c));
      }
      if (weight_gradient) weight_gradient[c] = T(of_weight);
      if (bias_gradient) bias_gradient[c] = T(of_bias);
    }
  }
};

template <class T>
T* writable(const hominy_tensor* t) {
  return t ? static_cast<T*>(t->data) : nullptr;
}

hominy_status check_rows(const hominy_tensor* x, const hominy_tensor* gradient, const hominy_tensor* out) {
  if (x->dtype != HOMINY_FLOAT32 && x->dtype != HOMINY_FLOAT64) return HOMINY_BAD_DTYPE;
  if (x->ndim != 2) return HOMINY_BAD_SHAPE;
  int64_t elements;
  if (const hominy_status status = count_elements(*x, &elements)) return status;
  if (elements > INT64_MAX / 64) return HOMINY_OVERFLOW;
  const hominy_status checks[] = {like(gradient, x), like(out, x)};
  return first_refusal(checks, 2);
}

rows_of describe_rows(const hominy_tensor* x, const hominy_tensor* gradient, const hominy_tensor* out) {
  rows_of r{};
  r.m = x->shape[0];
  r.n = x->shape[1];
  const hominy_tensor* all[] = {x, gradient, out};
  for (int a = 0; a < 3; ++a)
    if (all[a]) {
      r.row[a] = all[a]->strides[0];
      r.step[a] = r.n == 1 ? (x->dtype == HOMINY_FLOAT32 ? 4 : 8) : all[a]->strides[1];
    }
  r.x = static_cast<const char*>(x->data);
  r.gradient = gradient ? static_cast<const char*>(gradient->data) : nullptr;
  r.out = out ? static_cast<char*>(out->data) : nullptr;
  return r;
}

template <class T>
void channel_norm_as(const hominy_tensor* gradient, const hominy_tensor* x, const hominy_tensor* weight,
                     const hominy_tensor* bias, int64_t groups, double epsilon, bool fixed, const hominy_tensor* mean,
                     const hominy_tensor* variance, const hominy_tensor* out, const hominy_tensor* weight_gradient,
                     const hominy_tensor* bias_gradient, void* workspace) {
  const channels_of shape = describe(x, gradient, out, groups == 0);
  const channel_norm_of<T> norm{shape,
                                groups,
                                contiguous<T>(weight),
                                contiguous<T>(bias),
                                epsilon,
                                writable<T>(mean),
                                writable<T>(variance),
                                {shape, groups, static_cast<char*>(workspace)}};
  if (gradient)
    norm.backward(fixed, writable<T>(weight_gradient), writable<T>(bias_gradient));
  else
    norm.forward(fixed);
}

hominy_status check_channels(const hominy_tensor* x, const hominy_tensor* weight, const hominy_tensor* bias,
                             int64_t groups, const hominy_tensor* mean, const hominy_tensor* variance) {
  if (x->dtype != HOMINY_FLOAT32 && x->dtype != HOMINY_FLOAT64) return HOMINY_BAD_DTYPE;
  if (x->ndim != 3) return HOMINY_BAD_SHAPE;
  int64_t elements;
  if (const hominy_status status = count_elements(*x, &elements)) return status;
  if (elements > INT64_MAX / 64) return HOMINY_OVERFLOW;
  const int64_t channels = x->shape[1];
  if (groups < 0 || (groups > 0 && channels % groups != 0)) return HOMINY_BAD_VALUE;
  const int64_t statistics = groups ? x->shape[0] * groups : channels;
  const hominy_status checks[] = {list_of(weight, x, channels), list_of(bias, x, channels),
                                  list_of(mean, x, statistics), list_of(variance, x, statistics)};
  return first_refusal(checks, 4);
}

}  // namespace

hominy_status layer_norm(int32_t rms, const hominy_tensor* x, const hominy_tensor* weight, const hominy_tensor* bias,
                         double epsilon, const hominy_tensor* out, const hominy_tensor* mean,
                         const hominy_tensor* rstd) {
  if (const hominy_status status = check_rows(x, nullptr, out)) return status;
  const int64_t m = x->shape[0], n = x->shape[1];
  const hominy_status checks[] = {list_of(weight, x, n), list_of(bias, x, n), list_of(mean, x, m), list_of(rstd, x, m)};
  if (const hominy_status status = first_refusal(checks, 4)) return status;
  if (!rstd || !out) return HOMINY_BAD_SHAPE;
  const rows_of r = describe_rows(x, nullptr, out);
  if (x->dtype == HOMINY_FLOAT32)
    normalize_rows<float>(r, rms, contiguous<float>(weight), contiguous<float>(bias), epsilon, writable<float>(mean),
                          writable<float>(rstd));
  else
    normalize_rows<double>(r, rms, contiguous<double>(weight), contiguous<double>(bias), epsilon,
                           writable<double>(mean), writable<double>(rstd));
  return HOMINY_OK;
}

int64_t layer_norm_workspace_size(const hominy_tensor* x) {
  if (check_rows(x, nullptr, nullptr) != HOMINY_OK) return 0;
  const int64_t m = x->shape[0], n = x->shape[1];
  return column_tasks(m, n) * 4 * n * (x->dtype == HOMINY_FLOAT32 ? 4 : 8);
}

hominy_status layer_norm_backward(const hominy_tensor* gradient, const hominy_tensor* x, const hominy_tensor* weight,
                                  const hominy_tensor* mean, const hominy_tensor* rstd, const hominy_tensor* out,
                                  const hominy_tensor* weight_gradient, const hominy_tensor* bias_gradient,
                                  void* workspace, int64_t workspace_size) {
  if (const hominy_status status = check_rows(x, gradient, out)) return status;
  const int64_t m = x->shape[0], n = x->shape[1];
  const hominy_status checks[] = {list_of(weight, x, n), list_of(weight_gradient, x, n), list_of(bias_gradient, x, n),
                                  list_of(mean, x, m), list_of(rstd, x, m)};
  if (const hominy_status status = first_refusal(checks, 5)) return status;
  if (!rstd || !gradient) return HOMINY_BAD_SHAPE;
  if ((weight_gradient || bias_gradient) && workspace_size < layer_norm_workspace_size(x)) return HOMINY_NO_WORKSPACE;
  const rows_of r = describe_rows(x, gradient, out);
  if (x->dtype == HOMINY_FLOAT32)
    rows_gradient<float>(r, contiguous<float>(weight), contiguous<float>(mean), contiguous<float>(rstd),
                         writable<float>(weight_gradient), writable<float>(bias_gradient), (float*)workspace);
  else
    rows_gradient<double>(r, contiguous<double>(weight), contiguous<double>(mean), contiguous<double>(rstd),
                          writable<double>(weight_gradient), writable<double>(bias_gradient), (double*)workspace);
  return HOMINY_OK;
}

int64_t channel_norm_workspace_size(const hominy_tensor* x, int64_t groups) {
  if (check_channels(x, nullptr, nullptr, groups, nullptr, nullptr) != HOMINY_OK) return 0;
  // With every way of cutting x: merged, or batch item by batch item.
  int64_t most = 0;
  for (int across = 0; across < 2; ++across) {
    const channels_of shape = describe(x, nullptr, nullptr, across == 1);
    const int64_t bytes = x->dtype == HOMINY_FLOAT32 ? channel_scratch<float>(shape, groups, nullptr).bytes
                                                     : channel_scratch<double>(shape, groups, nullptr).bytes;
    most = maximum_of(most, bytes);
  }
  return most;
}

hominy_status channel_norm(const hominy_tensor* x, const hominy_tensor* weight, const hominy_tensor* bias,
                           int64_t groups, double epsilon, int32_t fixed, const hominy_tensor* mean,
                           const hominy_tensor* variance, const hominy_tensor* out, void* workspace,
                           int64_t workspace_size) {
  if (const hominy_status status = check_channels(x, weight, bias, groups, mean, variance)) return status;
  if (const hominy_status status = like(out, x)) return status;
  if (!mean || !variance || !out) return HOMINY_BAD_SHAPE;
  if (workspace_size < channel_norm_workspace_size(x, groups)) return HOMINY_NO_WORKSPACE;
  const auto run = x->dtype == HOMINY_FLOAT32 ? channel_norm_as<float> : channel_norm_as<double>;
  run(nullptr, x, weight, bias, groups, epsilon, fixed, mean, variance, out, nullptr, nullptr, workspace);
  return HOMINY_OK;
}

hominy_status channel_norm_backward(const hominy_tensor* gradient, const hominy_tensor* x, const hominy_tensor* weight,
                                    const hominy_tensor* mean, const hominy_tensor* variance, int64_t groups,
                                    double epsilon, int32_t fixed, const hominy_tensor* out,
                                    const hominy_tensor* weight_gradient, const hominy_tensor* bias_gradient,
                                    void* workspace, int64_t workspace_size) {
  if (const hominy_status status = check_channels(x, weight, nullptr, groups, mean, variance)) return status;
  const int64_t channels = x->shape[1];
  const hominy_status checks[] = {like(gradient, x), like(out, x), list_of(weight_gradient, x, channels),
                                  list_of(bias_gradient, x, channels)};
  if (const hominy_status status = first_refusal(checks, 4)) return status;
  if (!mean || !variance || !gradient) return HOMINY_BAD_SHAPE;
  if (workspace_size < channel_norm_workspace_size(x, groups)) return HOMINY_NO_WORKSPACE;
  const auto run = x->dtype == HOMINY_FLOAT32 ? channel_norm_as<float> : channel_norm_as<double>;
  run(gradient, x, weight, nullptr, groups, epsilon, fixed, mean, variance, out, weight_gradient, bias_gradient,
      workspace);
  return HOMINY_OK;
}

}  // namespace hominy::HOMINY_LEVEL
