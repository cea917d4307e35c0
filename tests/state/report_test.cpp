#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "trainer/io/clock.h"
#include "trainer/io/crc32c.h"
#include "trainer/io/format.h"
#include "trainer/report/console_line.h"
#include "trainer/report/event_file.h"
#include "trainer/report/metrics_writer.h"

namespace jevons::test {
namespace {

StepMetrics some_metrics(std::int64_t step) {
  StepMetrics m;
  m.step = step;
  m.total_steps = 2000;
  m.tokens = step * 2048;
  m.loss = 1.84214;
  m.lr = 3e-4;
  m.grad_norm = 0.4123;
  m.step_seconds = 0.1125;
  m.tokens_per_second = 18204;
  m.devices = 2;
  m.mfu = 0.412;
  m.device_seconds = 1512;
  m.cost = 0.84;
  m.currency = "USD";
  m.eta_seconds = 192;
  m.layers = {
      {.layer = 1, .max_over_mean = 1.31, .router_entropy = 2.07, .load = {1.31, 0.69}},
      {.layer = 2, .max_over_mean = 1.12, .dead_experts = 1, .router_entropy = 2.05, .dropped_tokens = 12}};
  return m;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

std::uint64_t little_endian(const std::string& bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) value = value << 8 | static_cast<std::uint8_t>(bytes[at + i]);
  return value;
}

std::uint32_t unmask(std::uint64_t masked) {
  const std::uint32_t rotated = static_cast<std::uint32_t>(masked) - 0xa282ead8u;
  return rotated >> 17 | rotated << 15;
}

// The messages of an event file, each checksum checked.
std::vector<std::string> records_of(const std::string& file) {
  std::vector<std::string> records;
  for (std::size_t at = 0; at < file.size();) {
    const std::size_t size = little_endian(file, at, 8);
    REQUIRE(unmask(little_endian(file, at + 8, 4)) == crc32c(file.substr(at, 8)));
    REQUIRE(at + 16 + size <= file.size());
    records.push_back(file.substr(at + 12, size));
    REQUIRE(unmask(little_endian(file, at + 12 + size, 4)) == crc32c(records.back()));
    at += 16 + size;
  }
  return records;
}

}  // namespace

TEST_CASE("CRC-32C of the published vectors") {
  CHECK(crc32c("") == 0);
  CHECK(crc32c("123456789") == 0xe3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aau);    // RFC 3720, B.4
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43u);  // RFC 3720, B.4
}

TEST_CASE("metrics.jsonl has one line per step, also after a resume") {
  const Scratch scratch;
  const std::string path = scratch.path("metrics.jsonl");
  {
    MetricsWriter writer(path, 0);
    for (std::int64_t step = 1; step <= 5; ++step) writer.write(some_metrics(step));
    writer.write(ValidationMetrics{5, 1.5, 2.1});
  }
  write_contents(path, contents_of(path) + R"({"kind":"step","st)");  // a kill in the middle of a line
  {
    MetricsWriter writer(path, 3);
    writer.write(some_metrics(4));
  }
  const auto lines = lines_of(contents_of(path));
  REQUIRE(lines.size() == 4);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    CHECK(nlohmann::json::parse(lines[i])["step"] == static_cast<int>(i) + 1);
  }
  CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
  const auto json = nlohmann::json::parse(lines[3]);
  CHECK(json["kind"] == "step");
  CHECK(json["loss"] == 1.84214);
  CHECK(json["mfu"] == 0.412);
  CHECK(json["cost"] == 0.84);
  CHECK(json["moe"].size() == 2);
  CHECK(json["moe"][1]["dropped_tokens"] == 12);
  CHECK(json["moe"][0]["load_percent"] == nlohmann::json({131, 69}));
  CHECK_FALSE(json["moe"][1].contains("load_percent"));
}

