// Price lists: which price a launch gets, and mistakes with their place.
#include "trainer/config/prices.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "kernels/core/error.h"
#include "tests/support/catch.h"
#include "trainer/config/dates.h"

namespace jevons {
namespace {

class PriceFile {
 public:
  explicit PriceFile(const std::string& text) {
    std::string name = (std::filesystem::temp_directory_path() / "jevons-prices-XXXXXX").string();
    const int descriptor = mkstemp(name.data());
    REQUIRE(descriptor >= 0);
    close(descriptor);
    path_ = name;
    std::ofstream(path_) << text;
  }
  ~PriceFile() { std::filesystem::remove(path_); }
  PriceFile(const PriceFile&) = delete;
  PriceFile& operator=(const PriceFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

const std::string kList =
    "prices:\n"
    "  - {device: a100, since: 2026-01-01, per_device_hour: 1}\n"
    "  - {device: A100 80GB, since: 2026-01-01, per_device_hour: 2, currency: EUR, source: contract}\n"
    "  - {device: A100 80GB, since: 2026-03-01, per_device_hour: 3, currency: EUR}\n"
    "  - {device: cpu, since: 2026-01-01, per_device_hour: 0}\n";

double price_of(const std::vector<Price>& prices, const std::string& device, const std::string& day) {
  const auto price = find_price(prices, device, *parse_day(day));
  return price ? price->per_device_hour : -1;
}

std::string mistake_in(const std::string& text) {
  const PriceFile file(text);
  try {
    read_prices(file.path());
  } catch (const Error& e) {
    CHECK(e.code() == ExitCode::kUsage);
    return std::string(e.what()).substr(file.path().size());
  }
  return "";
}

}  // namespace

TEST_CASE("prices: the newest price of the entry that names the device best", "[prices]") {
  const PriceFile file(kList);
  const std::vector<Price> prices = read_prices(file.path());
  REQUIRE(prices.size() == 4);
  CHECK(price_of(prices, "NVIDIA A100-SXM4-80GB", "2026-02-28") == 2);
  CHECK(price_of(prices, "NVIDIA A100-SXM4-80GB", "2026-03-01") == 3);
  CHECK(price_of(prices, "NVIDIA A100-SXM4-80GB", "2030-01-01") == 3);
  CHECK(price_of(prices, "NVIDIA A100-PCIE-40GB", "2026-02-28") == 1);
  CHECK(price_of(prices, "NVIDIA A100-PCIE-40GB", "2025-12-31") == -1);  // before the first price
  CHECK(price_of(prices, "NVIDIA GA100", "2026-02-28") == -1);           // whole words only
  CHECK(price_of(prices, "cpu", "2026-02-28") == 0);                     // free is not unknown
}

TEST_CASE("prices: what a run pays and why", "[prices]") {
  const PriceFile file(kList);
  CostConfig cost;
  cost.prices = file.path();
  resolve_price(cost, "NVIDIA A100-SXM4-80GB", *parse_day("2026-05-01"));
  CHECK(cost.price_per_device_hour == 3);
  CHECK(cost.currency == "EUR");
  CHECK(cost.price_source == file.path() + ": A100 80GB since 2026-03-01");

  CostConfig unknown;
  unknown.prices = file.path();
  resolve_price(unknown, "TPU", *parse_day("2026-05-01"));
  CHECK(unknown.price_per_device_hour < 0);
  CHECK(unknown.price_source.empty());

  CostConfig given;
  given.prices = "/nowhere.yaml";  // a price in the configuration wins, the list is not opened
  given.price_per_device_hour = 0.5;
  resolve_price(given, "cpu", 0);
  CHECK(given.price_per_device_hour == 0.5);
  CHECK(given.currency == "USD");

  CostConfig missing;
  missing.prices = "/nowhere.yaml";
  CHECK_THROWS_WITH(resolve_price(missing, "cpu", 0), Catch::Matchers::StartsWith("/nowhere.yaml: cannot"));
}

TEST_CASE("prices: mistakes have a place", "[prices]") {
  const auto with = [](const std::string& entry) { return mistake_in("prices:\n  - {" + entry + "}\n"); };
  CHECK(with("device: H100, since: 2026-02-30, per_device_hour: 1") ==
        ":2:27: prices.0.since: \"2026-02-30\" is not a day as 2026-05-01");
  CHECK(with("device: H100, since: 2026-5-1, per_device_hour: 1").find("is not a day") != std::string::npos);
  CHECK(with("device: H100, since: 2026-05-01").find("per_device_hour is missing") != std::string::npos);
  CHECK(with("device: \"-\", since: 2026-05-01, per_device_hour: 1").find("names no device") !=
        std::string::npos);
  CHECK(with("device: H100, since: 2026-05-01, per_device_hour: -1").find("at least 0") != std::string::npos);
  CHECK(with("device: H100, since: 2026-05-01, price: 1").find("unknown key") != std::string::npos);
  CHECK(mistake_in("prices: [").find(":") == 0);
}

TEST_CASE("prices: the list that comes with the program", "[prices]") {
  const std::vector<Price> prices = read_prices(JEVONS_SOURCE_DIR "/configs/prices.yaml");
  CHECK(price_of(prices, "NVIDIA H100 80GB HBM3", "2025-06-01") == 2.5);
  CHECK(price_of(prices, "NVIDIA H100 80GB HBM3", "2026-06-01") == 2.95);
  CHECK(price_of(prices, "NVIDIA A100-SXM4-80GB", "2026-06-01") == 1.75);
  for (const Price& price : prices) CHECK_FALSE(price.source.empty());
}

}  // namespace jevons
