// Elementwise operations. Each operation and dtype has one vector loop, reached through a table; all else is shared.
#include "elementwise.hpp"

#include "elementwise_operations.hpp"
#include "elementwise_tiles.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

// ---------------------------------------------------------------------------------------------------------------------
// Loops over a tile
// ---------------------------------------------------------------------------------------------------------------------

// A row of the output: value(i) is the vector of results from element i, partial_value(i, n) its first n lanes. A long
// row is first brought to an aligned address, where stores cost least and may stream.
template <class T, int unroll, class Value, class PartialValue>
inline void fill_row(T* out, int64_t columns, bool streaming, Value value, PartialValue partial_value) {
  constexpr int width = lanes<T>, stride = width * unroll;
  int64_t i = 0;
  if (columns >= 8 * stride) {
    const int64_t bytes_to_aligned = int64_t(-reinterpret_cast<uintptr_t>(out) % vector_bytes);
    if (const int64_t head = bytes_to_aligned / int64_t(sizeof(T)); head > 0) {
      store_partial<T>(out, partial_value(0, head), head);
      i = head;
    }
    if (streaming && bytes_to_aligned % int64_t(sizeof(T)) == 0)
      for (; i + width <= columns; i += width) store_streaming(reinterpret_cast<char*>(out + i), (vec<int8_t>)value(i));
  }
  for (; i + stride <= columns; i += stride)
    for (int k = 0; k < unroll; k++) store<T>(out + i + k * width, value(i + k * width));
  if constexpr (unroll > 1)
    for (; i + width <= columns; i += width) store<T>(out + i, value(i));
  if (i < columns) store_partial<T>(out + i, partial_value(i, columns - i), columns - i);
}

template <class T>
inline T* row_of(const tile& t, int operand, int64_t row) {
  return reinterpret_cast<T*>(t.data[operand] + row * t.row_stride[operand]);
}
// 1, or 0 for copies of a scalar.
inline int64_t step_of(const tile& t, int operand) { return t.column_stride[operand] == 0 ? 0 : 1; }

template <class T, class Operation>
void unary_loop(const tile& t) {
  const T p = T(t.p), q = T(t.q);
  const int64_t x_step = step_of(t, 1);
  for (int64_t row = 0; row < t.rows; row++) {
    const T* x = row_of<T>(t, 1, row);
    fill_row<T, Operation::unroll>(
        row_of<T>(t, 0, row), t.columns, t.streaming,
        [=](int64_t i) { return Operation::apply(load<T>(x + i * x_step), p, q); },
        [=](int64_t i, int64_t n) { return Operation::apply(load_partial<T>(x + i * x_step, n), p, q); });
  }
}

template <class T, class Operation>
void binary_loop(const tile& t) {
  const T p = T(t.p), q = T(t.q);
  const int64_t a_step = step_of(t, 1), b_step = step_of(t, 2);
  for (int64_t row = 0; row < t.rows; row++) {
    const T *a = row_of<T>(t, 1, row), *b = row_of<T>(t, 2, row);
    fill_row<T, Operation::unroll>(
        row_of<T>(t, 0, row), t.columns, t.streaming,
        [=](int64_t i) { return Operation::apply(load<T>(a + i * a_step), load<T>(b + i * b_step), p, q); },
        [=](int64_t i, int64_t n) {
          return Operation::apply(load_partial<T>(a + i * a_step, n), load_partial<T>(b + i * b_step, n), p, q);
        });
  }
}

// As many bytes as vec<T> has lanes: what a vector of bool takes in memory.
template <class T>
struct bytes_of {
  typedef int8_t type __attribute__((vector_size(lanes<T>)));
};

