# SPDX-License-Identifier: Apache-2.0
# Where the Python package is installed, in one of two layouts. pintable/_base/paths.py knows both.
#
#   wheel   configured by scikit-build-core (SKBUILD): the install prefix is the package's folder,
#           and everything lies inside: lib/, bin/, include/. Component pintable_python alone.
#   system  CMake alone: the package goes to PINT_PYTHON_DIR and uses the installed library.

if(DEFINED SKBUILD)
  set(wheel COMPONENT pintable_python EXCLUDE_FROM_ALL)

  # One file under the name that is looked for at load time: a wheel cannot hold symbolic links.
  set_target_properties(pintable PROPERTIES
    VERSION ${PROJECT_VERSION_MAJOR}
    INSTALL_RPATH "$ORIGIN")
  set_target_properties(pintabled pintable_cli pintable_broker PROPERTIES
    INSTALL_RPATH "$ORIGIN/../lib")
  set_target_properties(pint_python PROPERTIES INSTALL_RPATH "$ORIGIN/lib")
  install(TARGETS pint_python LIBRARY DESTINATION . ${wheel})
  install(TARGETS pintable LIBRARY DESTINATION lib NAMELINK_SKIP ${wheel})
  # The library and `pintable` both look for the service in the folder bin beside their own, and the
  # service for its broker beside itself.
  install(TARGETS pintabled pintable_cli pintable_broker RUNTIME DESTINATION bin ${wheel})
  list(TRANSFORM PINT_PUBLIC_HEADERS PREPEND ${PROJECT_SOURCE_DIR}/include/pintable/
    OUTPUT_VARIABLE headers)
  install(FILES ${headers} ${PROJECT_SOURCE_DIR}/include/pintable/device.cuh
    ${PROJECT_BINARY_DIR}/include/pintable/version.h
    DESTINATION include/pintable ${wheel})

  # What -lpintable finds: a linker script in place of the usual symbolic link.
  set(link_name libpintable${CMAKE_SHARED_LIBRARY_SUFFIX})
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/${link_name} @ONLY CONTENT
    "/* GNU ld script: the shared library lies beside this file. */\nINPUT(libpintable.so.@PROJECT_VERSION_MAJOR@)\n")
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${link_name} DESTINATION lib ${wheel})

  # Shared libraries that no other system is sure to have come along, under their own names. The
  # texts of their licences are in python/licenses/. A static library needs no company.
  foreach(library IN LISTS pintable_cjson_LINK_LIBRARIES PINT_CSV_LIBRARY ZLIB_LIBRARY_RELEASE)
    if(NOT EXISTS "${library}" OR library MATCHES "\\.a$")
      continue()
    endif()
    file(REAL_PATH "${library}" file)
    execute_process(COMMAND ${CMAKE_READELF} -d ${file}
      OUTPUT_VARIABLE dynamic RESULT_VARIABLE failed)
    if(failed OR NOT dynamic MATCHES "\\(SONAME\\)[^\n]*\\[([^]\n]+)\\]")
      message(FATAL_ERROR "cannot read the name of the shared library ${file} with '${CMAKE_READELF} -d'")
    endif()
    install(FILES ${file} DESTINATION lib RENAME ${CMAKE_MATCH_1} ${wheel})
  endforeach()
  return()
endif()

set(PINT_PYTHON_DIR lib/python3/dist-packages CACHE STRING
  "Where the Python package is installed: absolute, or relative to the install prefix")
set(package_dir ${PINT_PYTHON_DIR}/pintable)

# The ways from the package's folder to the library and the rest; none for what is installed to an
# absolute path elsewhere. On paths made absolute, so that both may be given in either form.
cmake_path(ABSOLUTE_PATH package_dir BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX}
  OUTPUT_VARIABLE package_full)
foreach(folder IN ITEMS LIBDIR INCLUDEDIR BINDIR)
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_${folder} BASE_DIRECTORY ${package_full}
    OUTPUT_VARIABLE PINT_PYTHON_TO_${folder})
endforeach()
set_target_properties(pint_python PROPERTIES INSTALL_RPATH "$ORIGIN/${PINT_PYTHON_TO_LIBDIR}")
configure_file(_installed.py.in ${CMAKE_CURRENT_BINARY_DIR}/_installed.py @ONLY)

install(TARGETS pint_python LIBRARY DESTINATION ${package_dir})
install(DIRECTORY pintable/ DESTINATION ${package_dir}
  FILES_MATCHING PATTERN "*.py" PATTERN "*.pyi" PATTERN py.typed
  PATTERN __pycache__ EXCLUDE)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/_installed.py DESTINATION ${package_dir})

# So that pip and importlib.metadata see the package and its version. No RECORD: pip then refuses to
# remove what it has not installed.
set(info_dir ${CMAKE_CURRENT_BINARY_DIR}/pintable-${PROJECT_VERSION}.dist-info)
file(CONFIGURE OUTPUT ${info_dir}/METADATA @ONLY CONTENT "Metadata-Version: 2.1
Name: pintable
Version: @PROJECT_VERSION@
Summary: @PROJECT_DESCRIPTION@
License: Apache-2.0
Requires-Python: >=3.11
")
file(CONFIGURE OUTPUT ${info_dir}/INSTALLER CONTENT "cmake\n")
install(DIRECTORY ${info_dir} DESTINATION ${PINT_PYTHON_DIR})
