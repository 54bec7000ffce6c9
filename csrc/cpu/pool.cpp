// Max pooling compares a window's elements in C order, a vector of windows at a time: of neighbouring outputs in a row,
// whose elements one permutation of two vectors picks for each place in the window (strides up to 2; beyond, one by
// one), or of neighbouring channels. Indices are carried along in lanes as wide as the elements.
//
// Its gradient is gathered, not scattered: an input's is the sum over the windows that it is in, those whose index is
// its number. So each element is written once, and vectors serve here, too.
//
// Where an index leads to an element it is compared with the plane's size there, as another thread may change it
// meanwhile.
#include "pool.hpp"

#include "windows.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

// ---- Max pooling ----------------------------------------------------------------------------------------------------

template <class T>
struct pooling : image_pair, window_axes<T> {
  char* indices;  // NULL where they are not wanted
  int64_t index_stride[5], index_size;

  void point_at(const hominy_tensor* t) {
    indices = t ? static_cast<char*>(t->data) : nullptr;
    index_size = t && t->dtype == HOMINY_INT32 ? 4 : 8;
    for (int d = 0; d < 5; ++d) index_stride[d] = t ? t->strides[d] : 0;
  }
  char* index_at(int64_t n, int64_t c, int64_t d, int64_t h) const {
    return indices ? indices + n * index_stride[0] + c * index_stride[1] + d * index_stride[2] + h * index_stride[3]
                   : nullptr;
  }
};

template <class T>
struct largest {
  typedef typename integer_of<T>::type integer;
  vec<T> value = vec<T>{} - T(__builtin_inf());
  mask_vec<T> index;  // at first that of the window's first element, lest all are -inf
  void compare(vec<T> x, mask_vec<T> its_index) {
    const mask_vec<T> take = (x > value) | (x != x);
    value = select<T>(take, x, value);
    index = take ? its_index : index;
  }
};

// The first n lanes as integers of `item` bytes, `stride` apart.
template <class T, class I>
inline void store_indices_as(char* p, int64_t stride, mask_vec<T> index, int64_t n) {
  typedef I wide __attribute__((vector_size(lanes<T> * sizeof(I))));
  const wide converted = __builtin_convertvector(index, wide);
  if (stride == int64_t(sizeof(I))) {
    if (n >= lanes<T>)
      memcpy(p, &converted, sizeof converted);
    else
      memcpy(p, &converted, size_t(n) * sizeof(I));
  } else {
    for (int64_t l = 0; l < lanes<T> && l < n; ++l) store_scalar<I>(p + l * stride, I(index[l]));
  }
}
template <class T>
inline void store_indices(char* p, int64_t stride, int64_t item, mask_vec<T> index, int64_t n) {
  if (item == 8)
    store_indices_as<T, int64_t>(p, stride, index, n);
  else
    store_indices_as<T, int32_t>(p, stride, index, n);
}

template <class T>
inline largest<T> largest_in_row(const pooling<T>& pool, const char* plane, int64_t d, int64_t h, int64_t v) {
  typedef typename integer_of<T>::type integer;
  const window_axis<T>&depth = pool.axis[0], &height = pool.axis[1], &width = pool.axis[2];
  const integer* const positions = width.positions + v * lanes<T>;
  largest<T> best;
  best.index = load(positions) + (depth.begin(d)->number + height.begin(h)->number + width.bases[v]);
  for (const tap<T>* i = depth.begin(d); i < depth.end(d); ++i)
    for (const tap<T>* j = height.begin(h); j < height.end(h); ++j) {
      const char* const row = plane + i->offset + j->offset;
      for (int64_t k = 0; k < width.largest[v]; ++k) {
        const mask_vec<T> at = load(positions + k * width.padded);
        best.compare(pick(width, v, k, row, at), at + (i->number + j->number + width.bases[k * width.vectors() + v]));
      }
    }
  return best;
}

