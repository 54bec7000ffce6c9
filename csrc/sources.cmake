# Which sources there are and how they are compiled: read by the extension's build and by tests/cpp.
#
# Kernel units are compiled once per ISA level, each time into a namespace of its own (HOMINY_LEVEL); the level is chosen
# at run time (cpu/isa_select.cpp). Adding a kernel file means adding its name here.

set(HOMINY_CSRC_DIR ${CMAKE_CURRENT_LIST_DIR})

set(HOMINY_KERNEL_SOURCES
    cpu/activation.cpp
    cpu/conv.cpp
    cpu/conv_depthwise.cpp
    cpu/conv_grouped.cpp
    cpu/conv_product.cpp
    cpu/conv_weight_gradient.cpp
    cpu/conv_winograd.cpp
    cpu/dropout.cpp
    cpu/elementwise.cpp
    cpu/embedding.cpp
    cpu/interpolate.cpp
    cpu/kernel_table.cpp
    cpu/loss.cpp
    cpu/matmul.cpp
    cpu/matmul_dots.cpp
    cpu/matmul_tile.cpp
    cpu/normalization.cpp
    cpu/optimizer.cpp
    cpu/pool.cpp
    cpu/recurrent.cpp
    cpu/recurrent_backward.cpp
    cpu/recurrent_problem.cpp
    cpu/reduce.cpp
    cpu/softmax.cpp)
set(HOMINY_ONCE_SOURCES
    cpu/isa_select.cpp
    cpu/memory_pool.cpp
    cpu/parallel_for.cpp)
list(TRANSFORM HOMINY_KERNEL_SOURCES PREPEND ${HOMINY_CSRC_DIR}/)
list(TRANSFORM HOMINY_ONCE_SOURCES PREPEND ${HOMINY_CSRC_DIR}/)

# HOMINY_STRICT: warnings are errors (a user's newer compiler must never be refused, so it is off by default).
option(HOMINY_STRICT "Treat warnings as errors" "$ENV{HOMINY_STRICT}")

# No -ffast-math: an object linked with it changes the floating-point mode of the whole process. No errno and no traps is
# what lets loops over sqrt and comparisons vectorise; neither changes a result.
# Kernels throw nothing and are not unwound.
set(HOMINY_KERNEL_FLAGS -ffp-contract=fast -fno-math-errno -fno-trapping-math -fno-exceptions -fno-rtti
    -fno-asynchronous-unwind-tables)
set(HOMINY_COMMON_FLAGS -Wall -Wextra $<$<BOOL:${HOMINY_STRICT}>:-Werror>)

set(HOMINY_FLAGS_baseline)
set(HOMINY_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(HOMINY_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512)
set(HOMINY_FLAGS_neon)

# The baseline is for processors from before 2013: -Os is 0.2 MB less, and half as fast in what is not named below (products
# keep -O2). Everywhere else -O3 is worth its size: with AVX-512 sums are 1.3 to 2 times and `where` 4 times as fast as at
# -O2, products the same.
set(HOMINY_OPTIMIZE_baseline -Os)
set(HOMINY_OPTIMIZE_avx2 -O3)
set(HOMINY_OPTIMIZE_avx512 -O3)
set(HOMINY_OPTIMIZE_neon -O3)

# A file's own flags come last, so they stay away where sanitizers set the level.
if(NOT HOMINY_SANITIZE)
  # Products write their vectors out: -O2 is as fast there and half the size.
  file(GLOB compact ${HOMINY_CSRC_DIR}/cpu/conv*.cpp ${HOMINY_CSRC_DIR}/cpu/matmul*.cpp
       ${HOMINY_CSRC_DIR}/cpu/recurrent*.cpp)
  set_source_files_properties(${compact} PROPERTIES COMPILE_OPTIONS -O2)
  # These say themselves which loops to unroll: at -O2 they are as fast (0.95 to 1.05), and 0.4 MB smaller together.
  set_source_files_properties(${HOMINY_CSRC_DIR}/cpu/reduce.cpp ${HOMINY_CSRC_DIR}/cpu/softmax.cpp
                              PROPERTIES COMPILE_OPTIONS -O2)
  set_source_files_properties(${HOMINY_CSRC_DIR}/cpu/loss.cpp PROPERTIES COMPILE_OPTIONS "-O2;-funswitch-loops")
endif()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(levels baseline avx2 avx512)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  set(levels neon)
else()
  set(levels baseline)
endif()
set(HOMINY_LEVELS "${levels}" CACHE STRING "ISA levels to compile")

# hominy_add_kernels(target): compiles every kernel and links it into `target`, one object library per ISA level and one for
# the rest. Extra arguments are compile flags for all of them (sanitizers).
function(hominy_add_kernels target)
  find_package(Threads REQUIRED)
  foreach(level IN LISTS HOMINY_LEVELS ITEMS once)
    set(library ${target}_${level})
    if(level STREQUAL once)
      add_library(${library} OBJECT ${HOMINY_ONCE_SOURCES})
      target_compile_options(${library} PRIVATE -O2)
      foreach(has IN LISTS HOMINY_LEVELS)
        target_compile_definitions(${library} PRIVATE HOMINY_HAS_${has})
      endforeach()
    else()
      add_library(${library} OBJECT ${HOMINY_KERNEL_SOURCES})
      target_compile_options(${library} PRIVATE ${HOMINY_KERNEL_FLAGS} ${HOMINY_OPTIMIZE_${level}} ${HOMINY_FLAGS_${level}})
      target_compile_definitions(${library} PRIVATE HOMINY_LEVEL=${level})
    endif()
    target_include_directories(${library} PRIVATE ${HOMINY_CSRC_DIR}/include ${HOMINY_CSRC_DIR}/cpu)
    target_compile_options(${library} PRIVATE ${HOMINY_COMMON_FLAGS} ${ARGN})
    set_target_properties(
      ${library}
      PROPERTIES CXX_STANDARD 17
                 CXX_STANDARD_REQUIRED ON
                 CXX_EXTENSIONS OFF
                 CXX_VISIBILITY_PRESET hidden
                 VISIBILITY_INLINES_HIDDEN ON
                 POSITION_INDEPENDENT_CODE ON
                 INTERPROCEDURAL_OPTIMIZATION OFF) # code of one level must not be inlined into another's
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${library}>)
  endforeach()
  target_include_directories(${target} PRIVATE ${HOMINY_CSRC_DIR}/include ${HOMINY_CSRC_DIR}/cpu)
  target_link_libraries(${target} PRIVATE Threads::Threads)
endfunction()
