#!/bin/sh
# Builds and runs the kernel test.
#
#   tests/cpp/run.sh native|asan|tsan|aarch64 [build folder] [arguments of kernel_test ...]
#
# native: as users compile it; asan: AddressSanitizer and UBSan; tsan: ThreadSanitizer, one level (those of wide
# vectors share their work alike); aarch64: cross-compiled, static, under qemu-aarch64. All but native run with --quick. Without a build
# folder a temporary one is used and removed.
set -eu
kind=${1:?usage: run.sh native|asan|tsan|aarch64 [build folder] [arguments of kernel_test ...]}
shift
here=$(cd "$(dirname "$0")" && pwd)

configure= options=--quick emulator= one_level=
if [ "$(uname -m)" = x86_64 ]; then one_level=-DHOMINY_LEVELS=avx2; fi
case $kind in
  native) options= ;;
  asan) configure=-DHOMINY_SANITIZE=address,undefined ;;
  tsan) configure="-DHOMINY_SANITIZE=thread $one_level" ;;
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