template <class T>
void pool_rows(const pooling<T>& pool, int64_t work) {
  const int64_t rows[] = {pool.channels, pool.to[0], pool.to[1]};
  for_shares(pool.batch * rows[0] * rows[1] * rows[2], work, [&](int64_t first, int64_t count) {
    place at(first, rows);
    for (int64_t i = 0; i < count; ++i, at.advance(rows)) {
      const int64_t n = at.outer, c = at.d, d = at.h, h = at.w;
      char* const out =
          pool.out + n * pool.out_stride[0] + c * pool.out_stride[1] + d * pool.out_stride[2] + h * pool.out_stride[3];
      char* const indices = pool.index_at(n, c, d, h);
      for (int64_t v = 0; v < pool.axis[2].vectors(); ++v) {
        const largest<T> best = largest_in_row(pool, pool.x_at(n, c), d, h, v);
        const int64_t before = v * lanes<T>, left = pool.to[2] - before;
        store_lanes<T, true>(out + before * int64_t(sizeof(T)), sizeof(T), best.value, left);
        if (indices)
          store_indices<T>(indices + before * pool.index_stride[4], pool.index_stride[4], pool.index_size, best.index,
                           left);
      }
    }
  });
}

// Some channels, `left` of them, of the positions from `at` to column `end` of its row; x points to the first channel
// of the image, out and indices of position `at`.
template <class T, bool unit, int vectors, class Count>
__attribute__((noinline)) void pool_vectors(const pooling<T>& pool, const char* x, char* out, char* indices,
                                            const place& at, int64_t end, Count count, int64_t left) {
  const int64_t step = unit ? int64_t(sizeof(T)) : pool.x_stride[1];
  const int64_t out_step = unit ? int64_t(sizeof(T)) : pool.out_stride[1];
  const window_axis<T>&depth = pool.axis[0], &height = pool.axis[1], &width = pool.axis[2];
  const tap<T>*const slices = depth.begin(at.d), *const slices_end = depth.end(at.d);
  const tap<T>*const rows = height.begin(at.h), *const rows_end = height.end(at.h);
  const auto corner = slices->number + rows->number;
  const int64_t next = pool.out_stride[4], next_index = pool.index_stride[4];
  for (int64_t w = at.w; w < end; ++w, out += next) {
    const tap<T>*const columns = width.begin(w), *const columns_end = width.end(w);
    largest<T> best[vectors];
    for (largest<T>& each : best) each.index = mask_vec<T>{} + (corner + columns->number);
    for (const tap<T>* i = slices; i < slices_end; ++i)
      for (const tap<T>* j = rows; j < rows_end; ++j)
        for (const tap<T>* k = columns; k < columns_end; ++k) {
          const char* const p = x + (i->offset + j->offset + k->offset);
          const mask_vec<T> index = mask_vec<T>{} + (i->number + j->number + k->number);
          for (int v = 0; v < vectors; ++v)
            best[v].compare(load_count<T, unit>(p + v * lanes<T> * step, step, count), index);
        }
    for (int v = 0; v < vectors; ++v)
      store_count<T, unit>(out + v * lanes<T> * out_step, out_step, best[v].value, count);
    if (!indices) continue;
    for (int v = 0; v < vectors; ++v)
      store_indices<T>(indices + v * lanes<T> * pool.index_stride[1], pool.index_stride[1], pool.index_size,
                       best[v].index, left);
    indices += next_index;
  }
}

template <class T, bool unit>
void pool_channels(const pooling<T>& pool, int64_t work) {
  const int64_t step = pool.x_stride[1], out_step = pool.out_stride[1], index_step = pool.index_stride[1];
  for_runs(pool, work, [&](const place& at, int64_t end) {
    const char* const x = pool.x_at(at.outer, 0);
    char* const out = pool.out_at(at);
    char* indices = pool.index_at(at.outer, 0, at.d, at.h);
    if (indices) indices += at.w * pool.index_stride[4];
    const auto from = [&](int64_t c) { return indices ? indices + c * index_step : nullptr; };
    int64_t c = 0;
    if constexpr (unit)
      for (; c + 4 * lanes<T> <= pool.channels; c += 4 * lanes<T>)
        pool_vectors<T, unit, 4>(pool, x + c * step, out + c * out_step, from(c), at, end, whole{}, lanes<T>);
    for (; c < pool.channels; c += lanes<T>) {
      const int64_t left = pool.channels - c;
      pool_vectors<T, unit, 1>(pool, x + c * step, out + c * out_step, from(c), at, end, left, left);
    }
  });
}

