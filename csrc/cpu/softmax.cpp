// Lanes run along the axis where its elements are neighbours ("rows"), else along the dimension whose elements are
// ("columns"): then one vector holds as many softmaxes as it has lanes. Rows that fit L1 or L2 are read three times and
// their exponentials stored on the way; longer ones are read twice, and the exponentials computed twice.
#include "softmax.hpp"

#include "dimensions.hpp"
#include "parallel_for.hpp"
#include "softmax_statistics.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {
constexpr int64_t elements_per_task = 8192;
constexpr int64_t most_tasks = 64;
constexpr int64_t cached_row = 262144;  // bytes that stay in L2 between passes

// One row, or `width` <= one vector of neighbouring columns, of each array: x (and g), out.
struct line {
  int64_t n;
  const char* in[2];
  char* out;
  int64_t stride[3], lane_stride[3];  // of in[0], in[1], out along the axis and across columns
  int64_t width;
};

// out = f(vector of x, its first element, how many of its lanes count)
template <class T, bool unit, class F>
void map_row(const char* x, int64_t x_stride, char* out, int64_t out_stride, int64_t n, F f) {
  int64_t i = 0;
  for (; i + lanes<T> <= n; i += lanes<T>)
    store_lanes<T, unit>(out + i * out_stride, out_stride,
                         f(load_lanes<T, unit>(x + i * x_stride, x_stride), i, int64_t(lanes<T>)), lanes<T>);
  if (i < n)
    store_lanes<T, unit>(out + i * out_stride, out_stride,
                         f(load_padded<T, unit>(x + i * x_stride, x_stride, n - i, T(0)), i, n - i), n - i);
}

template <class T, bool unit, bool logarithm>
struct softmax_forward {
  void row(const line& r) const {
    const char* x = r.in[0];
    const int64_t x_stride = r.stride[0], out_stride = r.stride[2];
    if (logarithm || r.n * int64_t(sizeof(T)) > cached_row) {
      const auto [largest, sum] = statistics_of_row<T, unit>(x, x_stride, r.n);
      const vec<T> shift = broadcast(largest), factor = broadcast(1 / sum), log_sum = broadcast(log_of(sum));
      if (logarithm)
        map_row<T, unit>(x, x_stride, r.out, out_stride, r.n,
                         [=](vec<T> v, int64_t, int64_t) { return (v - shift) - log_sum; });
      else
        map_row<T, unit>(x, x_stride, r.out, out_stride, r.n,
                         [=](vec<T> v, int64_t, int64_t) { return exp<T>(v - shift) * factor; });
      return;
    }
    const vec<T> shift = broadcast(largest_of_block<T, unit>(x, x_stride, r.n));
    const T sum = sum_of_block<T, unit>(x, x_stride, r.n, T(-INFINITY), [=](vec<T> v, int64_t at, int64_t n) {
      const vec<T> e = exp<T>(v - shift);
      store_lanes<T, unit>(r.out + at * out_stride, out_stride, e, n);
      return e;
    });
    const vec<T> factor = broadcast(1 / sum);
    map_row<T, unit>(r.out, out_stride, r.out, out_stride, r.n, [=](vec<T> v, int64_t, int64_t) { return v * factor; });
  }

  // `count` <= lanes rows of at most short_row neighbours
  void short_rows(const line* r, int64_t count) const {
    constexpr int64_t item = sizeof(T);
    const char* x[lanes<T>];
    for (int64_t i = 0; i < count; ++i) x[i] = r[i].in[0];
    const int64_t n = r[0].n;
    if constexpr (logarithm) {
      const auto [largest, sum] = statistics_of_short_rows<T>(x, count, n, [](vec<T>, int64_t, int64_t, int64_t) {});
      const vec<T> log_sum = log<T>(sum);
      for (int64_t i = 0; i < count; ++i) {
        const vec<T> shift = broadcast(T(largest[i])), subtracted = broadcast(T(log_sum[i]));
        map_row<T, true>(x[i], item, r[i].out, item, n,
                         [=](vec<T> v, int64_t, int64_t) { return (v - shift) - subtracted; });
      }
    } else {
      const vec<T> factor =
          1 / statistics_of_short_rows<T>(x, count, n, [=](vec<T> e, int64_t i, int64_t at, int64_t k) {
                store_lanes<T, true>(r[i].out + at * item, item, e, k);
              }).sum;
      for (int64_t i = 0; i < count; ++i) {
        const vec<T> scale = broadcast(T(factor[i]));
        map_row<T, true>(r[i].out, item, r[i].out, item, n, [=](vec<T> v, int64_t, int64_t) { return v * scale; });
      }
    }
  }

