// scripts/get_kjv with the real program where it is installed, with a false one, and with none.
#include <sys/wait.h>

#include <cstdlib>

#include "tests/data/temp_files.h"

namespace jevons {
namespace {

// A directory for PATH that has the usual tools and no `bible`.
std::string make_path(const TempDir& dir) {
  const std::string tools = dir / "tools";
  std::filesystem::create_directory(tools);
  for (const char* tool : {"sh", "cut", "dirname", "mkdir", "mv", "rm", "sha256sum", "wc"}) {
    for (const char* place : {"/usr/bin/", "/bin/"}) {
      const std::string program = std::string(place) + tool;
      if (std::filesystem::exists(program) && !std::filesystem::exists(tools + "/" + tool))
        std::filesystem::create_symlink(program, tools + "/" + tool);
    }
  }
  return tools;
}

// Exit status; what it printed is then in dir / "log".
int get_kjv(const TempDir& dir, const std::string& path) {
  const std::string command = "PATH=" + path + " " + JEVONS_SOURCE_DIR + "/scripts/get_kjv " +
                              (dir / "corpus/kjv.txt") + " >" + (dir / "log") + " 2>&1";
  const int status = std::system(command.c_str());
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("get_kjv says when the program is missing", "[get_kjv]") {
  if (std::filesystem::exists("/usr/games/bible")) return;
  const TempDir dir;
  CHECK(get_kjv(dir, make_path(dir)) == 1);
  CHECK(contains(read_bytes(dir / "log"), "apt-get install bible-kjv"));
}

TEST_CASE("get_kjv refuses another text and names both hashes", "[get_kjv]") {
  const TempDir dir;
  const std::string path = make_path(dir);
  write_bytes(path + "/bible", "#!/bin/sh\necho In the beginning\n");
  std::filesystem::permissions(path + "/bible", std::filesystem::perms::owner_all);
  CHECK(get_kjv(dir, path) == 1);
  const std::string log = read_bytes(dir / "log");
  CHECK(contains(log, "expected 6f74f558"));
  CHECK(contains(log, "found    e7dcaa9e"));
  CHECK(std::filesystem::is_empty(dir / "corpus"));
}

TEST_CASE("get_kjv writes the corpus once", "[get_kjv]") {
  if (!std::filesystem::exists("/usr/bin/bible")) {
    WARN("bible-kjv is not installed: not tested");
    return;
  }
  const TempDir dir;
  REQUIRE(get_kjv(dir, "/usr/bin:/bin") == 0);
  CHECK(std::filesystem::file_size(dir / "corpus/kjv.txt") == 4298239);
  CHECK(contains(read_bytes(dir / "log"), "4298239 bytes"));
  REQUIRE(get_kjv(dir, make_path(dir)) == 0);  // the second time needs no program
  CHECK(read_bytes(dir / "log").empty());
  write_bytes(dir / "corpus/kjv.txt", "damaged");
  REQUIRE(get_kjv(dir, "/usr/bin:/bin") == 0);
  CHECK(std::filesystem::file_size(dir / "corpus/kjv.txt") == 4298239);
}

}  // namespace jevons
