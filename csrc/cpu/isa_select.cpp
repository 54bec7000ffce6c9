// Chooses the ISA level: detects what CPU and operating system can run, honours HOMINY_ISA, hands out the table.
#include <stdlib.h>
#include <string.h>

#include "hominy.h"

namespace hominy {
namespace avx512 {
const hominy_kernels* kernel_table();
}
namespace avx2 {
const hominy_kernels* kernel_table();
}
namespace neon {
const hominy_kernels* kernel_table();
}
namespace baseline {
const hominy_kernels* kernel_table();
}

namespace {

struct level {
  const char* name;
  const hominy_kernels* (*table)();
  bool (*runs_here)();
};

[[maybe_unused]] bool always() { return true; }

// The widest first, of those that the build says it has compiled (sources.cmake). __builtin_cpu_supports asks CPUID and
// XGETBV: a feature counts only if the operating system saves its registers.
const level levels[] = {
#ifdef HOMINY_HAS_avx512
    {"avx512", avx512::kernel_table,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
     }},
#endif
#ifdef HOMINY_HAS_avx2
    {"avx2", avx2::kernel_table, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
#ifdef HOMINY_HAS_neon
    {"neon", neon::kernel_table, always},
#endif
#ifdef HOMINY_HAS_baseline
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
