# Installs the library, its headers and the CMake package for find_package(fusedmlp). The wheel takes the
# component `wheel` alone, a C++ install the rest.
include(CMakePackageConfigHelpers)

set(_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/fusedmlp")
install(TARGETS fusedmlp EXPORT fusedmlpTargets
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT library NAMELINK_COMPONENT library)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/fusedmlp" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        COMPONENT library FILES_MATCHING PATTERN "*.h")
install(EXPORT fusedmlpTargets NAMESPACE fusedmlp:: DESTINATION "${_package_dir}" COMPONENT library)
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/fusedmlpConfig.cmake.in"
                              "${CMAKE_CURRENT_BINARY_DIR}/fusedmlpConfig.cmake"
                              INSTALL_DESTINATION "${_package_dir}")
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/fusedmlpConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/fusedmlpConfig.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/fusedmlpConfigVersion.cmake"
        DESTINATION "${_package_dir}" COMPONENT library)
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT library OPTIONAL)
if(TARGET fusedmlp_cli)
  install(TARGETS fusedmlp_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT cli)
endif()
