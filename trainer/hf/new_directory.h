// A directory that comes to be whole or not at all: filled under another name beside its place, and renamed.
#pragma once

#include <string>
#include <vector>

namespace jevons {

class NewDirectory {
 public:
  // Makes <path>.unfinished. Throws Error(kUsage), before anything is written, if there is something at
  // `path` but an empty directory, or if it lies in one of `inputs` or is one.
  NewDirectory(const std::string& path, const std::vector<std::string>& inputs);
  ~NewDirectory();  // removes what was not finished
  NewDirectory(const NewDirectory&) = delete;
  NewDirectory& operator=(const NewDirectory&) = delete;

  const std::string& path() const { return unfinished_; }  // to be filled
  void finish();                                           // durably

 private:
  std::string final_, unfinished_;
  bool finished_ = false;
};

// Where NewDirectory fills: the same on ranks that did not make it.
std::string unfinished_name(const std::string& path);

}  // namespace jevons