TEST_CASE("skipped spikes and slow ranks stand in the metrics, slow ranks and skips on the console") {
  const Scratch scratch;
  StepMetrics m = some_metrics(1);
  CHECK(console_line(m).find("slow") == std::string::npos);
  m.skipped = m.spike = true, m.skipped_steps = 4;
  m.ranks = {.min = 0.5, .mean = 1, .max = 1.25, .slowest = 3};
  m.arena_peak_bytes = 1000, m.arena_held_bytes = 1024;
  MetricsWriter(scratch.path("m"), 0).write(m);
  const auto json = nlohmann::json::parse(contents_of(scratch.path("m")));
  CHECK(json["spike"] == true);
  CHECK(json["skipped_steps"] == 4);
  CHECK(json["arena_peak_bytes"] == 1000);
  CHECK(json["arena_held_bytes"] == 1024);
  CHECK(json["rank_seconds"] == nlohmann::json({{"min", 0.5}, {"mean", 1.0}, {"max", 1.25}, {"slowest", 3}}));
  CHECK(console_line(m).find("  SKIPPED: SPIKE  ") != std::string::npos);
  CHECK(console_line(m).find("  rank 3 slow (+25 %)") != std::string::npos);
  m.ranks->max = 1.1;
  CHECK(console_line(m).find("slow") == std::string::npos);
}

TEST_CASE("metrics.jsonl has null for what is unknown or not finite") {
  const Scratch scratch;
  StepMetrics m = some_metrics(1);
  m.loss = std::numeric_limits<double>::quiet_NaN();
  m.mfu.reset();
  m.cost.reset();
  m.layers.clear();
  MetricsWriter(scratch.path("m"), 0).write(m);
  const auto json = nlohmann::json::parse(contents_of(scratch.path("m")));
  CHECK(json["loss"].is_null());
  CHECK(json["mfu"].is_null());
  CHECK(json["cost"].is_null());
  CHECK_FALSE(json.contains("moe"));
}

TEST_CASE("unknown losses and bits per byte are null, without a point and not on the console") {
  const Scratch scratch;
  StepMetrics m = some_metrics(3);
  m.loss.reset(), m.mfu.reset(), m.cost.reset();
  m.skipped = true;
  const ValidationMetrics unknown{.step = 3, .loss = std::nullopt, .bits_per_byte = std::nullopt};
  const ValidationMetrics tokens{.step = 3, .loss = 1.5, .bits_per_byte = std::nullopt};
  const CheckpointMetrics instant{.step = 3, .bytes = 100};
  std::string events;
  {
    MetricsWriter writer(scratch.path("m"), 0);
    writer.write(m), writer.write(unknown), writer.write(tokens), writer.write(instant);
    EventFile file(scratch.path(), 1);
    file.write(m), file.write(unknown), file.write(tokens);
    events = file.path();
  }
  std::vector<nlohmann::json> lines;
  for (const std::string& line : lines_of(contents_of(scratch.path("m")))) {
    lines.push_back(nlohmann::json::parse(line));
  }
  REQUIRE(lines.size() == 4);
  CHECK(lines[0]["loss"].is_null());
  CHECK(lines[1]["loss"].is_null());
  CHECK(lines[1]["bits_per_byte"].is_null());
  CHECK(lines[2]["loss"] == 1.5);
  CHECK(lines[2]["bits_per_byte"].is_null());
  CHECK(lines[3]["write_bytes_per_second"].is_null());
  CHECK(lines[3]["disk_bytes_per_second"].is_null());

  const auto records = records_of(contents_of(events));
  REQUIRE(records.size() == 5);
  CHECK(records[2].find("train/lr") != std::string::npos);
  for (const char* tag : {"train/loss", "speed/mfu", "cost/money"}) {
    CHECK(records[2].find(tag) == std::string::npos);
  }
  CHECK(records[3].find("validation/") == std::string::npos);
  CHECK(records[4].find("validation/loss") != std::string::npos);
  CHECK(records[4].find("bits_per_byte") == std::string::npos);

  CHECK(console_line(m).starts_with("step    3/2000  lr 3.00e-04  norm 0.412  SKIPPED: NO TARGET  18.2k"));
  CHECK(console_line(unknown) == "validation at step 3  no target");
  CHECK(console_line(tokens) == "validation at step 3  loss 1.5000");
  CHECK(console_line({.step = 3, .loss = 1.5, .bits_per_byte = 2.125}) ==
        "validation at step 3  loss 1.5000  2.1250 bits per byte");
}

