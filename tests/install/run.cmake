# Builds and runs the consumer project one way.
#   cmake -DMODE=find_package|add_subdirectory -DSOURCE=.. -DBUILD=.. -DWORK=.. -DCOMPILER=.. -DC_COMPILER=..
#         -DGENERATOR=.. -DVERSION=.. -P run.cmake
# find_package: installs into a prefix, uses it there, then moves the prefix and uses it again, so that no
# path of the build is left in what was installed.

function(step what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${what} failed (${result}): ${ARGN}\n${output}")
  endif()
  message(STATUS "${what}: ok")
endfunction()

function(consume what folder)
  step("${what}: configure" "${CMAKE_COMMAND}" -S "${SOURCE}/tests/install/consumer" -B "${WORK}/${folder}"
       -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}"
       "-DCMAKE_C_COMPILER=${C_COMPILER}" "-DTEN_LINES=${SOURCE}/examples/ten_lines.cpp"
       "-DEXPECTED_VERSION=${VERSION}" ${ARGN})
  step("${what}: build" "${CMAKE_COMMAND}" --build "${WORK}/${folder}" --parallel 2)
  step("${what}: run" "${CMAKE_CTEST_COMMAND}" --test-dir "${WORK}/${folder}" --output-on-failure
       --no-tests=error -R "^(ten_lines|c_client)$")
endfunction()

file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")
if(MODE STREQUAL "find_package")
  step("install" "${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/prefix" --component library)
  consume("as installed" first "-DCMAKE_PREFIX_PATH=${WORK}/prefix")
  file(MAKE_DIRECTORY "${WORK}/elsewhere")
  file(RENAME "${WORK}/prefix" "${WORK}/elsewhere/fusedmlp")
  consume("moved" second "-DCMAKE_PREFIX_PATH=${WORK}/elsewhere/fusedmlp")
elseif(MODE STREQUAL "add_subdirectory")
  # Unoptimised: the library is compiled here once more.
  consume("add_subdirectory" inside -DCMAKE_BUILD_TYPE=Debug "-DFUSEDMLP_SOURCE_DIR=${SOURCE}" -DFUSEDMLP_CUDA=OFF)
else()
  message(FATAL_ERROR "MODE must be find_package or add_subdirectory, got '${MODE}'")
endif()
file(REMOVE_RECURSE "${WORK}")
