// The commands of README.md, word for word and in their order, as root and as an ordinary user, in a shell
// that knows nothing of MPI. What they name and do not make (a text, a configuration) is made here, small.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

// They install, build, or want a GPU. scripts/fresh_machine runs the first two; the test gpu_check, on the
// emulated GPU, the last.
const std::vector<std::string> kElsewhere{"scripts/demo", "scripts/test", "scripts/gpu_check"};

// Of the indented blocks: each command without its comment, broken lines joined.
std::vector<std::string> commands_of_readme() {
  std::vector<std::string> commands;
  std::istringstream readme(read_bytes(JEVONS_SOURCE_DIR "/README.md"));
  bool broken = false;
  for (std::string line; std::getline(readme, line);) {
    if (!line.starts_with("    ")) continue;
    line = line.substr(4, line.find(" #") - 4);
    line.erase(line.find_last_not_of(' ') + 1);
    if (broken) {
      commands.back() += " " + line;
    } else {
      commands.push_back(line);
    }
    broken = line.ends_with('\\');
    if (broken) commands.back().pop_back();
  }
  return commands;
}

// A checkout as it is after scripts/demo, with a user's own files.
void make_checkout(const TempDir& dir) {
  fs::create_directories(dir / "build/release");
  fs::create_directories(dir / "data");
  fs::create_symlink(JEVONS_PROGRAM, dir / "build/release/jevons");
  fs::create_directory_symlink(JEVONS_SOURCE_DIR "/configs", dir / "configs");
  fs::copy(JEVONS_SOURCE_DIR "/scripts", dir / "scripts", fs::copy_options::recursive);
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "In the beginning God created the heaven and the earth. ";
  write_bytes(dir / "book.txt", text);
  write_bytes(dir / "lines.txt", "In the beginning\nGod created\n");
  write_bytes(dir / "my.yaml",
              "model: {vocab_size: 256, num_layers: 1, hidden_size: 16, num_heads: 2, seq_len: 16,\n"
              "        moe: {num_experts: 4, top_k: 2, expert_hidden_size: 16}}\n"
              "data: {train: [{path: data/book}], validation_fraction: 0.05}\n"
              "optimizer: {lr: 0.01}\nschedule: {kind: constant}\nthreads: 1\n"
              "train: {steps: 520, global_batch_size: 4, micro_batch_size: 1, log_interval: 100}\n");
}

// `as`: what starts a command as the user who is meant.
test::Ran run_commands(const TempDir& dir, const std::string& as) {
  std::string script = "set -ex\n";
  for (const std::string& command : commands_of_readme()) {
    const std::string program = command.substr(0, command.find(' '));
    if (std::find(kElsewhere.begin(), kElsewhere.end(), program) == kElsewhere.end())
      script += command + "\n";
  }
  write_bytes(dir / "commands", script);
  return test::shell(
      fmt::format("cd {} && {} env -i PATH=\"$PATH\" HOME={} bash commands", dir / "", as, dir / ""), 280);
}

void check_runs(const test::Ran& ran) {
  INFO(ran.output);
  CHECK(ran.code == 0);
  CHECK_THAT(ran.output, Catch::Matchers::ContainsSubstring("resumed from"));
}

}  // namespace

TEST_CASE("the README's commands run as printed", "[e2e][readme]") {
  const std::vector<std::string> commands = commands_of_readme();
  REQUIRE(commands.size() >= 8);
  for (const std::string& elsewhere : kElsewhere)
    CHECK(std::find(commands.begin(), commands.end(), elsewhere) != commands.end());
  const TempDir dir;
  make_checkout(dir);
  check_runs(run_commands(dir, ""));
}

TEST_CASE("the README's commands run for an ordinary user", "[e2e][readme]") {
  if (geteuid() != 0) return;  // the case above was one
  const TempDir dir;
  make_checkout(dir);
  const std::string nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
  if (test::shell(nobody + " test -x " JEVONS_PROGRAM " -a -r " JEVONS_SOURCE_DIR "/configs/tiny.yaml")
          .code != 0) {
    WARN("not tried: an ordinary user cannot enter " JEVONS_SOURCE_DIR);
    return;
  }
  REQUIRE(test::shell("chown -R 65534:65534 " + (dir / "")).code == 0);
  check_runs(run_commands(dir, nobody));
}

}  // namespace jevons
