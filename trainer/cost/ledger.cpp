#include "trainer/cost/ledger.h"

#include <unistd.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <string_view>

#include "trainer/io/clock.h"
#include "trainer/io/crc32c.h"
#include "trainer/io/json.h"

namespace jevons {
namespace {

using nlohmann::ordered_json;

constexpr int kLedgerVersion = 2;
constexpr std::string_view kSealBegin = ",\"crc32c\":\"";
constexpr std::string_view kSealEnd = "\"}";
constexpr std::size_t kDigits = 8;
constexpr std::size_t kSealSize = kSealBegin.size() + kDigits + kSealEnd.size();

std::string launch_identity(const LaunchInfo& info) {
  return fmt::format("{:.0f}-{}-{}", unix_time() * 1000, info.hosts.empty() ? "host" : info.hosts.front(),
                     ::getpid());
}

// A figure whose 0 means unknown.
ordered_json known(double value) {
  return value > 0 ? ordered_json(value) : ordered_json(nullptr);
}

// `init`: device-seconds so far, all there is to say before the first step.
ordered_json totals_json(const std::optional<Totals>& totals, double init) {
  ordered_json phases;
  if (!totals)
    return {{"step", nullptr},
            {"tokens", nullptr},
            {"device_seconds", {{name_of(Phase::kInit), init}}},
            {"energy_joules", nullptr}};
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    phases[name_of(static_cast<Phase>(p))] = totals->device_seconds[p];
  }
  return {{"step", totals->step},
          {"tokens", totals->tokens},
          {"device_seconds", phases},
          {"energy_joules", or_null(totals->energy_joules)}};
}

// A line that a kill left without its end must not swallow the next record.
bool ends_in_torn_line(const File& file) {
  const std::uint64_t size = file.size();
  if (size == 0) return false;
  std::array<std::byte, 1> last{};
  file.read_at(size - 1, last);
  return last[0] != std::byte{'\n'};
}

void append_record(File& file, const ordered_json& record) {
  // Text that is not UTF-8 (a file name in an error) loses a character, not the record.
  const std::string json = record.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  file.write(fmt::format("{}{}\n", ends_in_torn_line(file) ? "\n" : "", seal_ledger_line(json)));
  file.sync();
}

}  // namespace

std::string seal_ledger_line(const std::string& json_object) {
  ENSURE(json_object.size() > 2 && json_object.back() == '}', "ledger: not an object: {}", json_object);
  return fmt::format("{}{}{:08x}{}", std::string_view(json_object).substr(0, json_object.size() - 1),
                     kSealBegin, crc32c(json_object), kSealEnd);
}

LineSeal check_ledger_line(const std::string& line) {
  if (line.size() < kSealSize) return LineSeal::kNone;
  const std::string_view seal = std::string_view(line).substr(line.size() - kSealSize);
  if (!seal.starts_with(kSealBegin) || !seal.ends_with(kSealEnd)) return LineSeal::kNone;
  const char* digits = seal.data() + kSealBegin.size();
  std::uint32_t wanted = 0;
  const auto [stopped, error] = std::from_chars(digits, digits + kDigits, wanted, 16);
  const bool is_number = error == std::errc() && stopped == digits + kDigits;
  const std::uint32_t actual = crc32c(line.substr(0, line.size() - kSealSize) + "}");
  return is_number && wanted == actual ? LineSeal::kGood : LineSeal::kBroken;
}

Ledger::Ledger(const std::string& path, const LaunchInfo& info,
               std::chrono::steady_clock::time_point process_start)
    : file_(File::append(path)), devices_(info.devices), process_start_(process_start) {
  const double seconds_before = elapsed();
  const double start_time = unix_time() - seconds_before;
  launch_ = launch_identity(info);
  append_record(file_, {{"kind", "launch"},
                        {"version", kLedgerVersion},
                        {"launch", launch_},
                        {"run", info.run},
                        {"start_time", start_time},
                        {"elapsed", seconds_before},
                        {"hosts", info.hosts},
                        {"device_type", info.device_type},
                        {"devices", info.devices},
                        {"price_per_device_hour", or_null(info.price_per_device_hour)},
                        {"currency", info.currency},
                        {"price_source", info.price_source},
                        {"model_flops_per_token", known(info.model_flops_per_token)},
                        {"peak_tflops", known(info.peak_tflops)},
                        {"project", info.project},
                        {"purpose", info.purpose},
                        {"git_id", info.git_id},
                        {"layout", info.layout},
                        {"total_steps", info.total_steps}});
}

void Ledger::heartbeat(const std::optional<Totals>& totals) {
  const double now = elapsed();
  ordered_json record = {{"kind", "heartbeat"}, {"launch", launch_}, {"time", unix_time()}, {"elapsed", now}};
  record.update(totals_json(totals, now * static_cast<double>(devices_)));
  append_record(file_, record);
}

void Ledger::exit(const std::string& reason, ExitCode code, const std::optional<Totals>& totals) {
  const double now = elapsed();
  ordered_json record = {{"kind", "exit"}, {"launch", launch_}, {"time", unix_time()},
                         {"elapsed", now}, {"reason", reason},  {"code", static_cast<int>(code)}};
  record.update(totals_json(totals, now * static_cast<double>(devices_)));
  append_record(file_, record);
}

double Ledger::elapsed() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - process_start_).count();
}

}  // namespace jevons
