// Tests the kernels through the table of include/hominy.h, with nothing but the C++ library: so it runs under
// sanitizers and, cross-compiled, under an emulator. Every ISA level that this machine runs is tested against
// straightforward loops in long double, within the error bounds that the kernels' headers state.
//
//   kernel_test [--quick] [--no-fork] [--level avx2] [--family matmul]
//
// Prints a line for each group of checks and closes with "N passed, M failed"; exits with 1 if anything failed.
#include <stddef.h>

#include "check.hpp"

namespace test {
namespace {
std::string group_name;
int64_t group_passed, group_failed, all_passed, all_failed;
constexpr int64_t shown_failures = 10;
}  // namespace

void begin_group(const std::string& name) {
  group_name = name;
  group_passed = group_failed = 0;
}

void end_group() {
  printf("%-44s %7lld passed", group_name.c_str(), (long long)group_passed);
  if (group_failed) printf(", %lld FAILED", (long long)group_failed);
  printf("\n");
  fflush(stdout);
  all_passed += group_passed;
  all_failed += group_failed;
}

bool check(bool ok, const char* format, ...) {
  ++(ok ? group_passed : group_failed);
  if (!ok && group_failed <= shown_failures) {
    printf("  FAILED %s: ", group_name.c_str());
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    if (group_failed == shown_failures) printf("  (further failures of this group are only counted)\n");
  }
  return ok;
}

int level::lanes(int32_t dtype) const {
  const std::string isa = kernels->isa;
  const int bytes = isa == "avx512" ? 64 : isa == "avx2" ? 32 : 16;
  return bytes / (dtype == HOMINY_FLOAT32 ? 4 : 8);
}

std::vector<int64_t> level::sizes(int32_t dtype) const {
  const int n = lanes(dtype);
  std::vector<int64_t> all = {0, 1, 2, n - 1, n, n + 1, 4 * n + 3, 97};
  if (!settings.quick) all.insert(all.end(), {3, 5, 31, 2 * n - 1, 8 * n, 251, 1009});
  return all;
}

void table_test(const level& here, const char* name) {
  const hominy_kernels& k = *here.kernels;
  begin_group(std::string("table ") + name);
  check(k.abi_version == HOMINY_ABI_VERSION, "abi_version is %d", k.abi_version);
  check(std::string(k.isa) == name, "the table of %s says it is %s", name, k.isa);
  // All members after these two are function pointers.
  const auto* words = reinterpret_cast<const unsigned char*>(&k);
  for (size_t at = offsetof(hominy_kernels, matmul_workspace_size); at < sizeof k; at += sizeof(void*)) {
    void* entry;
    memcpy(&entry, words + at, sizeof entry);
    check(entry != nullptr, "the entry at byte %zu is empty", at);
  }
  end_group();
}

struct family {
  const char* name;
  void (*run)(const level&);
};
constexpr family families[] = {{"elementwise", elementwise_test},
                               {"reduce", reduce_test},
                               {"softmax", softmax_test},
                               {"loss", loss_test},
                               {"layer_norm", layer_norm_test},
                               {"channel_norm", channel_norm_test},
                               {"embedding", embedding_test},
                               {"dropout", dropout_test},
                               {"interpolate", interpolate_test},
                               {"pool", pool_test},
                               {"optimizer", optimizer_test},
                               {"matmul", matmul_test},
                               {"recurrent", recurrent_test},
                               {"conv_depthwise", conv_depthwise_test},
                               {"conv", conv_test},
                               {"conv_winograd", conv_winograd_test}};

}  // namespace test

int main(int argc, char** argv) {
  using namespace test;
  options settings;
  std::string wanted_level, wanted_family;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--quick") {
      settings.quick = true;
    } else if (argument == "--no-fork") {
      settings.fork = false;
    } else if (argument == "--level" && i + 1 < argc) {
      wanted_level = argv[++i];
    } else if (argument == "--family" && i + 1 < argc) {
      wanted_family = argv[++i];
    } else {
      fprintf(stderr, "usage: %s [--quick] [--no-fork] [--level NAME] [--family NAME]\n", argv[0]);
      return 2;
    }
  }
  const auto wanted = [&](const char* family) { return wanted_family.empty() || wanted_family == family; };

  bool found = false;
  // First, while this process has not yet asked how many threads it has.
  if (wanted("parallel_for")) found = true, parallel_for_test(settings);
  if (wanted("memory_pool")) found = true, memory_pool_test(settings);
  for (const char* name : {"baseline", "avx2", "avx512", "neon"}) {
    if (!wanted_level.empty() && wanted_level != name) continue;
    const level here{hominy_get_kernels_for(name), settings};
    if (!here.kernels) continue;
    table_test(here, name);
    for (const family& each : families)
      if (wanted(each.name)) found = true, each.run(here);
  }
  printf("%lld passed, %lld failed\n", (long long)all_passed, (long long)all_failed);
  if (!found) fprintf(stderr, "nothing of that name to test here\n");
  return all_failed != 0 || !found;
}
