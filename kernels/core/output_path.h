// A path that is written was looked at: nothing is written over an input, nor over a file that this program
// did not make.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace jevons {

// A file that is about to be made, or made anew.
struct OutputPath {
  std::string path;
  std::string kind;  // for messages: "a database of jevons cost"
  // Whether the file at `path`, which is there and not empty, is of that kind. It alone decides about what is
  // no regular file.
  std::function<bool(const std::string& path)> is_ours;
};

// Throws Error(kUsage) naming the path and the reason if there is one of `inputs` (by whatever name), a
// directory, or something that is not ours. Touches nothing.
void check_output(const OutputPath& output, const std::vector<std::string>& inputs);

// The first bytes of a regular file, at most `most`; "" for one that cannot be read.
std::string file_head(const std::string& path, std::size_t most);

// Whether `path` is a terminal, a pipe or another device: writing to it replaces nothing.
bool is_stream(const std::string& path);

}  // namespace jevons
