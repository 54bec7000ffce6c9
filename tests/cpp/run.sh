#!/bin/sh
# Builds and runs the kernel test.
#
#   tests/cpp/run.sh native|asan|tsan|aarch64 [build folder] [arguments of kernel_test ...]
#
# native: as users compile it; asan: AddressSanitizer and UBSan; tsan: ThreadSanitizer; aarch64: cross-compiled, static,
# under qemu-aarch64. Compiling takes most of the time, so the sanitizers take one level each: the widest that this machine
# runs, and AVX2; vectors of 16 bytes are the emulator's. All but native run with --quick. Without a build folder a
# temporary one is used and removed.
set -eu
kind=${1:?usage: run.sh native|asan|tsan|aarch64 [build folder] [arguments of kernel_test ...]}
shift
here=$(cd "$(dirname "$0")" && pwd)

configure= options=--quick emulator= widest= avx2=
if [ "$(uname -m)" = x86_64 ]; then
  avx2=-DHOMINY_LEVELS=avx2 widest=-DHOMINY_LEVELS=avx2
  if grep -qw avx512vl /proc/cpuinfo; then widest=-DHOMINY_LEVELS=avx512; fi
fi
case $kind in
  native) options= ;;
  asan) configure="-DHOMINY_SANITIZE=address,undefined $widest" ;;
  tsan) configure="-DHOMINY_SANITIZE=thread $avx2" ;;
  aarch64)
    configure=-DCMAKE_TOOLCHAIN_FILE=aarch64.cmake
    options='--quick --no-fork' # qemu-user cannot start threads in a forked child
    emulator=qemu-aarch64
    ;;
  *)
    echo "run.sh: unknown kind '$kind'" >&2
    exit 2
    ;;
esac

case ${1:---} in
  --*)
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
    ;;
  *)
    build=$1
    shift
    mkdir -p "$build"
    ;;
esac

generator=
if command -v ninja >/dev/null; then generator=-GNinja; fi
cmake -S "$here" -B "$build" $generator $configure >"$build/configure.log" || {
  cat "$build/configure.log"
  exit 1
}
cmake --build "$build" --parallel "${HOMINY_BUILD_JOBS:-2}"
# The pools are leaked on purpose; threads in a child of a fork are more than ThreadSanitizer promises to follow.
ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=die_after_fork=0 UBSAN_OPTIONS=print_stacktrace=1 \
  $emulator "$build/kernel_test" $options "$@"
