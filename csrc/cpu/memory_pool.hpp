// The memory pool: 64-byte aligned blocks for large outputs and for scratch, kept for the next call instead of being
// handed back to the operating system (whose page faults cost more than most kernels that fill the block).
//
// Small sizes are rounded up to classes, eight a doubling: at most 12.5% is wasted. The block released last is given out
// first, since the caches still hold it. From 1 MiB on sizes are whole pages, and blocks are cut from larger free ones
// and joined again. Free blocks are kept up to a bound (HOMINY_POOL_BYTES, else 1 GiB or an eighth of physical memory,
// whichever is less); beyond it the size class that was unused for longest goes first. Thread-safe; usable after a fork.
#pragma once
#include <stdint.h>

namespace hominy {

// A block of at least `bytes` bytes, 64-byte aligned (from 1 MiB on page aligned), or nullptr when there is no memory or
// bytes < 0. Contents are unspecified. 0 bytes give a valid block too.
void* pool_allocate(int64_t bytes);
// Takes back what pool_allocate gave; nullptr is fine.
void pool_release(void* block);
// Hands every free block to the operating system.
void pool_empty();

// Bytes are those of whole blocks. peak: the most ever in use at once. A hit is an allocation that a free block
// served.
struct pool_statistics {
  int64_t in_use_bytes, free_bytes, bound_bytes, peak_bytes;
  int64_t hits, misses;
};
pool_statistics pool_get_statistics();

}  // namespace hominy
