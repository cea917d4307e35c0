// A validation over several sources, in every report.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/state/ledger_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "trainer/report/console_line.h"
#include "trainer/report/event_file.h"
#include "trainer/report/metrics_writer.h"
#include "trainer/report/report_data.h"

namespace jevons::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

ValidationMetrics validation_at(std::int64_t step, std::vector<SourceLoss> sources) {
  return {.step = step, .loss = 2.5, .bits_per_byte = 3.6, .sources = std::move(sources)};
}

const SourceLoss kBooks{
    .name = "data/books", .share = 0.75, .samples = 30, .loss = 2.25, .bits_per_byte = 3.25};
const SourceLoss kCode{.name = "code", .share = 0.25, .samples = 10, .loss = 3.25, .bits_per_byte = {}};
const SourceLoss kShort{.name = "short", .share = 0.1, .samples = 0, .loss = {}, .bits_per_byte = {}};

}  // namespace

TEST_CASE("the console shows every source of a validation below the blend", "[report]") {
  CHECK(console_line(validation_at(7, {kBooks, kCode, kShort})) ==
        "validation at step 7  loss 2.5000  3.6000 bits per byte\n"
        "   75.0 % data/books  loss 2.2500  3.2500 bits per byte\n"
        "   25.0 % code  loss 3.2500");
  CHECK(console_line(validation_at(7, {kBooks})) ==
        "validation at step 7  loss 2.5000  3.6000 bits per byte");
}

TEST_CASE("metrics, TensorBoard and the report have every source of a validation", "[report]") {
  const Scratch scratch;
  const std::string dir = scratch.path("run");
  fs::create_directories(dir);
  {
    MetricsWriter metrics(dir + "/metrics.jsonl", 0);
    EventFile events(dir, 0);
    for (std::int64_t step : {10, 20}) {
      metrics.write(validation_at(step, {kBooks, kCode, kShort}));
      events.write(validation_at(step, {kBooks, kCode, kShort}));
    }
  }
  const std::string text = contents_of(dir + "/metrics.jsonl");
  const ordered_json line = ordered_json::parse(text.substr(0, text.find('\n')));
  CHECK(line["loss"] == 2.5);
  CHECK(line["sources"][0] == ordered_json::parse(R"({"name": "data/books", "share": 0.75, "samples": 30,
                                                      "loss": 2.25, "bits_per_byte": 3.25})"));
  CHECK(line["sources"][1]["bits_per_byte"].is_null());
  CHECK(line["sources"][2]["loss"].is_null());

  std::string events;
  for (const auto& entry : fs::directory_iterator(dir)) {
    if (entry.path().filename().string().starts_with("events.out")) events = contents_of(entry.path());
  }
  CHECK(events.find("validation/loss") != std::string::npos);
  CHECK(events.find("validation_loss/data/books") != std::string::npos);
  CHECK(events.find("validation_loss/code") != std::string::npos);
  CHECK(events.find("validation_bits_per_byte/data/books") != std::string::npos);
  CHECK(events.find("validation_bits_per_byte/code") == std::string::npos);
  CHECK(events.find("validation_loss/short") == std::string::npos);

  HandMadeLedger ledger;
  ledger.launch({.id = "A", .total_steps = 20});
  ledger.exit({.id = "A", .time = 1900, .elapsed = 900, .step = 20, .compute = 800}, "done", 0);
  write_contents(dir + "/ledger.jsonl", ledger.text);
  const ordered_json report = report_data(dir);
  REQUIRE(report["validation_sources"].size() == 3);
  CHECK(report["validation_sources"][0]["name"] == "data/books");
  CHECK(report["validation_sources"][0]["step"] == std::vector<int>{10, 20});
  CHECK(report["validation_sources"][1]["loss"] == std::vector<double>{3.25, 3.25});
  CHECK(report["validation_sources"][2]["loss"][0].is_null());
  CHECK(report["facts"].dump().find(R"(["Last validation loss of code","3.2500"])") != std::string::npos);
}

}  // namespace jevons::test
