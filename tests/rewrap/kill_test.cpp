#include "rewrap/workers.hpp"

using namespace hsmseal::test;

TEST_CASE("a run that is killed twice loses no row, and the third one finishes") {
  const std::string kind = GENERATE("postgresql", "sqlite");
  const int rows = kind == "postgresql" ? 10'000 : 2'000;
  CAPTURE(kind);
  const Workers workers{kind, rows};
  REQUIRE(workers.moved() == 0);
  workers.kill_at(rows / 4, workers.rewrap(2));
  CHECK(workers.moved() >= rows / 4);
  workers.kill_at(rows / 4, workers.rewrap(2));
  REQUIRE(workers.moved() < rows);
  const int left = rows - workers.moved();
  const int result = workers.run(workers.rewrap(2));
  CAPTURE(workers.said());
  CHECK(result == 0);
  CHECK_NAMES(workers.said(), fmt::format("moved {} edited 0 failed 0", left));
  CHECK(workers.moved() == rows);
  workers.run("check");
  CHECK(workers.said() == fmt::format("opened {} old 0\n", rows));
}
