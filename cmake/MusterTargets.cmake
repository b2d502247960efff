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
# No contraction: a multiply and an add stay two roundings, on every compiler and processor.
target_compile_options(muster_flags INTERFACE -Wall -Wextra -Wno-missing-field-initializers -ffp-contract=off)
# gRPC names some 70 shared libraries; a program that loads only those it needs starts 10 ms sooner.
target_link_options(muster_flags INTERFACE -Wl,--as-needed)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(muster_flags INTERFACE -Wthread-safety -Wno-unknown-pragmas)  # thread_annotations.h; g++'s hints
endif()
if(MUSTER_WERROR)
  target_compile_options(muster_flags INTERFACE -Werror)
endif()
if(MUSTER_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # The instrumentation hides from g++ 12 that a std::variant is initialised; the release build still checks it.
  target_compile_options(muster_flags INTERFACE -Wno-maybe-uninitialized)
endif()
if(MUSTER_SANITIZE STREQUAL "address")
  target_compile_options(muster_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(muster_flags INTERFACE -fsanitize=address,undefined)
elseif(MUSTER_SANITIZE STREQUAL "fuzzer")
  # Of UBSan not what compares types of C++ with those of libraries that clang has not compiled.
  set(fuzz_flags -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=vptr,function)
  target_compile_options(muster_flags INTERFACE ${fuzz_flags} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(muster_flags INTERFACE ${fuzz_flags})
elseif(MUSTER_SANITIZE STREQUAL "thread")
  target_compile_options(muster_flags INTERFACE -fsanitize=thread -Wno-tsan)
  target_link_options(muster_flags INTERFACE -fsanitize=thread)
endif()

# muster_library(NAME SOURCES a.cc ... DEPS target ...)
function(muster_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC muster_flags ${ARG_DEPS})
  set_property(GLOBAL APPEND PROPERTY MUSTER_LIBRARIES ${name})
endfunction()

# Tests are not part of `all`: most of the time that a release build would take went into tests that run under sanitizers only.
# tsan_tests are those that run under ThreadSanitizer too: of the folders without gRPC, whose Debian library is not instrumented and
# would be blamed for races that it does not have.
add_custom_target(all_tests)
add_custom_target(tsan_tests)

# muster_test(NAME LABEL unit|scenario SOURCES a_test.cc ... DEPS target ...)
function(muster_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} EXCLUDE_FROM_ALL ${ARG_SOURCES})
  add_dependencies(all_tests ${name})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  if(MUSTER_SANITIZE)
    # The code of the tests themselves, full of JSON, else takes longer to compile than all that they test.
    target_compile_options(${name} PRIVATE -O0 -fno-sanitize=undefined)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  file(RELATIVE_PATH folder ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  if(folder MATCHES "^(runtime/base|runtime/core|runtime/state|runtime/train|collectives|k8s/client|launcher/gateway)")
    list(APPEND ARG_LABEL tsan)
    add_dependencies(tsan_tests ${name})
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABEL}" TIMEOUT ${ARG_TIMEOUT})
endfunction()
