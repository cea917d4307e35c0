#include "trainer/cost/ledger.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <string_view>

#include "kernels/core/host_name.h"
#include "trainer/cost/ledger_json.h"
#include "trainer/io/clock.h"
#include "trainer/io/crc32c.h"

namespace jevons {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kSealBegin = ",\"crc32c\":\"";
constexpr std::string_view kSealEnd = "\"}";
constexpr std::size_t kDigits = 8;
constexpr std::size_t kSealSize = kSealBegin.size() + kDigits + kSealEnd.size();

// A line that a kill left without its end must not swallow the next record.
bool ends_in_torn_line(const File& file) {
  const std::uint64_t size = file.size();
  if (size == 0) return false;
  std::array<std::byte, 1> last{};
  file.read_at(size - 1, last);
  return last[0] != std::byte{'\n'};
}

}  // namespace

std::string new_identity() {
  // Two of one process never have the same.
  static std::atomic<std::int64_t> last = 0;
  const auto now = static_cast<std::int64_t>(unix_time() * 1000);
  std::int64_t before = last, time = 0;
  do {
    time = std::max(now, before + 1);
  } while (!last.compare_exchange_weak(before, time));
  return fmt::format("{}-{}-{}", time, host_name(), ::getpid());
}

void append_ledger_line(File& file, const std::string& line) {
  file.write(fmt::format("{}{}", ends_in_torn_line(file) ? "\n" : "", line));
  file.sync();
}

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
  LaunchInfo named = info;
  if (named.launch.empty()) named.launch = new_identity();
  launch_ = named.launch;
  append_ledger_line(file_, ledger_line(info_json("launch", named, start_time, seconds_before)));
}

void Ledger::heartbeat(const std::optional<Totals>& totals) {
  const double now = elapsed();
  ordered_json record = {{"kind", "heartbeat"}, {"launch", launch_}, {"time", unix_time()}, {"elapsed", now}};
  record.update(totals_json(totals, now * static_cast<double>(devices_)));
  append_ledger_line(file_, ledger_line(record));
}

void Ledger::exit(const std::string& reason, ExitCode code, const std::optional<Totals>& totals) {
  const double now = elapsed();
  ordered_json record = {{"kind", "exit"}, {"launch", launch_}, {"time", unix_time()},
                         {"elapsed", now}, {"reason", reason},  {"code", static_cast<int>(code)}};
  record.update(totals_json(totals, now * static_cast<double>(devices_)));
  append_ledger_line(file_, ledger_line(record));
}

void append_launch_end(const std::string& path, const std::string& launch, const LaunchEnd& end) {
  File file = File::append(path);
  append_ledger_line(
      file,
      ledger_line(
          {{"kind", "end"}, {"launch", launch}, {"elapsed", end.elapsed}, {"allocated", end.allocated}}));
}

double Ledger::elapsed() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - process_start_).count();
}

}  // namespace jevons
