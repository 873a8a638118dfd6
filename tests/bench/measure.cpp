#include "bench/measure.hpp"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include <fmt/format.h>

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRounds = 11;
constexpr std::chrono::milliseconds kWarmUp{20}, kMeasured{120};

/// What one thread does in a round.
struct Share {
  std::size_t operations = 0;
  std::exception_ptr error;
};

std::string quoted(const std::string& text) { return '"' + text + '"'; }

std::string json_of(const Row& row) {
  return fmt::format(
      R"(  {{"name": {}, "threads": {}, "ops_per_second": {:.1f}, "floor_name": {}, "floor_ops_per_second": {:.1f}, )"
      R"("ratio": {:.4f}}})",
      quoted(row.name), row.threads, row.ops_per_second, quoted(row.floor_name), row.floor_ops_per_second, row.ratio);
}

}  // namespace

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double rate(const Side& side) {
  std::vector<Share> shares(side.threads);
  std::atomic<bool> counting = false, over = false;
  std::barrier ready{static_cast<std::ptrdiff_t>(side.threads) + 1};
  std::vector<std::jthread> threads;
  for (std::size_t thread = 0; thread < side.threads; ++thread) {
    threads.emplace_back([&, thread] {
      Share& share = shares[thread];
      Operation operation;
      try {
        operation = side.worker(thread);
      } catch (...) {
        share.error = std::current_exception();
      }
      ready.arrive_and_wait();
      std::size_t operations = 0;
      try {
        while (operation && !over.load(std::memory_order_relaxed)) {
          operation();
          if (counting.load(std::memory_order_relaxed)) ++operations;
        }
      } catch (...) {
        share.error = std::current_exception();
      }
      share.operations = operations;
    });
  }
  ready.arrive_and_wait();
  std::this_thread::sleep_for(kWarmUp);
  const auto begin = Clock::now();
  counting = true;
  std::this_thread::sleep_for(kMeasured);
  over = true;
  const std::chrono::duration<double> time = Clock::now() - begin;
  threads.clear();
  std::size_t operations = 0;
  for (const Share& share : shares) {
    if (share.error) std::rethrow_exception(share.error);
    operations += share.operations;
  }
  if (operations == 0) throw std::runtime_error("nothing was done in a round of '" + side.name + "'");
  return static_cast<double>(operations) / time.count();
}

Table::Table() {
  fmt::print("{:<58} {:>7} {:>12} {:>12} {:>7} {:>7}  {}\n", "what", "threads", "a second", "floor's", "ratio",
             "target", "floor");
}

void Table::add(Row row) {
  fmt::print("{:<58} {:>7} {:>12.0f} {:>12.0f} {:>7.3f} {:>7}  {}\n", row.name, row.threads, row.ops_per_second,
             row.floor_ops_per_second, row.ratio, row.target ? fmt::format("{:.2f}", *row.target) : "", row.floor_name);
  std::fflush(stdout);
  rows_.push_back(std::move(row));
}

void Table::compare(const Side& side, const Side& floor, std::optional<double> target) {
  std::vector<double> rates, floors, ratios;
  for (int round = 0; round < kRounds; ++round) {
    // Who comes first changes, so that neither always follows the other.
    double of_side = 0, of_floor = 0;
    if (round % 2 == 0) of_floor = rate(floor);
    of_side = rate(side);
    if (round % 2 != 0) of_floor = rate(floor);
    rates.push_back(of_side);
    floors.push_back(of_floor);
    ratios.push_back(of_side / of_floor);
  }
  add({side.name, side.threads, median(rates), floor.name, median(floors), median(ratios), target});
}

void Table::compare(const Side& side, const std::string& floor_name, double floor_ops_per_second,
                    std::optional<double> target) {
  std::vector<double> rates;
  for (int round = 0; round < kRounds; ++round) rates.push_back(rate(side));
  const double middle = median(rates);
  add({side.name, side.threads, middle, floor_name, floor_ops_per_second, middle / floor_ops_per_second, target});
}

void Table::add_to(const std::filesystem::path& json) const {
  std::string before;
  if (std::ifstream file{json}; file) before.assign(std::istreambuf_iterator<char>{file}, {});
  const auto end = before.rfind("\n]");
  before = end == std::string::npos ? "[" : before.substr(0, end) + ",";
  std::ofstream file{json, std::ios::trunc};
  file << before;
  for (std::size_t i = 0; i < rows_.size(); ++i) file << (i == 0 ? "\n" : ",\n") << json_of(rows_[i]);
  file << "\n]\n";
  if (!file.flush()) throw std::runtime_error("cannot write " + json.string());
}

}  // namespace bench
