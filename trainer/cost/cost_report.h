// A programme's account as text for people and as JSON for programs.
#pragma once

#include <string>

#include "trainer/cost/programme.h"

namespace jevons {

std::string describe_programme(const Programme& programme);
std::string programme_json(const Programme& programme);  // keys and units: docs/cost.md

// "12.34 USD", "1.00 USD + 2.00 EUR"; what has no price is said in device-hours. Never 0 for what is unknown.
std::string describe_money(const CostSum& sum);

}  // namespace jevons
