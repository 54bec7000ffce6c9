// One free list a size class, under one mutex. A header of 64 bytes lies before each block, so that neither the lists
// nor the sizes need memory of their own. System calls are made outside the lock.
#include "memory_pool.hpp"

#include <errno.h>
#include <stdlib.h>

#include <algorithm>
#include <mutex>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#define HOMINY_HAS_MMAP 1
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace hominy {
namespace {

// ---- Size classes: 64, 128, ... 512, then eight steps a doubling: 576, 640, ... 1024, 1152, ... ---------------------

constexpr int64_t cache_line = 64;
constexpr int class_count = 8 * 50;
constexpr int64_t largest_class = int64_t(1) << 58;

constexpr int64_t bytes_of_class(int c) {
  return c < 8 ? (c + 1) * cache_line : (c % 8 + 9) * (cache_line << (c / 8 - 1));
}
static_assert(bytes_of_class(7) == 512 && bytes_of_class(8) == 576 && bytes_of_class(16) == 1152);
static_assert(bytes_of_class(class_count - 1) == largest_class);

// The smallest class of at least `bytes`, 0 <= bytes <= largest_class.
int class_of_bytes(int64_t bytes) {
  int64_t lines = bytes > 0 ? (bytes - 1) / cache_line : 0;  // whole lines before the last byte's
  int doublings = 0;
#if defined(__GNUC__)
  if (lines >= 8) doublings = 60 - __builtin_clzll(uint64_t(lines));
#else
  while (lines >> doublings >= 16) ++doublings;
#endif
  return 8 * doublings + int(lines >> doublings);
}

// ---- Blocks of the operating system ---------------------------------------------------------------------------------

struct alignas(cache_line) header {
  header* next;   // in a free list
  void* mapping;  // what the system gave
  int size_class;
};
static_assert(sizeof(header) == cache_line);

header* header_of(void* block) { return static_cast<header*>(block) - 1; }

char* align_up(void* address, int64_t alignment) {
  return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(address) + uintptr_t(alignment) - 1) &
                                 ~uintptr_t(alignment - 1));
}

header* make_header(void* block, void* mapping, int size_class) {
  header* h = header_of(block);
  h->next = nullptr;
  h->mapping = mapping;
  h->size_class = size_class;
  return h;
}

#if HOMINY_HAS_MMAP
// Blocks of 2 MiB and more are mapped: aligned to a huge page, so that the first touch of 2 MiB is one page fault
// instead of 512, and given back for certain. The page before the block is mapped too, for its header.
constexpr int64_t huge_page = int64_t(2) << 20;

bool is_mapped(int size_class) { return bytes_of_class(size_class) >= huge_page; }
int64_t page_bytes() { return sysconf(_SC_PAGESIZE); }

