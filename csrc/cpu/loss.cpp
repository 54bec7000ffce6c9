// Lanes run along the classes where they are neighbours, else across rows: then one vector holds as many rows as it has
// lanes, and what depends on a row's target is put in afterwards, lane by lane.
#include "loss.hpp"

#include "dimensions.hpp"
#include "parallel_for.hpp"
#include "softmax_statistics.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t elements_per_task = 8192;
constexpr int64_t most_tasks = 64;

// A vector (n,) of scalars read or written one by one.
template <class T>
struct scalars {
  char* data = nullptr;
  int64_t stride = 0;

  explicit scalars(const hominy_tensor* t) {
    if (!t) return;
    data = static_cast<char*>(t->data);
    stride = t->strides[0];
  }
  T operator[](int64_t i) const { return load_scalar<T>(data + i * stride); }
  void set(int64_t i, T value) const { store_scalar<T>(data + i * stride, value); }
};

// What both directions share: the row's target and the coefficients that follow from it.
template <class T>
struct class_targets {
  scalars<int64_t> target;
  scalars<T> weight;
  int64_t classes, ignore_index;
  double smoothing;
  bool bad = false;

  T weight_of(int64_t c) const { return weight.data ? weight[c] : T(1); }
  // The weights of the n classes from c on, 0 in lanes beyond.
  vec<T> weights(int64_t c, int64_t n) const {
    if (!weight.data) return n >= lanes<T> ? broadcast(T(1)) : select<T>(first_lanes<T>(n), broadcast(T(1)), vec<T>{});
    if (weight.stride == int64_t(sizeof(T))) return load_padded<T, true>(weight.data + c * weight.stride, 0, n, T(0));
    return load_padded<T, false>(weight.data + c * weight.stride, weight.stride, n, T(0));
  }
  double sum_of_weights() const {
    if (!weight.data) return double(classes);
    double sum = 0;
    for (int64_t first = 0; first < classes; first += softmax_block)
      sum += double(sum_of_block<T, false>(weight.data + first * weight.stride, weight.stride,
                                           minimum_of(softmax_block, classes - first), T(0),
                                           [](vec<T> w, int64_t, int64_t) { return w; }));
    return sum;
  }
  // The row's class, or -1 where it is ignored (or wrong, which is noted). The one place where a target is read.
  int64_t read(int64_t row) {
    const int64_t t = target[row];
    if (t == ignore_index) return -1;
    if (t >= 0 && t < classes) return t;
    __atomic_store_n(&bad, true, __ATOMIC_RELAXED);
    return -1;
  }
};

// Rows [first, first + count) of forward or backward for every group of rows; a group is one row or a vector of them.
template <class Group>
void for_each_group(int64_t rows, int64_t classes, int64_t rows_per_group, Group group) {
  const int64_t groups = (rows - 1) / rows_per_group + 1;
  // rows * classes was checked not to overflow
  const int64_t tasks =
      minimum_of(groups, maximum_of<int64_t>(1, minimum_of(rows * classes / elements_per_task, most_tasks)));
  parallel_for(tasks, [&](int64_t task) {
    const share mine(groups, tasks, task);
    for (int64_t i = mine.first; i < mine.first + mine.count; ++i)
      group(i * rows_per_group, minimum_of(rows_per_group, rows - i * rows_per_group));
  });
}

template <class T>
struct forward {
  class_targets<T>& targets;
  const char* logits;
  int64_t row_stride, class_stride;
  scalars<T> losses, logsumexp;

  // smooth: what smooth_of_row gives, 0 without smoothing
  void finish(int64_t row, T largest, T log_sum, T smooth) const {
    logsumexp.set(row, largest + log_sum);
    const int64_t t = targets.read(row);
    if (t < 0) return losses.set(row, T(0));
    const T nll = log_sum - (load_scalar<T>(logits + row * row_stride + t * class_stride) - largest);
    const double s = targets.smoothing;
    losses.set(row, T((1 - s) * targets.weight_of(t) * nll + (s > 0 ? s / double(targets.classes) * smooth : 0)));
  }

