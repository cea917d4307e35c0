#include "trainer/report/html_report.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "kernels/core/error.h"
#include "kernels/core/output_path.h"
#include "report_page.h"
#include "trainer/io/clock.h"
#include "trainer/io/file.h"
#include "trainer/io/format.h"
#include "trainer/report/report_data.h"

namespace jevons {
namespace {

using nlohmann::ordered_json;

// JSON that may stand inside <script>: no tag can begin or end in it, whatever names and errors hold.
std::string json_for_html(const ordered_json& json) {
  std::string text;
  for (const char c : json.dump(-1, ' ', false, ordered_json::error_handler_t::replace)) {
    switch (c) {
      case '<':
        text += "\\u003c";
        break;
      case '>':
        text += "\\u003e";
        break;
      case '&':
        text += "\\u0026";
        break;
      default:
        text += c;
    }
  }
  return text;
}

bool is_our_page(const std::string& path) {
  constexpr std::size_t kHead = 1024;
  return is_stream(path) || file_head(path, kHead).find("<title>Jevons report</title>") != std::string::npos;
}

}  // namespace

std::string html_report(const std::vector<std::string>& run_dirs) {
  ordered_json data = {{"made", format_utc(unix_time())}, {"runs", ordered_json::array()}};
  for (const std::string& run_dir : run_dirs) data["runs"].push_back(report_data(run_dir));
  std::string page = kReportPage;
  constexpr std::string_view kPlace = "@DATA@";
  const std::size_t at = page.find(kPlace);
  ENSURE(at != std::string::npos, "the report's page has no place for data");
  return page.replace(at, kPlace.size(), json_for_html(data));
}

void write_html_report(const std::vector<std::string>& run_dirs, const std::string& path) {
  const std::string page = html_report(run_dirs);
  check_output({path, "a page of jevons report", is_our_page}, {});
  File::create(path).write(page);
}

}  // namespace jevons
