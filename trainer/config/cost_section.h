// cost:
#pragma once

#include <string>

namespace jevons {

class Bridge;
class Rules;

struct CostConfig {
  std::string project = "default";
  std::string purpose = "exploration";  // a name of the schema's Purpose
  std::string device_type;              // "" = detected: "cpu" or the GPU's name
  double price_per_device_hour = -1;    // < 0 = unknown: hours without money
  std::string currency = "USD";
  double peak_tflops = 0;  // dense peak of one device for MFU; 0 = unknown
  double heartbeat_seconds = 10;
  std::string prices;        // path of a price list; "" = none
  std::string price_source;  // for the ledger; set by resolve_price, no option
  bool operator==(const CostConfig&) const = default;
};

void carry(Bridge section, CostConfig& cost);
void check(const CostConfig& cost, Rules& rules);

}  // namespace jevons
