#include "trainer/step/work_records.h"

namespace jevons {

void WorkRecords::on(const WorkCall& call) {
  totals_.on(call);
  WorkRecord record{.kind = call.kind,
                    .op = call.op,
                    .dtype = std::string(call.dtype),
                    .group = std::string(call.group),
                    .ranks = call.ranks,
                    .sizes = {},
                    .flops = call.flops,
                    .bytes = call.bytes};
  for (const WorkSize& size : call.sizes) {
    if (size.name == nullptr) break;
    record.sizes.emplace_back(size.name, size.value);
  }
  ++calls_[std::move(record)];
}

}  // namespace jevons
