// The operator's tool: looks at drivers and tokens, manages a ring, seals and opens secrets. Each command has a file of
// its own; command.hpp lists them.

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "command.hpp"
#include "patience.hpp"

int main(int argc, char** argv) try {
  tool::Tool tool;
  tool::add_doctor(tool);
  tool::add_conformance(tool);
  tool::add_driver_commands(tool);
  tool::add_ring_commands(tool);
  tool::add_seal_and_open(tool);
  tool::add_inspect(tool);
  tool::add_rewrap_and_reseal(tool);
  tool::add_bench(tool);
  const int code = tool.run(argc, argv);
  if (tool::Patience::left_some()) {
    std::fflush(nullptr);
    std::_Exit(code);  // the threads that hang would see their driver taken apart
  }
  return code;
} catch (const std::exception& error) {
  tool::note(error.what());
  return static_cast<int>(tool::Exit::Failed);
}
