#include "trainer/cost/launch_table.h"

#include <fmt/format.h>

#include "kernels/core/output_path.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

using Type = Column::Type;

template <class T>
Cell cell(const std::optional<T>& value) {
  return value ? Cell(*value) : Cell();
}

// A figure whose 0 means unknown.
Cell known(double value) {
  return value > 0 ? Cell(value) : Cell();
}

// Names the columns with the first row, so that names and cells stand side by side in one place.
class RowBuilder {
 public:
  explicit RowBuilder(LaunchTable& table) : table_(table), names_columns_(table.columns.empty()) {
    table_.rows.emplace_back();
  }
  void add(const std::string& name, Type type, Cell value) {
    if (names_columns_) table_.columns.push_back({name, type});
    table_.rows.back().push_back(std::move(value));
  }
  void text(const std::string& name, const std::string& value) { add(name, Type::kText, value); }
  void integer(const std::string& name, std::int64_t value) { add(name, Type::kInteger, value); }
  void real(const std::string& name, Cell value) { add(name, Type::kReal, std::move(value)); }

 private:
  LaunchTable& table_;
  bool names_columns_;
};

void add_identity(RowBuilder& row, const RunAccount& run, const Launch& launch) {
  const LaunchInfo& info = launch.info;
  row.text("ledger", run.path);
  row.text("run", run.run);
  row.text("launch", launch.id);
  row.text("project", info.project);
  row.text("purpose", info.purpose);
  row.real("start_time", launch.has_record ? Cell(launch.start_time) : Cell());
  row.real("elapsed_seconds", launch.beats.back().elapsed);
  row.text("device_type", info.device_type);
  row.integer("devices", info.devices);
  row.text("hosts", fmt::format("{}", fmt::join(info.hosts, " ")));
  row.text("layout", info.layout);
  row.text("git_id", info.git_id);
}

void add_account(RowBuilder& row, const LaunchAccount& account) {
  const LaunchInfo& info = account.launch.info;
  const auto& start = account.launch.start;
  row.add("start_step", Type::kInteger, start ? Cell(start->step) : Cell());
  row.add("last_step", Type::kInteger, start ? Cell(account.last_step) : Cell());
  row.integer("tokens", account.tokens);
  row.real("device_seconds", account.device_seconds);
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    row.real(fmt::format("{}_device_seconds", name_of(static_cast<Phase>(p))), account.phases[p]);
  }
  row.real("rework_device_seconds", account.rework);
  row.real("unaccounted_device_seconds", account.unaccounted);
  row.real("price_per_device_hour", cell(info.price_per_device_hour));
  row.text("price_source", info.price_source);
  row.real("money", cell(account.money));
  row.text("currency", info.currency);
  row.real("energy_joules", cell(account.energy_joules));
  row.real("model_flops_per_token", known(info.model_flops_per_token));
  row.real("peak_tflops", known(info.peak_tflops));
}

void add_exit(RowBuilder& row, const Launch& launch) {
  row.add("exit_reason", Type::kText, launch.exit ? Cell(launch.exit->reason) : Cell());
  row.add("exit_code", Type::kInteger,
          launch.exit ? Cell(static_cast<std::int64_t>(launch.exit->code)) : Cell());
}

void add_row(LaunchTable& table, const RunAccount& run, const LaunchAccount& account) {
  RowBuilder row(table);
  add_identity(row, run, account.launch);
  add_account(row, account);
  add_exit(row, account.launch);
}

// The first columns in any version.
bool is_our_csv(const std::string& path) {
  constexpr std::string_view kBegin = "ledger,run,launch,project,purpose,";
  return is_stream(path) || file_head(path, kBegin.size()) == kBegin;
}

std::string csv_field(const Cell& value) {
  struct Write {
    std::string operator()(std::monostate) const { return ""; }
    std::string operator()(std::int64_t number) const { return fmt::format("{}", number); }
    std::string operator()(double number) const { return fmt::format("{}", number); }
    std::string operator()(const std::string& text) const {
      if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
      std::string quoted = "\"";
      for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
      return quoted + "\"";
    }
  };
  return std::visit(Write{}, value);
}

}  // namespace

LaunchTable launch_table(const Programme& programme) {
  LaunchTable table;
  LaunchAccount nothing;  // a table without launches has its columns too
  nothing.launch.beats.resize(1);
  add_row(table, {}, nothing);
  table.rows.clear();
  for (const RunAccount& run : programme.runs) {
    for (const LaunchAccount& account : run.launches) add_row(table, run, account);
  }
  return table;
}

std::string to_csv(const LaunchTable& table) {
  std::string text;
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    text += (c == 0 ? "" : ",") + table.columns[c].name;
  }
  text += "\r\n";
  for (const std::vector<Cell>& row : table.rows) {
    for (std::size_t c = 0; c < row.size(); ++c) text += (c == 0 ? "" : ",") + csv_field(row[c]);
    text += "\r\n";
  }
  return text;
}

void write_csv(const Programme& programme, const std::string& path) {
  check_output({path, "a table of jevons cost", is_our_csv}, ledgers_of(programme));
  File::create(path).write(to_csv(launch_table(programme)));
}

}  // namespace jevons
