#include "kernels/core/output_path.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "kernels/core/error.h"
#include "tests/support/catch.h"

namespace jevons {

TEST_CASE("an output that is an input, a directory or a foreign file is refused", "[core]") {
  namespace fs = std::filesystem;
  std::string pattern = (fs::temp_directory_path() / "jevons-output-XXXXXX").string();
  REQUIRE(::mkdtemp(pattern.data()) != nullptr);
  const fs::path dir = pattern;
  const auto file = [&](const char* name, const char* text) {
    std::ofstream(dir / name) << text;
    return (dir / name).string();
  };
  const auto check = [&](const std::string& path, const std::vector<std::string>& inputs) -> std::string {
    const auto is_ours = [](const std::string& there) { return file_head(there, 4) == "ours"; };
    try {
      check_output({path, "ours", is_ours}, inputs);
    } catch (const Error& e) {
      CHECK(e.code() == ExitCode::kUsage);
      CHECK(std::string(e.what()).starts_with(path));
      return e.what();
    }
    return "";
  };
  const std::string ours = file("a", "ours, of last week"), foreign = file("b", "theirs"),
                    empty = file("c", "");
  CHECK(check(ours, {foreign, "/nowhere/x"}) == "");
  CHECK(check(empty, {}) == "");
  CHECK(check((dir / "new").string(), {}) == "");
  CHECK(check("/nowhere/new", {}) == "");  // what makes the file will say
  CHECK(check(foreign, {}).find("is there and is not ours") != std::string::npos);
  CHECK(check(file("d", "our"), {}).find("is there and is not ours") != std::string::npos);
  CHECK(check(dir.string(), {}).find("is a directory") != std::string::npos);
  // By any of its names, empty too.
  fs::create_hard_link(ours, dir / "hard");
  fs::create_symlink(empty, dir / "soft");
  CHECK(check((dir / "hard").string(), {foreign, ours}).find("is read as an input too") != std::string::npos);
  CHECK(check((dir / "soft").string(), {empty}).find("is read as an input too") != std::string::npos);
  CHECK(check("/dev/null", {}).find("is not ours") != std::string::npos);
  CHECK(is_stream("/dev/null"));
  CHECK_FALSE(is_stream(ours));
  CHECK(file_head(ours, 100) == "ours, of last week");
  CHECK(file_head("/nowhere/x", 3) == "");
  fs::remove_all(dir);
}

}  // namespace jevons
