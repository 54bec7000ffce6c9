// The memory pool: alignment, reuse, bound, accounts, threads, forks.
#include "memory_pool.hpp"

#include <atomic>
#include <thread>

#include "check.hpp"
#include "subprocess.hpp"

namespace test {
namespace {

constexpr int64_t mebibyte = int64_t(1) << 20;

void blocks() {
  begin_group("memory: blocks");
  hominy::pool_empty();
  const auto before = hominy::pool_get_statistics();
  check(before.free_bytes == 0, "pool_empty leaves %lld free bytes", (long long)before.free_bytes);
  hominy::pool_release(nullptr);
  std::vector<int64_t> sizes = {0, 1, 63, 64, 65, 511, 512, 513, 1024, 1025};
  for (int64_t size = 4096; size <= 32 * mebibyte; size = size * 3 / 2)
    sizes.insert(sizes.end(), {size - 1, size, size + 1});
  sizes.insert(sizes.end(), {2 * mebibyte - 1, 2 * mebibyte, 2 * mebibyte + 1});
  for (int64_t size : sizes) {
    hominy::pool_empty();  // or a larger block that is free might serve
    const int64_t in_use = hominy::pool_get_statistics().in_use_bytes;
    auto* block = static_cast<unsigned char*>(hominy::pool_allocate(size));
    const int64_t given = hominy::pool_get_statistics().in_use_bytes - in_use;
    const auto address = reinterpret_cast<uintptr_t>(block);
    check(block && address % 64 == 0, "a block of %lld bytes is 64-byte aligned", (long long)size);
    check(given >= size && (size < 512 ? given <= size + 64 : given * 8 <= size * 9), "%lld bytes take %lld",
          (long long)size, (long long)given);
    if (size > 0) block[0] = block[size - 1] = 1;  // both ends are ours
    hominy::pool_release(block);
    check(hominy::pool_allocate(size) == block, "the block released last comes back first (%lld bytes)",
          (long long)size);
    hominy::pool_release(block);
  }
  for (int64_t size : {int64_t(-1), INT64_MIN, INT64_MAX, INT64_MAX - 63, int64_t(1) << 62, int64_t(1) << 57})
    check(hominy::pool_allocate(size) == nullptr, "%lld bytes are refused", (long long)size);
  hominy::pool_empty();
  const auto after = hominy::pool_get_statistics();
  check(after.in_use_bytes == before.in_use_bytes && after.free_bytes == 0, "accounts balance");
  check(after.peak_bytes >= 32 * mebibyte / 3 * 2, "the peak is remembered");
  check(after.hits - before.hits >= int64_t(sizes.size()), "hits are counted");
  end_group();
}

// Large blocks are pieces: what one releases serves smaller ones in parts, and pieces become whole again.
void pieces(const options& settings) {
  begin_group("memory: pieces");
#if HOMINY_TEST_HAS_FORK
  hominy::pool_empty();
  const auto before = hominy::pool_get_statistics();
  const auto misses = [&] { return hominy::pool_get_statistics().misses - before.misses; };
  char* const whole = static_cast<char*>(hominy::pool_allocate(32 * mebibyte));
  hominy::pool_release(whole);
  void* parts[3];
  for (void*& part : parts) part = hominy::pool_allocate(10 * mebibyte);
  check(misses() == 1, "a free block serves three that fit into it");
  hominy::pool_release(hominy::pool_allocate(mebibyte / 2));
  check(misses() == 2, "a small block is none of its pieces");
  hominy::pool_release(parts[2]);
  hominy::pool_release(hominy::pool_allocate(64 * mebibyte));  // extends what is free at the end
  check(misses() == 3 && hominy::pool_get_statistics().free_bytes - before.free_bytes < 66 * mebibyte,
        "a free block at the end is extended");
  parts[2] = hominy::pool_allocate(10 * mebibyte);
  for (int order : {1, 0, 2}) hominy::pool_release(parts[order]);
  void* const again = hominy::pool_allocate(32 * mebibyte);
  check(again == whole && misses() == 3, "released pieces are joined");
  hominy::pool_release(again);
  hominy::pool_empty();
  hominy::pool_release(hominy::pool_allocate(32 * mebibyte));
  void* const nearly = hominy::pool_allocate(32 * mebibyte - mebibyte / 2);
  check(hominy::pool_get_statistics().in_use_bytes - before.in_use_bytes == 32 * mebibyte,
        "a rest too small to serve stays with its block");
  hominy::pool_release(nearly);

  // Random sizes: no two live blocks share a byte, and everything is one again at the end.
  random_numbers random{uint64_t(7)};
  struct {
    char* memory = nullptr;
    int64_t bytes = 0;
    char mark = 0;
  } held[24];
  int wrong = 0;
  const auto release = [&](auto& slot) {
    for (int64_t i = 0; i < slot.bytes; i += 4096) wrong += slot.memory[i] != slot.mark;
    wrong += slot.bytes > 0 && slot.memory[slot.bytes - 1] != slot.mark;
    hominy::pool_release(slot.memory);
    slot = {};
  };
  for (int repeat = 0; repeat < (settings.quick ? 2000 : 20000); ++repeat) {
    auto& slot = held[random.below(24)];
    if (slot.memory) release(slot);
    slot.bytes = mebibyte / 2 + random.below(random.below(4) == 0 ? 12 * mebibyte : 2 * mebibyte);
    slot.mark = char(repeat);
    slot.memory = static_cast<char*>(hominy::pool_allocate(slot.bytes));
    for (int64_t i = 0; i < slot.bytes; i += 4096) slot.memory[i] = slot.mark;
    slot.memory[slot.bytes - 1] = slot.mark;
    if (repeat % 400 == 0) hominy::pool_empty();
  }
  for (auto& slot : held)
    if (slot.memory) release(slot);
  check(wrong == 0, "%d bytes belonged to two blocks", wrong);
  hominy::pool_empty();
  check(hominy::pool_get_statistics().free_bytes == 0, "pieces go back to the system");
#endif
  end_group();
}

void many_threads(const options& settings) {
  begin_group("memory: threads");
  const int64_t in_use = hominy::pool_get_statistics().in_use_bytes;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  const int repeats = settings.quick ? 500 : 5000;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      random_numbers random{uint64_t(t + 1)};
      struct {
        int64_t* memory = nullptr;
        int64_t count = 0, mark = 0;
      } held[8];
      const auto release = [&](auto& slot) {
        for (int64_t i = 0; i < slot.count; i += 97) wrong += slot.memory[i] != slot.mark;
        hominy::pool_release(slot.memory);
        slot.memory = nullptr;
      };
      for (int repeat = 0; repeat < repeats; ++repeat) {
        auto& slot = held[random.below(8)];
        if (slot.memory) release(slot);
        slot.count = random.below(repeat % 64 == 0 ? 400000 : 1000);
        slot.mark = int64_t(random.bits());
        slot.memory = static_cast<int64_t*>(hominy::pool_allocate(slot.count * 8));
        for (int64_t i = 0; i < slot.count; i += 97) slot.memory[i] = slot.mark;
        if (t == 0 && repeat % 500 == 0) hominy::pool_empty();
      }
      for (auto& slot : held)
        if (slot.memory) release(slot);
    });
  for (auto& thread : threads) thread.join();
  check(wrong == 0, "%d blocks were given to two owners", wrong.load());
  check(hominy::pool_get_statistics().in_use_bytes == in_use, "accounts balance");
  end_group();
}