template <class T>
hominy_status pool_as(const image_pair& images, const hominy_windows* windows, const hominy_tensor* indices,
                      void* workspace, int64_t available) {
  pooling<T> pool;
  static_cast<image_pair&>(pool) = images;
  if (images.plane() > INT32_MAX && (sizeof(T) == 4 || (indices && indices->dtype == HOMINY_INT32)))
    return HOMINY_OVERFLOW;
  pool.point_at(indices);
  const bool channels = pool.channels_together(sizeof(T)), rows = !channels && pool.rows_together(sizeof(T));
  if (const hominy_status status =
          pool.read_windows(windows, pool.in, pool.x_stride + 2, 1, rows, workspace, available))
    return status;
  const int64_t work = window_work<T>(pool, pool);
  if (channels)
    pool_channels<T, true>(pool, work);
  else if (rows)
    pool_rows<T>(pool, work);
  else
    pool_channels<T, false>(pool, work);
  return HOMINY_OK;
}

// ---- Its gradient: x is the gradient, of the pooled image, out that of the pooling's input
// ----------------------------

template <class T>
inline vec<T> sum_of_matches(const pooling<T>& pool, const char* plane, const char* indices, int64_t d, int64_t h,
                             int64_t v) {
  typedef typename integer_of<T>::type integer;
  const window_axis<T>&depth = pool.axis[0], &height = pool.axis[1], &width = pool.axis[2];
  const integer* const positions = width.positions + v * lanes<T>;
  const mask_vec<T> counts = load(width.counts + v * lanes<T>);
  mask_vec<T> own;
  for (int l = 0; l < lanes<T>; ++l) own[l] = integer(l);
  own += integer((d * pool.to[1] + h) * pool.to[2] + v * lanes<T>);
  vec<T> sum{};
  for (const tap<T>* i = depth.begin(d); i < depth.end(d); ++i)
    for (const tap<T>* j = height.begin(h); j < height.end(h); ++j)
      for (int64_t k = 0; k < width.largest[v]; ++k) {
        const mask_vec<T> at = load(positions + k * width.padded);
        const vec<T> gradient = pick(width, v, k, plane + i->offset + j->offset, at);
        // The indices lie as the gradient: the bits of one are picked as those of the other.
        const mask_vec<T> index = (mask_vec<T>)pick(width, v, k, indices + i->offset + j->offset, at);
        sum += select<T>((index == own) & (counts > integer(k)), gradient, vec<T>{});
      }
  return sum;
}

// As pool_vectors: x and indices point to the first channel of the image.
template <class T, bool unit, int vectors, class Count>
__attribute__((noinline)) void match_vectors(const pooling<T>& pool, const char* x, const char* indices, char* out,
                                             const place& at, int64_t end, Count count) {
  typedef typename integer_of<T>::type integer;
  const int64_t step = unit ? int64_t(sizeof(T)) : pool.x_stride[1];
  const int64_t out_step = unit ? int64_t(sizeof(T)) : pool.out_stride[1];
  const window_axis<T>&depth = pool.axis[0], &height = pool.axis[1], &width = pool.axis[2];
  const tap<T>*const slices = depth.begin(at.d), *const slices_end = depth.end(at.d);
  const tap<T>*const rows = height.begin(at.h), *const rows_end = height.end(at.h);
  const int64_t before = (at.d * pool.to[1] + at.h) * pool.to[2], next = pool.out_stride[4];
  for (int64_t w = at.w; w < end; ++w, out += next) {
    const mask_vec<T> own = mask_vec<T>{} + integer(before + w);
    const tap<T>*const columns = width.begin(w), *const columns_end = width.end(w);
    vec<T> sum[vectors] = {};
    for (const tap<T>* i = slices; i < slices_end; ++i)
      for (const tap<T>* j = rows; j < rows_end; ++j)
        for (const tap<T>* k = columns; k < columns_end; ++k) {
          const int64_t offset = i->offset + j->offset + k->offset;
          for (int v = 0; v < vectors; ++v) {
            const int64_t from = offset + v * lanes<T> * step;
            const mask_vec<T> index = (mask_vec<T>)load_count<T, unit>(indices + from, step, count);
            sum[v] += select<T>(index == own, load_count<T, unit>(x + from, step, count), vec<T>{});
          }
        }
    for (int v = 0; v < vectors; ++v) store_count<T, unit>(out + v * lanes<T> * out_step, out_step, sum[v], count);
  }
}

