// One list of free blocks a size class, under one mutex. A header of 64 bytes lies before each block, so that neither the
// lists nor the sizes need memory of their own.
//
// Small blocks are malloc's and keep their size. Large ones are pieces of one range of addresses that grows at its end:
// the smallest free block that is large enough is cut to the size asked for, a released one is joined with its free
// neighbours, and where none is large enough a free one at the end is extended. Layers of a network differ in size, and
// what one has left serves the next in parts: MobileNetV2's prediction at batch 8, of which 84 MB are in use at the
// peak, holds 96 MB that way; 127 MB where every miss is a mapping of its own, 171 MB in blocks of fixed sizes.
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

// The class in whose list a free block of `bytes` is kept: all there have at least the class's bytes.
int class_within_bytes(int64_t bytes) {
  const int size_class = class_of_bytes(bytes);
  return bytes_of_class(size_class) > bytes ? size_class - 1 : size_class;
}

// ---- Blocks of the operating system ---------------------------------------------------------------------------------

struct alignas(cache_line) header {
  int64_t bytes;                                // of the block; of a large one whole pages
  void* memory = nullptr;                       // what malloc gave; nothing for a large one
  header *next = nullptr, *previous = nullptr;  // in the list of free blocks
  header *before = nullptr, *after = nullptr;   // a large one's neighbours
  bool is_free = false;
};
static_assert(sizeof(header) == cache_line);

char* block_of(header* h) { return reinterpret_cast<char*>(h + 1); }
header* header_of(void* block) { return static_cast<header*>(block) - 1; }

char* align_up(void* address, int64_t alignment) {
  return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(address) + uintptr_t(alignment) - 1) &
                                 ~uintptr_t(alignment - 1));
}

#if HOMINY_HAS_MMAP
constexpr int64_t large_from = int64_t(1) << 20;
constexpr int64_t huge_page = int64_t(2) << 20;

int64_t page_bytes() {
  static const int64_t bytes = sysconf(_SC_PAGESIZE);
  return bytes;
}

int64_t physical_bytes() {
#if defined(_SC_PHYS_PAGES)
  if (const int64_t pages = sysconf(_SC_PHYS_PAGES); pages > 0) return pages * page_bytes();
#endif
  return int64_t(8) << 30;
}

// The bytes of a block that holds `bytes`.
int64_t block_bytes(int64_t bytes) {
  const int64_t page = page_bytes();
  return bytes < large_from ? bytes_of_class(class_of_bytes(bytes)) : (bytes + page - 1) / page * page;
}

// Reserved addresses, of which those below `end` are in use; pages that nobody has touched have no memory yet. They are
// opened by whole huge pages, so that the first touch of 2 MiB is one page fault instead of 512: the system gives none
// of which a part is closed.
struct address_range {
  char *end = nullptr, *opened = nullptr, *limit = nullptr;
  header* last = nullptr;  // the block before `end`, if it is still there

  bool has(int64_t bytes) const { return bytes <= limit - end; }
  bool open(int64_t bytes) {
    if (end + bytes > opened) {
      char* const until = std::min(align_up(end + bytes, huge_page), limit);
      if (mprotect(opened, size_t(until - opened), PROT_READ | PROT_WRITE) != 0) {
        close();  // perhaps absurdly large, for the sake of this block
        return false;
      }
      opened = until;
    }
    end += bytes;
    return true;
  }
  // Another range, of as many addresses as there is memory; what is left of this one is given up.
  bool reserve(int64_t bytes) { return map(std::max(bytes, physical_bytes())) || map(bytes); }

