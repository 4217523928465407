# Compiler and dependency checks, each failing with one line that says what to install, and the build flags
# that every target shares through fusedmlp_target().

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(_fusedmlp_least 12)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  set(_fusedmlp_least 16)
else()
  set(_fusedmlp_least "")
endif()
if(_fusedmlp_least STREQUAL "" OR CMAKE_CXX_COMPILER_VERSION VERSION_LESS _fusedmlp_least)
  message(FATAL_ERROR "fusedmlp needs g++ >= 12 or clang++ >= 16, found ${CMAKE_CXX_COMPILER_ID} "
                      "${CMAKE_CXX_COMPILER_VERSION} (${CMAKE_CXX_COMPILER}): apt install g++")
endif()
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
  message(FATAL_ERROR "fusedmlp needs an x86-64 machine, this is ${CMAKE_SYSTEM_PROCESSOR}")
endif()

# Single-configuration generators get an optimised build unless told otherwise; a parent project decides for
# itself.
if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

# Traces come gzipped. The system's libz.so.1 is linked: every Linux has it, manylinux allows it, and Debian's libz.a
# is not made for shared libraries.
find_package(ZLIB QUIET)
if(NOT ZLIB_FOUND)
  message(FATAL_ERROR "fusedmlp needs zlib.h, which was not found: apt install zlib1g-dev")
endif()

# Headers only: the built libraries need no other shared library at run time.
function(_fusedmlp_header_library name header package)
  find_path(FUSEDMLP_${name}_INCLUDE_DIR "${header}")
  mark_as_advanced(FUSEDMLP_${name}_INCLUDE_DIR)
  if(NOT FUSEDMLP_${name}_INCLUDE_DIR)
    message(FATAL_ERROR "fusedmlp needs ${header}, which was not found: apt install ${package}")
  endif()
  add_library(fusedmlp_${name} INTERFACE)
  add_library(fusedmlp::${name} ALIAS fusedmlp_${name})
  target_include_directories(fusedmlp_${name} SYSTEM INTERFACE "${FUSEDMLP_${name}_INCLUDE_DIR}")
endfunction()

_fusedmlp_header_library(hwy hwy/highway.h libhwy-dev)
_fusedmlp_header_library(rapidjson rapidjson/document.h rapidjson-dev)
_fusedmlp_header_library(fmt fmt/format.h libfmt-dev)
if(FUSEDMLP_BUILD_CLI)
  _fusedmlp_header_library(cli11 CLI/CLI.hpp libcli11-dev)
endif()
if(FUSEDMLP_BUILD_TESTS)
  find_package(GTest QUIET)
  if(NOT GTest_FOUND)
    message(FATAL_ERROR "fusedmlp's tests need GoogleTest, which was not found: apt install libgtest-dev "
                        "(or configure with -DFUSEDMLP_BUILD_TESTS=OFF)")
  endif()
endif()
if(FUSEDMLP_BUILD_BENCHMARKS)
  find_package(benchmark QUIET)
  if(NOT benchmark_FOUND)
    message(FATAL_ERROR "fusedmlp's benchmarks need google-benchmark, which was not found: "
                        "apt install libbenchmark-dev")
  endif()
endif()

# C++20, warnings and sanitizers for a target of this project.
function(fusedmlp_target target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  target_compile_options(
    ${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wextra-semi
                      -Wformat=2 -Wimplicit-fallthrough -Wunused-result)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
    # Its own AVX-512 header trips it: gcc bug 105593.
    target_compile_options(${target} PRIVATE -Wno-uninitialized)
  endif()
  if(FUSEDMLP_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(FUSEDMLP_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${FUSEDMLP_SANITIZE} -fno-sanitize-recover=all
                                             -fno-omit-frame-pointer)
    target_link_options(${target} PRIVATE -fsanitize=${FUSEDMLP_SANITIZE})
  endif()
endfunction()
