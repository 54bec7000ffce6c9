// An array whose every byte is accounted for: elements in a chosen memory layout, guard bytes everywhere else.
#pragma once
#include <math.h>
#include <stdlib.h>

#include <functional>
#include <string>
#include <vector>

#include "check.hpp"

namespace test {

enum class layout {
  contiguous,
  misaligned,       // contiguous, but one byte off any alignment
  transposed,       // first dimension fastest
  strided,          // two elements of gap after each, rows padded
  ragged,           // rows one byte longer than their elements: each has another alignment
  negative,         // every stride negative
  broadcast_first,  // stride 0 in the first dimension
  broadcast_last,   // and in the last
  // Of images (N, C, space...):
  channels_last,        // second dimension fastest
  channels_last_sliced  // the same as a part of more channels, and one byte off any alignment
};
inline const char* name_of(layout l) {
  static const char* const names[] = {
      "contiguous", "misaligned",      "transposed",     "strided",       "ragged",
      "negative",   "broadcast first", "broadcast last", "channels last", "channels last, sliced"};
  return names[int(l)];
}
inline constexpr layout output_layouts[] = {layout::contiguous, layout::misaligned, layout::transposed,
                                            layout::strided,    layout::ragged,     layout::negative};
inline constexpr layout input_layouts[] = {layout::contiguous,      layout::misaligned,    layout::transposed,
                                           layout::strided,         layout::ragged,        layout::negative,
                                           layout::broadcast_first, layout::broadcast_last};

inline int64_t size_of_dtype(int32_t dtype) {
  static const int64_t sizes[] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
  return sizes[dtype];
}

inline std::string text_of(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (int64_t n : shape) text += std::to_string(n) + ",";
  return text + ")";
}

inline int64_t product_of(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (int64_t n : shape) product *= n;
  return product;
}

class array {
 public:
  array(int32_t dtype, std::vector<int64_t> shape, layout kind = layout::contiguous)
      : shape_(std::move(shape)), kind_(kind), size_(product_of(shape_)) {
    const int ndim = int(shape_.size());
    const int64_t item = size_of_dtype(dtype);
    memset(&tensor_, 0x5a, sizeof tensor_);  // entries of shape and strides past ndim mean nothing
    tensor_.dtype = dtype;
    tensor_.ndim = ndim;

    const bool pixels = (kind == layout::channels_last || kind == layout::channels_last_sliced) && ndim > 2;
    int64_t step = kind == layout::strided ? 3 * item : item;
    for (int i = 0; i < ndim; ++i) {  // from the fastest dimension to the slowest
      int d = kind == layout::transposed ? i : ndim - 1 - i;
      if (pixels && i < ndim - 1) d = i == 0 ? 1 : ndim - i;
      tensor_.shape[d] = shape_[d];
      tensor_.strides[d] = kind == layout::negative ? -step : step;
      if ((kind == layout::broadcast_first && d == 0) || (kind == layout::broadcast_last && d == ndim - 1))
        tensor_.strides[d] = 0;
      else
        step *= shape_[d] > 1 ? shape_[d] : 1;
      if (i == 0 && kind == layout::strided) step += 2 * item;
      if (i == 0 && kind == layout::ragged) step += 1;
      if (i == 0 && kind == layout::channels_last_sliced) step += item;
    }

    int64_t lowest = 0, highest = size_ > 0 ? item : 0;  // bytes relative to element 0
    for (int d = 0; d < ndim && size_ > 0; ++d) {
      const int64_t reach = (shape_[d] - 1) * tensor_.strides[d];
      (reach < 0 ? lowest : highest) += reach;
    }
    const int64_t shift = kind == layout::misaligned || kind == layout::channels_last_sliced ? 1 : 0;
    // AddressSanitizer watches the ends itself, if nothing lies behind the last element.
    const int64_t guard = under_address_sanitizer ? 0 : 192;
    bytes_ = guard + shift + highest - lowest + guard;
    memory_ = static_cast<unsigned char*>(aligned_alloc_exact(bytes_));
    tensor_.data = memory_ + guard + shift - lowest;

    is_guard_.assign(size_t(bytes_), true);
    offsets_.reserve(size_t(size_));
    for_each_index([&](int64_t offset) {
      offsets_.push_back(offset);
      for (int64_t b = 0; b < item; ++b) is_guard_[size_t(data() + offset + b - memory_)] = false;
    });
    memset(memory_, guard_byte, size_t(bytes_));
    initial_.assign(memory_, memory_ + bytes_);
  }
  array(const array&) = delete;
  array& operator=(const array&) = delete;
  ~array() { free(raw_); }

