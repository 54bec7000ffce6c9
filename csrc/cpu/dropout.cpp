// Philox4x32 with 7 rounds (Salmon et al., SC'11, https://doi.org/10.1145/2063384.2063405: the fewest that pass their
// tests), keyed by the seed. 64 elements share 16 counters: word w of counter l decides element 16 w + l, so that whole
// vectors of one word belong to neighbours, for every vector width up to 16.
#include "dropout.hpp"

#include "dimensions.hpp"
#include "lane_access.hpp"
#include "parallel_for.hpp"

namespace hominy::HOMINY_LEVEL {
namespace {

constexpr int64_t chunk = 64, counters = 16;
constexpr int64_t chunks_per_task = 256;
constexpr int rounds = 7;
constexpr uint64_t multipliers[] = {0xD2511F53, 0xCD9E8D57};
constexpr uint32_t key_steps[] = {0x9E3779B9, 0xBB67AE85};

using words = vec<uint64_t>;  // 32 bits in each lane's lower half
typedef uint32_t half_words __attribute__((vector_size(vector_bytes / 2)));

// The 64 draws of chunk `number`. All vectors of counters go through a round together: a round waits for the one
// before.
inline void draw(uint64_t seed, int64_t number, uint32_t* bits) {
  constexpr int width = lanes<uint64_t>, groups = counters / width;
  words c0[groups], c1[groups], c2[groups] = {}, c3[groups] = {};
#pragma GCC unroll 8
  for (int g = 0; g < groups; ++g) {
    for (int l = 0; l < width; ++l) c0[g][l] = uint64_t(g * width + l);
    c0[g] += uint64_t(number) * counters;
    c1[g] = c0[g] >> 32;
    c0[g] &= 0xffffffffu;
  }
  uint32_t key0 = uint32_t(seed), key1 = uint32_t(seed >> 32);
#pragma GCC unroll 7
  for (int round = 0; round < rounds; ++round, key0 += key_steps[0], key1 += key_steps[1])
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      const words a = multiply_lower_halves(c0[g], words{} + multipliers[0]);
      const words b = multiply_lower_halves(c2[g], words{} + multipliers[1]);
      c0[g] = (b >> 32) ^ c1[g] ^ uint64_t(key0);
      c1[g] = b & 0xffffffffu;
      c2[g] = (a >> 32) ^ c3[g] ^ uint64_t(key1);
      c3[g] = a & 0xffffffffu;
    }
  const auto keep = [&](int word, const words* c) {
    for (int g = 0; g < groups; ++g) {
      const half_words narrow = __builtin_convertvector(c[g], half_words);
      memcpy(bits + word * counters + g * width, &narrow, sizeof narrow);
    }
  };
  keep(0, c0);
  keep(1, c1);
  keep(2, c2);
  keep(3, c3);
}

template <class T>
struct draws_of {  // as many draws as a vector of T has lanes
  typedef int32_t type __attribute__((vector_size(lanes<T> * 4)));
};

template <class T>
void drop(const T* x, double p, uint64_t seed, T* out, int64_t elements) {
  using draws = typename draws_of<T>::type;
  constexpr uint32_t sign = 1u << 31;  // turned over, unsigned numbers compare as signed ones
  const int32_t least = int32_t((p < 1 ? uint32_t(p * 4294967296.0) : 0) ^ sign);
  const T factor = p < 1 ? T(1 / (1 - p)) : T(0);  // p = 1: every element is dropped
  const int64_t chunks = (elements - 1) / chunk + 1, tasks = (chunks - 1) / chunks_per_task + 1;
  parallel_for(tasks, [&](int64_t task) {
    alignas(64) uint32_t bits[chunk];
    const int64_t last = minimum_of(chunks, (task + 1) * chunks_per_task);
    for (int64_t number = task * chunks_per_task; number < last; ++number) {
      draw(seed, number, bits);
      const int64_t first = number * chunk;
      // In vectors from end to end: a branch on a random bit is mispredicted half of the time, 270 ns a chunk.
      for_vectors<T>(minimum_of(chunk, elements - first), [&](int64_t i, auto count) {
        draws drawn;
        memcpy(&drawn, bits + i, sizeof drawn);
        const auto kept = __builtin_convertvector((drawn ^ int32_t(sign)) >= least, mask_vec<T>);
        const vec<T> v = load_count(x + first + i, count) * factor;
        store_count(out + first + i, factor == 0 ? vec<T>{} : select<T>(kept, v, vec<T>{}), count);
      });
    }
  });
}

bool is_dense(const hominy_tensor* t, int64_t size) {
  for (int d = t->ndim - 1; d >= 0; --d) {
    if (t->shape[d] != 1 && t->strides[d] != size) return false;
    size *= t->shape[d];
  }
  return true;
}

}  // namespace

hominy_status dropout(const hominy_tensor* x, double p, uint64_t seed, const hominy_tensor* out) {
  if (x->dtype != out->dtype || (x->dtype != HOMINY_FLOAT32 && x->dtype != HOMINY_FLOAT64)) return HOMINY_BAD_DTYPE;
  if (!(p >= 0 && p <= 1)) return HOMINY_BAD_VALUE;
  if (x->ndim < 0 || x->ndim > HOMINY_MAX_NDIM || out->ndim != x->ndim) return HOMINY_BAD_SHAPE;
  for (int d = 0; d < x->ndim; ++d)
    if (out->shape[d] != x->shape[d]) return HOMINY_BAD_SHAPE;
  int64_t elements;
  if (const hominy_status status = count_elements(*x, &elements)) return status;
  if (elements == 0) return HOMINY_OK;
  const int64_t size = x->dtype == HOMINY_FLOAT32 ? 4 : 8;
  if (!is_dense(x, size) || !is_dense(out, size)) return HOMINY_BAD_SHAPE;
  if (size == 4)
    drop(static_cast<const float*>(x->data), p, seed, static_cast<float*>(out->data), elements);
  else
    drop(static_cast<const double*>(x->data), p, seed, static_cast<double*>(out->data), elements);
  return HOMINY_OK;
}

}  // namespace hominy::HOMINY_LEVEL
