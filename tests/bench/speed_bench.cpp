// How fast hsmseal is, against what lies below it:
//
//   sh examples/with_tokens.sh build/bench/tests/speed_bench FILE.json [token|data-keys]
//
// `sh cmake/setup.sh bench` does that. src/PERFORMANCE.md says what the rows are. Times are of this run and this machine;
// what can be compared with other runs is the ratios.

#include <exception>
#include <filesystem>
#include <string>

#include <fmt/format.h>

#include "bench/rows.hpp"

int main(int argc, char** argv) try {
  const std::string only = argc > 2 ? argv[2] : "";
  bench::Table table;
  if (only.empty() || only == "data-keys") bench::data_key_rows(table);
  if (only.empty() || only == "token") bench::token_rows(table);
  if (table.rows().empty()) {
    fmt::print(stderr, "speed_bench: no rows called '{}'\n", only);
    return 2;
  }
  fmt::print("the library: {} KiB, with its symbols\n", std::filesystem::file_size(HSMSEAL_LIBRARY) / 1024);
  if (argc > 1) table.add_to(argv[1]);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "speed_bench: {}\n", error.what());
  return 1;
}