  void columns(const line& c) const {
    const auto [largest, sum] = statistics_of_columns<T, unit>(c.in[0], c.stride[0], c.n, c.lane_stride[0], c.width);
    const vec<T> factor = 1 / sum, log_sum = log<T>(sum);
    for (int64_t i = 0; i < c.n; ++i) {
      const vec<T> d = load_padded<T, unit>(c.in[0] + i * c.stride[0], c.lane_stride[0], c.width, T(0)) - largest;
      store_lanes<T, unit>(c.out + i * c.stride[2], c.lane_stride[2], logarithm ? d - log_sum : exp<T>(d) * factor,
                           c.width);
    }
  }
};

// in[0] is g, in[1] is y.
template <class T, bool unit, bool logarithm>
struct softmax_gradient {
  static vec<T> result(vec<T> g, vec<T> y, vec<T> sum) { return logarithm ? g - exp<T>(y) * sum : y * (g - sum); }
  void row(const line& r) const {
    const char *g = r.in[0], *y = r.in[1];
    double total = 0;
    for (int64_t first = 0; first < r.n; first += softmax_block)
      total += double(sum_of_block<T, unit>(
          g + first * r.stride[0], r.stride[0], minimum_of(softmax_block, r.n - first), T(0),
          [&](vec<T> v, int64_t at, int64_t n) {
            return logarithm ? v : v * load_padded<T, unit>(y + (first + at) * r.stride[1], r.stride[1], n, T(0));
          }));
    const vec<T> sum = broadcast(T(total));
    map_row<T, unit>(g, r.stride[0], r.out, r.stride[2], r.n, [=](vec<T> v, int64_t at, int64_t n) {
      return result(v, load_padded<T, unit>(y + at * r.stride[1], r.stride[1], n, T(0)), sum);
    });
  }
  void short_rows(const line* r, int64_t count) const {
    constexpr int64_t item = sizeof(T);
    const int64_t n = r[0].n;
    vec<T> sums[lanes<T>] = {};
    for (int64_t i = 0; i < count; ++i)
      sums[i] = sum_vectors<T>(r[i].in[0], n, [&](vec<T> g, int64_t at, int64_t k) {
        return logarithm ? g : g * load_padded<T, true>(r[i].in[1] + at * item, item, k, T(0));
      });
    const vec<T> totals = combine_rows<T>(sums, [](vec<T> a, vec<T> b) { return a + b; });
    for (int64_t i = 0; i < count; ++i) {
      const vec<T> sum = broadcast(T(totals[i]));
      const char* y = r[i].in[1];
      map_row<T, true>(r[i].in[0], item, r[i].out, item, n, [=](vec<T> v, int64_t at, int64_t k) {
        return result(v, load_padded<T, true>(y + at * item, item, k, T(0)), sum);
      });
    }
  }

  void columns(const line& c) const {
    const auto load_g = [&](int64_t i) {
      return load_padded<T, unit>(c.in[0] + i * c.stride[0], c.lane_stride[0], c.width, T(0));
    };
    const auto load_y = [&](int64_t i) {
      return load_padded<T, unit>(c.in[1] + i * c.stride[1], c.lane_stride[1], c.width, T(0));
    };
    const vec<T> sum = sum_of_columns<T>(c.n, [&](int64_t i) { return logarithm ? load_g(i) : load_g(i) * load_y(i); });
    for (int64_t i = 0; i < c.n; ++i)
      store_lanes<T, unit>(c.out + i * c.stride[2], c.lane_stride[2], result(load_g(i), load_y(i), sum), c.width);
  }
};

