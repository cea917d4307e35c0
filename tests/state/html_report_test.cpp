#include "trainer/report/html_report.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/state/ledger_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "trainer/report/metrics_writer.h"
#include "trainer/report/report_data.h"

namespace jevons::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

StepMetrics metrics_at(std::int64_t step) {
  StepMetrics m;
  m.step = step;
  m.tokens = 100 * step;
  m.loss = 5.0 / static_cast<double>(step);
  m.lr = 1e-3;
  m.tokens_per_second = 1000;
  m.layers = {{.layer = 1, .max_over_mean = 1.5, .load = {1.5, 0.5}}};
  return m;
}

// 30 steps, killed at 20, taken up again at 10 and stopped at 30 of 60.
void make_run(const std::string& directory, std::int64_t steps = 30) {
  fs::create_directories(directory);
  HandMadeLedger ledger;
  ledger.launch({.id = directory + "A", .total_steps = 60});
  ledger.heartbeat({.id = directory + "A", .time = 1900, .elapsed = 900, .step = 10, .compute = 1700});
  ledger.heartbeat({.id = directory + "A", .time = 2800, .elapsed = 1800, .step = 20, .compute = 3500});
  ledger.launch({.id = directory + "B", .time = 5000, .step = 10, .total_steps = 60});
  ledger.heartbeat({.id = directory + "B", .time = 5900, .elapsed = 900, .step = 20, .compute = 1700});
  ledger.exit({.id = directory + "B", .time = 6800, .elapsed = 1800, .step = 30, .compute = 3500},
              "stopped by </script><b>somebody & \"others\"", 75);
  write_contents(directory + "/ledger.jsonl", ledger.text);
  MetricsWriter metrics(directory + "/metrics.jsonl", 0);
  for (std::int64_t step = 1; step <= steps; ++step) metrics.write(metrics_at(step));
  metrics.write(ValidationMetrics{30, 0.5, 2.1});
}

// Names of the elements that are open at the end, or the first end tag that fits nothing; empty: all is well.
// Scripts and styles are text.
std::string unbalanced(const std::string& html) {
  std::vector<std::string> open;
  for (std::size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at)) {
    const std::size_t end = html.find('>', at);
    if (end == std::string::npos) return "<";
    const std::string tag = html.substr(at + 1, end - at - 1);
    at = end + 1;
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag[0] == '!' || tag.back() == '/') continue;
    if (tag[0] == '/') {
      if (open.empty() || "/" + open.back() != tag) return tag;
      open.pop_back();
      continue;
    }
    open.push_back(name);
    if (name == "script" || name == "style") at = html.find("</" + name, at);
  }
  std::string left;
  for (const std::string& name : open) left += name + " ";
  return left;
}

// What the page's script reads.
ordered_json embedded_data(const std::string& html) {
  const std::string begin = "<script type=\"application/json\" id=\"data\">";
  const std::size_t at = html.find(begin) + begin.size();
  return ordered_json::parse(html.substr(at, html.find("</script>", at) - at));
}

}  // namespace

TEST_CASE("a report is one well-formed page that needs nothing from outside") {
  const Scratch scratch;
  make_run(scratch.path("run"));
  const std::string html = html_report({scratch.path("run")});
  CHECK(html.starts_with("<!DOCTYPE html>"));
  CHECK(unbalanced(html) == "");
  for (const char* outside : {"http:", "https:", "src=", "href=", "@import", "url(", "fetch(", "//cdn"}) {
    INFO(outside);
    CHECK(html.find(outside) == std::string::npos);
  }
  CHECK(html.find("prefers-color-scheme: dark") != std::string::npos);
  CHECK(html.find("width=device-width") != std::string::npos);
  CHECK(html.find("<b>somebody") == std::string::npos);  // text of a run is never markup
  CHECK(unbalanced("<p><b></p>") == "/p");               // the check can fail
}

TEST_CASE("a report holds the run's facts, curves, account and restarts") {
  const Scratch scratch;
  make_run(scratch.path("run"));
  const ordered_json data = embedded_data(html_report({scratch.path("run")}));
  REQUIRE(data["runs"].size() == 1);
  const ordered_json& run = data["runs"][0];
  CHECK(run["name"] == "hand-made");
  CHECK(run["facts"][0][1] == "stopped by </script><b>somebody & \"others\" (exit code 75)");
  CHECK(run["steps"]["step"].size() == 30);
  CHECK(run["steps"]["loss"][4] == 1.0);
  CHECK(run["steps"]["mfu"][0].is_null());
  CHECK(run["validation"]["loss"][0] == 0.5);
  CHECK(run["restarts"] == ordered_json({10}));
  // Two launches of half an hour on two devices, one after another.
  const ordered_json& time = run["time"];
  CHECK(time["hours"].back() == 1.0);
  CHECK(time["device_hours"].back() == 2.0);
  CHECK(time["money"].back().get<double>() == Approx(7.2));
  CHECK(time["restarts"] == ordered_json({0.5}));
  double compute = 0;
  for (const auto& seconds : time["phases"]["compute"]) compute += seconds.get<double>();
  CHECK(compute == Approx(7000));
  // 30 steps are left, at 10 steps a quarter of an hour.
  CHECK(run["forecast"]["hours"].get<double>() == Approx(1.75));
  CHECK(run["forecast"]["money"].get<double>() == Approx(7.2 + 0.75 * 2 * 3.6));
  CHECK(run["load"]["layers"] == ordered_json({1}));
  CHECK(run["load"]["max_over_mean"][0][0] == 1.5);
  CHECK(run["experts"][0]["layers"][0] == ordered_json({150, 50}));
  CHECK(run["notes"].size() == 1);  // launch A has no exit record
}

