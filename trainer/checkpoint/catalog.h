// The directory of a run's checkpoints, step-00000100/, step-00000200/, ..., in the order in which they were
// made, and where the run stands. Rule: docs/checkpoint.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"

namespace jevons {

// Whether the directory has a manifest: only then it is a checkpoint.
bool is_committed(const std::filesystem::path& directory);

// Every step's directory in `dir`, committed or not; empty if there is no such directory.
std::map<std::int64_t, std::filesystem::path> steps_in(const std::string& dir);

// kOwn: one of the run's own checkpoints, so that the steps before it are in the run's records.
enum class Origin : std::uint8_t { kOwn, kElsewhere };

class Catalog {
 public:
  struct Entry {
    std::string path;
    TrainState state;
  };

  // Reads the manifests of all checkpoints in `dir`, which need not exist. One that cannot be read is not
  // among the entries; others may be newer than it, so standing() decides whether it is in the way.
  explicit Catalog(const std::string& dir);

  // Oldest first: by TrainState::sequence, and those without one by step.
  const std::vector<Entry>& entries() const { return entries_; }
  // What the run goes on from: the checkpoint that was made last, or what the run returned to since; "" is
  // its beginning. Logs what is passed over. Throws Error(kData) if it is gone or damaged.
  std::string standing() const;
  // Whether a launch that begins with `checkpoint` goes on from where the run stands; never throws.
  bool stands_on(const std::string& checkpoint) const;
  // On which it then does so: of a return that nothing was saved after; else 0.
  std::uint64_t branch_of_return() const { return returned_since() ? return_->sequence : 0; }
  Origin origin_of(const std::string& checkpoint) const;
  // Of the run as it stands.
  Lineage lineage() const;
  // Of the newest checkpoint or return; the next one's is larger.
  std::uint64_t last_sequence() const;

  // Notes durably that the run goes on from `checkpoint` ("": from its beginning), which is not the one it
  // stood on, and returns the branch on which it does.
  std::uint64_t write_return(const std::string& checkpoint);

 private:
  struct Return {
    std::uint64_t sequence = 0;  // in one count with those of checkpoints
    std::string checkpoint;      // a name in dir_, another path, or "": the beginning
  };
  struct Unreadable {
    std::int64_t step;
    std::string problem;
  };
  void read_return();
  // Its place in the order is not known. In a run that never went back the step tells whether it is the
  // newest; else it may be one that was left behind.
  bool is_in_the_way(const Unreadable& one) const;
  bool returned_since() const;  // since the newest checkpoint was made

  std::filesystem::path dir_;
  std::vector<Entry> entries_;
  std::vector<Unreadable> unreadable_;
  std::vector<std::filesystem::path> unfinished_;  // without a manifest, by step
  std::optional<Return> return_;                   // the last one
};

// The line of a run that goes on from a checkpoint, or from its beginning.
Lineage lineage_from(const TrainState& state, Origin origin, std::uint64_t branch);

}  // namespace jevons
