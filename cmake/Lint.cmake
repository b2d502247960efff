# What `make lint` needs beside the compiler and clang-tidy themselves.

# Generated code is not ours to lint.
if(TARGET proto)
  set_target_properties(proto PROPERTIES CXX_CLANG_TIDY "")
endif()

# Target headers_alone compiles every header by itself, so that none relies on what its includers
# happened to include before it.

# A glob, unlike everywhere else: a header that nobody listed is just the one to look at.
file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR}
     runtime/*.h collectives/*.h k8s/*.h launcher/*.h models/*.h tests/*.h)
set(alone_sources "")
foreach(header IN LISTS headers)
  set(source ${CMAKE_BINARY_DIR}/headers_alone/${header}.cc)
  file(CONFIGURE OUTPUT ${source} CONTENT "#include \"@header@\"\n" @ONLY)
  list(APPEND alone_sources ${source})
endforeach()

add_library(headers_alone OBJECT EXCLUDE_FROM_ALL ${alone_sources})
get_property(libraries GLOBAL PROPERTY MUSTER_LIBRARIES)
target_link_libraries(headers_alone PRIVATE muster_flags ${libraries} GTest::gmock)
set_target_properties(headers_alone PROPERTIES CXX_CLANG_TIDY "")