template <class T, class Operation>
void compare_loop(const tile& t) {
  constexpr int width = lanes<T>;
  const int64_t a_step = step_of(t, 1), b_step = step_of(t, 2);
  const auto store_set = [](char* out, mask_vec<T> mask, int64_t n) {
    const auto set = __builtin_convertvector(mask, typename bytes_of<T>::type) & 1;
    memcpy(out, &set, size_t(n));
  };
  for (int64_t row = 0; row < t.rows; row++) {
    char* out = row_of<char>(t, 0, row);
    const T *a = row_of<T>(t, 1, row), *b = row_of<T>(t, 2, row);
    int64_t i = 0;
    for (; i + width <= t.columns; i += width)
      store_set(out + i, Operation::apply(load<T>(a + i * a_step), load<T>(b + i * b_step)), width);
    if (const int64_t left = t.columns - i; left > 0)
      store_set(out + i, Operation::apply(load_partial<T>(a + i * a_step, left), load_partial<T>(b + i * b_step, left)),
                left);
  }
}

// T is a signed integer of the item's size.
template <class T>
void where_loop(const tile& t) {
  const int64_t condition_step = step_of(t, 1), a_step = step_of(t, 2), b_step = step_of(t, 3);
  // The loop becomes one widening instruction; GCC 12 takes __builtin_convertvector here byte by byte, 4 times slower.
  const auto choose = [](const int8_t* set, vec<T> a, vec<T> b) {
    T wide[lanes<T>];
    for (int i = 0; i < lanes<T>; i++) wide[i] = set[i];
    return load<T>(wide) != 0 ? a : b;
  };
  for (int64_t row = 0; row < t.rows; row++) {
    const int8_t* condition = row_of<int8_t>(t, 1, row);
    const T *a = row_of<T>(t, 2, row), *b = row_of<T>(t, 3, row);
    fill_row<T, 1>(
        row_of<T>(t, 0, row), t.columns, t.streaming,
        [=](int64_t i) {
          return choose(condition + i * condition_step, load<T>(a + i * a_step), load<T>(b + i * b_step));
        },
        [=](int64_t i, int64_t n) {
          int8_t set[lanes<T>] = {};
          memcpy(set, condition + i * condition_step, size_t(n));
          return choose(set, load_partial<T>(a + i * a_step, n), load_partial<T>(b + i * b_step, n));
        });
  }
}

