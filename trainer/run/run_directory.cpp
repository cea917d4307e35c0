#include "trainer/run/run_directory.h"

#include "kernels/core/output_path.h"

namespace jevons {

void check_run_directory(const std::string& run_dir) {
  const std::string ledger = run_dir + "/ledger.jsonl";
  const auto begins = [](const char* text) {
    return [text = std::string(text)](const std::string& path) {
      const std::string head = file_head(path, text.size());
      return head == text.substr(0, head.size());  // a kill may have torn it
    };
  };
  check_output({ledger, "the ledger of a run; give this run another run_dir", begins("{\"kind\":\"")}, {});
  check_output({run_dir + "/lock", "the lock of a run; give this run another run_dir", begins("process ")},
               {});
  // Every run has a ledger before it writes these.
  const auto has_ledger = [&](const std::string&) { return !file_head(ledger, 1).empty(); };
  for (const char* name : {"config.yaml", "passport.json", "metrics.jsonl"}) {
    check_output({run_dir + "/" + name, "of a run, since there is no ledger.jsonl beside it", has_ledger},
                 {});
  }
}

}  // namespace jevons