TEST_CASE("the router's losses stand in the metrics, null where the model has none") {
  const Scratch scratch;
  StepMetrics m = some_metrics(3);
  m.layers[0].balance_loss = 1.25, m.layers[0].z_loss = 3.5, m.layers[0].max_rows = 70;
  m.layers[1].balance_loss = 1.5, m.layers[1].z_loss = 4.5, m.layers[1].max_rows = 90;
  std::string events;
  {
    MetricsWriter(scratch.path("m"), 0).write(m);
    EventFile file(scratch.path(), 1);
    file.write(m);
    events = file.path();
  }
  const auto moe = nlohmann::json::parse(contents_of(scratch.path("m")))["moe"];
  CHECK(moe[0]["balance_loss"] == 1.25);
  CHECK(moe[1]["z_loss"] == 4.5);
  CHECK(moe[1]["max_rows"] == 90);
  CHECK(moe[0]["sequence_balance_loss"].is_null());
  CHECK(moe[0]["global_balance_loss"].is_null());
  const std::string record = records_of(contents_of(events))[2];
  // Tag, then simple_value = 1.25f.
  CHECK(record.find(std::string("\nbalance_loss/layer_1\x15\x00\x00\xa0\x3f", 26).substr(1)) !=
        std::string::npos);
  CHECK(record.find("z_loss/layer_2") != std::string::npos);
  CHECK(record.find("max_rows/layer_2") != std::string::npos);
  CHECK(record.find("sequence_balance_loss") == std::string::npos);
  CHECK(console_line(m).find("load 1.31  balance 1.375  dead 1") != std::string::npos);
  CHECK(console_line(some_metrics(3)).find("balance") == std::string::npos);
}

TEST_CASE("an event file is framed as TensorBoard reads it") {
  const Scratch scratch;
  std::string path;
  {
    EventFile file(scratch.path(), 1);
    file.write(some_metrics(120));
    file.write(ValidationMetrics{120, 1.5, 2.125});
    path = file.path();
  }
  CHECK(path.find("events.out.tfevents.") != std::string::npos);
  const auto records = records_of(contents_of(path));
  REQUIRE(records.size() == 4);  // a session start at step 1 too: the directory may have been used
  // Field 3 (file_version), length 13, after field 1 (wall_time, 9 bytes) and field 2 (step 0, 2 bytes).
  CHECK(records[0].substr(11) ==
        "\x1a\x0d"
        "brain.Event:2");
  CHECK(records[1].substr(9) == "\x10\x01\x3a\x02\x08\x01");
  CHECK(records[2].substr(9, 2) == "\x10\x78");  // field 2, step 120
  CHECK(records[2].find("train/loss") != std::string::npos);
  CHECK(records[2].find("load_max_over_mean/layer_2") != std::string::npos);
  // Validation: value {tag, simple_value = 2.125f}.
  CHECK(records[3].find(std::string("validation/bits_per_byte\x15\x00\x00\x08\x40", 29)) !=
        std::string::npos);
}

TEST_CASE("metrics of steps that a run leaves behind are moved, and come back with the run") {
  const Scratch scratch;
  const std::string path = scratch.path("metrics.jsonl"), behind = scratch.path("metrics.left-behind.jsonl");
  const auto steps_in_file = [](const std::string& file) {
    std::vector<std::pair<int, int>> found;  // step, branch
    std::istringstream lines(contents_of(file));
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      found.emplace_back(json["step"].get<int>(), json.value("branch", 0));
    }
    return found;
  };
  const auto write = [](MetricsWriter& metrics, int first, int last) {
    for (int step = first; step <= last; ++step) metrics.write(some_metrics(step));
  };
  using Found = std::vector<std::pair<int, int>>;
  {
    MetricsWriter metrics(path, 0);
    CHECK(metrics.first_new_step() == 1);
    write(metrics, 1, 5);
  }
  CHECK_FALSE(std::filesystem::exists(behind));
  const Lineage branch(std::vector<Branch>{{7, 2}});
  for (int again = 0; again < 2; ++again) {  // killed, and once more: steps of the same branch run again
    MetricsWriter metrics(path, 2, branch);
    CHECK(metrics.first_new_step() == 3);
    write(metrics, 3, 4);
    CHECK(steps_in_file(path) == Found{{1, 0}, {2, 0}, {3, 7}, {4, 7}});
    CHECK(steps_in_file(behind) == Found{{3, 0}, {4, 0}, {5, 0}});
  }
  // Back to step 5 of the beginning: no hole, and nothing twice, also after an end between the two files.
  const Lineage back(std::vector<Branch>{{8, 5}});
  std::filesystem::create_directory(path + ".tmp");  // in the way of the second file's replacement
  CHECK_THROWS(MetricsWriter(path, 5, back));
  std::filesystem::remove(path + ".tmp");
  for (int again = 0; again < 2; ++again) {
    const MetricsWriter metrics(path, 5, back);
    CHECK(metrics.first_new_step() == (again == 0 ? 3 : 6));
    CHECK(steps_in_file(path) == Found{{1, 0}, {2, 0}, {3, 0}, {4, 0}, {5, 0}});
    CHECK(steps_in_file(behind) == Found{{3, 7}, {4, 7}});
  }
}

