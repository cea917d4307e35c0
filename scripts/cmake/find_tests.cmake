# Looks for what only the tests need: building the program asks for none of it. Sets JEVONS_HAVE_TESTS. Asked for by
# JEVONS_TESTS=ON, a missing part is an error.
set(JEVONS_HAVE_TESTS OFF)
if(NOT JEVONS_TESTS)
  message(STATUS "Tests: off")
  return()
endif()

set(missing "")
find_package(Catch2 QUIET)
if(NOT Catch2_FOUND)
  list(APPEND missing "Catch2")
endif()
if(JEVONS_HAVE_CUDA)  # the emulated GPU
  find_package(Boost 1.74 CONFIG QUIET COMPONENTS context)
  if(NOT Boost_FOUND)
    list(APPEND missing "Boost.Context")
  endif()
endif()

if(NOT missing)
  set(JEVONS_HAVE_TESTS ON)
elseif(JEVONS_TESTS STREQUAL "ON")
  message(FATAL_ERROR "JEVONS_TESTS=ON, but not found: ${missing} (scripts/setup --test installs them)")
else()
  list(JOIN missing ", " missing)
  message(STATUS "Tests: off, not found: ${missing} (scripts/setup --test installs them)")
endif()
