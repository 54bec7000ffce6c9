// A row of the output is made in two steps where the elements of a row are neighbours (NCHW): the input's rows that it
// reads become one, weighted, in the first-level cache; from that each vector of outputs picks its elements by one
// permutation of two vectors for each place in the list of the width. That serves every stride up to 2 and every
// enlargement; beyond, elements are picked one by one. Where channels are neighbours (channels last) a position's
// channels are sums of vectors straight from the input.
#include "interpolate.hpp"

#include "windows.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t row_capacity = 2048;  // elements of the weighted row that are held at a time

template <class T>
struct resampling : image_pair, window_axes<T> {
  bool divides;
  T divisor(int64_t d, int64_t h) const { return this->axis[0].divisor(d) * this->axis[1].divisor(h); }
};

// ---- Along rows -----------------------------------------------------------------------------------------------------

// to[v] = the weighted sum of the rows that output row (d, h) reads, from `column` on.
template <class T, int vectors, class Count>
__attribute__((noinline)) void combine_vectors(const window_axis<T>& depth, int64_t d, const window_axis<T>& height,
                                               int64_t h, const char* column, Count count, T* to) {
  vec<T> sum[vectors] = {};
  for (const tap<T>* i = depth.begin(d); i < depth.end(d); ++i)
    for (const tap<T>* j = height.begin(h); j < height.end(h); ++j) {
      const T weight = i->weight * j->weight;
      const T* const row = reinterpret_cast<const T*>(column + i->offset + j->offset);
      for (int v = 0; v < vectors; ++v) sum[v] += weight * load_count(row + v * lanes<T>, count);
    }
  for (int v = 0; v < vectors; ++v) store(to + v * lanes<T>, sum[v]);
}

template <class T>
void combine_rows(const resampling<T>& r, const char* plane, int64_t d, int64_t h, int64_t low, int64_t high, T* to) {
  int64_t i = low;
  const auto column = [&] { return plane + i * int64_t(sizeof(T)); };
  for (; i + 4 * lanes<T> <= high; i += 4 * lanes<T>)
    combine_vectors<T, 4>(r.axis[0], d, r.axis[1], h, column(), whole{}, to + (i - low));
  for (; i < high; i += lanes<T>) combine_vectors<T, 1>(r.axis[0], d, r.axis[1], h, column(), high - i, to + (i - low));
}

// Vector v of outputs from the row `from`, which begins with element `low` and has two vectors of room behind its end.
template <class T>
inline vec<T> pick_and_sum(const window_axis<T>& width, int64_t v, const T* from, int64_t low) {
  vec<T> sum{};
  const int64_t at = v * lanes<T>;
  const mask_vec<T> counts = load(width.counts + at);
  for (int64_t k = 0; k < width.largest[v]; ++k) {
    const mask_vec<T> positions = load(width.positions + k * width.padded + at);
    const int64_t entry = k * width.vectors() + v, base = width.bases[entry] - low;
    vec<T> x;
    if (width.reaches[entry] == window_axis<T>::straight)
      x = load(from + base);
    else if (width.reaches[entry] == window_axis<T>::near && base >= 0)
      x = permute_pair<T>(load(from + base), load(from + base + lanes<T>), positions);
    else
      for (int l = 0; l < lanes<T>; ++l) x[l] = from[base + positions[l]];
    if (width.weights) x *= load(width.weights + k * width.padded + at);
    sum += k < width.least[v] ? x : select<T>(counts > typename window_axis<T>::integer(k), x, vec<T>{});
  }
  return sum;
}

// The same, one by one and straight from the input: for a vector whose outputs lie further apart than a row is held.
template <class T>
__attribute__((noinline)) vec<T> sum_far_apart(const resampling<T>& r, const char* plane, int64_t d, int64_t h,
                                               int64_t v) {
  const window_axis<T>&depth = r.axis[0], &height = r.axis[1], &width = r.axis[2];
  vec<T> sums{};
  const int64_t outputs = minimum_of<int64_t>(lanes<T>, width.size - v * lanes<T>);
  for (int64_t l = 0; l < outputs; ++l) {
    const int64_t w = v * lanes<T> + l;
    vec<T> sum{};  // of few terms each, as the kernel's error bound wants it
    for (const tap<T>* i = depth.begin(d); i < depth.end(d); ++i)
      for (const tap<T>* j = height.begin(h); j < height.end(h); ++j) {
        const char* const row = plane + i->offset + j->offset;
        const T weight = i->weight * j->weight;
        for (const tap<T>* k = width.begin(w); k < width.end(w); ++k)
          sum[(k - width.begin(w)) % lanes<T>] += weight * k->weight * load_scalar<T>(row + k->offset);
      }
    sums[l] = sum_lanes<T>(sum);
  }
  return sums;
}

template <class T>
__attribute__((noinline)) void resample_row(const resampling<T>& r, const char* plane, char* out, int64_t d,
                                            int64_t h) {
  const window_axis<T>& width = r.axis[2];
  T held[row_capacity + 6 * lanes<T>];
  const T outer = r.divides ? r.divisor(d, h) : T(1);
  const auto finish = [&](int64_t v, vec<T> sum) {
    const int64_t at = v * lanes<T>;
    if (r.divides) sum /= width.divisors ? outer * load(width.divisors + at) : vec<T>{} + outer;
    store_lanes<T, true>(out + at * int64_t(sizeof(T)), sizeof(T), sum, width.size - at);
  };
  for (int64_t v = 0; v < width.vectors();) {
    int64_t low = width.lowest[v], high = width.highest[v] + 1, end = v + 1;
    if (high - low > row_capacity) {
      finish(v, sum_far_apart(r, plane, d, h, v));
      ++v;
      continue;
    }
    for (; end < width.vectors(); ++end) {
      const int64_t lower = minimum_of<int64_t>(low, width.lowest[end]);
      const int64_t higher = maximum_of<int64_t>(high, width.highest[end] + 1);
      if (higher - lower > row_capacity) break;
      low = lower;
      high = higher;
    }
    high = minimum_of<int64_t>(high, width.inputs);  // no column where none has a tap
    combine_rows(r, plane, d, h, low, high, held);
    for (; v < end; ++v) finish(v, pick_and_sum(width, v, held, low));
  }
}