 private:
  bool map(int64_t bytes) {
    const int64_t all = bytes + huge_page;
    // Not MAP_NORESERVE: with it the system would not refuse, in `open`, what is more than there is.
    void* const mapping = mmap(nullptr, size_t(all), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return false;
    close();
    end = opened = align_up(mapping, huge_page);
    limit = end + bytes;
#if defined(MADV_HUGEPAGE)
    madvise(end, size_t(bytes), MADV_HUGEPAGE);
#endif
    return true;
  }
  void close() {
    if (limit > end) munmap(end, size_t(limit - end));
    opened = limit = end;
    last = nullptr;
  }
};

#else  // every block is small
constexpr int64_t large_from = INT64_MAX / 2;
int64_t page_bytes() { return 1; }
int64_t physical_bytes() { return int64_t(8) << 30; }
int64_t block_bytes(int64_t bytes) { return bytes_of_class(class_of_bytes(bytes)); }
struct address_range {
  char* end = nullptr;
  header* last = nullptr;
  bool has(int64_t) const { return false; }
  bool open(int64_t) { return false; }
  bool reserve(int64_t) { return false; }
};
#endif

header* small_block(int64_t bytes) {
  void* const memory = malloc(size_t(bytes + 2 * cache_line));
  return memory ? new (align_up(memory, cache_line)) header{bytes, memory} : nullptr;
}

void system_free(header* h) {
#if HOMINY_HAS_MMAP
  if (!h->memory) {  // its neighbours, if any, stay mapped
    munmap(block_of(h) - page_bytes(), size_t(page_bytes() + h->bytes));
    return;
  }
#endif
  free(h->memory);
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
  return std::min(int64_t(1) << 30, physical_bytes() / 8);
}

struct pool {
  std::mutex mutex;
  header* free_blocks[class_count] = {};  // last released first
  int64_t last_use[class_count] = {};     // `clock` at the last release into the class
  int64_t clock = 0;
  address_range range;
  pool_statistics statistics = {};

  pool() { statistics.bound_bytes = -1; }  // not asked for yet

  int64_t bound() {
    if (statistics.bound_bytes < 0) statistics.bound_bytes = default_bound();
    return statistics.bound_bytes;
  }

  void add(header* h) {
    const int size_class = class_within_bytes(h->bytes);
    header*& first = free_blocks[size_class];
    h->is_free = true;
    h->previous = nullptr;
    h->next = first;
    if (first) first->previous = h;
    first = h;
    last_use[size_class] = ++clock;
    statistics.free_bytes += h->bytes;
  }

  void remove(header* h) {
    if (h->next) h->next->previous = h->previous;
    (h->previous ? h->previous->next : free_blocks[class_within_bytes(h->bytes)]) = h->next;
    h->is_free = false;
    h->next = nullptr;
    statistics.free_bytes -= h->bytes;
  }

  // Cuts a large block to `bytes`, whole pages. The rest, a large block of its own after the page that holds its header,
  // or nullptr where it would be small: then it stays.
  header* cut(header* h, int64_t bytes) {
    const int64_t page = page_bytes(), rest = h->bytes - bytes - page;
    if (rest < large_from) return nullptr;
    header* const after = new (header_of(block_of(h) + bytes + page)) header{rest};
    after->before = h;
    after->after = h->after;
    if (h->after) h->after->before = after;
    if (range.last == h) range.last = after;
    h->after = after;
    h->bytes = bytes;
    return after;
  }

  // Adds to a large block the one after it.
  void join(header* h) {
    header* const joined = h->after;
    h->bytes += page_bytes() + joined->bytes;
    h->after = joined->after;
    if (h->after) h->after->before = h;
    if (range.last == joined) range.last = h;
  }

  // A free block for `bytes`, of block_bytes; nullptr if there is none.
  header* take(int64_t bytes) {
    header* best = nullptr;
    for (int c = class_within_bytes(bytes); c < class_count && !best; ++c) {
      for (header* h = free_blocks[c]; h; h = h->next)
        if (h->bytes >= bytes && (!best || h->bytes < best->bytes)) {
          best = h;
          if (h->bytes == bytes) break;
        }
      if (bytes < large_from) break;
    }
    if (!best) return nullptr;
    remove(best);
    if (header* rest = cut(best, bytes)) add(rest);
    return best;
  }

