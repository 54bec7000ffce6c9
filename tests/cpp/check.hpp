// Counting checks, random numbers, and what the tests of every family share.
#pragma once
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <string>
#include <vector>

#include "hominy.h"

namespace test {

// Wide enough to be the exact answer beside float64 (64-bit mantissa on x86, 113-bit on AArch64).
using real = long double;

#if defined(HOMINY_TEST_UNDER_ADDRESS_SANITIZER)  // of the kernels; the tests are not instrumented
inline constexpr bool under_address_sanitizer = true;
#else
inline constexpr bool under_address_sanitizer = false;
#endif
#if defined(HOMINY_TEST_UNDER_ADDRESS_SANITIZER) || defined(__SANITIZE_THREAD__)
inline constexpr bool under_sanitizer = true;
#else
inline constexpr bool under_sanitizer = false;
#endif

struct options {
  bool quick = false;
  bool fork = true;  // qemu-user cannot start threads in a forked child
};

// One ISA level under test.
struct level {
  const hominy_kernels* kernels;
  options settings;
  int lanes(int32_t dtype) const;  // elements a vector register
  // Sizes that find mistakes at the edges of vectors and blocks.
  std::vector<int64_t> sizes(int32_t dtype) const;
};

// A group is what one line of the report stands for.
void begin_group(const std::string& name);
void end_group();

// Counts one check; a failure is printed with its description (the first few of a group).
bool check(bool ok, const char* format, ...) __attribute__((format(printf, 2, 3)));

// splitmix64
class random_numbers {
 public:
  explicit random_numbers(uint64_t seed = 1) : state_(seed * 0x9e3779b97f4a7c15u) {}
  uint64_t bits() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t n) { return int64_t(bits() % uint64_t(n)); }
  double uniform(double low, double high) { return low + (high - low) * (double(bits() >> 11) * 0x1p-53); }

 private:
  uint64_t state_;
};

inline const char* name_of(hominy_status status) {
  static const char* const names[] = {"OK",        "BAD_DTYPE", "BAD_SHAPE",   "OVERFLOW",
                                      "BAD_INDEX", "BAD_VALUE", "NO_WORKSPACE"};
  return unsigned(status) < 7 ? names[status] : "unknown status";
}
inline const char* name_of_dtype(int32_t dtype) {
  static const char* const names[] = {"bool",  "uint8",   "int8",     "int16",   "int32",
                                      "int64", "float16", "bfloat16", "float32", "float64"};
  return unsigned(dtype) < 10 ? names[dtype] : "unknown dtype";
}

// Unit roundoff: half the distance from 1 to the next number.
inline real unit_roundoff(int32_t dtype) { return dtype == HOMINY_FLOAT32 ? 0x1p-24L : 0x1p-53L; }

// Distance between neighbours below the smallest normal number.
inline real subnormal_step(int32_t dtype) { return dtype == HOMINY_FLOAT32 ? 0x1p-149L : 0x1p-1074L; }

// Calls run() -> vector of bytes under 1 to 8 threads: the bits must be the same.
template <class Run>
void same_bits_for_any_number_of_threads(const char* what, Run run);

// The tests, one function a family (csrc/cpu/<stem>).
void parallel_for_test(const options&);
void memory_pool_test(const options&);
void elementwise_test(const level&);
void reduce_test(const level&);
void softmax_test(const level&);
void loss_test(const level&);
void layer_norm_test(const level&);
void channel_norm_test(const level&);
void conv_depthwise_test(const level&);
void conv_test(const level&);
void conv_winograd_test(const level&);
void embedding_test(const level&);
void interpolate_test(const level&);
void pool_test(const level&);
void dropout_test(const level&);
void optimizer_test(const level&);
void matmul_test(const level&);
void recurrent_test(const level&);

}  // namespace test

#include "parallel_for.hpp"

template <class Run>
void test::same_bits_for_any_number_of_threads(const char* what, Run run) {
  const int before = hominy::num_threads();
  hominy::set_num_threads(1);
  const std::vector<unsigned char> alone = run();
  for (int threads : {2, 3, 4, 5, 6, 7, 8}) {
    hominy::set_num_threads(threads);
    if (!check(run() == alone, "%s: other bits with %d threads than with one", what, threads)) break;
  }
  hominy::set_num_threads(before);
}
