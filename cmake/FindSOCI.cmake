# SOCI 4.0 has no CMake configuration that works, and no pkg-config file. This makes
#
#   SOCI::core  SOCI::sqlite3  SOCI::postgresql  SOCI::odbc
#
# The headers of a backend include those of its database, and SOCI's own include Boost's if SOCI was built with it.

include(FindPackageHandleStandardArgs)
find_package(PkgConfig QUIET)

find_path(SOCI_INCLUDE_DIR soci/soci.h)
find_path(SOCI_BOOST_INCLUDE_DIR boost/optional.hpp)
set(soci_needs SOCI_INCLUDE_DIR SOCI_BOOST_INCLUDE_DIR SOCI_core_LIBRARY)
find_library(SOCI_core_LIBRARY NAMES soci_core soci_core_4_0)

set(soci_backends sqlite3 postgresql odbc)
set(soci_databases sqlite3 libpq odbc)
foreach(backend database IN ZIP_LISTS soci_backends soci_databases)
  find_library(SOCI_${backend}_LIBRARY NAMES soci_${backend} soci_${backend}_4_0)
  if(PKG_CONFIG_FOUND)
    pkg_check_modules(SOCI_${backend}_DATABASE QUIET IMPORTED_TARGET GLOBAL ${database})
  endif()
  list(APPEND soci_needs SOCI_${backend}_LIBRARY SOCI_${backend}_DATABASE_FOUND)
endforeach()

if(SOCI_INCLUDE_DIR AND EXISTS "${SOCI_INCLUDE_DIR}/soci/version.h")
  file(STRINGS "${SOCI_INCLUDE_DIR}/soci/version.h" soci_version_line REGEX "^#define SOCI_LIB_VERSION ")
  string(REGEX REPLACE ".*\"([0-9]+)_([0-9]+).*" "\\1.\\2" SOCI_VERSION "${soci_version_line}")
endif()

set(soci_hint "On Debian and Ubuntu the packages are libsoci-dev libboost-dev libpq-dev libsqlite3-dev unixodbc-dev. ")
string(APPEND soci_hint "HSMSEAL_WITH_SQL=OFF builds hsmseal without stores in databases.")
find_package_handle_standard_args(SOCI REQUIRED_VARS ${soci_needs} VERSION_VAR SOCI_VERSION
                                  REASON_FAILURE_MESSAGE "${soci_hint}")
mark_as_advanced(SOCI_INCLUDE_DIR SOCI_BOOST_INCLUDE_DIR SOCI_core_LIBRARY SOCI_sqlite3_LIBRARY
                 SOCI_postgresql_LIBRARY SOCI_odbc_LIBRARY)

if(SOCI_FOUND AND NOT TARGET SOCI::core)
  add_library(SOCI::core UNKNOWN IMPORTED GLOBAL)
  set_target_properties(SOCI::core PROPERTIES IMPORTED_LOCATION "${SOCI_core_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${SOCI_INCLUDE_DIR};${SOCI_BOOST_INCLUDE_DIR}")
  foreach(backend IN LISTS soci_backends)
    add_library(SOCI::${backend} UNKNOWN IMPORTED GLOBAL)
    set_target_properties(SOCI::${backend} PROPERTIES IMPORTED_LOCATION "${SOCI_${backend}_LIBRARY}"
      INTERFACE_LINK_LIBRARIES "SOCI::core;PkgConfig::SOCI_${backend}_DATABASE")
  endforeach()
endif()