template <class T>
void match_rows(const pooling<T>& pool, int64_t work) {
  const int64_t rows[] = {pool.channels, pool.to[0], pool.to[1]};
  for_shares(pool.batch * rows[0] * rows[1] * rows[2], work, [&](int64_t first, int64_t count) {
    place at(first, rows);
    for (int64_t i = 0; i < count; ++i, at.advance(rows)) {
      const int64_t n = at.outer, c = at.d, d = at.h, h = at.w;
      const int64_t plane = n * pool.x_stride[0] + c * pool.x_stride[1];
      char* const out =
          pool.out + n * pool.out_stride[0] + c * pool.out_stride[1] + d * pool.out_stride[2] + h * pool.out_stride[3];
      for (int64_t v = 0; v < pool.axis[2].vectors(); ++v)
        store_lanes<T, true>(out + v * lanes<T> * int64_t(sizeof(T)), sizeof(T),
                             sum_of_matches(pool, pool.x + plane, pool.indices + plane, d, h, v),
                             pool.to[2] - v * lanes<T>);
    }
  });
}

template <class T, bool unit>
void match_channels(const pooling<T>& pool, int64_t work) {
  const int64_t step = pool.x_stride[1], out_step = pool.out_stride[1];
  for_runs(pool, work, [&](const place& at, int64_t end) {
    const int64_t image = at.outer * pool.x_stride[0];
    const char *const x = pool.x + image, *const indices = pool.indices + image;
    char* const out = pool.out_at(at);
    int64_t c = 0;
    if constexpr (unit)
      for (; c + 4 * lanes<T> <= pool.channels; c += 4 * lanes<T>)
        match_vectors<T, unit, 4>(pool, x + c * step, indices + c * step, out + c * out_step, at, end, whole{});
    for (; c < pool.channels; c += lanes<T>)
      match_vectors<T, unit, 1>(pool, x + c * step, indices + c * step, out + c * out_step, at, end, pool.channels - c);
  });
}

template <class T>
hominy_status match_as(const image_pair& images, const hominy_windows* windows, const hominy_tensor* indices,
                       void* workspace, int64_t available) {
  pooling<T> pool;
  static_cast<image_pair&>(pool) = images;
  pool.point_at(indices);
  const bool channels = pool.channels_together(sizeof(T)), rows = !channels && pool.rows_together(sizeof(T));
  if (const hominy_status status =
          pool.read_windows(windows, pool.in, pool.x_stride + 2, 0, rows, workspace, available))
    return status;
  const int64_t work = window_work<T>(pool, pool);
  if (channels)
    match_channels<T, true>(pool, work);
  else if (rows)
    match_rows<T>(pool, work);
  else
    match_channels<T, false>(pool, work);
  return HOMINY_OK;
}

// ---- By indices -----------------------------------------------------------------------------------------------------

enum move_kind { gather, scatter, scatter_sum };

struct moving {
  int64_t batch, channels, count, plane;  // indices of a channel, and what they are below
  const char* x;
  const char* indices;
  char* out;
  int64_t x_stride[3], index_stride[3], out_stride[3];
  bool narrow;  // int32, else int64
};