#if HOMINY_TEST_HAS_FORK
void bounds_and_forks() {
  begin_group("memory: bound and fork");
  const auto bound_with = [](const char* value, auto expectation) {
    return in_child([&] {
      setenv("HOMINY_POOL_BYTES", value, 1);
      return expectation(hominy::pool_get_statistics().bound_bytes);
    });
  };
  // Children ask for the first time: nothing in this process has used the pool before.
  check(bound_with("12345", [](int64_t bound) { return bound == 12345; }), "HOMINY_POOL_BYTES=12345");
  check(bound_with("0", [](int64_t bound) { return bound == 0; }), "HOMINY_POOL_BYTES=0");
  for (const char* invalid : {"", "-1", "1e9", "all", "99999999999999999999"})
    check(bound_with(invalid, [](int64_t bound) { return bound > mebibyte && bound <= 1024 * mebibyte; }),
          "HOMINY_POOL_BYTES=%s is ignored", invalid);

  check(in_child([] {
          setenv("HOMINY_POOL_BYTES", "1000000", 1);
          void* blocks[40];
          for (void*& block : blocks) block = hominy::pool_allocate(100000);
          for (void* block : blocks) hominy::pool_release(block);
          if (hominy::pool_get_statistics().free_bytes > 1000000) return false;
          hominy::pool_release(hominy::pool_allocate(900000));  // makes room for itself
          void* again = hominy::pool_allocate(900000);
          if (hominy::pool_get_statistics().hits != 1) return false;
          hominy::pool_release(again);
          hominy::pool_release(hominy::pool_allocate(2000000));  // larger than the bound: not kept, displaces nothing
          return hominy::pool_get_statistics().free_bytes > 0;
        }),
        "free blocks stay under the bound, and a size in use displaces one that is not");

  check(in_child([] {
          setenv("HOMINY_POOL_BYTES", "40000000", 1);
          void* const part = hominy::pool_allocate(20 * mebibyte);
          hominy::pool_release(hominy::pool_allocate(37 * mebibyte));
          hominy::pool_release(part);  // of the 37, what has to go goes, from the end
          const auto statistics = hominy::pool_get_statistics();
          if (statistics.free_bytes > 40000000 || statistics.free_bytes < 38000000) return false;
          char* const first = static_cast<char*>(hominy::pool_allocate(17 * mebibyte));
          first[17 * mebibyte - 1] = 1;
          hominy::pool_release(first);
          return hominy::pool_get_statistics().misses == 2;
        }),
        "a large block goes in part where part is enough");

  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) hominy::pool_release(hominy::pool_allocate(1000));
  });
  int wrong = 0;
  for (int repeat = 0; repeat < 20; ++repeat)
    wrong += !in_child([] {
      for (int i = 0; i < 100; ++i) hominy::pool_release(hominy::pool_allocate(1000));
      return true;
    });
  stop = true;
  busy.join();
  check(wrong == 0, "%d of 20 children failed that were forked while the pool was in use", wrong);
  end_group();
}
#endif

}  // namespace

void memory_pool_test(const options& settings) {
#if HOMINY_TEST_HAS_FORK
  if (settings.fork) bounds_and_forks();
#endif
  blocks();
  pieces(settings);
  many_threads(settings);
}

}  // namespace test