  // Sum over c of w[c] (log sum - (x[c] - m)).
  template <bool unit>
  T smooth_of_row(int64_t row, T largest, T log_sum_of_row) const {
    if (targets.smoothing == 0) return 0;
    const char* x = logits + row * row_stride;
    const int64_t n = targets.classes;
    const vec<T> shift = broadcast(largest), log_sum = broadcast(log_sum_of_row);
    double smooth = 0;
    for (int64_t first = 0; first < n; first += softmax_block)
      smooth +=
          double(sum_of_block<T, unit>(x + first * class_stride, class_stride, minimum_of(softmax_block, n - first),
                                       T(0), [&](vec<T> v, int64_t at, int64_t count) {
                                         return targets.weights(first + at, count) * (log_sum - (v - shift));
                                       }));
    return T(smooth);
  }

  template <bool unit>
  void row(int64_t row) const {
    const auto [largest, sum] = statistics_of_row<T, unit>(logits + row * row_stride, class_stride, targets.classes);
    const T log_sum = log_of(sum);
    finish(row, largest, log_sum, smooth_of_row<unit>(row, largest, log_sum));
  }

  void short_rows(int64_t row, int64_t count) const {
    const char* x[lanes<T>];
    for (int64_t i = 0; i < count; ++i) x[i] = logits + (row + i) * row_stride;
    const auto [largest, sum] =
        statistics_of_short_rows<T>(x, count, targets.classes, [](vec<T>, int64_t, int64_t, int64_t) {});
    const vec<T> log_sum = log<T>(sum);
    for (int64_t i = 0; i < count; ++i)
      finish(row + i, largest[i], log_sum[i], smooth_of_row<true>(row + i, largest[i], log_sum[i]));
  }

  template <bool unit>
  void columns(int64_t row, int64_t width) const {
    const char* x = logits + row * row_stride;
    const auto [largest, sum] = statistics_of_columns<T, unit>(x, class_stride, targets.classes, row_stride, width);
    const vec<T> log_sum = log<T>(sum), shift = largest;
    vec<T> smooth{};
    if (targets.smoothing > 0) {
      smooth = sum_of_columns<T>(targets.classes, [&](int64_t c) {
        const vec<T> v = load_padded<T, unit>(x + c * class_stride, row_stride, width, T(0));
        return targets.weight_of(c) * (log_sum - (v - shift));
      });
    }
    for (int64_t i = 0; i < width; ++i) finish(row + i, largest[i], log_sum[i], smooth[i]);
  }
};

// out[c] = scale * softmax[c] - spread * w[c] - (c == t ? peak : 0)
template <class T>
struct row_gradient {
  int64_t target;
  T scale, spread, peak;
};

template <class T>
struct backward {
  class_targets<T>& targets;
  const char* logits;
  int64_t row_stride, class_stride;
  scalars<T> gradient, logsumexp;
  char* out;
  int64_t out_row_stride, out_class_stride;
  double weight_sum;

  row_gradient<T> read(int64_t row) const {
    const int64_t t = targets.read(row);
    if (t < 0) return {t, 0, 0, 0};
    const double g = double(gradient[row]), spread = g * targets.smoothing / double(targets.classes);
    const double peak = g * (1 - targets.smoothing) * double(targets.weight_of(t));
    return {t, T(peak + spread * weight_sum), T(spread), T(peak)};
  }
  void subtract_peak(int64_t row, const row_gradient<T>& r) const {
    if (r.target < 0) return;
    char* p = out + row * out_row_stride + r.target * out_class_stride;
    store_scalar<T>(p, load_scalar<T>(p) - r.peak);
  }

