# Writes the man page from what the program says of itself: cmake -DPROGRAM=jevons -DOUTPUT=jevons.1 -P man_page.cmake
cmake_minimum_required(VERSION 3.25)

function(ask result)
  execute_process(COMMAND ${PROGRAM} ${ARGN} OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
  set(${result} "${text}" PARENT_SCOPE)
endfunction()

# One section per command: its help as it is printed. The footer, the exit codes, stands once.
function(describe)
  list(JOIN ARGN " " name)
  ask(help ${ARGN} --help)
  string(REGEX REPLACE "\n\nExit codes:.*" "\n" text "${help}")
  string(REPLACE "\\" "\\e" text "${text}")
  string(REPLACE "-" "\\-" text "${text}")
  string(REGEX REPLACE "\n([.'])" "\n\\\\&\\1" text "${text}")
  file(APPEND ${OUTPUT} ".SS jevons ${name}\n.nf\n${text}.fi\n")
  commands_of(inner "${help}")
  foreach(command ${inner})
    describe(${ARGN} ${command})
  endforeach()
endfunction()

function(commands_of result help)
  set(names "")
  if(help MATCHES "\nSubcommands:\n(.*)")
    string(REGEX REPLACE "\n\n.*" "\n" list "${CMAKE_MATCH_1}")
    string(REGEX MATCHALL "(^|\n)  [a-z][a-z-]*" names "${list}")
    list(TRANSFORM names STRIP)
  endif()
  set(${result} "${names}" PARENT_SCOPE)
endfunction()

ask(version --version)
string(REGEX MATCH "[0-9.]+" version "${version}")
file(WRITE ${OUTPUT} ".TH JEVONS 1 \"\" \"jevons ${version}\" \"User commands\"
.SH NAME
jevons, jevons\\-launch \\- train Mixture\\-of\\-Experts transformers and account for the cost
.SH SYNOPSIS
.B jevons
COMMAND [ARGUMENTS]
.br
.B mpirun \\-n
WORKERS
.B jevons train
FILE [KEY=VALUE...]
.br
.B jevons\\-launch \\-n
WORKERS FILE [KEY=VALUE...]
.SH DESCRIPTION
A worker per device is started by mpirun or srun.
.B jevons\\-launch
sets what mpirun needs and starts a run again after a crash; see
.BR \"jevons\\-launch \\-\\-help\" .
.B jevons config schema
lists every option of FILE.
.SH COMMANDS
")
ask(help --help)
commands_of(commands "${help}")
foreach(command ${commands})
  describe(${command})
endforeach()
string(REGEX MATCH "Exit codes: (.*)" codes "${help}")
string(REPLACE ";" "\n.br\n" codes "${CMAKE_MATCH_1}")
file(APPEND ${OUTPUT} ".SH EXIT STATUS\n${codes}")
