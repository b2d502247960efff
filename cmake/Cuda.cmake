# GPU kernels: compiled by nvcc where a CUDA toolkit is found (tools/setup --cuda installs one), left out where not. Nothing of CUDA is
# linked: the driver is loaded when a program runs.

set(MUSTER_CUDA_ROOT "" CACHE PATH "CUDA toolkit; empty: that of tools/setup --cuda, else one of the system")
if(NOT MUSTER_CUDA_ROOT)
  execute_process(COMMAND ${CMAKE_SOURCE_DIR}/tools/setup --cuda-root OUTPUT_VARIABLE setup_cuda_root OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
find_program(MUSTER_NVCC nvcc NO_CACHE HINTS ${MUSTER_CUDA_ROOT}/bin ${setup_cuda_root}/nvidia/cu13/bin /usr/local/cuda/bin)
if(MUSTER_NVCC)
  cmake_path(GET MUSTER_NVCC PARENT_PATH nvcc_folder)
  cmake_path(GET nvcc_folder PARENT_PATH MUSTER_CUDA_TOOLKIT)
  message(STATUS "GPU kernels: compiled by ${MUSTER_NVCC}")
else()
  message(STATUS "GPU kernels: none, no nvcc was found (tools/setup --cuda installs one)")
endif()

# Code for A100 and H100, and PTX that a driver compiles for the others, and tests run (tests/cuda/ptx.h).
set(nvcc_flags -fatbin --no-compress -O3 -std=c++20 -fmad=false --expt-relaxed-constexpr
    -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 -gencode arch=compute_80,code=compute_80)

# muster_kernels(NAME IMAGE kName SOURCE a.cu): a library that defines `const cuda::KernelImage kName` (runtime/cuda/device.h).
function(muster_kernels name)
  cmake_parse_arguments(ARG "" "IMAGE;SOURCE" "" ${ARGN})
  set(image ${CMAKE_CURRENT_BINARY_DIR}/${name}.fatbin)
  set(MUSTER_KERNELS ${name})
  set(MUSTER_KERNELS_CONSTANT ${ARG_IMAGE})
  if(MUSTER_NVCC)
    add_custom_command(OUTPUT ${image} DEPFILE ${image}.d DEPENDS ${ARG_SOURCE} VERBATIM
      COMMAND ${MUSTER_NVCC} ${nvcc_flags} -I${CMAKE_SOURCE_DIR} -MD -MF ${image}.d -o ${image} ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_SOURCE})
  else()
    file(WRITE ${image} "none")  # which no driver takes for a program
  endif()
  set(MUSTER_KERNELS_FILE ${image})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${name}_image.cc)
  configure_file(${CMAKE_SOURCE_DIR}/cmake/kernel_image.cc.in ${source} @ONLY)
  set_source_files_properties(${source} PROPERTIES OBJECT_DEPENDS ${image})
  muster_library(${name} SOURCES ${source} DEPS cuda)
endfunction()
