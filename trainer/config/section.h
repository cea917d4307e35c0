// A section of the configuration is one file <name>_section: its struct, unless a lower room has it, its
// mapping to the schema (`carry`) and its rules (`check`). Rules that tie sections together are in
// check_run.cpp.
#pragma once

#include "trainer/config/bridge.h"
#include "trainer/config/rules.h"