// in1 is in0 again where the kernel has one input.
template <class T, template <class, bool, bool> class Kernel, bool logarithm>
void run_lines(const hominy_tensor& in0, const hominy_tensor& in1, int axis, const hominy_tensor& out,
               int64_t elements) {
  const hominy_tensor* const arrays[3] = {&in0, &in1, &out};
  char* data[3];
  line lines;
  lines.n = in0.shape[axis];
  bool unit_axis = true;
  for (int a = 0; a < 3; ++a) {
    data[a] = static_cast<char*>(arrays[a]->data);
    lines.stride[a] = arrays[a]->strides[axis];
    unit_axis &= lines.stride[a] == int64_t(sizeof(T));
  }
  dimension<3> dims[HOMINY_MAX_NDIM];
  int count = collect_dimensions<3>(in0.shape, in0.ndim, axis, {in0.strides, in1.strides, out.strides}, data, dims);
  bool unit_columns = count > 0;
  for (int a = 0; a < 3 && unit_columns; ++a) unit_columns = dims[count - 1].stride[a] == int64_t(sizeof(T));
  // Neither has neighbours: the longer one fills its vectors better.
  const bool along_columns =
      !unit_axis && count > 0 && (unit_columns || dims[count - 1].size >= minimum_of<int64_t>(lines.n, lanes<T>));
  dimension<3> across{1, {0, 0, 0}};
  if (along_columns) across = dims[--count];
  for (int a = 0; a < 3; ++a) lines.lane_stride[a] = across.stride[a];

  const int64_t panels = (across.size - 1) / lanes<T> + 1;
  const int64_t items = elements / lines.n / across.size * panels;
  const int64_t tasks = minimum_of(items, maximum_of<int64_t>(1, minimum_of(elements / elements_per_task, most_tasks)));
  parallel_for(tasks, [&](int64_t task) {
    const share mine(items, tasks, task);
    const Kernel<T, true, logarithm> neighbours;
    const Kernel<T, false, logarithm> apart;
    odometer<3> outer(dims, count, mine.first / panels);
    int64_t panel = mine.first % panels;
    line waiting[lanes<T>];  // short rows, until there are as many as lanes
    int64_t rows_waiting = 0;
    for (int64_t item = 0; item < mine.count; ++item) {
      line& l = waiting[rows_waiting];
      l = lines;
      const int64_t column = panel * lanes<T>;
      l.width = across.size - column;
      for (int a = 0; a < 3; ++a) {
        char* p = data[a] + outer.offset[a] + column * across.stride[a];
        (a == 2 ? l.out = p : l.in[a] = p);
      }
      if (along_columns)
        unit_columns ? neighbours.columns(l) : apart.columns(l);
      else if (!unit_axis)
        apart.row(l);
      else if (l.n > short_row)
        neighbours.row(l);
      else if (++rows_waiting == lanes<T> || item + 1 == mine.count) {
        neighbours.short_rows(waiting, rows_waiting);
        rows_waiting = 0;
      }
      if (++panel < panels) continue;
      panel = 0;
      outer.advance();
    }
  });
}

hominy_status check_arguments(const hominy_tensor& in0, const hominy_tensor& in1, int axis, const hominy_tensor& out,
                              int64_t* elements) {
  if ((in0.dtype != HOMINY_FLOAT32 && in0.dtype != HOMINY_FLOAT64) || in1.dtype != in0.dtype || out.dtype != in0.dtype)
    return HOMINY_BAD_DTYPE;
  if (in0.ndim < 1 || in0.ndim > HOMINY_MAX_NDIM || in1.ndim != in0.ndim || out.ndim != in0.ndim)
    return HOMINY_BAD_SHAPE;
  if (axis < 0 || axis >= in0.ndim) return HOMINY_BAD_VALUE;
  for (int d = 0; d < in0.ndim; ++d)
    if (in1.shape[d] != in0.shape[d] || out.shape[d] != in0.shape[d]) return HOMINY_BAD_SHAPE;
  return count_elements(in0, elements);
}

template <template <class, bool, bool> class Kernel>
hominy_status run(bool logarithm, const hominy_tensor& in0, const hominy_tensor& in1, int axis,
                  const hominy_tensor& out) {
  int64_t elements;
  if (hominy_status status = check_arguments(in0, in1, axis, out, &elements)) return status;
  if (elements == 0) return HOMINY_OK;
  if (in0.dtype == HOMINY_FLOAT32)
    (logarithm ? run_lines<float, Kernel, true> : run_lines<float, Kernel, false>)(in0, in1, axis, out, elements);
  else
    (logarithm ? run_lines<double, Kernel, true> : run_lines<double, Kernel, false>)(in0, in1, axis, out, elements);
  return HOMINY_OK;
}

}  // namespace

hominy_status softmax(int32_t logarithm, const hominy_tensor* x, int32_t axis, const hominy_tensor* out) {
  return run<softmax_forward>(logarithm != 0, *x, *x, axis, *out);
}

hominy_status softmax_backward(int32_t logarithm, const hominy_tensor* gradient, const hominy_tensor* y, int32_t axis,
                               const hominy_tensor* out) {
  return run<softmax_gradient>(logarithm != 0, *gradient, *y, axis, *out);
}

}  // namespace hominy::HOMINY_LEVEL
