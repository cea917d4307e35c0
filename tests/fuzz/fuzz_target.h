// What a fuzz target gives: the entry point that libFuzzer calls, and valid inputs to start from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// Must return for every input: what the parser refuses it throws as Error, and the target catches that.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// Inputs that the parser accepts, one per shape worth exploring.
std::vector<std::string> fuzz_seeds();