TEST_CASE("the event file of a resumed run tells readers to forget the repeated steps") {
  const Scratch scratch;
  const auto records = records_of(contents_of(EventFile(scratch.path(), 100).path()));
  REQUIRE(records.size() == 2);
  CHECK(records[1].substr(9) == "\x10\x64\x3a\x02\x08\x01");  // step 100, session_log { status START }
}

TEST_CASE("the console line shows what is known and leaves out the rest") {
  CHECK(console_line(some_metrics(120)) ==
        "step  120/2000  loss 1.8421  lr 3.00e-04  norm 0.412  18.2k tok/s (9.10k/device)  MFU 41.2 %  load "
        "1.31  "
        "dead 1  dropped 12  0.42 device-h  0.840 USD  ETA 3m 12s");
  StepMetrics m = some_metrics(7);
  m.devices = 1;
  m.mfu.reset();
  m.cost.reset();
  m.layers.clear();
  m.skipped = true;
  CHECK(console_line(m) ==
        "step    7/2000  loss 1.8421  lr 3.00e-04  norm 0.412  SKIPPED  18.2k tok/s  0.42 device-h  ETA 3m "
        "12s");
}

TEST_CASE("a moment so far away that the clock does not reach it is none") {
  const auto start = std::chrono::steady_clock::now();
  CHECK(moment_after(start, 90) == start + std::chrono::seconds(90));
  CHECK(moment_after(start, 3.1e9) > start);
  for (const double seconds : {3.2e9, 9.3e9, 6e10, 1e300, std::numeric_limits<double>::infinity()}) {
    CHECK_FALSE(moment_after(start, seconds));
  }
}

TEST_CASE("numbers for people") {
  CHECK(format_duration(4.24) == "4.2 s");
  CHECK(format_duration(59.96) == "1m 00s");
  CHECK(format_duration(187) == "3m 07s");
  CHECK(format_duration(7500) == "2h 05m");
  CHECK(format_duration(93784) == "1d 02h 03m");
  CHECK(format_duration(86400.0 * 365000) == "365000d 00h 00m");
  CHECK(format_duration(3.15576e15) == "1e+08 years");
  CHECK(format_duration(6e300) == "1.9e+293 years");
  CHECK(format_duration(-1) == "unknown");
  CHECK(format_duration(std::numeric_limits<double>::infinity()) == "unknown");
  CHECK(format_count(0) == "0");
  CHECK(format_count(950) == "950");
  CHECK(format_count(999.6) == "1.00k");
  CHECK(format_count(12345) == "12.3k");
  CHECK(format_count(999999) == "1.00M");
  CHECK(format_count(1.2e9) == "1.20B");
  CHECK(format_count(3.4e15) == "3400T");
  CHECK(format_integer(0) == "0");
  CHECK(format_integer(1234567) == "1,234,567");
  CHECK(format_integer(-123456) == "-123,456");
  CHECK(format_bytes(512) == "512 B");
  CHECK(format_bytes(1536) == "1.50 KiB");
  CHECK(format_bytes(35.0 * 1048576) == "35.0 MiB");
  CHECK(format_device_hours(15) == "0.0042");
  CHECK(format_device_hours(1512) == "0.42");
  CHECK(format_device_hours(3600 * 1234.5) == "1234.5");
  CHECK(format_device_hours(0.036) == "1e-05");
  CHECK(format_money(0.84, "USD") == "0.840 USD");
  CHECK(format_money(12.344, "USD") == "12.34 USD");
  CHECK(format_money(0.0123, "EUR") == "0.012 EUR");
  CHECK(format_utc(0) == "1970-01-01 00:00:00 UTC");
  CHECK(format_utc(1e300) == "unknown");
  CHECK(format_utc(std::numeric_limits<double>::quiet_NaN()) == "unknown");
  CHECK(format_utc(1735689599.9) == "2024-12-31 23:59:59 UTC");
  CHECK(format_table({{"a", "bb"}, {"ccc", "d"}}) == "a    bb\nccc   d\n");
}

}  // namespace jevons::test
