#include "trainer/cost/database.h"

#include <fmt/format.h>
#include <sqlite3.h>
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "kernels/core/error.h"
#include "kernels/core/output_path.h"
#include "trainer/cost/launch_table.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

const char* sql_type(Column::Type type) {
  switch (type) {
    case Column::Type::kInteger:
      return "INTEGER";
    case Column::Type::kReal:
      return "REAL";
    case Column::Type::kText:
      return "TEXT";
  }
  return "";
}

class Database {
 public:
  explicit Database(const std::string& path) : path_(path) {
    sqlite3* handle = nullptr;
    const int result = sqlite3_open(path.c_str(), &handle);
    handle_.reset(handle);
    check(result);
  }

  void execute(const std::string& sql) {
    check(sqlite3_exec(handle_.get(), sql.c_str(), nullptr, nullptr, nullptr));
  }

  // One table with all its rows.
  void add_table(const std::string& name, const LaunchTable& table) {
    std::string columns, places;
    for (const Column& column : table.columns) {
      columns += fmt::format("{}{} {}", columns.empty() ? "" : ", ", column.name, sql_type(column.type));
      places += places.empty() ? "?" : ", ?";
    }
    execute(fmt::format("CREATE TABLE {} ({})", name, columns));
    sqlite3_stmt* raw = nullptr;
    const std::string insert = fmt::format("INSERT INTO {} VALUES ({})", name, places);
    check(sqlite3_prepare_v2(handle_.get(), insert.c_str(), -1, &raw, nullptr));
    const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> statement(raw, sqlite3_finalize);
    for (const std::vector<Cell>& row : table.rows) {
      for (std::size_t c = 0; c < row.size(); ++c) bind(raw, static_cast<int>(c) + 1, row[c]);
      if (sqlite3_step(raw) != SQLITE_DONE) check(SQLITE_ERROR);
      check(sqlite3_reset(raw));
    }
  }

 private:
  void bind(sqlite3_stmt* statement, int place, const Cell& cell) {
    struct Bind {
      sqlite3_stmt* statement;
      int place;
      int operator()(std::monostate) const { return sqlite3_bind_null(statement, place); }
      int operator()(std::int64_t v) const { return sqlite3_bind_int64(statement, place, v); }
      int operator()(double v) const { return sqlite3_bind_double(statement, place, v); }
      int operator()(const std::string& v) const {
        return sqlite3_bind_text(statement, place, v.data(), static_cast<int>(v.size()), SQLITE_TRANSIENT);
      }
    };
    check(std::visit(Bind{statement, place}, cell));
  }

  void check(int result) const {
    if (result == SQLITE_OK) return;
    fail(ExitCode::kFailure, "{}: cannot write the database: {}", path_, sqlite3_errmsg(handle_.get()));
  }

  std::string path_;
  std::unique_ptr<sqlite3, int (*)(sqlite3*)> handle_{nullptr, sqlite3_close};
};

// Every heartbeat of every launch: the course of cost over time.
LaunchTable heartbeat_table(const Programme& programme) {
  using Type = Column::Type;
  LaunchTable table;
  table.columns = {{"launch", Type::kText},
                   {"time", Type::kReal},
                   {"elapsed_seconds", Type::kReal},
                   {"step", Type::kInteger},
                   {"tokens", Type::kInteger}};
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    table.columns.push_back({fmt::format("{}_device_seconds", name_of(static_cast<Phase>(p))), Type::kReal});
  }
  table.columns.push_back({"energy_joules", Type::kReal});
  for (const RunAccount& run : programme.runs) {
    for (const LaunchAccount& account : run.launches) {
      for (const Heartbeat& beat : account.launch.beats) {
        const Totals& totals = beat.totals;
        std::vector<Cell> row = {account.launch.id, beat.time, beat.elapsed, totals.step, totals.tokens};
        row.insert(row.end(), totals.device_seconds.begin(), totals.device_seconds.end());
        row.push_back(totals.energy_joules ? Cell(*totals.energy_joules) : Cell());
        table.rows.push_back(std::move(row));
      }
    }
  }
  return table;
}

LaunchTable problem_table(const Programme& programme) {
  LaunchTable table{{{"ledger", Column::Type::kText}, {"problem", Column::Type::kText}}, {}};
  for (const std::string& ledger : programme.unusable) table.rows.push_back({Cell(), ledger});
  for (const std::string& problem : programme.problems) table.rows.push_back({Cell(), problem});
  for (const RunAccount& run : programme.runs) {
    for (const std::string& problem : run.problems) table.rows.push_back({run.path, problem});
  }
  return table;
}

// What write_database makes, and nothing that a person has added.
constexpr const char* kTables = "heartbeats launches problems";

// The names of everything in the file's schema, sorted; "" if it is no database.
std::string schema_of(const std::string& path) {
  sqlite3* raw = nullptr;
  const int opened = sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READONLY, nullptr);
  const std::unique_ptr<sqlite3, int (*)(sqlite3*)> handle(raw, sqlite3_close);
  if (opened != SQLITE_OK) return "";
  std::string names;
  const auto append = [](void* all, int, char** values, char**) {
    std::string& text = *static_cast<std::string*>(all);
    text += (text.empty() ? "" : " ") + std::string(values[0] != nullptr ? values[0] : "?");
    return 0;
  };
  const char* sql = "SELECT name FROM sqlite_master ORDER BY name";
  return sqlite3_exec(raw, sql, append, &names, nullptr) == SQLITE_OK ? names : "";
}

bool is_our_database(const std::string& path) {
  const std::string magic("SQLite format 3\0", 16);
  return file_head(path, magic.size()) == magic && schema_of(path) == kTables;
}

// A database beside its later place, under a name that nothing has; gone at the end if it was not renamed.
class TemporaryDatabase {
 public:
  explicit TemporaryDatabase(const std::string& target)
      : path_(File::create_new(fmt::format("{}.tmp-{}", target, ::getpid())).path()) {}
  ~TemporaryDatabase() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TemporaryDatabase(const TemporaryDatabase&) = delete;
  TemporaryDatabase& operator=(const TemporaryDatabase&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

void write_database(const Programme& programme, const std::string& path) {
  check_output({path, "a database of jevons cost", is_our_database}, ledgers_of(programme));
  const TemporaryDatabase temporary(path);
  {
    Database database(temporary.path());
    database.execute("BEGIN");
    database.add_table("launches", launch_table(programme));
    database.add_table("heartbeats", heartbeat_table(programme));
    database.add_table("problems", problem_table(programme));
    database.execute("COMMIT");
  }
  rename_durably(temporary.path(), path);
}

}  // namespace jevons
