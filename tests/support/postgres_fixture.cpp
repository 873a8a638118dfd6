// Starts and ends the server that the tests of one run of ctest share:  postgres_fixture start|stop FILE
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "support/postgres.hpp"

namespace {

namespace fs = std::filesystem;

/// Ends the server that is noted in the file, be it of a run that was broken off.
void end_noted(const fs::path& file) {
  std::string folder;
  if (!std::getline(std::ifstream{file}, folder)) return;
  if (fs::exists(folder)) hsmseal::test::PostgresServer{folder}.end();
  fs::remove(file);
}

}  // namespace

int main(int count, char** arguments) {
  const std::string action = count == 3 ? arguments[1] : "";
  if (action != "start" && action != "stop") return 2;
  try {
    end_noted(arguments[2]);
    if (action == "start") {
      hsmseal::test::PostgresServer server;
      std::ofstream{arguments[2]} << server.leave_running().string() << "\n";
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