  template <bool unit>
  void row(int64_t row) const {
    const row_gradient<T> r = read(row);
    const char* x = logits + row * row_stride;
    char* to = out + row * out_row_stride;
    const vec<T> shift = broadcast(logsumexp[row]), scale = broadcast(r.scale), spread = broadcast(r.spread);
    const int64_t n = targets.classes;
    const auto store_vector = [&](int64_t c, int64_t count) {
      vec<T> result{};
      if (r.target >= 0)
        result = scale * exp<T>(load_padded<T, unit>(x + c * class_stride, class_stride, count, T(0)) - shift);
      if (r.spread != 0) result = result - spread * targets.weights(c, count);
      store_lanes<T, unit>(to + c * out_class_stride, out_class_stride, result, count);
    };
    int64_t c = 0;
    for (; c + lanes<T> <= n; c += lanes<T>) store_vector(c, lanes<T>);
    if (c < n) store_vector(c, n - c);
    subtract_peak(row, r);
  }

  void short_rows(int64_t first, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) row<true>(first + i);
  }

  template <bool unit>
  void columns(int64_t row, int64_t width) const {
    row_gradient<T> r[lanes<T>];
    vec<T> shift{}, scale{}, spread{};
    mask_vec<T> kept{};
    for (int i = 0; i < width; ++i) {
      r[i] = read(row + i);
      shift[i] = logsumexp[row + i];
      scale[i] = r[i].scale;
      spread[i] = r[i].spread;
      kept[i] = r[i].target < 0 ? 0 : -1;
    }
    for (int64_t c = 0; c < targets.classes; ++c) {
      const vec<T> x = load_padded<T, unit>(logits + row * row_stride + c * class_stride, row_stride, width, T(0));
      vec<T> result = scale * exp<T>(x - shift);
      if (targets.smoothing > 0) result = result - spread * targets.weight_of(c);
      store_lanes<T, unit>(out + row * out_row_stride + c * out_class_stride, out_row_stride,
                           select<T>(kept, result, vec<T>{}), width);
    }
    for (int i = 0; i < width; ++i) subtract_peak(row + i, r[i]);
  }
};

// Runs `kernel` (forward or backward) over all rows, lanes along classes or along rows.
template <class T, class Kernel>
hominy_status run(const Kernel& kernel, int64_t rows, bool unit_classes, bool unit_rows) {
  const int64_t classes = kernel.targets.classes;
  if (rows == 0) return HOMINY_OK;
  if (unit_classes && classes <= short_row)
    for_each_group(rows, classes, lanes<T>, [&](int64_t row, int64_t n) { kernel.short_rows(row, n); });
  else if (unit_classes)
    for_each_group(rows, classes, 1, [&](int64_t row, int64_t) { kernel.template row<true>(row); });
  else if (unit_rows)
    for_each_group(rows, classes, lanes<T>, [&](int64_t row, int64_t n) { kernel.template columns<true>(row, n); });
  else
    for_each_group(rows, classes, 1, [&](int64_t row, int64_t) { kernel.template row<false>(row); });
  return kernel.targets.bad ? HOMINY_BAD_INDEX : HOMINY_OK;
}

bool is_vector(const hominy_tensor& t, int64_t size, int32_t dtype) {
  return t.ndim == 1 && t.shape[0] == size && t.dtype == dtype;
}

// The arguments that both directions have; a and b are the two (N,) arrays of the logits' dtype.
hominy_status check_arguments(const hominy_tensor& logits, const hominy_tensor& target, const hominy_tensor* weight,
                              double smoothing, const hominy_tensor& a, const hominy_tensor& b) {
  if (logits.dtype != HOMINY_FLOAT32 && logits.dtype != HOMINY_FLOAT64) return HOMINY_BAD_DTYPE;
  if (target.dtype != HOMINY_INT64 || a.dtype != logits.dtype || b.dtype != logits.dtype) return HOMINY_BAD_DTYPE;
  if (weight && weight->dtype != logits.dtype) return HOMINY_BAD_DTYPE;
  if (logits.ndim != 2) return HOMINY_BAD_SHAPE;
  const int64_t rows = logits.shape[0], classes = logits.shape[1];
  if (!is_vector(target, rows, HOMINY_INT64) || !is_vector(a, rows, logits.dtype) || !is_vector(b, rows, logits.dtype))
    return HOMINY_BAD_SHAPE;
  if (weight && !is_vector(*weight, classes, logits.dtype)) return HOMINY_BAD_SHAPE;
  if (!(smoothing >= 0 && smoothing <= 1)) return HOMINY_BAD_VALUE;
  int64_t elements;
  return count_elements(logits, &elements);
}

