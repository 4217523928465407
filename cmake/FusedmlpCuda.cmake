# Decides FUSEDMLP_HAVE_CUDA and says so in one line; fusedmlp_cuda_library() compiles kernels.
include(CheckLanguage)
set(FUSEDMLP_HAVE_CUDA OFF)
if(NOT FUSEDMLP_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "FUSEDMLP_CUDA must be AUTO, ON or OFF, got '${FUSEDMLP_CUDA}'")
endif()
if(NOT FUSEDMLP_CUDA STREQUAL "OFF")
  find_package(CUDAToolkit 13 QUIET)
  check_language(CUDA)
  if(CUDAToolkit_FOUND AND TARGET CUDA::cudart_static AND CMAKE_CUDA_COMPILER)
    set(FUSEDMLP_HAVE_CUDA ON)
    set(CMAKE_CUDA_ARCHITECTURES 80)  # of the compiler's own check; every target names its own
    enable_language(CUDA)
    message(STATUS "fusedmlp: GPU support on, CUDA ${CUDAToolkit_VERSION}")
  elseif(FUSEDMLP_CUDA STREQUAL "ON")
    message(FATAL_ERROR "FUSEDMLP_CUDA=ON needs the CUDA toolkit 13 or newer (nvcc on PATH), which was not found")
  else()
    message(STATUS "fusedmlp: GPU support off, no CUDA toolkit >= 13 (nvcc) on PATH; everything else is built")
  endif()
else()
  message(STATUS "fusedmlp: GPU support off (FUSEDMLP_CUDA=OFF)")
endif()

# An object library of .cu files for the given CMAKE_CUDA_ARCHITECTURES.
function(fusedmlp_cuda_library name architectures)
  add_library(${name} OBJECT ${ARGN})
  set_target_properties(
    ${name} PROPERTIES CUDA_ARCHITECTURES "${architectures}" POSITION_INDEPENDENT_CODE ON
                       CUDA_VISIBILITY_PRESET hidden)
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
  # The standard by its flag: CMake 3.25 knows no CUDA_STANDARD 20 of nvcc. Warning 2810 (an ignored [[nodiscard]]) is
  # left to the host compiler, which does not take an assignment for one.
  target_compile_options(${name} PRIVATE -std=c++20 --diag-suppress=2810 -Xcompiler=-Wall,-Wextra,-fvisibility-inlines-hidden -Xfatbin=-compress-all
                                         $<$<BOOL:${FUSEDMLP_WERROR}>:-Werror=all-warnings>)
  target_link_libraries(${name} PRIVATE CUDA::cudart_static)
endfunction()

# The same as a part of libfusedmlp; nothing when there are no files. Its objects are in the global property
# FUSEDMLP_CUDA_OBJECTS.
function(fusedmlp_cuda_objects name architectures)
  if(NOT ARGN)
    return()
  endif()
  fusedmlp_cuda_library(${name} "${architectures}" ${ARGN})
  set_property(GLOBAL APPEND PROPERTY FUSEDMLP_CUDA_OBJECTS $<TARGET_OBJECTS:${name}>)
endfunction()