// dtypes and shapes of x, indices, out; the last dimension of `listed` goes with that of the indices.
hominy_status describe(const hominy_tensor* x, const hominy_tensor* indices, const hominy_tensor* out, move_kind kind,
                       moving& m) {
  if (x->dtype != out->dtype || (x->dtype != HOMINY_FLOAT32 && x->dtype != HOMINY_FLOAT64)) return HOMINY_BAD_DTYPE;
  if (indices->dtype != HOMINY_INT64 && indices->dtype != HOMINY_INT32) return HOMINY_BAD_DTYPE;
  if (x->ndim != 3 || indices->ndim != 3 || out->ndim != 3) return HOMINY_BAD_SHAPE;
  int64_t elements;
  const hominy_tensor* const all[] = {x, indices, out};
  for (const hominy_tensor* t : all)
    if (const hominy_status status = count_elements(*t, &elements)) return status;
  const hominy_tensor *listed = kind == gather ? out : x, *plane = kind == gather ? x : out;
  for (int d = 0; d < 3; ++d) {
    if (listed->shape[d] != indices->shape[d] || (d < 2 && plane->shape[d] != indices->shape[d]))
      return HOMINY_BAD_SHAPE;
    m.x_stride[d] = x->strides[d];
    m.index_stride[d] = indices->strides[d];
    m.out_stride[d] = out->strides[d];
  }
  m.narrow = indices->dtype == HOMINY_INT32;
  m.batch = x->shape[0];
  m.channels = x->shape[1];
  m.count = indices->shape[2];
  m.plane = plane->shape[2];
  m.x = static_cast<const char*>(x->data);
  m.indices = static_cast<const char*>(indices->data);
  m.out = static_cast<char*>(out->data);
  return HOMINY_OK;
}

template <class T>
__attribute__((noinline)) void clear(char* out, const int64_t* stride, int64_t channels, int64_t plane) {
  const bool by_rows = stride[2] == int64_t(sizeof(T)) || stride[1] != int64_t(sizeof(T));
  const int64_t outer = by_rows ? channels : plane, inner = by_rows ? plane : channels;
  const int64_t outer_stride = stride[by_rows ? 1 : 2], inner_stride = stride[by_rows ? 2 : 1];
  for (int64_t i = 0; i < outer; ++i, out += outer_stride)
    if (inner_stride == int64_t(sizeof(T)))
      memset(out, 0, size_t(inner) * sizeof(T));
    else
      for (int64_t j = 0; j < inner; ++j) store_scalar<T>(out + j * inner_stride, T(0));
}

// The planes of `channels` neighbouring channels.
template <class T, move_kind kind>
__attribute__((noinline)) bool move_planes(const moving& m, const char* x, const char* indices, char* out,
                                           int64_t channels) {
  if (kind != gather) clear<T>(out, m.out_stride, channels, m.plane);
  for (int64_t p = 0; p < m.count; ++p)
    for (int64_t c = 0; c < channels; ++c) {
      const char* const at = indices + p * m.index_stride[2] + c * m.index_stride[1];
      const int64_t index = m.narrow ? load_scalar<int32_t>(at) : load_scalar<int64_t>(at);
      if (uint64_t(index) >= uint64_t(m.plane)) return false;
      if (kind == gather) {
        const T value = load_scalar<T>(x + index * m.x_stride[2] + c * m.x_stride[1]);
        store_scalar<T>(out + p * m.out_stride[2] + c * m.out_stride[1], value);
      } else {
        const T value = load_scalar<T>(x + p * m.x_stride[2] + c * m.x_stride[1]);
        char* const to = out + index * m.out_stride[2] + c * m.out_stride[1];
        store_scalar<T>(to, kind == scatter_sum ? load_scalar<T>(to) + value : value);
      }
    }
  return true;
}

