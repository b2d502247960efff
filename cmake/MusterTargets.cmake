# How every folder declares its targets: one library a folder, tests beside the code.

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(GTest REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)  # pkg-config takes 15 s to resolve grpc++, this takes none
find_package(PkgConfig REQUIRED)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)

set(MUSTER_SANITIZE "" CACHE STRING "address (ASan and UBSan), thread, fuzzer (address, for libFuzzer), or empty")
option(MUSTER_WERROR "Warnings are errors" ON)

add_library(muster_flags INTERFACE)
target_include_directories(muster_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_link_libraries(muster_flags INTERFACE Threads::Threads)
# No contraction: a multiply and an add stay two roundings, on every compiler and processor. -pthread as GoogleTest and gRPC have it:
# headers that are parsed once need the same flags everywhere.
target_compile_options(muster_flags INTERFACE -Wall -Wextra -Wno-missing-field-initializers -ffp-contract=off -pthread)
# gRPC names some 70 shared libraries; a program that loads only those it needs starts 10 ms sooner.
target_link_options(muster_flags INTERFACE -Wl,--as-needed)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(muster_flags INTERFACE -Wthread-safety -Wno-unknown-pragmas)  # thread_annotations.h; g++'s hints
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Of precompiled headers g++ 12 does not know that they are the system's, and it sees writes past the end of a std::string there.
  target_compile_options(muster_flags INTERFACE -Wno-array-bounds)
endif()
if(MUSTER_WERROR)
  target_compile_options(muster_flags INTERFACE -Werror)
endif()
set(hardly_optimised -O1)
if(MUSTER_SANITIZE)
  set(hardly_optimised -O0)
  # Of UBSan not what it asks at every access of a member, which takes half of the time to compile (a null pointer is fatal anyway; the
  # fuzzers keep the checks of alignment), nor what compares types of C++ with those of libraries that clang has not compiled.
  set(address_flags -fsanitize=address,undefined -fno-sanitize=null,object-size,vptr,function -fno-sanitize-recover=all)
  if(MUSTER_SANITIZE STREQUAL "address")
    set(sanitizer_flags ${address_flags} -fno-sanitize=alignment)
  elseif(MUSTER_SANITIZE STREQUAL "fuzzer")
    set(sanitizer_flags -fsanitize=fuzzer-no-link ${address_flags})
  elseif(MUSTER_SANITIZE STREQUAL "thread")
    set(sanitizer_flags -fsanitize=thread)
  endif()
  target_compile_options(muster_flags INTERFACE ${sanitizer_flags} -fno-omit-frame-pointer)
  target_link_options(muster_flags INTERFACE ${sanitizer_flags})
endif()

# Headers that most sources include are parsed once for all that have the same flags. Every source names what it uses all the same:
# `make lint` compiles without these.
set(common_headers <algorithm> <atomic> <chrono> <condition_variable> <deque> <filesystem> <fstream> <functional> <map> <memory> <mutex>
    <optional> <set> <span> <string> <string_view> <thread> <utility> <variant> <vector>
    <fmt/format.h> <nlohmann/json.hpp> <spdlog/spdlog.h> <tl/expected.hpp>)
function(muster_precompile name)
  target_link_libraries(${name} PRIVATE muster_flags fmt::fmt nlohmann_json::nlohmann_json spdlog::spdlog ${ARGN})
  target_precompile_headers(${name} PRIVATE ${common_headers})
endfunction()
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/precompiled.cc CONTENT "int main() {}\n")
add_library(precompiled OBJECT EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/precompiled.cc)
muster_precompile(precompiled)
add_library(precompiled_hardly_optimised OBJECT EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/precompiled.cc)
muster_precompile(precompiled_hardly_optimised)
target_compile_options(precompiled_hardly_optimised PRIVATE ${hardly_optimised})
add_executable(precompiled_tests EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/precompiled.cc)  # a program, since -fPIE is none of a library's flags
muster_precompile(precompiled_tests GTest::gmock)
target_precompile_headers(precompiled_tests PRIVATE <gmock/gmock.h> <gtest/gtest.h>)
target_compile_options(precompiled_tests PRIVATE ${hardly_optimised})

# muster_library(NAME [OPTIMISED] SOURCES a.cc ... DEPS target ... [PRECOMPILE headers instead of the common ones])
# What computes is OPTIMISED; the rest only waits for others, and takes half of the time to compile so.
function(muster_library name)
  cmake_parse_arguments(ARG "OPTIMISED" "" "SOURCES;DEPS;PRECOMPILE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC muster_flags ${ARG_DEPS})
  set(precompiled precompiled)
  if(NOT ARG_OPTIMISED)
    target_compile_options(${name} PRIVATE ${hardly_optimised})
    set(precompiled precompiled_hardly_optimised)
  endif()
  if(ARG_PRECOMPILE)
    target_precompile_headers(${name} PRIVATE ${ARG_PRECOMPILE})
  else()
    target_precompile_headers(${name} REUSE_FROM ${precompiled})
  endif()
  set_property(GLOBAL APPEND PROPERTY MUSTER_LIBRARIES ${name})
endfunction()

# Tests are not part of `all`: most of the time that a release build would take went into tests that run under sanitizers only.
# tsan_tests are those that run under ThreadSanitizer too: of code with threads of its own (THREADS), and without gRPC, whose Debian
# library is not instrumented and would be blamed for races that it does not have.
add_custom_target(all_tests)
add_custom_target(tsan_tests)

# muster_test(NAME [OPTIMISED] [THREADS] LABEL unit|scenario SOURCES a_test.cc ... DEPS target ...)
function(muster_test name)
  cmake_parse_arguments(ARG "OPTIMISED;THREADS" "LABEL;TIMEOUT" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)  # ends what hangs; other loads may make a machine ten times slower
  endif()
  add_executable(${name} EXCLUDE_FROM_ALL ${ARG_SOURCES})
  add_dependencies(all_tests ${name})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  if(NOT ARG_OPTIMISED)
    target_compile_options(${name} PRIVATE ${hardly_optimised})
    target_precompile_headers(${name} REUSE_FROM precompiled_tests)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(ARG_THREADS)
    list(APPEND ARG_LABEL tsan)
    add_dependencies(tsan_tests ${name})
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABEL}" TIMEOUT ${ARG_TIMEOUT})
endfunction()

# muster_on_standins(NAME): the test finds a CUDA driver and NCCL and cuBLAS that need no GPU (tests/cuda).
set(muster_standins "NCCL_MULTI_RANK_GPU_ENABLE=1;MUSTER_LIBCUDA=$<TARGET_FILE:cuda_standin>;MUSTER_LIBNCCL=$<TARGET_FILE:nccl_standin>;MUSTER_LIBCUBLAS=$<TARGET_FILE:cublas_standin>")
function(muster_on_standins name)
  add_dependencies(${name} cuda_standin nccl_standin cublas_standin)
  set_tests_properties(${name} PROPERTIES ENVIRONMENT "${muster_standins}")
endfunction()

# muster_on_ptx(NAME FILTER): these tests of a program on stand-ins once more, with what nvcc has made of the kernels (tests/cuda/ptx.h).
function(muster_on_ptx name filter)
  if(NOT MUSTER_NVCC)
    return()
  endif()
  add_test(NAME ${name}_on_ptx COMMAND ${name} --gtest_filter=${filter} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name}_on_ptx PROPERTIES LABELS unit TIMEOUT 600 ENVIRONMENT "${muster_standins};MUSTER_STANDIN_PTX=1")
endfunction()
