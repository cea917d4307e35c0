// Sums without rounding: any order, any cut, any spread over owners gives the same bits.
#include "kernels/core/exact_sum.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/exact_squares.h"
#include "tests/support/catch.h"
#include "tests/support/test_bed.h"

namespace jevons {
namespace {

double sum_of(const std::vector<double>& terms) {
  ExactSum sum;
  for (double term : terms) sum.add(term);
  return sum.value();
}

// Terms of all sizes and signs: added in double, their sum depends on the order.
std::vector<double> wild_terms(std::size_t count) {
  std::mt19937_64 random(3);
  std::vector<double> terms;
  for (std::size_t i = 0; i < count; ++i) {
    const double mantissa = static_cast<double>(random() >> 11) + 1;
    terms.push_back(
        std::ldexp(random() % 2 == 0 ? mantissa : -mantissa, static_cast<int>(random() % 120) - 100));
  }
  return terms;
}

}  // namespace

TEST_CASE("exact sum: nothing is rounded away", "[exact_sum]") {
  CHECK(sum_of({}) == 0);
  CHECK(sum_of({1, 0x1p-200, -1}) == 0x1p-200);
  CHECK(sum_of({0x1p300, 1, -0x1p300, 2.5}) == 3.5);
  CHECK(sum_of({-0.75, -0x1p-60}) == -0.75 - 0x1p-60);
  CHECK(sum_of({-1, 1}) == 0);
  CHECK(sum_of({0x1.fffffffffffffp0}) == 0x1.fffffffffffffp0);
  for (int exponent = -260; exponent < 300; ++exponent) {
    const double term = std::ldexp(1.2345678901234567, exponent);
    CHECK(sum_of({term}) == term);
    CHECK(sum_of({-term}) == -term);
  }
  CHECK(sum_of({0x1p-400}) == 0);
  CHECK(sum_of(std::vector<double>(100000, 0.1)) == 10000.000000000000555);  // 100000 times the double 0.1
}

TEST_CASE("exact sum: terms that are not finite, or too large, are not lost", "[exact_sum]") {
  const double infinity = std::numeric_limits<double>::infinity(),
               nan = std::numeric_limits<double>::quiet_NaN();
  for (double bad : {infinity, -infinity, 0x1p309}) CHECK(std::isinf(sum_of({1, bad, 2})));
  CHECK(std::isnan(sum_of({1, nan, 2})));
  CHECK(std::isnan(sum_of({infinity, nan})));
}

TEST_CASE("exact sum: the order of terms and their spread over owners do not matter", "[exact_sum]") {
  std::vector<double> terms = wild_terms(1000);
  const double want = sum_of(terms);
  double plain = 0, reverse = 0;
  for (double term : terms) plain += term;
  for (auto term = terms.rbegin(); term != terms.rend(); ++term) reverse += *term;
  CHECK(plain != reverse);  // the terms are a test
  std::mt19937_64 random(4);
  for (int round = 0; round < 20; ++round) {
    std::shuffle(terms.begin(), terms.end(), random);
    std::vector<ExactSum> owners(5);
    for (double term : terms) owners[random() % owners.size()].add(term);
    ExactSum by_parts, by_add;
    for (ExactSum& owner : owners) {
      for (std::size_t i = 0; i < ExactSum::kParts; ++i) by_parts.parts()[i] += owner.parts()[i];
      by_add.add(owner);
    }
    CHECK(sum_of(terms) == want);
    CHECK(by_parts.value() == want);
    CHECK(by_add.value() == want);
  }
}

TEST_CASE("sum of squares: cuts at borders of blocks and threads change no bit", "[exact_sum]") {
  std::vector<float> x(200003);
  const Tensor all{x.data(), {std::ssize(x)}, DType::kF32, Device::kCpu};
  test::fill_normal(all, "squares");
  long double want = 0;
  for (float value : x) want += static_cast<long double>(value) * value;
  const std::int64_t block = GENERATE(1, 4, 16);
  ExactSum whole;
  add_squares({.threads = 1}, all, block, whole);
  CHECK(whole.value() == Approx(static_cast<double>(want)).epsilon(1e-14));
  for (std::int64_t cut : {std::int64_t{16}, std::int64_t{48 * 1024}, std::int64_t{131072 + 32}}) {
    ExactSum first, second;
    add_squares({.threads = 2}, all.slice(0, cut), block, first);
    add_squares({.threads = 3}, all.slice(cut, all.numel()), block, second);
    first.add(second);
    CHECK(first.value() == whole.value());
  }
  x[77] = std::numeric_limits<float>::quiet_NaN();
  ExactSum broken;
  add_squares({.threads = 1}, all, block, broken);
  CHECK(std::isnan(broken.value()));
}

}  // namespace jevons
