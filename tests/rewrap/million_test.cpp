#include <cstdio>

#include "rewrap/workers.hpp"

using namespace hsmseal::test;

namespace {

/// A million, or what HSMSEAL_SOAK_ROWS says.
int rows_wanted() {
  const char* const rows = std::getenv("HSMSEAL_SOAK_ROWS");
  return rows == nullptr ? 1'000'000 : std::stoi(rows);
}

/// Said at once: a run may take an hour.
template <typename... Parts>
void print(fmt::format_string<Parts...> pattern, Parts&&... parts) {
  fmt::print(pattern, std::forward<Parts>(parts)...);
  std::fflush(stdout);
}

/// Moves all rows. Runs are killed until half of them are moved; the last one, which is measured, moves the others.
/// @param secrets  of one data key.
void move_through_kills(int threads, int secrets) {
  constexpr int kKills = 10;
  const int rows = rows_wanted();
  print("{} rows in PostgreSQL, set 1 to set 2, SoftHSM, {} worker{}, a data key for {}\n", rows, threads,
        threads == 1 ? "" : "s", secrets == 1 ? "each" : fmt::format("{} of them", secrets));
  const Workers workers{"postgresql", rows, {.counts = true}, secrets};
  REQUIRE(workers.moved() == 0);
  const std::string rewrap = workers.rewrap(threads);
  for (int kill = 1; kill <= kKills; ++kill) {
    workers.kill_at(rows / 2 / kKills, rewrap);
    print("  kill {}: {} rows were moved\n", kill, workers.moved());
  }
  const int left = rows - workers.moved();
  REQUIRE(left > 0);
  const int result = workers.run(rewrap);
  CAPTURE(workers.said());
  REQUIRE(result == 0);
  const double seconds = workers.said("seconds"), first = workers.said("quarter_kib"), last = workers.said("end_kib");
  print("  the last run: {} rows in {:.1f} s, {:.0f} rows a second, {:.2f} token calls a row\n", left, seconds,
        left / seconds, workers.said("calls") / left);
  print("  memory: {:.1f} MiB after a quarter of it, {:.1f} MiB at its end\n", first / 1024, last / 1024);
  CHECK(workers.said("moved") == left);
  CHECK(workers.said("failed") == 0);
  if (secrets == 1) {
    CHECK(workers.said("calls") / left >= 6);
  } else {
    CHECK(workers.said("calls") / left < 1);
  }
  CHECK(last < first + 16 * 1024);
  CHECK(workers.moved() == rows);
  CHECK(workers.run("check") == 0);
  print("  then: {}", workers.said());
  CHECK(workers.said() == fmt::format("opened {} old 0\n", rows));
}

}  // namespace

TEST_CASE("a million rows come to another set through ten kills", "[long]") {
  const int secrets = GENERATE(1, 1'000);
  const int threads = GENERATE(1, 2);
  move_through_kills(threads, secrets);
}

TEST_CASE("with a token of a millisecond a call, more workers move more rows", "[long]") {
  constexpr int kRowsEach = 500, kCallsPerRow = 6;
  print("a token of 1 ms a call: {} calls a row\n", kCallsPerRow);
  for (const int threads : {1, 4, 16}) {
    const int rows = threads * kRowsEach;
    const Workers workers{"postgresql", rows, {.counts = true, .call_time = 1'000}};
    const int result = workers.run(workers.rewrap(threads));
    CAPTURE(threads, workers.said());
    REQUIRE(result == 0);
    CHECK(workers.said("moved") == rows);
    const double rate = rows / workers.said("seconds");
    print("  {:2} workers and sessions: {:.0f} rows a second, {:.2f} of what {} sessions can do\n", threads, rate,
          rate * kCallsPerRow / 1000 / threads, threads);
    CHECK(workers.said("calls") / rows >= kCallsPerRow);
  }
}
