// Plain bytes with guards: scratch for kernels, and contiguous arrays at a chosen distance from any alignment.
#pragma once
#include <algorithm>

#include "test_array.hpp"

namespace test {

// `before` guard bytes, `size` bytes, guard bytes again; it all begins at a multiple of 64.
class guarded_bytes {
 public:
  guarded_bytes(int64_t before, int64_t size)
      : before_(before), size_(size), all_(before + size + (under_address_sanitizer ? 0 : 64)) {
    void* block = nullptr;
    if (posix_memalign(&block, 64, size_t(std::max<int64_t>(all_, 1))) != 0) abort();
    block_ = static_cast<unsigned char*>(block);
    memset(block_, guard, size_t(all_));
  }
  guarded_bytes(const guarded_bytes&) = delete;
  guarded_bytes& operator=(const guarded_bytes&) = delete;
  ~guarded_bytes() { free(block_); }

  unsigned char* data() const { return block_ + before_; }
  int64_t size() const { return size_; }
  bool guards_intact() const {
    const auto is_guard = [](unsigned char byte) { return byte == guard; };
    return std::all_of(block_, block_ + before_, is_guard) &&
           std::all_of(block_ + before_ + size_, block_ + all_, is_guard);
  }

 private:
  static constexpr unsigned char guard = 0xa5;
  int64_t before_, size_, all_;
  unsigned char* block_;
};

// A contiguous array that begins `shift` bytes behind a multiple of 64.
class shifted {
 public:
  shifted(int32_t dtype, const std::vector<int64_t>& shape, int64_t shift, const std::vector<unsigned char>& bits = {})
      : bytes_(shift, product_of(shape) * size_of_dtype(dtype)) {
    tensor_.data = bytes_.data();
    tensor_.dtype = dtype;
    tensor_.ndim = int32_t(shape.size());
    int64_t step = size_of_dtype(dtype);
    for (size_t d = shape.size(); d-- > 0; step *= shape[d]) tensor_.shape[d] = shape[d], tensor_.strides[d] = step;
    if (!bits.empty()) memcpy(bytes_.data(), bits.data(), bits.size());
  }
  operator const hominy_tensor*() const { return &tensor_; }
  std::vector<unsigned char> bits() const { return {bytes_.data(), bytes_.data() + bytes_.size()}; }
  bool guards_intact() const { return bytes_.guards_intact(); }

 private:
  guarded_bytes bytes_;
  hominy_tensor tensor_{};
};

// Calls run(shift) -> vector of bytes for shifts that no vector width divides and for those that some do.
template <class Run>
void same_bits_for_any_alignment(const char* what, Run run) {
  const std::vector<unsigned char> straight = run(0);
  for (int64_t shift : {1, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 63})
    if (!check(run(shift) == straight, "%s: other bits %lld bytes behind a multiple of 64", what, (long long)shift))
      break;
}

}  // namespace test