  // A large block at the end of all others, of the last one if that is free; nullptr if there is no memory.
  header* grow(int64_t bytes) {
    const int64_t page = page_bytes();
    bool extends = range.last && range.last->is_free;
    int64_t more = extends ? bytes - range.last->bytes : page + bytes;
    if (!range.has(more)) {
      if (!range.reserve(page + bytes)) return nullptr;
      extends = false;
      more = page + bytes;
    }
    char* const end = range.end;
    if (!range.open(more)) return nullptr;
    if (extends) {
      remove(range.last);
      range.last->bytes = bytes;
      return range.last;
    }
    header* const h = new (header_of(end + page)) header{bytes};
    h->before = range.last;
    if (h->before) h->before->after = h;
    return range.last = h;
  }

  // Adds a block to the free ones, joined with those beside it.
  void put(header* h) {
    if (h->after && h->after->is_free) {
      remove(h->after);
      join(h);
    }
    if (h->before && h->before->is_free) {
      h = h->before;
      remove(h);
      join(h);
    }
    add(h);
  }

  // Adds a block that is not free to `list`, of those that the system takes back.
  void give_back(header* h, header*& list) {
    if (h->before) h->before->after = nullptr;
    if (h->after) h->after->before = nullptr;
    if (range.last == h) range.last = nullptr;
    h->next = list;
    list = h;
  }

  // Frees room for `bytes` more; returns what has to go. Whole sizes that a program no longer asks for go first.
  header* evict(int64_t bytes) {
    header* evicted = nullptr;
    while (statistics.free_bytes + bytes > bound()) {
      int oldest = -1;
      for (int c = 0; c < class_count; ++c)
        if (free_blocks[c] && (oldest < 0 || last_use[c] < last_use[oldest])) oldest = c;
      header* h = free_blocks[oldest];
      remove(h);
      const int64_t page = page_bytes(), excess = statistics.free_bytes + h->bytes + bytes - bound();
      const int64_t kept = (h->bytes - std::max(excess, large_from + page)) / page * page;
      if (kept >= large_from) {
        header* const rest = cut(h, kept);
        add(h);
        h = rest;
      }
      give_back(h, evicted);
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
  bytes = block_bytes(bytes);
  pool_statistics& statistics = blocks.statistics;
  header* h;
  {
    std::lock_guard<std::mutex> lock(blocks.mutex);
    h = blocks.take(bytes);
    if (h) bytes = h->bytes;
    ++(h ? statistics.hits : statistics.misses);
    statistics.in_use_bytes += bytes;
    statistics.peak_bytes = std::max(statistics.peak_bytes, statistics.in_use_bytes);
  }
  const auto fresh = [&] {
    if (bytes < large_from) return small_block(bytes);
    std::lock_guard<std::mutex> lock(blocks.mutex);
    return blocks.grow(bytes);
  };
  if (!h) h = fresh();
  if (!h) {  // memory that free blocks hold may be what is missing
    pool_empty();
    h = fresh();
  }
  if (h) return block_of(h);
  std::lock_guard<std::mutex> lock(blocks.mutex);
  statistics.in_use_bytes -= bytes;
  return nullptr;
}

void pool_release(void* block) {
  if (!block) return;
  header* const released = header_of(block);
  header* evicted = nullptr;
  {
    std::lock_guard<std::mutex> lock(blocks.mutex);
    blocks.statistics.in_use_bytes -= released->bytes;
    // Joined with two neighbours, a large block has the pages of two headers besides.
    const int64_t room = released->bytes + (released->bytes < large_from ? 0 : 2 * page_bytes());
    if (room > blocks.bound()) {
      blocks.give_back(released, evicted);
    } else {
      evicted = blocks.evict(room);
      blocks.put(released);
    }
  }
  system_free_list(evicted);
}

void pool_empty() {
  header* evicted = nullptr;
  {
    std::lock_guard<std::mutex> lock(blocks.mutex);
    for (header*& first : blocks.free_blocks)
      while (header* h = first) {
        blocks.remove(h);
        blocks.give_back(h, evicted);
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
