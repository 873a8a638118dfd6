#include "pkcs11/reactions.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <p11-kit/pkcs11.h>

#include "pkcs11/return_values.hpp"
#include "support/catch.hpp"

using namespace hsmseal::pkcs11;

namespace {

namespace fs = std::filesystem;

const fs::path kSource = HSMSEAL_SOURCE_DIR;

/// Not by name_of(), which is looked at, too.
const std::map<std::string, Reaction> kReactions = {
    {"Proceed", Reaction::Proceed},         {"BadData", Reaction::BadData},       {"Refuse", Reaction::Refuse},
    {"AskOperator", Reaction::AskOperator}, {"GrowBuffer", Reaction::GrowBuffer}, {"Pause", Reaction::Pause},
    {"Shrink", Reaction::Shrink},           {"NewSession", Reaction::NewSession}, {"Prove", Reaction::Prove},
    {"FindKey", Reaction::FindKey},         {"NewLogin", Reaction::NewLogin},     {"NewSlot", Reaction::NewSlot},
    {"Restart", Reaction::Restart},
};

constexpr std::array kAttempts = {Attempt::First, Attempt::Second, Attempt::Later};

// A name that the standard does not know does not compile.
#define HSMSEAL_TEST_NAMED(function) (static_cast<void>(&CK_FUNCTION_LIST::function), #function)
const std::set<std::string> kFunctions = {
    HSMSEAL_TEST_NAMED(C_Initialize),
    HSMSEAL_TEST_NAMED(C_Finalize),
    HSMSEAL_TEST_NAMED(C_GetInfo),
    HSMSEAL_TEST_NAMED(C_GetSlotList),
    HSMSEAL_TEST_NAMED(C_GetSlotInfo),
    HSMSEAL_TEST_NAMED(C_GetTokenInfo),
    HSMSEAL_TEST_NAMED(C_GetMechanismList),
    HSMSEAL_TEST_NAMED(C_GetMechanismInfo),
    HSMSEAL_TEST_NAMED(C_OpenSession),
    HSMSEAL_TEST_NAMED(C_CloseSession),
    HSMSEAL_TEST_NAMED(C_GetSessionInfo),
    HSMSEAL_TEST_NAMED(C_Login),
    HSMSEAL_TEST_NAMED(C_FindObjectsInit),
    HSMSEAL_TEST_NAMED(C_FindObjects),
    HSMSEAL_TEST_NAMED(C_FindObjectsFinal),
    HSMSEAL_TEST_NAMED(C_GetAttributeValue),
    HSMSEAL_TEST_NAMED(C_GenerateKey),
    HSMSEAL_TEST_NAMED(C_DestroyObject),
    HSMSEAL_TEST_NAMED(C_CreateObject),
    HSMSEAL_TEST_NAMED(C_EncryptInit),
    HSMSEAL_TEST_NAMED(C_Encrypt),
    HSMSEAL_TEST_NAMED(C_DecryptInit),
    HSMSEAL_TEST_NAMED(C_Decrypt),
    HSMSEAL_TEST_NAMED(C_SignInit),
    HSMSEAL_TEST_NAMED(C_Sign),
    HSMSEAL_TEST_NAMED(C_Verify),
    HSMSEAL_TEST_NAMED(C_UnwrapKey),
    HSMSEAL_TEST_NAMED(C_WrapKey),
    HSMSEAL_TEST_NAMED(C_GenerateRandom),
};
#undef HSMSEAL_TEST_NAMED

using Ladder = std::array<Reaction, 3>;

struct Table {
  std::map<std::string, std::string> column_of;                      ///< by function
  std::map<std::string, std::map<std::string, Ladder>> expectation;  ///< by code as written, then by column
};

std::vector<std::string> parts(const std::string& text, char separator) {
  std::vector<std::string> result(1);
  for (const char c : text) {
    if (c == separator) {
      result.emplace_back();
    } else {
      result.back() += c;
    }
  }
  return result;
}

Ladder ladder(const std::string& cell) {
  auto names = parts(cell, '/');
  if (names.size() == 1) names.resize(3, names.front());
  if (names.size() != 3) throw std::runtime_error("neither one reaction nor three: " + cell);
  return {kReactions.at(names[0]), kReactions.at(names[1]), kReactions.at(names[2])};
}

/// The table as a person wrote it; what it says twice or leaves open is an error.
Table read_table() {
  std::ifstream file{kSource / "tests" / "fault" / "expected_reactions.csv"};
  Table table;
  std::vector<std::string> columns;
  const auto must = [](bool right, const std::string& line) {
    if (!right) throw std::runtime_error("expected_reactions.csv: " + line);
  };
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    const auto cells = parts(line, ',');
    must(cells.size() > 2 && !cells[1].empty(), line);
    if (cells[0] == "functions") {
      for (auto at = cells.begin() + 2; at != cells.end(); ++at)
        must(table.column_of.emplace(*at, cells[1]).second, line);
    } else if (cells[0] == "code") {
      columns = cells;
    } else {
      must(cells.size() == columns.size() && !table.expectation.contains(cells[0]), line);
      for (std::size_t i = 1; i < cells.size(); ++i) {
        table.expectation[cells[0]][columns[i]] = ladder(cells[i].empty() ? cells[1] : cells[i]);
      }
    }
  }
  return table;
}