template <class T>
void copy_loop(const tile& t) {
  constexpr int64_t item = sizeof(T);
  const block to{t.data[0], t.row_stride[0], t.column_stride[0]}, from{t.data[1], t.row_stride[1], t.column_stride[1]};
  if (!t.streaming || from.column_stride != item) return move_block_of<T>(to, from, t.rows, t.columns);
  for (int64_t row = 0; row < t.rows; row++) {
    const T* x = row_of<T>(t, 1, row);
    fill_row<T, 1>(
        row_of<T>(t, 0, row), t.columns, true, [=](int64_t i) { return load<T>(x + i); },
        [=](int64_t i, int64_t n) { return load_partial<T>(x + i, n); });
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Tables of loops
// ---------------------------------------------------------------------------------------------------------------------

struct entry {
  tile_loop loop[2];  // float32, float64
  int64_t grain;
};

#define HOMINY_UNARY_ENTRY(name)                                                                         \
  {{unary_loop<float, unary_operation::name<float>>, unary_loop<double, unary_operation::name<double>>}, \
   unary_operation::name<float>::grain},
#define HOMINY_BINARY_ENTRY(name)                                                                            \
  {{binary_loop<float, binary_operation::name<float>>, binary_loop<double, binary_operation::name<double>>}, \
   binary_operation::name<float>::grain},
#define HOMINY_COMPARE_ENTRY(name)                                                                               \
  {{compare_loop<float, compare_operation::name<float>>, compare_loop<double, compare_operation::name<double>>}, \
   arithmetic::grain},

constexpr entry unary_entries[] = {HOMINY_UNARY_OPERATIONS(HOMINY_UNARY_ENTRY)};
constexpr entry binary_entries[] = {HOMINY_BINARY_OPERATIONS(HOMINY_BINARY_ENTRY)};
constexpr entry compare_entries[] = {HOMINY_COMPARE_OPERATIONS(HOMINY_COMPARE_ENTRY)};

// By item size 1, 2, 4, 8.
constexpr tile_loop where_loops[] = {where_loop<int8_t>, where_loop<int16_t>, where_loop<int32_t>, where_loop<int64_t>};
constexpr tile_loop copy_loops[] = {copy_loop<uint8_t>, copy_loop<uint16_t>, copy_loop<uint32_t>, copy_loop<uint64_t>};

// Bytes of an item, or 0 for what is no dtype.
int64_t item_size(int32_t dtype) {
  switch (dtype) {
    case HOMINY_BOOL:
    case HOMINY_UINT8:
    case HOMINY_INT8: return 1;
    case HOMINY_INT16:
    case HOMINY_FLOAT16:
    case HOMINY_BFLOAT16: return 2;
    case HOMINY_INT32:
    case HOMINY_FLOAT32: return 4;
    case HOMINY_INT64:
    case HOMINY_FLOAT64: return 8;
    default: return 0;
  }
}
int by_item_size(int64_t size) { return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3; }

bool computes(int32_t dtype) { return dtype == HOMINY_FLOAT32 || dtype == HOMINY_FLOAT64; }

}  // namespace

hominy_status unary(hominy_unary operation, const hominy_tensor* x, double p, double q, const hominy_tensor* out) {
  if (uint32_t(operation) >= HOMINY_UNARY_COUNT) return HOMINY_BAD_VALUE;
  if (!computes(x->dtype) || out->dtype != x->dtype) return HOMINY_BAD_DTYPE;
  const entry& found = unary_entries[operation];
  const bool is_double = x->dtype == HOMINY_FLOAT64;
  const int64_t item = is_double ? 8 : 4;
  return run_elementwise<2>({out, x}, {item, item}, p, q, {found.loop[is_double], found.grain});
}

hominy_status binary(hominy_binary operation, const hominy_tensor* a, const hominy_tensor* b, double p, double q,
                     const hominy_tensor* out) {
  if (uint32_t(operation) >= HOMINY_BINARY_COUNT) return HOMINY_BAD_VALUE;
  if (!computes(a->dtype) || b->dtype != a->dtype || out->dtype != a->dtype) return HOMINY_BAD_DTYPE;
  const entry& found = binary_entries[operation];
  const bool is_double = a->dtype == HOMINY_FLOAT64;
  const int64_t item = is_double ? 8 : 4;
  return run_elementwise<3>({out, a, b}, {item, item, item}, p, q, {found.loop[is_double], found.grain});
}

hominy_status compare(hominy_compare operation, const hominy_tensor* a, const hominy_tensor* b,
                      const hominy_tensor* out) {
  if (uint32_t(operation) >= HOMINY_COMPARE_COUNT) return HOMINY_BAD_VALUE;
  if (!computes(a->dtype) || b->dtype != a->dtype || out->dtype != HOMINY_BOOL) return HOMINY_BAD_DTYPE;
  const entry& found = compare_entries[operation];
  const bool is_double = a->dtype == HOMINY_FLOAT64;
  const int64_t item = is_double ? 8 : 4;
  return run_elementwise<3>({out, a, b}, {1, item, item}, 0, 0, {found.loop[is_double], found.grain});
}

hominy_status where(const hominy_tensor* condition, const hominy_tensor* a, const hominy_tensor* b,
                    const hominy_tensor* out) {
  const int64_t item = item_size(out->dtype);
  if (item == 0 || condition->dtype != HOMINY_BOOL || a->dtype != out->dtype || b->dtype != out->dtype)
    return HOMINY_BAD_DTYPE;
  return run_elementwise<4>({out, condition, a, b}, {item, 1, item, item}, 0, 0,
                            {where_loops[by_item_size(item)], arithmetic::grain});
}

hominy_status copy(const hominy_tensor* x, const hominy_tensor* out) {
  const int64_t item = item_size(out->dtype);
  if (item == 0 || x->dtype != out->dtype) return HOMINY_BAD_DTYPE;
  return run_elementwise<2>({out, x}, {item, item}, 0, 0, {copy_loops[by_item_size(item)], arithmetic::grain, true});
}

}  // namespace hominy::HOMINY_LEVEL