template <class T>
void resample_rows(const resampling<T>& r, int64_t work) {
  const int64_t rows[] = {r.channels, r.to[0], r.to[1]};
  for_shares(r.batch * rows[0] * rows[1] * rows[2], work, [&](int64_t first, int64_t count) {
    place at(first, rows);
    for (int64_t i = 0; i < count; ++i, at.advance(rows)) {
      const int64_t n = at.outer, c = at.d, d = at.h, h = at.w;
      resample_row(r, r.x_at(n, c),
                   r.out + n * r.out_stride[0] + c * r.out_stride[1] + d * r.out_stride[2] + h * r.out_stride[3], d, h);
    }
  });
}

// ---- Along channels -------------------------------------------------------------------------------------------------

// Some channels of the positions from `at` to column `end` of its row; x and out point to the first channel, x of the
// image, out of position `at`.
template <class T, bool unit, int vectors, class Count>
__attribute__((noinline)) void resample_vectors(const resampling<T>& r, const char* x, char* out, const place& at,
                                                int64_t end, Count count) {
  const int64_t step = unit ? int64_t(sizeof(T)) : r.x_stride[1],
                out_step = unit ? int64_t(sizeof(T)) : r.out_stride[1];
  const window_axis<T>&depth = r.axis[0], &height = r.axis[1], &width = r.axis[2];
  const tap<T>*const slices = depth.begin(at.d), *const slices_end = depth.end(at.d);
  const tap<T>*const rows = height.begin(at.h), *const rows_end = height.end(at.h);
  const bool divides = r.divides;
  const T outer_divisor = divides ? r.divisor(at.d, at.h) : T(1);
  const int64_t next = r.out_stride[4];
  for (int64_t w = at.w; w < end; ++w, out += next) {
    const tap<T>*const columns = width.begin(w), *const columns_end = width.end(w);
    vec<T> sum[vectors] = {};
    for (const tap<T>* i = slices; i < slices_end; ++i)
      for (const tap<T>* j = rows; j < rows_end; ++j) {
        const char* const row = x + i->offset + j->offset;
        const T outer = i->weight * j->weight;
        for (const tap<T>* k = columns; k < columns_end; ++k) {
          const T weight = outer * k->weight;
          for (int v = 0; v < vectors; ++v)
            sum[v] += weight * load_count<T, unit>(row + k->offset + v * lanes<T> * step, step, count);
        }
      }
    if (divides)
      for (vec<T>& each : sum) each /= outer_divisor * width.divisor(w);
    for (int v = 0; v < vectors; ++v) store_count<T, unit>(out + v * lanes<T> * out_step, out_step, sum[v], count);
  }
}

template <class T, bool unit>
void resample_channels(const resampling<T>& r, int64_t work) {
  const int64_t step = r.x_stride[1], out_step = r.out_stride[1];
  for_runs(r, work, [&](const place& at, int64_t end) {
    const char* const x = r.x_at(at.outer, 0);
    char* const out = r.out_at(at);
    int64_t c = 0;
    if constexpr (unit)
      for (; c + 4 * lanes<T> <= r.channels; c += 4 * lanes<T>)
        resample_vectors<T, unit, 4>(r, x + c * step, out + c * out_step, at, end, whole{});
    for (; c < r.channels; c += lanes<T>)
      resample_vectors<T, unit, 1>(r, x + c * step, out + c * out_step, at, end, r.channels - c);
  });
}

template <class T>
hominy_status resample_as(const image_pair& images, const hominy_windows* windows, void* workspace, int64_t available) {
  resampling<T> r;
  static_cast<image_pair&>(r) = images;
  const bool channels = r.channels_together(sizeof(T)), rows = !channels && r.rows_together(sizeof(T));
  if (const hominy_status status = r.read_windows(windows, r.in, r.x_stride + 2, 0, rows, workspace, available))
    return status;
  r.divides = false;
  for (const window_axis<T>& axis : r.axis) r.divides |= axis.divisors != nullptr;
  const int64_t work = window_work<T>(r, r);
  if (channels)
    resample_channels<T, true>(r, work);
  else if (rows)
    resample_rows<T>(r, work);
  else
    resample_channels<T, false>(r, work);
  return HOMINY_OK;
}

}  // namespace

int64_t resample_workspace_size(const hominy_tensor* x, const hominy_windows* windows) {
  return x->dtype == HOMINY_FLOAT32 ? window_axes<float>::workspace_size(windows)
                                    : window_axes<double>::workspace_size(windows);
}

hominy_status resample(const hominy_tensor* x, const hominy_windows* windows, const hominy_tensor* out, void* workspace,
                       int64_t workspace_size) {
  image_pair images;
  if (const hominy_status status = images.describe(x, windows, out)) return status;
  if (images.empty) return HOMINY_OK;
  return x->dtype == HOMINY_FLOAT32 ? resample_as<float>(images, windows, workspace, workspace_size)
                                    : resample_as<double>(images, windows, workspace, workspace_size);
}

}  // namespace hominy::HOMINY_LEVEL
