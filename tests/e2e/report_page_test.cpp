// The report of a real run in a real browser; without Chromium only that the page is there.
#include <filesystem>

#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"
#include "tests/trainer/training_run.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using test::jevons;
using test::mpirun;
using test::shell;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

bool has_chromium() {
  return shell("command -v chromium").code == 0;
}

// What the browser made of a page; errors of its script are in the output.
std::string opened(const std::string& path, int width, const std::string& what) {
  const TempDir home;  // the profile
  const test::Ran ran = shell(fmt::format(
      "HOME={0} chromium --headless --no-sandbox --disable-gpu --enable-logging=stderr "
      "--user-data-dir={0}/profile --virtual-time-budget=3000 --window-size={1},1600 {2} file://{3}",
      home / "", width, what, path));
  INFO(ran.output.substr(0, 2000));
  CHECK(ran.code == 0);
  CHECK_FALSE(contains(ran.output, "Uncaught"));
  return ran.output;
}

// Says in the page which labels of its charts stand outside their picture, and which charts give their title
// again as a label.
constexpr const char* kInspector = R"(<script>
addEventListener("load", () => {
  const cut = [], twice = [];
  for (const label of document.querySelectorAll("svg text")) {
    const box = label.getBBox(), view = label.ownerSVGElement.viewBox.baseVal;
    if (box.x < 0 || box.x + box.width > view.width || box.y < 0 || box.y + box.height > view.height + 1) cut.push(label.textContent);
    const title = label.closest("section").querySelector("h2").textContent;
    if (title.toLowerCase() === label.textContent.toLowerCase()) twice.push(title);
  }
  document.body.dataset.found = `labels ${document.querySelectorAll("svg text").length > 40}; cut [${cut}]; twice [${twice}]`;
});
</script></body>)";

}  // namespace

TEST_CASE("labels of the report are whole and none says its title again", "[e2e]") {
  if (!has_chromium()) {
    WARN("no chromium: the page is not opened");
    return;
  }
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  const std::string config = dir / "tiny.yaml", run = dir / "run";
  write_bytes(config, test::tiny_yaml(dir / "corpus", run));
  // 2000 steps end in a wide label at the edge; without a price the cost is in device-hours.
  REQUIRE(jevons("train " + config +
                 " train.steps=2000 train.global_batch_size=1 train.log_interval=20 cost.heartbeat_seconds=1 "
                 "cost.price_per_device_hour=-1 optimizer.lr=1.234e-5")
              .code == 0);
  std::string page = read_bytes(run + "/report.html");
  const std::size_t end = page.rfind("</body>");
  REQUIRE(end != std::string::npos);
  const std::string inspected = dir / "inspected.html";
  write_bytes(inspected, page.replace(end, 7, kInspector));
  for (const int width : {390, 1200}) {
    const std::string drawn = opened(inspected, width, "--dump-dom");
    INFO(drawn.substr(std::min(drawn.size(), drawn.find("data-found")), 300));
    CHECK(count(drawn, "data-found=\"labels true; cut []; twice []\"") == 1);
    CHECK(count(drawn, "<h2>Balance loss</h2>") == 1);
    CHECK(count(drawn, "<h2>Router z-loss</h2>") == 1);
    CHECK(count(drawn, "<h2>Sequence balance loss</h2>") == 0);  // the model has none
    CHECK(count(drawn, ">2000</text>") >= 3);
  }
}

TEST_CASE("a run leaves a report that a browser draws without errors", "[e2e]") {
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  const std::string config = dir / "tiny.yaml", run = dir / "run";
  write_bytes(config, test::tiny_yaml(dir / "corpus", run));
  REQUIRE(mpirun(2, "train " + config + " parallel.ep=2 train.steps=6 checkpoint.interval=3").code == 0);
  REQUIRE(fs::exists(run + "/report.html"));
  fs::copy(run, dir / "again", fs::copy_options::recursive);
  const std::string both = dir / "both.html";
  REQUIRE(jevons("report " + run + " " + (dir / "again") + " -o " + both).code == 0);
  if (!has_chromium()) {
    WARN("no chromium: the page is not opened");
    return;
  }
  const std::string page = opened(run + "/report.html", 1200, "--dump-dom");
  for (const char* title : {"Loss", "Learning rate", "Throughput", "Cost", "Where the device-seconds went",
                            "Load of the busiest expert", "Load of every expert"}) {
    INFO(title);
    CHECK(count(page, fmt::format("<h2>{}</h2>", title)) == 1);
  }
  CHECK(count(page, "<path d=\"M") >= 5);  // a curve in every chart
  const std::string overlay = opened(both, 390, "--dump-dom");
  CHECK(count(overlay, "<h2>Loss</h2>") == 1);
  CHECK(count(overlay, "<h2>Where the device-seconds went") == 2);
  const std::string picture = dir / "page.png";
  opened(both, 390, "--screenshot=" + picture);
  CHECK(fs::file_size(picture) > 10000);
}

}  // namespace jevons
