// Pooling and interpolation alike: along each dimension of space a position of the output reads some positions of the
// input, which a `hominy_windows` lists. Here such a list becomes what the kernels run on: checked, in the arithmetic's
// own types, padded to whole vectors, with the facts a vector of positions wants to know beforehand.
#pragma once
#include "dimensions.hpp"
#include "lane_access.hpp"
#include "parallel_for.hpp"

namespace hominy::HOMINY_LEVEL {

constexpr int space_dims = 3;  // depth, height, width

// Lane l is lane i[l] of the 2 * lanes that a and b have together.
template <class T>
inline vec<T> permute_pair(vec<T> a, vec<T> b, mask_vec<T> i) {
#if defined(__clang__)
  vec<T> picked;
  for (int l = 0; l < lanes<T>; ++l) picked[l] = i[l] < lanes<T> ? a[i[l]] : b[i[l] - lanes<T>];
  return picked;
#else
  return __builtin_shuffle(a, b, i);
#endif
}

// One input that a position reads.
template <class T>
struct tap {
  int64_t offset;                       // in bytes, from the first input along its dimension
  typename integer_of<T>::type number;  // its share of an element's number in the plane
  T weight;
};

// What is the inputs' distance in memory, and in the number of an element of their plane.
struct tap_scale {
  int64_t stride, step;
};

template <class T>
struct window_axis {
  typedef typename integer_of<T>::type integer;
  // How the inputs that a vector of positions reads lie: neighbours in order; within two vectors; anyhow.
  enum reach { straight, near, far };

  int64_t inputs, size, padded, most;  // padded: size, up to whole vectors
  integer* counts;                     // (padded) inputs that a position reads
  T* divisors;                         // (padded), NULL where all are 1
  tap<T>* taps;                        // (size, most)
  // For vectors of positions, if wanted: (most, padded), the last input again beyond the count, with weight 0.
  integer* positions;  // in `straight` and `near` vectors relative to their base
  T* weights;          // NULL where all are 1
  // Of each vector (padded / lanes of them), and there of each place in the list:
  integer *reaches, *bases;                     // (most, vectors) base: the first input
  integer *lowest, *highest, *least, *largest;  // (vectors) inputs that it reads; smallest and largest count

  const tap<T>* begin(int64_t i) const { return taps + i * most; }
  const tap<T>* end(int64_t i) const { return taps + i * most + counts[i]; }
  T divisor(int64_t i) const { return divisors ? divisors[i] : T(1); }
  int64_t vectors() const { return padded / lanes<T>; }

  static int64_t padded_size(const hominy_windows& w) { return (w.size + lanes<T> - 1) / lanes<T> * lanes<T>; }

  // Bytes of scratch, or -1 where there are too many.
  static int64_t bytes(const hominy_windows& w) {
    const int64_t entry = int64_t(sizeof(tap<T>)) + 6 * int64_t(sizeof(T));
    int64_t total;
    if (w.size < 0 || w.most < 0 || w.size > INT32_MAX ||
        __builtin_mul_overflow(w.most + 1, padded_size(w) + lanes<T>, &total) ||
        __builtin_mul_overflow(total, entry, &total))
      return -1;
    return (total + 63) / 64 * 64;
  }

  // From a list for `input_size` positions, in `scratch`, which moves on. BAD_INDEX for a position outside, BAD_VALUE
  // for a count beyond [lowest_count, most].
  __attribute__((noinline)) hominy_status read(const hominy_windows& w, int64_t input_size, int64_t lowest_count,
                                               tap_scale scale, bool by_vectors, char*& scratch) {
    inputs = input_size;
    size = w.size;
    padded = padded_size(w);
    most = w.most;
    char* next = scratch;
    const auto take = [&](auto*& array, int64_t n) {
      array = reinterpret_cast<decltype(+array)>(next);
      next += n * int64_t(sizeof(*array));
    };
    scratch += bytes(w);
    take(taps, most * size);
    take(counts, padded);
    take(divisors, padded);
    if (!w.divisors) divisors = nullptr;
    for (int64_t i = 0; i < padded; ++i) {
      const int64_t at = minimum_of(i, size - 1);
      const int64_t count = i < size ? w.counts[at] : counts[size - 1];  // read once: another thread may change it
      if (count < lowest_count || count > most) return HOMINY_BAD_VALUE;
      counts[i] = integer(count);
      if (divisors) divisors[i] = T(w.divisors[at]);
    }
    for (int64_t i = 0; i < size; ++i)
      for (int64_t k = 0; k < counts[i]; ++k) {
        const int64_t position = w.positions[k * size + i];
        if (position < 0 || position >= inputs) return HOMINY_BAD_INDEX;
        taps[i * most + k] = {position * scale.stride, integer(position * scale.step),
                              w.weights ? T(w.weights[k * size + i]) : T(1)};
      }
    if (!by_vectors) return HOMINY_OK;
    take(positions, most * padded);
    take(weights, most * padded);
    take(reaches, most * vectors());
    take(bases, most * vectors());
    take(lowest, vectors());
    take(highest, vectors());
    take(least, vectors());
    take(largest, vectors());
    if (!w.weights) weights = nullptr;
    for (int64_t i = 0; i < padded; ++i) {
      const int64_t at = minimum_of(i, size - 1), count = counts[i];
      for (int64_t k = 0; k < most; ++k) {
        const tap<T>* const its = begin(at) + minimum_of(k, count - 1);
        integer* const place = positions + k * padded + i;
        *place = count ? integer(its->offset / int64_t(sizeof(T))) : i ? place[-1] : 0;
        if (weights) weights[k * padded + i] = k < count ? its->weight : T(0);
      }
    }
    for (int64_t v = 0; v < vectors(); ++v) look_at(v);
    return HOMINY_OK;
  }

