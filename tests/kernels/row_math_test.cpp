#include "kernels/row/math.h"

#include <cstring>

#include "kernels/cpu/row_group.h"
#include "tests/support/catch.h"

namespace jevons {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

// |got - want| in units of the last place of want's float neighbour.
double ulps(float got, double want) {
  const auto near = static_cast<float>(want);
  const double step = std::nextafter(std::abs(near), kInf) - static_cast<double>(std::abs(near));
  return std::abs(static_cast<double>(got) - want) / step;
}

// Calls f with floats spread over all bit patterns.
template <class F>
void sweep(F f) {
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 1009) {
    f(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  }
}

TEST_CASE("exp_of is within 2 ulp where the result is a normal float, 0 below, infinite above",
          "[row_math]") {
  double worst = 0;
  bool small_are_zero = true, large_are_infinite = true, nans_stay = true;
  const auto check = [&](float x) {
    const float got = exp_of(x);
    const double want = std::exp(static_cast<double>(x));
    if (std::isnan(x)) {
      nans_stay &= std::isnan(got);
    } else if (want > std::numeric_limits<float>::max()) {
      large_are_infinite &= got == kInf;
    } else if (want >= 0x1p-125) {
      worst = std::max(worst, ulps(got, want));
    } else {
      small_are_zero &= std::abs(got - want) <= 0x1p-125 && (want >= 0x1p-127 || got == 0);
    }
  };
  sweep(check);
  for (int i = -900000; i <= 900000; ++i) check(static_cast<float>(i) * 1e-4f);
  for (const float x : {kInf, -kInf, 1e30f, -1e30f, 88.7228f, 88.7229f, -87.4f, -104.0f, kNan}) check(x);
  CHECK(worst <= 2);
  CHECK(small_are_zero);
  CHECK(large_are_infinite);
  CHECK(nans_stay);
  CHECK(exp_of(0.0f) == 1);
  CHECK(exp_of(-kInf) == 0);
  CHECK(exp_of(kInf) == kInf);
}

TEST_CASE("softplus is within 4 ulp where exp is not 0", "[row_math]") {
  double worst = 0;
  for (int i = -860000; i <= 900000; ++i) {
    const float x = static_cast<float>(i) * 1e-4f;
    const double wide = x, want = wide > 0 ? wide + std::log1p(std::exp(-wide)) : std::log1p(std::exp(wide));
    worst = std::max(worst, ulps(softplus(x), want));
  }
  CHECK(worst <= 4);
  CHECK(softplus(kInf) == kInf);
  CHECK(softplus(-kInf) == 0);
  CHECK(softplus(1e30f) == 1e30f);
  CHECK(std::isnan(softplus(kNan)));
}

TEST_CASE("log_of is within 2 ulp over all positive floats", "[row_math]") {
  double worst = 0;
  bool rest = true;
  const auto check = [&](float x) {
    const float got = log_of(x);
    if (x > 0 && x < kInf) {
      worst = std::max(worst, ulps(got, std::log(static_cast<double>(x))));
    } else {
      rest &= x == 0 ? got == -kInf : x == kInf ? got == kInf : std::isnan(got);
    }
  };
  sweep(check);
  for (int i = 1; i <= 200000; ++i) check(static_cast<float>(i) * 1e-5f);
  for (const float x : {0.0f, -0.0f, kInf, -kInf, kNan, -1.0f, 1e-45f, 1e-39f, 1.17549435e-38f}) check(x);
  CHECK(worst <= 2);
  CHECK(rest);
  CHECK(log_of(1.0f) == 0);
}

TEST_CASE("sigmoid", "[row_math]") {
  double worst = 0;
  for (int i = -870000; i <= 1200000; ++i) {
    const float x = static_cast<float>(i) * 1e-4f;
    worst = std::max(worst, ulps(sigmoid(x), 1 / (1 + std::exp(-static_cast<double>(x)))));
  }
  CHECK(worst <= 4);
  CHECK(sigmoid(0.0f) == 0.5f);
  CHECK(sigmoid(kInf) == 1);
  CHECK(sigmoid(-kInf) == 0);
  CHECK(sigmoid(-1000.0f) == 0);
  CHECK(std::isnan(sigmoid(kNan)));
  CHECK(sigmoid(2.0) == 1 / (1 + std::exp(-2.0)));
}

TEST_CASE("A value has the same bits at every place of a row", "[row_math]") {
  const cpu::RowGroup group;
  for (const float x : {0.3f, -7.7f, 31.4159f, -80.25f}) {
    const std::vector<float> in(257, x);
    std::vector<float> exps(257), logs(257), sigmoids(257);
    group.each(257,
               [&, in = in.data(), e = exps.data(), l = logs.data(), s = sigmoids.data()](std::int64_t i) {
                 e[i] = exp_of(in[i]);
                 l[i] = log_of(std::abs(in[i]));
                 s[i] = in[i] * sigmoid(in[i]);
               });
    for (const auto& out : {exps, logs, sigmoids}) CHECK(out == std::vector<float>(257, out[0]));
  }
}

TEST_CASE("CPU group: sums and maxima of any length", "[row_math]") {
  const cpu::RowGroup group;
  for (const std::int64_t n : {0, 1, 3, 15, 16, 17, 31, 32, 33, 257}) {
    const auto value = [](std::int64_t i) { return static_cast<double>((i * 37 + 11) % 101 - 50); };
    double sum = 0, largest = -std::numeric_limits<double>::infinity();
    for (std::int64_t i = 0; i < n; ++i) sum += value(i), largest = std::max(largest, value(i));
    CHECK(group.sum(n, value) == sum);
    CHECK(group.max(n, value) == largest);
    const auto with_nan = [&](std::int64_t i) { return i == 1 ? std::nan("") : value(i) - 200; };
    if (n > 1) CHECK(group.max(n, with_nan) < 0);
  }
}

}  // namespace
}  // namespace jevons
