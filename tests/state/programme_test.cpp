#include "trainer/cost/programme.h"

#include <sqlite3.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/state/ledger_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "trainer/cost/cost_report.h"
#include "trainer/cost/database.h"
#include "trainer/cost/launch_table.h"

namespace jevons::test {
namespace {

namespace fs = std::filesystem;

// A run of `seconds` on 2 devices at 0.001 per device-second, with 10 steps.
void add_run(const Scratch& scratch, const std::string& name, double seconds, HandMadeLedger::Start start) {
  start.id = name;
  HandMadeLedger ledger;
  ledger.launch(start);
  ledger.exit({name, 1000 + seconds, seconds, 10, 2 * seconds, 0}, "finished", 0);
  fs::create_directories(scratch.path("runs/" + name));
  write_contents(scratch.path("runs/" + name + "/ledger.jsonl"), ledger.text);
}

// The first row of a query, its columns joined by "|".
std::string query(const std::string& path, const char* sql) {
  sqlite3* database = nullptr;
  REQUIRE(sqlite3_open_v2(path.c_str(), &database, SQLITE_OPEN_READONLY, nullptr) == SQLITE_OK);
  std::string row;
  const auto take = [](void* out, int columns, char** values, char**) {
    auto& text = *static_cast<std::string*>(out);
    for (int c = 0; c < columns; ++c) {
      if (c > 0) text += '|';
      text += values[c] != nullptr ? values[c] : "null";
    }
    return 0;
  };
  CHECK(sqlite3_exec(database, sql, take, &row, nullptr) == SQLITE_OK);
  sqlite3_close(database);
  return row;
}

bool has_part(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a programme is summed by project and purpose, with its final runs beside it") {
  const Scratch scratch;
  add_run(scratch, "final", 3600, {.purpose = "final"});
  add_run(scratch, "ablation-1", 7200, {.purpose = "ablation"});
  add_run(scratch, "deep/ablation-2", 1800, {.purpose = "ablation"});
  add_run(scratch, "elsewhere", 60, {.price = 7.2, .purpose = "test", .currency = "EUR", .project = "q"});
  fs::create_directories(scratch.path("runs/final/checkpoints/step-00000001"));
  write_contents(scratch.path("runs/final/checkpoints/ledger.jsonl"), "not searched");

  const auto ledgers = find_ledgers({scratch.path("runs"), scratch.path("runs/final")});
  CHECK(ledgers.size() == 4);  // each once, though a path is named twice
  const Programme programme = account_programme(ledgers, "");
  CHECK(programme.problems.empty());
  CHECK(programme.by_purpose.at({"p", "final"}).device_seconds == Approx(7200));
  CHECK(programme.by_purpose.at({"p", "ablation"}).device_seconds == Approx(18000));
  CHECK(programme.by_purpose.at({"p", "ablation"}).launches == 2);
  CHECK(programme.by_project.at("p").single_amount() == Approx(25.2));
  CHECK(programme.ratio_to_final("p") == Approx(3.5));
  CHECK_FALSE(programme.ratio_to_final("q"));
  CHECK(programme.total.device_seconds == Approx(25200 + 120));
  CHECK_FALSE(programme.total.single_amount());  // two currencies
  CHECK(describe_money(programme.total) == "0.240 EUR + 25.20 USD");

  const std::string text = describe_programme(programme);
  CHECK(has_part(text,
                 "project p: final runs 2.00 device-h, 7.20 USD; whole programme 7.00 device-h, 25.20 USD: "
                 "3.50 times the final runs"));
  for (const char* part : {"tok/device-h", "MFU", "compute", "100.0 %", "cpu"}) CHECK(has_part(text, part));
  CHECK(has_part(text, "project q: 0.033 device-h, 0.240 EUR; no run has the purpose 'final' yet"));

  const Programme one = account_programme(ledgers, "q");
  CHECK(one.runs.size() == 1);
  CHECK(one.total.device_seconds == Approx(120));
}

TEST_CASE("a copied run directory does not count twice") {
  const Scratch scratch;
  add_run(scratch, "a", 100, {});
  fs::copy(scratch.path("runs/a"), scratch.path("runs/b"));
  const Programme programme = account_programme(find_ledgers({scratch.path("runs")}), "");
  CHECK(programme.total.device_seconds == Approx(200));
  REQUIRE(programme.problems.size() == 1);
  CHECK(has_part(programme.problems[0], "launch a stands in another ledger too"));
}

TEST_CASE("the account as JSON has null for what is unknown") {
  const Scratch scratch;
  add_run(scratch, "a", 100, {.price = std::nullopt});
  const auto json =
      nlohmann::json::parse(programme_json(account_programme(find_ledgers({scratch.path("runs")}), "")));
  CHECK(json["total"]["device_seconds"] == 200.0);
  CHECK(json["total"]["money"] == nlohmann::json::object());
  CHECK(json["total"]["unpriced_device_seconds"] == 200.0);
  CHECK(json["total"]["money_per_mtoken"].is_null());
  CHECK(json["projects"][0]["ratio_to_final"].is_null());
  CHECK(json["runs"][0]["launches"][0]["money"].is_null());
  CHECK(json["runs"][0]["launches"][0]["phases"]["compute"] == 200.0);
  CHECK(json["runs"][0]["launches"][0]["exit"]["code"] == 0);
}

TEST_CASE("a text account of an unpriced, killed run says what is missing") {
  const Scratch scratch;
  fs::create_directories(scratch.path("run"));
  write_contents(scratch.path("run/ledger.jsonl"),
                 HandMadeLedger()
                     .launch({.price = std::nullopt})
                     .heartbeat({.time = 1100, .elapsed = 100, .step = 10, .compute = 190})
                     .text);
  const std::string text = describe_programme(account_programme(find_ledgers({scratch.path("run")}), ""));
  CHECK(has_part(text, "unknown"));
  CHECK(has_part(text, "no exit record"));
  CHECK(has_part(text, "(5.0 %) are in no phase"));
  CHECK_FALSE(has_part(text, "0.00 USD"));
}

TEST_CASE("the table of launches as CSV: every figure, text quoted, unknown empty") {
  const Scratch scratch;
  write_contents(scratch.path("ledger.jsonl"),
                 HandMadeLedger()
                     .launch({.price = std::nullopt, .project = "big, \"bold\"\nplan"})
                     .exit({.time = 1100, .elapsed = 100, .step = 10, .compute = 190.125}, "finished", 0)
                     .text);
  const LaunchTable table = launch_table(account_programme(find_ledgers({scratch.path()}), ""));
  REQUIRE(table.rows.size() == 1);
  const auto cell = [&](const std::string& name) -> Cell {
    for (std::size_t c = 0; c < table.columns.size(); ++c) {
      if (table.columns[c].name == name) return table.rows[0].at(c);
    }
    FAIL("no column " << name);
    return {};
  };
  CHECK(cell("device_seconds") == Cell(200.0));
  CHECK(cell("compute_device_seconds") == Cell(190.125));
  CHECK(cell("devices") == Cell(std::int64_t{2}));
  CHECK(cell("money") == Cell());
  CHECK(cell("energy_joules") == Cell());
  CHECK(cell("exit_reason") == Cell("finished"));
  const std::string csv = to_csv(table);
  CHECK(csv.starts_with("ledger,run,launch,project,"));
  CHECK(has_part(csv, ",\"big, \"\"bold\"\"\nplan\","));
  CHECK(has_part(csv, ",190.125,"));
  CHECK(csv.ends_with(",finished,0\r\n"));
  CHECK(launch_table({}).columns.size() == table.columns.size());
}

TEST_CASE("the database holds what the ledgers say and is made anew each time") {
  const Scratch scratch;
  add_run(scratch, "a", 3600, {.purpose = "final"});
  add_run(scratch, "b", 1800, {.price = std::nullopt});
  write_contents(scratch.path("runs/b/ledger.jsonl"),
                 contents_of(scratch.path("runs/b/ledger.jsonl")) + "torn");
  const std::string path = scratch.path("cost.sqlite");
  for (int times = 0; times < 2; ++times) {
    write_database(account_programme(find_ledgers({scratch.path("runs")}), ""), path);
  }
  CHECK(std::distance(fs::directory_iterator(scratch.path()), fs::directory_iterator()) ==
        2);  // no leftovers
  CHECK(query(path, "SELECT COUNT(*), SUM(device_seconds), SUM(money) FROM launches") == "2|10800.0|7.2");
  CHECK(query(path, "SELECT purpose, tokens FROM launches WHERE money IS NULL") == "exploration|1000");
  CHECK(query(path, "SELECT COUNT(*), MAX(compute_device_seconds) FROM heartbeats WHERE launch = 'a'") ==
        "2|7200.0");
  CHECK(query(path, "SELECT COUNT(*) FROM problems WHERE problem LIKE '%torn%'") == "1");
  CHECK(has_part(error_of([&] { write_database({}, "/nowhere/x.sqlite"); }), "/nowhere/x.sqlite"));
}

TEST_CASE("a table or database is written over its own kind only") {
  const Scratch scratch;
  add_run(scratch, "a", 3600, {});
  const std::string ledger = scratch.path("runs/a/ledger.jsonl");
  const Programme programme = account_programme({ledger}, "");
  const auto database = [&](const std::string& path) { write_database(programme, path); };
  const auto table = [&](const std::string& path) { write_csv(programme, path); };
  // Whether the file stays as it was, and the error names it and says why.
  const auto refused = [&](const auto& write, const std::string& path, const std::string& why) {
    const std::string before = fs::is_regular_file(path) ? contents_of(path) : "";
    ExitCode code = ExitCode::kOk;
    const std::string error = error_of([&] { write(path); }, &code);
    INFO(error);
    return code == ExitCode::kUsage && error.starts_with(path) && has_part(error, why) &&
           (!fs::is_regular_file(path) || contents_of(path) == before);
  };
  const std::string foreign = scratch.path("mine.yaml");
  write_contents(foreign, "model: {}\n");
  CHECK(refused(database, foreign, "is there and is not a database of jevons cost"));
  CHECK(refused(table, foreign, "is there and is not a table of jevons cost"));
  fs::create_symlink(ledger, scratch.path("link"));
  CHECK(refused(database, scratch.path("link"), "is read as an input too"));
  CHECK(refused(table, scratch.path("link"), "is read as an input too"));
  CHECK(refused(database, scratch.path("runs"), "is a directory"));
  CHECK(refused(table, scratch.path("runs"), "is a directory"));

  const std::string csv = scratch.path("c.csv"), sqlite = scratch.path("c.sqlite");
  write_contents(csv, "");  // as mktemp makes it
  for (int times = 0; times < 2; ++times) table(csv), database(sqlite);
  CHECK(has_part(contents_of(csv), "\r\n" + ledger));
  CHECK(refused(database, csv, "is not a database"));
  CHECK(refused(table, sqlite, "is not a table"));
  CHECK(refused(database, "/dev/null", "is not a database"));
  table("/dev/null");

  sqlite3* added = nullptr;
  REQUIRE(sqlite3_open(sqlite.c_str(), &added) == SQLITE_OK);
  CHECK(sqlite3_exec(added, "CREATE VIEW mine AS SELECT 1", nullptr, nullptr, nullptr) == SQLITE_OK);
  sqlite3_close(added);
  CHECK(refused(database, sqlite, "is not a database"));
}

TEST_CASE("a path without a ledger is an error of usage") {
  const Scratch scratch;
  ExitCode code{};
  CHECK(has_part(error_of([&] { find_ledgers({scratch.path()}); }, &code), "no ledger.jsonl here"));
  CHECK(code == ExitCode::kUsage);
  CHECK(has_part(error_of([&] { find_ledgers({scratch.path("nowhere")}); }, &code), "nowhere: No such file"));
}

}  // namespace jevons::test