template <class T>
hominy_status forward_as(const hominy_tensor& logits, const hominy_tensor& target, const hominy_tensor* weight,
                         int64_t ignore_index, double smoothing, const hominy_tensor& losses,
                         const hominy_tensor& logsumexp) {
  class_targets<T> targets{scalars<int64_t>(&target), scalars<T>(weight), logits.shape[1], ignore_index, smoothing};
  const forward<T> kernel{targets,
                          static_cast<const char*>(logits.data),
                          logits.strides[0],
                          logits.strides[1],
                          scalars<T>(&losses),
                          scalars<T>(&logsumexp)};
  constexpr int64_t item = sizeof(T);
  return run<T>(kernel, logits.shape[0], logits.strides[1] == item, logits.strides[0] == item);
}

template <class T>
hominy_status backward_as(const hominy_tensor& gradient, const hominy_tensor& logits, const hominy_tensor& target,
                          const hominy_tensor* weight, int64_t ignore_index, double smoothing,
                          const hominy_tensor& logsumexp, const hominy_tensor& out) {
  class_targets<T> targets{scalars<int64_t>(&target), scalars<T>(weight), logits.shape[1], ignore_index, smoothing};
  const double weight_sum = smoothing > 0 ? targets.sum_of_weights() : 0;
  const backward<T> kernel{targets,
                           static_cast<const char*>(logits.data),
                           logits.strides[0],
                           logits.strides[1],
                           scalars<T>(&gradient),
                           scalars<T>(&logsumexp),
                           static_cast<char*>(out.data),
                           out.strides[0],
                           out.strides[1],
                           weight_sum};
  constexpr int64_t item = sizeof(T);
  return run<T>(kernel, logits.shape[0], logits.strides[1] == item && out.strides[1] == item,
                logits.strides[0] == item && out.strides[0] == item);
}

}  // namespace

hominy_status cross_entropy(const hominy_tensor* logits, const hominy_tensor* target, const hominy_tensor* weight,
                            int64_t ignore_index, double label_smoothing, const hominy_tensor* losses,
                            const hominy_tensor* logsumexp) {
  if (hominy_status status = check_arguments(*logits, *target, weight, label_smoothing, *losses, *logsumexp))
    return status;
  return (logits->dtype == HOMINY_FLOAT32 ? forward_as<float> : forward_as<double>)(*logits, *target, weight,
                                                                                    ignore_index, label_smoothing,
                                                                                    *losses, *logsumexp);
}

hominy_status cross_entropy_backward(const hominy_tensor* gradient, const hominy_tensor* logits,
                                     const hominy_tensor* target, const hominy_tensor* weight, int64_t ignore_index,
                                     double label_smoothing, const hominy_tensor* logsumexp, const hominy_tensor* out) {
  if (hominy_status status = check_arguments(*logits, *target, weight, label_smoothing, *gradient, *logsumexp))
    return status;
  if (out->dtype != logits->dtype) return HOMINY_BAD_DTYPE;
  if (out->ndim != 2 || out->shape[0] != logits->shape[0] || out->shape[1] != logits->shape[1]) return HOMINY_BAD_SHAPE;
  return (logits->dtype == HOMINY_FLOAT32 ? backward_as<float>
                                          : backward_as<double>)(*gradient, *logits, *target, weight, ignore_index,
                                                                 label_smoothing, *logsumexp, *out);
}

}  // namespace hominy::HOMINY_LEVEL