 private:
  __attribute__((noinline)) void look_at(int64_t v) {
    const integer* count = counts + v * lanes<T>;
    lowest[v] = integer(inputs);
    highest[v] = 0;
    least[v] = largest[v] = count[0];
    for (int l = 1; l < lanes<T>; ++l) {
      least[v] = minimum_of(least[v], count[l]);
      largest[v] = maximum_of(largest[v], count[l]);
    }
    for (int64_t k = 0; k < most; ++k) {
      integer* const p = positions + k * padded + v * lanes<T>;
      integer low = p[0], high = p[0];
      bool neighbours = true;
      for (int l = 1; l < lanes<T>; ++l) {
        low = minimum_of(low, p[l]);
        high = maximum_of(high, p[l]);
        neighbours = neighbours && p[l] == p[0] + l;
      }
      lowest[v] = minimum_of(lowest[v], low);
      highest[v] = maximum_of(highest[v], high);
      // A base so low that two vectors from there on end with the inputs, where there are as many.
      const integer base = maximum_of<integer>(0, minimum_of<integer>(low, integer(inputs - 2 * lanes<T>)));
      const integer kind = neighbours ? straight : high - base < 2 * lanes<T> ? near : far;
      const integer from = kind == straight ? low : kind == near ? base : 0;
      reaches[k * vectors() + v] = kind;
      bases[k * vectors() + v] = from;
      for (int l = 0; l < lanes<T>; ++l) p[l] -= from;
    }
  }
};

// The lists of all dimensions.
template <class T>
struct window_axes {
  window_axis<T> axis[space_dims];

  static int64_t workspace_size(const hominy_windows* windows) {
    int64_t total = 0;
    for (int d = 0; d < space_dims; ++d) {
      const int64_t bytes = window_axis<T>::bytes(windows[d]);
      if (bytes < 0 || __builtin_add_overflow(total, bytes, &total)) return -1;
    }
    return total;
  }
  // inputs, strides: of the dimensions of space of what is read. by_vectors: rows of it are neighbours.
  hominy_status read_windows(const hominy_windows* windows, const int64_t* inputs, const int64_t* strides,
                             int64_t lowest_count, bool by_vectors, void* workspace, int64_t available) {
    const int64_t wanted = workspace_size(windows);
    if (wanted < 0) return HOMINY_OVERFLOW;
    if (available < wanted) return HOMINY_NO_WORKSPACE;
    char* scratch = static_cast<char*>(workspace);
    const int64_t steps[] = {inputs[1] * inputs[2], inputs[2], 1};
    for (int d = 0; d < space_dims; ++d) {
      const bool in_rows = by_vectors && d == space_dims - 1;
      const tap_scale scale = {in_rows ? int64_t(sizeof(T)) : strides[d], steps[d]};
      if (const hominy_status status = axis[d].read(windows[d], inputs[d], lowest_count, scale, in_rows, scratch))
        return status;
    }
    return HOMINY_OK;
  }
};

// Elements of a row that place k of the windows of vector v asks for. No load goes beyond the row.
template <class T>
inline vec<T> pick(const window_axis<T>& width, int64_t v, int64_t k, const char* row, mask_vec<T> positions) {
  const int64_t entry = k * width.vectors() + v, base = width.bases[entry], left = width.inputs - base;
  const T* const from = reinterpret_cast<const T*>(row) + base;
  if (width.reaches[entry] == window_axis<T>::straight) return load(from);
  if (width.reaches[entry] == window_axis<T>::near) {
    if (left >= 2 * lanes<T>) return permute_pair<T>(load(from), load(from + lanes<T>), positions);
    const vec<T> first = load_partial(from, minimum_of<int64_t>(left, lanes<T>));
    const vec<T> second = load_partial(from + lanes<T>, maximum_of<int64_t>(left - lanes<T>, 0));
    return permute_pair<T>(first, second, positions);
  }
  vec<T> x;
  for (int l = 0; l < lanes<T>; ++l) x[l] = load_scalar<T>(row + positions[l] * int64_t(sizeof(T)));
  return x;
}

// Number i of what has three sizes inside an outer one, outermost first.
struct place {
  int64_t outer, d, h, w;
  place(int64_t i, const int64_t* size) {
    w = i % size[2];
    i /= size[2];
    h = i % size[1];
    i /= size[1];
    d = i % size[0];
    outer = i / size[0];
  }
  void advance(const int64_t* size) {
    if (++w < size[2]) return;
    w = 0;
    if (++h < size[1]) return;
    h = 0;
    if (++d < size[0]) return;
    d = 0;
    ++outer;
  }
};

constexpr int64_t window_work_per_task = 16384;
constexpr int64_t most_window_tasks = 64;

// Images (N, C, depth, height, width) that are read and written, and where a kernel may go along vectors of channels or
// of positions in a row.
struct image_pair {
  const char* x;
  char* out;
  int64_t batch, channels, in[space_dims], to[space_dims];
  int64_t x_stride[5], out_stride[5];  // in bytes
  bool empty;

