# Writes OUTPUT with the commit of SOURCE, "+" if it has changes; leaves the file alone when nothing changed.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND git describe --always --abbrev=12 --dirty=+ --exclude=* WORKING_DIRECTORY ${SOURCE}
  OUTPUT_VARIABLE id OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed OR NOT id)
  set(id "unknown")
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#pragma once\n#define JEVONS_GIT_ID \"@id@\"\n" @ONLY)
