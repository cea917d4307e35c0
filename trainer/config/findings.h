// What reading a configuration gathers: every mistake, so that a user sees all of them at once, and for every
// option that was given the place where it was given last.
#pragma once

#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace jevons {

// A position in a file, or, with line 0, a source as a whole: a file, "command line".
struct ConfigPlace {
  std::string source;
  int line = 0, column = 0;       // from 1
  std::string to_string() const;  // "run.yaml:3:5"
};

class Findings {
 public:
  // `source`: name of the configuration, the place of options that keep their defaults.
  explicit Findings(std::string source) : source_(std::move(source)) {}

  // A mistake that is not one of an option.
  void add(const ConfigPlace& place, const std::string& message);
  // A mistake in the option or section `key`, at `place` or where it was given: no rule asks for its value
  // any more.
  void add_for(const std::string& key, const ConfigPlace& place, const std::string& message);
  void add_for(const std::string& key, const std::string& message) { add_for(key, place_of(key), message); }
  // What is meant to be `key` was given in a way that cannot be read, which is reported elsewhere.
  void distrust(const std::string& key) { bad_.insert(key); }
  // No mistake was found in `key`, in a section around it or in an option inside.
  bool is_good(std::string_view key) const;

  // Part of the configuration cannot be read: what is missing may stand there.
  void set_incomplete() { complete_ = false; }
  bool complete() const { return complete_; }

  bool empty() const { return messages_.empty(); }
  // Throws Error(kUsage) with one mistake a line, "place: message"; after kMaxShown lines the rest is counted
  // only.
  void throw_if_any() const;

  void given(const std::string& key, const ConfigPlace& place) { places_[key] = place; }
  // Another list replaces list `key`: its elements' options were not given any more.
  void forget_inside(const std::string& key);
  bool was_given(const std::string& key) const { return places_.contains(key); }
  // Where `key` was given; the source for an option that keeps its default.
  ConfigPlace place_of(const std::string& key) const;

 private:
  static constexpr std::size_t kMaxShown = 20;
  std::string source_;
  bool complete_ = true;
  std::vector<std::string> messages_;
  std::map<std::string, ConfigPlace> places_;
  std::set<std::string> bad_;
};

}  // namespace jevons