  hominy_status describe(const hominy_tensor* input, const hominy_windows* windows, const hominy_tensor* output) {
    if (input->dtype != output->dtype || (input->dtype != HOMINY_FLOAT32 && input->dtype != HOMINY_FLOAT64))
      return HOMINY_BAD_DTYPE;
    if (input->ndim != 5 || output->ndim != 5) return HOMINY_BAD_SHAPE;
    int64_t ins, outs;
    if (const hominy_status status = count_elements(*input, &ins)) return status;
    if (const hominy_status status = count_elements(*output, &outs)) return status;
    for (int d = 0; d < 5; ++d) {
      const int64_t size = d < 2 ? input->shape[d] : windows[d - 2].size;
      if (output->shape[d] != size || input->shape[d] > INT32_MAX) return HOMINY_BAD_SHAPE;
      x_stride[d] = input->strides[d];
      out_stride[d] = output->strides[d];
    }
    batch = input->shape[0];
    channels = input->shape[1];
    for (int d = 0; d < space_dims; ++d) {
      in[d] = input->shape[2 + d];
      to[d] = output->shape[2 + d];
    }
    x = static_cast<const char*>(input->data);
    out = static_cast<char*>(output->data);
    empty = outs == 0;
    return HOMINY_OK;
  }
  int64_t plane() const { return in[0] * in[1] * in[2]; }
  bool channels_together(int64_t item) const {
    return channels > 1 && x_stride[1] == item && out_stride[1] == item && !(in[2] > 1 && x_stride[4] == item);
  }
  bool rows_together(int64_t item) const {
    return (in[2] == 1 || x_stride[4] == item) && (to[2] == 1 || out_stride[4] == item);
  }
  const char* x_at(int64_t n, int64_t c) const { return x + n * x_stride[0] + c * x_stride[1]; }
  // Channel 0 of a position.
  char* out_at(const place& at) const {
    return out + at.outer * out_stride[0] + at.d * out_stride[2] + at.h * out_stride[3] + at.w * out_stride[4];
  }
};

// What a call's time grows with: the larger of inputs and outputs, as far as int64 goes.
template <class T>
inline int64_t window_work(const image_pair& images, const window_axes<T>& windows) {
  int64_t work = images.batch * images.channels;
  for (const window_axis<T>& axis : windows.axis)
    if (__builtin_mul_overflow(work, maximum_of(axis.size, axis.inputs), &work)) return INT64_MAX;
  return work;
}

// f(first, count) for shares of `items`, in tasks that are worth a thread's while.
template <class F>
inline void for_shares(int64_t items, int64_t work, F f) {
  const int64_t tasks =
      maximum_of<int64_t>(1, minimum_of(minimum_of(items, most_window_tasks), work / window_work_per_task));
  parallel_for(tasks, [&](int64_t task) __attribute__((noinline)) {  // once in the code, not twice
    const share mine(items, tasks, task);
    if (mine.count > 0) f(mine.first, mine.count);
  });
}

// Columns of a row that are done together: few enough that what they read stays in the first-level cache from one group
// of channels to the next.
constexpr int64_t columns_together = 16;

// f(at, end) for all positions of the output, by runs of columns [at.w, end) of one row.
template <class F>
inline void for_runs(const image_pair& images, int64_t work, F f) {
  for_shares(images.batch * images.to[0] * images.to[1] * images.to[2], work, [&](int64_t first, int64_t count) {
    place at(first, images.to);
    while (count > 0) {
      const int64_t end = minimum_of(at.w + minimum_of(count, columns_together), images.to[2]);
      f(at, end);
      count -= end - at.w;
      at.w = end - 1;
      at.advance(images.to);
    }
  });
}

}  // namespace hominy::HOMINY_LEVEL