  operator const hominy_tensor*() const { return &tensor_; }  // what kernels take
  const hominy_tensor& tensor() const { return tensor_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  int32_t dtype() const { return tensor_.dtype; }
  int64_t size() const { return size_; }
  layout kind() const { return kind_; }
  unsigned char* data() const { return static_cast<unsigned char*>(tensor_.data); }

  // Elements by their number in C order.
  unsigned char* address(int64_t i) const { return data() + offsets_[size_t(i)]; }
  real operator[](int64_t i) const {
    switch (dtype()) {
      case HOMINY_FLOAT32: return read<float>(i);
      case HOMINY_FLOAT64: return read<double>(i);
      case HOMINY_INT64: return real(read<int64_t>(i));
      default: return read<uint8_t>(i);
    }
  }
  void set(int64_t i, real value) {
    switch (dtype()) {
      case HOMINY_FLOAT32: return write<float>(i, float(value));
      case HOMINY_FLOAT64: return write<double>(i, double(value));
      case HOMINY_INT64: return write<int64_t>(i, int64_t(value));
      default: return write<uint8_t>(i, uint8_t(value));
    }
  }
  array& fill(const std::function<real(int64_t)>& value) {
    for (int64_t i = 0; i < size_; ++i) set(i, value(i));
    initial_.assign(memory_, memory_ + bytes_);
    return *this;
  }
  array& fill_uniform(uint64_t seed, double low, double high) {
    random_numbers random(seed);
    return fill([&](int64_t) { return random.uniform(low, high); });
  }

  // The elements' bytes in C order, whatever the layout.
  std::vector<unsigned char> bits() const {
    const int64_t item = size_of_dtype(dtype());
    std::vector<unsigned char> all(size_t(size_ * item));
    for (int64_t i = 0; i < size_; ++i) memcpy(all.data() + i * item, address(i), size_t(item));
    return all;
  }
  bool guards_intact() const {
    for (int64_t b = 0; b < bytes_; ++b)
      if (is_guard_[size_t(b)] && memory_[b] != guard_byte) return false;
    return true;
  }
  bool untouched() const { return bytes_ == 0 || memcmp(memory_, initial_.data(), size_t(bytes_)) == 0; }

 private:
  static constexpr unsigned char guard_byte = 0xff;  // a NaN, whatever the float: one that gets into a sum is seen

  template <class T>
  T read(int64_t i) const {
    T value;
    memcpy(&value, address(i), sizeof value);
    return value;
  }
  template <class T>
  void write(int64_t i, T value) {
    memcpy(address(i), &value, sizeof value);
  }

  // 64-byte aligned, and not one byte more than asked for behind it.
  void* aligned_alloc_exact(int64_t bytes) {
    if (posix_memalign(&raw_, 64, size_t(bytes > 0 ? bytes : 1)) != 0) abort();
    return raw_;
  }

  template <class Visit>
  void for_each_index(Visit visit) const {
    std::vector<int64_t> index(shape_.size(), 0);
    int64_t offset = 0;
    for (int64_t i = 0; i < size_; ++i) {
      visit(offset);
      for (size_t d = index.size(); d-- > 0;) {
        offset += tensor_.strides[d];
        if (++index[d] < shape_[d]) break;
        offset -= shape_[d] * tensor_.strides[d];
        index[d] = 0;
      }
    }
  }

  std::vector<int64_t> shape_;
  layout kind_;
  int64_t size_, bytes_ = 0;
  hominy_tensor tensor_;
  void* raw_ = nullptr;
  unsigned char* memory_ = nullptr;
  std::vector<bool> is_guard_;
  std::vector<int64_t> offsets_;
  std::vector<unsigned char> initial_;
};

// What an element should be, and how far off it may be. A bound of 0 asks for equality.
struct expectation {
  real value, bound;
};

inline bool is_close(const array& out, int64_t i, expectation expected) {
  const real got = out[i];
  if (isnan(expected.value)) return isnan(got);
  if (got == expected.value) return true;
  const real largest = out.dtype() == HOMINY_FLOAT32 ? real(3.40282346638528859812e38L) : 1.7976931348623157081e308L;
  if (isinf(got))  // rounding may carry a finite result over the edge
    return (got > 0) == (expected.value > 0) && fabsl(expected.value) + expected.bound >= largest;
  // Below the smallest normal number an error is measured in steps of the subnormals.
  const real slack = expected.bound > 0 ? 2 * subnormal_step(out.dtype()) : 0;
  return fabsl(got - expected.value) <= expected.bound + slack;
}

// One check: every element of `out` is as expected and no other byte was written.
template <class Expected>
bool check_elements(const array& out, const std::string& what, Expected expected) {
  if (!out.guards_intact()) return check(false, "%s: wrote outside its output", what.c_str());
  for (int64_t i = 0; i < out.size(); ++i) {
    const expectation e = expected(i);
    if (!is_close(out, i, e))
      return check(false, "%s: element %lld is %.20Lg, expected %.20Lg within %.3Lg", what.c_str(), (long long)i,
                   out[i], e.value, e.bound);
  }
  return check(true, "%s", what.c_str());
}

inline bool check_status(hominy_status got, hominy_status expected, const std::string& what) {
  return check(got == expected, "%s: status %s, expected %s", what.c_str(), name_of(got), name_of(expected));
}

// A call that must be refused and must leave its output alone.
inline void check_refused(hominy_status got, std::vector<hominy_status> allowed, const array& out,
                          const std::string& what) {
  bool fits = false;
  for (hominy_status s : allowed) fits = fits || s == got;
  check(fits, "%s: status %s, expected %s", what.c_str(), name_of(got), name_of(allowed[0]));
  check(out.untouched(), "%s: wrote to its output", what.c_str());
}

// Descriptors that no kernel may accept, made from a good one.
struct bad_tensor {
  const char* what;
  hominy_tensor tensor;
  hominy_status expected;
};
inline std::vector<bad_tensor> bad_tensors(const array& good) {
  std::vector<bad_tensor> bad;
  const auto add = [&](const char* what, hominy_status expected) -> hominy_tensor& {
    bad.push_back({what, good.tensor(), expected});
    return bad.back().tensor;
  };
  add("dtype int32", HOMINY_BAD_DTYPE).dtype = HOMINY_INT32;
  add("dtype float16", HOMINY_BAD_DTYPE).dtype = HOMINY_FLOAT16;
  add("unknown dtype", HOMINY_BAD_DTYPE).dtype = 1000;
  add("negative dtype", HOMINY_BAD_DTYPE).dtype = -1;
  add("another float dtype", HOMINY_BAD_DTYPE).dtype = good.dtype() == HOMINY_FLOAT32 ? HOMINY_FLOAT64 : HOMINY_FLOAT32;
  add("33 dimensions", HOMINY_BAD_SHAPE).ndim = HOMINY_MAX_NDIM + 1;
  add("-1 dimensions", HOMINY_BAD_SHAPE).ndim = -1;
  add("2^31-1 dimensions", HOMINY_BAD_SHAPE).ndim = INT32_MAX;
  if (good.tensor().ndim > 0) {
    add("a negative size", HOMINY_BAD_SHAPE).shape[0] = -1;
    add("the most negative size", HOMINY_BAD_SHAPE).shape[0] = INT64_MIN;
    add("one row more", HOMINY_BAD_SHAPE).shape[0] += 1;
  }
  return bad;
}

// Describes the same memory with sizes whose product is beyond int64.
inline hominy_tensor overflowing(const array& good) {
  hominy_tensor huge = good.tensor();
  huge.ndim = 3;
  for (int d = 0; d < 3; ++d) {
    huge.shape[d] = int64_t(1) << 31;
    huge.strides[d] = 0;
  }
  return huge;
}

}  // namespace test
