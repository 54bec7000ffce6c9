// Forward copies rows. Backward deals the table's rows out to tasks, each of which reads all indices and adds the
// gradients of its own rows in their order: no two tasks write one row, and bits do not depend on threads. Sorting the
// indices first would read each only once; they are a hundredth of the gradient.
//
// An index is compared with the table's size where it is used, as another thread may change it meanwhile.
#include "embedding.hpp"

#include "dimensions.hpp"
#include "lane_access.hpp"
#include "parallel_for.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t elements_per_task = 16384;
constexpr int64_t most_tasks = 16;
constexpr int64_t bytes_ahead = 4096;  // rows lie anywhere: asked for this early, 256-byte rows came 2.5 times as fast

struct rows_by_number {
  int64_t table_rows, count, columns;
  const char* indices;
  int64_t index_stride;
  int64_t number(int64_t n) const { return load_scalar<int64_t>(indices + n * index_stride); }
};

// table (V, D), rows (N, D), indices (N).
hominy_status describe(const hominy_tensor* table, const hominy_tensor* rows, const hominy_tensor* indices,
                       rows_by_number& by) {
  if (indices->dtype != HOMINY_INT64 || table->dtype != rows->dtype) return HOMINY_BAD_DTYPE;
  if (table->dtype != HOMINY_FLOAT32 && table->dtype != HOMINY_FLOAT64) return HOMINY_BAD_DTYPE;
  if (table->ndim != 2 || rows->ndim != 2 || indices->ndim != 1) return HOMINY_BAD_SHAPE;
  int64_t elements;
  const hominy_tensor* const all[] = {table, rows, indices};
  for (const hominy_tensor* t : all)
    if (const hominy_status status = count_elements(*t, &elements)) return status;
  if (rows->shape[1] != table->shape[1] || rows->shape[0] != indices->shape[0]) return HOMINY_BAD_SHAPE;
  by = {table->shape[0], rows->shape[0], rows->shape[1], static_cast<const char*>(indices->data), indices->strides[0]};
  return HOMINY_OK;
}

template <class T>
bool unit_columns(const hominy_tensor* t) {
  return t->strides[1] == int64_t(sizeof(T)) || t->shape[1] == 1;
}

// `later` is the row that will be copied soon.
template <class T>
void copy_row(const char* from, const char* later, char* to, int64_t columns) {
  for_vectors<T>(columns, [&](int64_t c, auto count) {
    __builtin_prefetch(later + c * sizeof(T));
    store_count<T, true>(to + c * sizeof(T), 0, load_count<T, true>(from + c * sizeof(T), 0, count), count);
  });
}

template <class T>
bool copy_rows(const rows_by_number& by, const hominy_tensor* table, const hominy_tensor* out) {
  const bool unit = unit_columns<T>(table) && unit_columns<T>(out);
  const int64_t tasks = maximum_of<int64_t>(1, minimum_of(most_tasks, by.count * by.columns / elements_per_task));
  const int64_t ahead = bytes_ahead / (by.columns * int64_t(sizeof(T)) + 1) + 1;
  int found = 1;
  parallel_for(tasks, [&](int64_t task) {
    const share mine(by.count, tasks, task);
    const int64_t end = mine.first + mine.count;
    const auto is_row = [&](int64_t row) { return row >= 0 && row < by.table_rows; };
    for (int64_t n = mine.first; n < end; ++n) {
      const int64_t row = by.number(n), soon = by.number(minimum_of(n + ahead, end - 1));
      if (!is_row(row)) {
        __atomic_store_n(&found, 0, __ATOMIC_RELAXED);
        return;
      }
      const char* from = static_cast<const char*>(table->data) + row * table->strides[0];
      char* to = static_cast<char*>(out->data) + n * out->strides[0];
      if (unit)
        copy_row<T>(from, is_row(soon) ? from + (soon - row) * table->strides[0] : from, to, by.columns);
      else
        for (int64_t c = 0; c < by.columns; ++c)
          store_scalar<T>(to + c * out->strides[1], load_scalar<T>(from + c * table->strides[1]));
    }
  });
  return found;
}

template <class T, bool unit>
void add_row(const rows_by_number& by, char* to, int64_t to_stride, const char* from, int64_t from_stride) {
  for_vectors<T>(by.columns, [&](int64_t c, auto count) {
    char* const sum = to + c * to_stride;
    store_count<T, unit>(
        sum, to_stride,
        load_count<T, unit>(sum, to_stride, count) + load_count<T, unit>(from + c * from_stride, from_stride, count),
        count);
  });
}

template <class T>
void add_rows(const rows_by_number& by, const hominy_tensor* gradient, int64_t ignored, const hominy_tensor* out) {
  const bool unit = unit_columns<T>(gradient) && unit_columns<T>(out);
  const int64_t work = (by.count + by.table_rows) * by.columns;
  const int64_t tasks =
      maximum_of<int64_t>(1, minimum_of(minimum_of(most_tasks, by.table_rows), work / elements_per_task));
  parallel_for(tasks, [&](int64_t task) {
    const share mine(by.table_rows, tasks, task);
    char* const first = static_cast<char*>(out->data) + mine.first * out->strides[0];
    for (int64_t row = 0; row < mine.count; ++row)
      if (unit)
        memset(first + row * out->strides[0], 0, size_t(by.columns) * sizeof(T));
      else
        for (int64_t c = 0; c < by.columns; ++c)
          store_scalar<T>(first + row * out->strides[0] + c * out->strides[1], T(0));
    for (int64_t n = 0; n < by.count; ++n) {
      const int64_t number = by.number(n), row = number - mine.first;
      if (row < 0 || row >= mine.count || number == ignored) continue;
      char* to = first + row * out->strides[0];
      const char* from = static_cast<const char*>(gradient->data) + n * gradient->strides[0];
      if (unit)
        add_row<T, true>(by, to, sizeof(T), from, sizeof(T));
      else
        add_row<T, false>(by, to, out->strides[1], from, gradient->strides[1]);
    }
  });
}

}  // namespace

hominy_status embedding(const hominy_tensor* table, const hominy_tensor* indices, const hominy_tensor* out) {
  rows_by_number by;
  if (const hominy_status status = describe(table, out, indices, by)) return status;
  const bool found =
      table->dtype == HOMINY_FLOAT32 ? copy_rows<float>(by, table, out) : copy_rows<double>(by, table, out);
  return found ? HOMINY_OK : HOMINY_BAD_INDEX;
}

hominy_status embedding_backward(const hominy_tensor* gradient, const hominy_tensor* indices, int64_t ignored,
                                 const hominy_tensor* out) {
  rows_by_number by;
  if (const hominy_status status = describe(out, gradient, indices, by)) return status;
  for (int64_t n = 0; n < by.count; ++n)
    if (const int64_t row = by.number(n); row < 0 || row >= by.table_rows) return HOMINY_BAD_INDEX;
  if (by.table_rows == 0) return HOMINY_OK;
  if (out->dtype == HOMINY_FLOAT32)
    add_rows<float>(by, gradient, ignored, out);
  else
    add_rows<double>(by, gradient, ignored, out);
  return HOMINY_OK;
}

}  // namespace hominy::HOMINY_LEVEL
