// Chooses the ISA level: detects what CPU and operating system can run, honours HOMINY_ISA, hands out the table.
#include <stdlib.h>
#include <string.h>

#include "hominy.h"

namespace hominy {
#define HOMINY_DECLARE_LEVEL(level)     \
  namespace level {                     \
  const hominy_kernels* kernel_table(); \
  }
#if defined(__x86_64__) || defined(_M_X64)
HOMINY_DECLARE_LEVEL(baseline)
HOMINY_DECLARE_LEVEL(avx2)
HOMINY_DECLARE_LEVEL(avx512)
#elif defined(__aarch64__)
HOMINY_DECLARE_LEVEL(neon)
#else
HOMINY_DECLARE_LEVEL(baseline)
#endif

namespace {

struct level {
  const char* name;
  const hominy_kernels* (*table)();
  bool (*runs_here)();
};

bool always() { return true; }

// __builtin_cpu_supports asks CPUID and XGETBV: a feature counts only if the operating system saves its registers.
const level levels[] = {
#if defined(__x86_64__) || defined(_M_X64)
    {"avx512", avx512::kernel_table,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
     }},
    {"avx2", avx2::kernel_table, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
    {"baseline", baseline::kernel_table, always},
#elif defined(__aarch64__)
    {"neon", neon::kernel_table, always},
#else
    {"baseline", baseline::kernel_table, always},
#endif
};

}  // namespace
}  // namespace hominy

extern "C" const hominy_kernels* hominy_get_kernels_for(const char* isa) {
  for (const auto& level : hominy::levels)
    if (strcmp(level.name, isa) == 0 && level.runs_here()) return level.table();
  return nullptr;
}

// The widest level this machine runs, unless HOMINY_ISA names another one; an unknown or unrunnable name is ignored
// here and reported by the binding, which can raise.
extern "C" const hominy_kernels* hominy_get_kernels(void) {
  const char* forced = getenv("HOMINY_ISA");
  if (forced && *forced)
    if (const hominy_kernels* table = hominy_get_kernels_for(forced)) return table;
  for (const auto& level : hominy::levels)
    if (level.runs_here()) return level.table();
  return nullptr;  // not reached: the last level always runs
}