template <class T, move_kind kind>
hominy_status move_as(const moving& m) {
  // Where channels are neighbours in memory several are taken at a time, else a plane.
  const bool together = m.channels > 1 && m.out_stride[1] == int64_t(sizeof(T));
  const int64_t chunk = !together ? 1 : m.batch >= 8 ? m.channels : minimum_of<int64_t>(m.channels, 64 / sizeof(T));
  const int64_t chunks = (m.channels + chunk - 1) / chunk;
  int found = 1;
  for_shares(m.batch * chunks, m.batch * m.channels * (m.count + m.plane), [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) {
      const int64_t n = i / chunks, c = i % chunks * chunk;
      if (!move_planes<T, kind>(m, m.x + n * m.x_stride[0] + c * m.x_stride[1],
                                m.indices + n * m.index_stride[0] + c * m.index_stride[1],
                                m.out + n * m.out_stride[0] + c * m.out_stride[1], minimum_of(chunk, m.channels - c)))
        __atomic_store_n(&found, 0, __ATOMIC_RELAXED);
    }
  });
  return found ? HOMINY_OK : HOMINY_BAD_INDEX;
}

template <move_kind kind>
hominy_status move_by(const hominy_tensor* x, const hominy_tensor* indices, const hominy_tensor* out) {
  moving m;
  if (const hominy_status status = describe(x, indices, out, kind, m)) return status;
  if (m.batch == 0 || m.channels == 0 || (kind == gather ? m.count : m.plane + m.count) == 0) return HOMINY_OK;
  return x->dtype == HOMINY_FLOAT32 ? move_as<float, kind>(m) : move_as<double, kind>(m);
}

}  // namespace

int64_t max_pool_workspace_size(const hominy_tensor* x, const hominy_windows* windows) {
  return x->dtype == HOMINY_FLOAT32 ? window_axes<float>::workspace_size(windows)
                                    : window_axes<double>::workspace_size(windows);
}

hominy_status max_pool(const hominy_tensor* x, const hominy_windows* windows, const hominy_tensor* out,
                       const hominy_tensor* indices, void* workspace, int64_t workspace_size) {
  image_pair images;
  if (const hominy_status status = images.describe(x, windows, out)) return status;
  if (indices) {
    if (indices->dtype != HOMINY_INT64 && indices->dtype != HOMINY_INT32) return HOMINY_BAD_DTYPE;
    if (indices->ndim != 5) return HOMINY_BAD_SHAPE;
    for (int d = 0; d < 5; ++d)
      if (indices->shape[d] != out->shape[d]) return HOMINY_BAD_SHAPE;
  }
  if (images.empty) return HOMINY_OK;
  return x->dtype == HOMINY_FLOAT32 ? pool_as<float>(images, windows, indices, workspace, workspace_size)
                                    : pool_as<double>(images, windows, indices, workspace, workspace_size);
}

hominy_status max_pool_backward(const hominy_tensor* gradient, const hominy_tensor* indices,
                                const hominy_windows* windows, const hominy_tensor* out, void* workspace,
                                int64_t workspace_size) {
  image_pair images;
  if (const hominy_status status = images.describe(gradient, windows, out)) return status;
  if (indices->dtype != (gradient->dtype == HOMINY_FLOAT32 ? HOMINY_INT32 : HOMINY_INT64)) return HOMINY_BAD_DTYPE;
  if (indices->ndim != 5) return HOMINY_BAD_SHAPE;
  for (int d = 0; d < 5; ++d)
    if (indices->shape[d] != gradient->shape[d] ||
        (indices->shape[d] > 1 && indices->strides[d] != gradient->strides[d]))
      return HOMINY_BAD_SHAPE;
  if (images.empty) return HOMINY_OK;
  return gradient->dtype == HOMINY_FLOAT32 ? match_as<float>(images, windows, indices, workspace, workspace_size)
                                           : match_as<double>(images, windows, indices, workspace, workspace_size);
}

hominy_status gather_planes(const hominy_tensor* x, const hominy_tensor* indices, const hominy_tensor* out) {
  return move_by<gather>(x, indices, out);
}

hominy_status scatter_planes(int32_t sum, const hominy_tensor* x, const hominy_tensor* indices,
                             const hominy_tensor* out) {
  return sum ? move_by<scatter_sum>(x, indices, out) : move_by<scatter>(x, indices, out);
}

}  // namespace hominy::HOMINY_LEVEL