TEST_CASE("a report is written over a report only") {
  const Scratch scratch;
  make_run(scratch.path("run"));
  const std::string page = scratch.path("page.html"), mine = scratch.path("mine.html");
  for (int times = 0; times < 2; ++times) write_html_report({scratch.path("run")}, page);
  CHECK(contents_of(page).starts_with("<!DOCTYPE html>"));
  write_contents(mine, "<!DOCTYPE html><title>My notes</title>");
  const std::string metrics = scratch.path("run/metrics.jsonl");
  for (const std::string& foreign : {mine, metrics}) {
    const std::string before = contents_of(foreign);
    ExitCode code = ExitCode::kOk;
    const std::string error = error_of([&] { write_html_report({scratch.path("run")}, foreign); }, &code);
    CHECK(error.starts_with(foreign + ": is "));
    CHECK(code == ExitCode::kUsage);
    CHECK(contents_of(foreign) == before);
  }
}

TEST_CASE("a report of several runs holds each, and long curves are thinned but keep their extremes") {
  const Scratch scratch;
  make_run(scratch.path("a"));
  make_run(scratch.path("b"), 20000);
  const ordered_json data = embedded_data(html_report({scratch.path("a"), scratch.path("b")}));
  REQUIRE(data["runs"].size() == 2);
  const ordered_json& steps = data["runs"][1]["steps"];
  CHECK(steps["step"].size() < 2000);
  CHECK(steps["step"].front() == 1);
  CHECK(steps["step"].back() == 20000);
  CHECK(steps["loss"].size() == steps["lr"].size());
  CHECK(data["runs"][1]["load"]["steps"].size() <= 300);
}

TEST_CASE("a report has the router's losses, as means over the layers") {
  const Scratch scratch;
  make_run(scratch.path("a"), 0);
  StepMetrics m = metrics_at(1);
  m.layers = {{.layer = 1, .max_rows = 9, .balance_loss = 1.5, .z_loss = 2},
              {.layer = 2, .max_rows = 7, .balance_loss = 2.5, .z_loss = 3}};
  MetricsWriter(scratch.path("a/metrics.jsonl"), 0).write(m);
  const ordered_json steps = embedded_data(html_report({scratch.path("a")}))["runs"][0]["steps"];
  CHECK(steps["balance_loss"] == ordered_json({2.0}));
  CHECK(steps["z_loss"] == ordered_json({2.5}));
  CHECK(steps["max_rows"] == ordered_json({9.0}));
  CHECK(steps["global_balance_loss"] == ordered_json({nullptr}));
}

TEST_CASE("steps of unknown loss are gaps in a report's curve, however much it is thinned") {
  const Scratch scratch;
  make_run(scratch.path("a"), 0);
  {
    MetricsWriter writer(scratch.path("a/metrics.jsonl"), 0);
    for (std::int64_t step = 1; step <= 8000; ++step) {
      StepMetrics m = metrics_at(step);
      if (step % 2 == 1 || step > 7990) m.loss.reset();
      writer.write(m);
    }
    writer.write(ValidationMetrics{.step = 8000, .loss = std::nullopt, .bits_per_byte = std::nullopt});
  }
  const ordered_json run = embedded_data(html_report({scratch.path("a")}))["runs"][0];
  CHECK(run["steps"]["loss"].back().is_null());
  CHECK(run["validation"]["loss"].back().is_null());
  const auto unknown = std::ranges::count_if(run["steps"]["loss"], [](const auto& v) { return v.is_null(); });
  CHECK(unknown <= 2);                    // a stretch with known losses shows these
  CHECK(run["steps"]["loss"][0] == 2.5);  // step 2, the highest that is known
  const std::string facts = run["facts"].dump();
  CHECK(facts.find(R"(["Last loss","unknown"])") != std::string::npos);
  CHECK(facts.find("nan") == std::string::npos);
}

TEST_CASE("a report copes with a run that has just begun, and says where there is none") {
  const Scratch scratch;
  fs::create_directories(scratch.path("run"));
  write_contents(scratch.path("run/ledger.jsonl"), HandMadeLedger().launch({.price = std::nullopt}).text);
  write_contents(scratch.path("run/metrics.jsonl"), "{\"kind\":\"step\",\"st");
  const ordered_json run = report_data(scratch.path("run"));
  CHECK(run["forecast"].is_null());
  CHECK(run["load"].is_null());
  CHECK(run["time"]["money"][0].is_null());
  CHECK(run["notes"].back() == "metrics.jsonl: 1 unreadable lines");
  ExitCode code{};
  CHECK(error_of([&] { html_report({scratch.path("nowhere")}); }, &code).find("no ledger.jsonl here") !=
        std::string::npos);
  CHECK(code == ExitCode::kUsage);
}

}  // namespace jevons::test
