# What `cmake --install` puts where, and the files by which other projects find it: find_package and pkg-config.
# A prefix holds either the static or the shared libraries, with or without the component `sql`; it can be moved.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/hsmseal)
set(libraries hsmseal)
if(HSMSEAL_WITH_SQL)
  list(APPEND libraries hsmseal_sql)
endif()

# Each library has an export of its own, since the core must be found where SOCI is not.
foreach(library IN LISTS libraries)
  install(TARGETS ${library} EXPORT ${library}
          RUNTIME COMPONENT Runtime
          LIBRARY COMPONENT Runtime NAMELINK_COMPONENT Development
          ARCHIVE COMPONENT Development
          FILE_SET HEADERS COMPONENT Development)
  install(EXPORT ${library} FILE ${library}-targets.cmake NAMESPACE hsmseal:: DESTINATION ${config_folder}
          COMPONENT Development)
endforeach()

get_target_property(hsmseal_type hsmseal TYPE)
configure_package_config_file(cmake/hsmseal-config.cmake.in installed/hsmseal-config.cmake
                              INSTALL_DESTINATION ${config_folder})
write_basic_package_version_file(installed/hsmseal-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/installed/hsmseal-config.cmake
              ${PROJECT_BINARY_DIR}/installed/hsmseal-config-version.cmake
        DESTINATION ${config_folder} COMPONENT Development)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT Development)

# pkg-config has no word for "what a static library needs" that works with a plain `--libs`, so a static installation
# requires it openly. Its folders are found from where the file lies.
foreach(folder IN ITEMS LIBDIR INCLUDEDIR)
  file(RELATIVE_PATH pc_${folder} ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_FULL_${folder}})
endforeach()
if(NOT BUILD_SHARED_LIBS)
  set(pc_requires "fmt ${HSMSEAL_BOTAN_MODULE_NAME} p11-kit-1")
  set(pc_libs "-pthread")
  if(CMAKE_DL_LIBS)
    string(APPEND pc_libs " -l${CMAKE_DL_LIBS}")
  endif()
  set(pc_cflags "-DHSMSEAL_STATIC_DEFINE")
endif()
configure_file(cmake/hsmseal.pc.in installed/hsmseal.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/installed/hsmseal.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT Development)

if(HSMSEAL_WITH_SQL)
  if(NOT BUILD_SHARED_LIBS)
    # SOCI has neither a CMake configuration nor a pkg-config file.
    install(FILES cmake/FindSOCI.cmake DESTINATION ${config_folder} COMPONENT Development)
    set(pc_sql_requires "libpq sqlite3 odbc")
    foreach(backend IN ITEMS sqlite3 postgresql odbc core)
      cmake_path(GET SOCI_${backend}_LIBRARY PARENT_PATH folder)
      if(NOT folder IN_LIST CMAKE_CXX_IMPLICIT_LINK_DIRECTORIES)
        string(APPEND pc_sql_libs " -L${folder}")
      endif()
      cmake_path(GET SOCI_${backend}_LIBRARY STEM name)
      string(REGEX REPLACE "^lib" "-l" name ${name})
      string(APPEND pc_sql_libs " ${name}")
    endforeach()
  endif()
  configure_file(cmake/hsmseal-sql.pc.in installed/hsmseal-sql.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/installed/hsmseal-sql.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
          COMPONENT Development)
endif()
