// Elementwise operations. Each operation and dtype has one vector loop, reached through a table; all else is shared.
#include "elementwise.hpp"

#include "elementwise_operations.hpp"
#include "elementwise_tiles.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

// ---------------------------------------------------------------------------------------------------------------------
// Loops over a tile
// ---------------------------------------------------------------------------------------------------------------------

template <class T, class Operation>
void unary_loop(const tile& t) {
  constexpr int width = lanes<T>, stride = width * Operation::unroll;
  const T p = T(t.p), q = T(t.q);
  const int64_t x_step = t.column_stride[1] / int64_t(sizeof(T));
  for (int64_t row = 0; row < t.rows; row++) {
    T* out = reinterpret_cast<T*>(t.data[0] + row * t.row_stride[0]);
    const T* x = reinterpret_cast<const T*>(t.data[1] + row * t.row_stride[1]);
    int64_t left = t.columns;
    for (; left >= stride; left -= stride, out += stride, x += stride * x_step)
      for (int i = 0; i < Operation::unroll; i++)
        store<T>(out + i * width, Operation::apply(load<T>(x + i * width * x_step), p, q));
    for (; left >= width; left -= width, out += width, x += width * x_step)
      store<T>(out, Operation::apply(load<T>(x), p, q));
    if (left > 0) store_partial<T>(out, Operation::apply(load_partial<T>(x, left), p, q), left);
  }
}

template <class T, class Operation>
void binary_loop(const tile& t) {
  constexpr int width = lanes<T>, stride = width * Operation::unroll;
  const T p = T(t.p), q = T(t.q);
  const int64_t a_step = t.column_stride[1] / int64_t(sizeof(T)), b_step = t.column_stride[2] / int64_t(sizeof(T));
  for (int64_t row = 0; row < t.rows; row++) {
    T* out = reinterpret_cast<T*>(t.data[0] + row * t.row_stride[0]);
    const T* a = reinterpret_cast<const T*>(t.data[1] + row * t.row_stride[1]);
    const T* b = reinterpret_cast<const T*>(t.data[2] + row * t.row_stride[2]);
    int64_t left = t.columns;
    for (; left >= stride; left -= stride, out += stride, a += stride * a_step, b += stride * b_step)
      for (int i = 0; i < Operation::unroll; i++)
        store<T>(out + i * width,
                 Operation::apply(load<T>(a + i * width * a_step), load<T>(b + i * width * b_step), p, q));
    for (; left >= width; left -= width, out += width, a += width * a_step, b += width * b_step)
      store<T>(out, Operation::apply(load<T>(a), load<T>(b), p, q));
    if (left > 0)
      store_partial<T>(out, Operation::apply(load_partial<T>(a, left), load_partial<T>(b, left), p, q), left);
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
  const int64_t a_step = t.column_stride[1] / int64_t(sizeof(T)), b_step = t.column_stride[2] / int64_t(sizeof(T));
  for (int64_t row = 0; row < t.rows; row++) {
    char* out = t.data[0] + row * t.row_stride[0];
    const T* a = reinterpret_cast<const T*>(t.data[1] + row * t.row_stride[1]);
    const T* b = reinterpret_cast<const T*>(t.data[2] + row * t.row_stride[2]);
    int64_t left = t.columns;
    for (; left >= width; left -= width, out += width, a += width * a_step, b += width * b_step) {
      const auto set =
          __builtin_convertvector(Operation::apply(load<T>(a), load<T>(b)), typename bytes_of<T>::type) & 1;
      memcpy(out, &set, sizeof set);
    }
    if (left > 0) {
      const auto set = __builtin_convertvector(Operation::apply(load_partial<T>(a, left), load_partial<T>(b, left)),
                                               typename bytes_of<T>::type) &
                       1;
      memcpy(out, &set, size_t(left));
    }
  }
}

// T is a signed integer of the item's size.
template <class T>
void where_loop(const tile& t) {
  constexpr int width = lanes<T>;
  const int64_t condition_step = t.column_stride[1];
  const int64_t a_step = t.column_stride[2] / int64_t(sizeof(T)), b_step = t.column_stride[3] / int64_t(sizeof(T));
  // A loop, which becomes one widening instruction; GCC 12 takes __builtin_convertvector here byte by byte.
  const auto choose = [](const int8_t* set, vec<T> a, vec<T> b) {
    T wide[width];
    for (int i = 0; i < width; i++) wide[i] = set[i];
    return load<T>(wide) != 0 ? a : b;
  };
  for (int64_t row = 0; row < t.rows; row++) {
    T* out = reinterpret_cast<T*>(t.data[0] + row * t.row_stride[0]);
    const int8_t* condition = reinterpret_cast<const int8_t*>(t.data[1]) + row * t.row_stride[1];
    const T* a = reinterpret_cast<const T*>(t.data[2] + row * t.row_stride[2]);
    const T* b = reinterpret_cast<const T*>(t.data[3] + row * t.row_stride[3]);
    int64_t left = t.columns;
    for (; left >= width; left -= width) {
      store<T>(out, choose(condition, load<T>(a), load<T>(b)));
      out += width, condition += width * condition_step, a += width * a_step, b += width * b_step;
    }
    if (left > 0) {
      int8_t set[width] = {};
      memcpy(set, condition, size_t(left));
      store_partial<T>(out, choose(set, load_partial<T>(a, left), load_partial<T>(b, left)), left);
    }
  }
}

template <class T>
void copy_loop(const tile& t) {
  move_block_of<T>({t.data[0], t.row_stride[0], t.column_stride[0]}, {t.data[1], t.row_stride[1], t.column_stride[1]},
                   t.rows, t.columns);
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