/// Every return value that has a name, by it.
std::map<std::string, std::uint64_t> named_codes() {
  std::map<std::string, std::uint64_t> codes;
  const auto add = [&](std::uint64_t code) {
    const std::string name = rv_name(code);
    if (name.starts_with("CKR_")) codes.emplace(name, code);
  };
  for (std::uint64_t code = 0; code <= 0xffff; ++code) add(code);
  add(CKR_VENDOR_DEFINED);
  return codes;
}

/// A code as the table writes it: a name, or a number that has none.
std::uint64_t code_of(const std::string& written) {
  static const auto named = named_codes();
  if (!written.starts_with("0x")) {
    const auto found = named.find(written);
    if (found == named.end()) throw std::runtime_error("no return value is named " + written);
    return found->second;
  }
  const std::uint64_t code = std::stoull(written, nullptr, 16);
  if (rv_name(code) != written) throw std::runtime_error(written + " has a name");
  return code;
}

}  // namespace

TEST_CASE("every reaction to every return value of every function is the one that was written down") {
  const Table table = read_table();
  std::set<std::uint64_t> codes;
  std::size_t compared = 0, wrong = 0;
  for (const auto& [written, by_column] : table.expectation) {
    const std::uint64_t code = code_of(written);
    codes.insert(code);
    for (const auto& [function, column] : table.column_of) {
      const Ladder& expected = by_column.at(column);
      for (std::size_t i = 0; i < kAttempts.size(); ++i, ++compared) {
        const Reaction got = reaction(function, code, kAttempts[i]);
        if (got == expected[i]) continue;
        ++wrong;
        UNSCOPED_INFO(fmt::format("{} of {}, attempt {}: {} instead of {}", written, function, i + 1, name_of(got),
                                  name_of(expected[i])));
      }
    }
  }
  CHECK(wrong == 0);
  const std::size_t functions = table.column_of.size();
  REQUIRE(functions >= 20);
  REQUIRE(codes.size() >= 60);
  REQUIRE(codes.size() == table.expectation.size());
  REQUIRE(compared == functions * codes.size() * 3);
  WARN(functions << " functions, " << codes.size() << " codes, " << compared << " reactions compared");
}

TEST_CASE("the written reactions are of all functions and of all codes that have a name") {
  const Table table = read_table();
  std::set<std::string> functions, columns, written_columns;
  for (const auto& [function, column] : table.column_of) {
    functions.insert(function);
    columns.insert(column);
  }
  CHECK(functions == kFunctions);
  std::size_t numbers = 0;
  std::set<std::string> names;
  for (const auto& [written, by_column] : table.expectation) {
    if (written.starts_with("0x")) {
      ++numbers;
    } else {
      names.insert(written);
    }
    for (const auto& [column, expected] : by_column) written_columns.insert(column);
  }
  CHECK(written_columns == columns);
  CHECK(numbers >= 4);
  REQUIRE(names.size() >= 60);
  for (const auto& [name, code] : named_codes()) {
    INFO(name << " " << code);
    CHECK(names.erase(name) == 1);
  }
  CHECK(names.empty());
}

TEST_CASE("every function that hsmseal calls has its reactions written down") {
  static const std::regex kCall{R"(CK_FUNCTION_LIST::(C_\w+))"};
  const Table table = read_table();
  std::set<std::string> called;
  for (const auto& entry : fs::recursive_directory_iterator(kSource / "src")) {
    if (entry.path().extension() != ".cpp" && entry.path().extension() != ".hpp") continue;
    std::ifstream file{entry.path()};
    const std::string text{std::istreambuf_iterator<char>{file}, {}};
    for (std::sregex_iterator at{text.begin(), text.end(), kCall}, end; at != end; ++at) called.insert((*at)[1].str());
  }
  REQUIRE(called.size() >= 20);
  for (const std::string& function : called) {
    INFO(function);
    CHECK(table.column_of.contains(function));
  }
}

TEST_CASE("a reaction's name is its enumerator's") {
  for (const auto& [name, value] : kReactions) CHECK(name_of(value) == name);
}

TEST_CASE("no bytes that somebody sent make the driver start anew, whatever the driver says about them") {
  // Names of a lost session, token or driver left aside, which are not said of bytes.
  static const std::set<std::string> kOfTheDriver = {
      "CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED",  "CKR_TOKEN_NOT_PRESENT",       "CKR_TOKEN_NOT_RECOGNIZED",
      "CKR_DEVICE_REMOVED",         "CKR_SLOT_ID_INVALID", "CKR_CRYPTOKI_NOT_INITIALIZED"};
  std::size_t looked_at = 0;
  auto codes = named_codes();
  for (const std::uint64_t code : {0x3e8U, 0x80000384U, 0x81000071U, 0x80000001U}) codes.emplace(rv_name(code), code);
  for (const auto& [name, code] : codes) {
    if (kOfTheDriver.contains(name)) continue;
    for (const char* function : {"C_Decrypt", "C_UnwrapKey", "C_Verify"}) {
      for (const Attempt attempt : kAttempts) {
        INFO(name << " of " << function);
        CHECK(reaction(function, code, attempt) != Reaction::Restart);
        ++looked_at;
      }
    }
  }
  REQUIRE(looked_at > 60 * 9);
}