header* map_block(int size_class) {
  const int64_t bytes = bytes_of_class(size_class), page = page_bytes();  // bytes: a multiple of 2^18, so of a page
  const int64_t reserved = page + huge_page + bytes;
  void* mapping = mmap(nullptr, size_t(reserved), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  char* const start = static_cast<char*>(mapping);
  char* const block = align_up(start + page, huge_page);
  const int64_t before = block - page - start, after = start + reserved - (block + bytes);
  if (before > 0) munmap(start, size_t(before));
  if (after > 0) munmap(block + bytes, size_t(after));
#if defined(MADV_HUGEPAGE)
  madvise(block, size_t(bytes), MADV_HUGEPAGE);
#endif
  return make_header(block, block - page, size_class);
}
#endif

header* system_allocate(int size_class) {
#if HOMINY_HAS_MMAP
  if (is_mapped(size_class)) return map_block(size_class);
#endif
  void* memory = malloc(size_t(bytes_of_class(size_class) + 2 * cache_line));
  return memory ? make_header(align_up(static_cast<char*>(memory) + sizeof(header), cache_line), memory, size_class)
                : nullptr;
}

void system_free(header* h) {
#if HOMINY_HAS_MMAP
  if (is_mapped(h->size_class)) {
    munmap(h->mapping, size_t(page_bytes() + bytes_of_class(h->size_class)));
    return;
  }
#endif
  free(h->mapping);
}

void system_free_list(header* list) {
  while (list) {
    header* next = list->next;
    system_free(list);
    list = next;
  }
}

// ---- The pool -------------------------------------------------------------------------------------------------------

int64_t default_bound() {
  if (const char* asked = getenv("HOMINY_POOL_BYTES")) {
    char* end = nullptr;
    errno = 0;
    const long long value = strtoll(asked, &end, 10);
    if (end != asked && *end == 0 && errno == 0 && value >= 0) return value;
  }
  int64_t bound = int64_t(1) << 30;
#if HOMINY_HAS_MMAP && defined(_SC_PHYS_PAGES)
  const int64_t pages = sysconf(_SC_PHYS_PAGES);
  if (pages > 0) bound = std::min(bound, pages / 8 * page_bytes());
#endif
  return bound;
}

constexpr int64_t near_from = int64_t(1) << 20;

struct pool {
  std::mutex mutex;
  header* free_blocks[class_count] = {};  // last released first
  int64_t last_use[class_count] = {};     // `clock` at the last release into the class
  int64_t clock = 0;
  pool_statistics statistics = {};

  pool() { statistics.bound_bytes = -1; }  // not asked for yet

  int64_t bound() {
    if (statistics.bound_bytes < 0) statistics.bound_bytes = default_bound();
    return statistics.bound_bytes;
  }

  header* take(int size_class) {
    header* h = free_blocks[size_class];
    if (!h) return nullptr;
    free_blocks[size_class] = h->next;
    statistics.free_bytes -= bytes_of_class(size_class);
    return h;
  }

  // The same, or one up to four times as large where blocks are large: layers of a network shrink from stage to stage,
  // and what one has left serves the next. The page faults of a fresh block cost more than the room.
  header* take_near(int size_class) {
    const int last = bytes_of_class(size_class) < near_from ? size_class : size_class + 16;
    for (int c = size_class; c <= last && c < class_count; ++c)
      if (free_blocks[c]) return take(c);
    return nullptr;
  }

  // Frees room for `bytes` more; returns what has to go. Whole sizes that a program no longer asks for go first.
  header* evict(int64_t bytes) {
    header* evicted = nullptr;
    while (statistics.free_bytes + bytes > bound()) {
      int oldest = -1;
      for (int c = 0; c < class_count; ++c)
        if (free_blocks[c] && (oldest < 0 || last_use[c] < last_use[oldest])) oldest = c;
      header* h = take(oldest);
      h->next = evicted;
      evicted = h;
    }
    return evicted;
  }
};

// Made when the library is loaded and never destroyed: blocks may come back while the process exits.
pool& blocks = *new pool;

#if HOMINY_HAS_MMAP
// A fork finds the pool between two operations, so that the child can go on using it.
[[maybe_unused]] const int fork_handlers =
    pthread_atfork([] { blocks.mutex.lock(); }, [] { blocks.mutex.unlock(); }, [] { blocks.mutex.unlock(); });
#endif

}  // namespace

void* pool_allocate(int64_t bytes) {
  if (bytes < 0 || bytes > largest_class) return nullptr;
  int size_class = class_of_bytes(bytes);
  pool_statistics& statistics = blocks.statistics;
  header* h;
  {
    std::lock_guard<std::mutex> lock(blocks.mutex);
    h = blocks.take_near(size_class);
    if (h) size_class = h->size_class;
    ++(h ? statistics.hits : statistics.misses);
    statistics.in_use_bytes += bytes_of_class(size_class);
    statistics.peak_bytes = std::max(statistics.peak_bytes, statistics.in_use_bytes);
  }
  if (!h) h = system_allocate(size_class);
  if (!h) {  // memory that free blocks hold may be what is missing
    pool_empty();
    h = system_allocate(size_class);
  }
  if (h) return h + 1;
  std::lock_guard<std::mutex> lock(blocks.mutex);
  statistics.in_use_bytes -= bytes_of_class(size_class);
  return nullptr;
}

void pool_release(void* block) {
  if (!block) return;
  header* released = header_of(block);
  const int size_class = released->size_class;
  const int64_t bytes = bytes_of_class(size_class);
  header* evicted = nullptr;
  {
    std::lock_guard<std::mutex> lock(blocks.mutex);
    blocks.statistics.in_use_bytes -= bytes;
    if (bytes > blocks.bound()) {
      released->next = nullptr;
      evicted = released;
    } else {
      evicted = blocks.evict(bytes);
      released->next = blocks.free_blocks[size_class];
      blocks.free_blocks[size_class] = released;
      blocks.last_use[size_class] = ++blocks.clock;
      blocks.statistics.free_bytes += bytes;
    }
  }
  system_free_list(evicted);
}

void pool_empty() {
  header* evicted = nullptr;
  {
    std::lock_guard<std::mutex> lock(blocks.mutex);
    for (int c = 0; c < class_count; ++c)
      while (header* h = blocks.take(c)) {
        h->next = evicted;
        evicted = h;
      }
  }
  system_free_list(evicted);
}

pool_statistics pool_get_statistics() {
  std::lock_guard<std::mutex> lock(blocks.mutex);
  blocks.bound();
  return blocks.statistics;
}

}  // namespace hominy
