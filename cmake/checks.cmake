# Targets for who works on hsmseal: docs and lint. Nothing is built from them.

# The reference of the public headers, in docs/html of the build. What Doxygen warns of is an error.
find_package(Doxygen 1.9.4 QUIET)
configure_file(${CMAKE_CURRENT_LIST_DIR}/Doxyfile.in ${PROJECT_BINARY_DIR}/Doxyfile @ONLY)
if(DOXYGEN_FOUND)
  add_custom_target(docs
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${PROJECT_BINARY_DIR}/docs
    COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/docs
    COMMAND Doxygen::doxygen ${PROJECT_BINARY_DIR}/Doxyfile
    COMMAND ${CMAKE_COMMAND} -P ${CMAKE_CURRENT_LIST_DIR}/docs_enumerators.cmake ${PROJECT_BINARY_DIR}/docs/xml
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} COMMENT "Reference in docs/html" VERBATIM)
else()
  add_custom_target(docs
    COMMAND ${CMAKE_COMMAND} -E echo "Doxygen 1.9.4 or newer is missing: install the package doxygen and run cmake again"
    COMMAND ${CMAKE_COMMAND} -E false VERBATIM)
endif()

# clang-format and clang-tidy, for as long as a build takes.
add_custom_target(lint COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/lint.sh ${PROJECT_BINARY_DIR} USES_TERMINAL VERBATIM)
