// The library reads the audit logs of another implementation of src/FORMAT.md.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <hsmseal/audit_log.hpp>

#include "logged_ring.hpp"
#include "ring/audit_line.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace hsmseal;
using test::Vectors;

namespace {

AuditEnd end_of(const nlohmann::json& end) {
  return AuditEnd::from_text(std::to_string(end.at(0).get<std::uint64_t>()) + ":" + end.at(1).get<std::string>());
}

/// The ring of the logs, and one of them at a time.
struct Reader {
  [[nodiscard]] AuditVerdict verdict(const nlohmann::json& entry) const {
    if (entry.contains("content")) {
      test::put(file, entry.at("content").get<std::string>());
    } else {
      const Bytes content = test::bytes_at(entry, "content_hex");
      test::put(file, {reinterpret_cast<const char*>(content.data()), content.size()});
    }
    return verify_audit_log(ring, file,
                            entry.contains("expected") ? std::optional{end_of(entry.at("expected"))} : std::nullopt);
  }

  test::ScratchDirectory scratch;
  std::filesystem::path file = scratch.path() / "audit.log";
  KeyRing ring =
      test::open_ring(Vectors::instance(), "ring-6", std::make_shared<test::VectorProvider>(Vectors::instance()));
};

}  // namespace

TEST_CASE("the vectors' audit logs are read as they were written, and written to the same bytes") {
  const Reader reader;
  std::size_t ran = 0, lines = 0;
  for (const auto& entry : Vectors::instance().list("audit_logs")) {
    INFO(entry.at("name"));
    const AuditVerdict verdict = test::good(reader.verdict(entry));
    CHECK(verdict.lines == entry.at("lines").get<std::uint64_t>());
    CHECK(verdict.end == end_of(entry.at("end")));
    CHECK(verdict.torn == entry.at("torn").get<std::uint64_t>());
    CHECK(verdict.events_lost == entry.at("events_lost").get<std::uint64_t>());
    CHECK(verdict.under_former == entry.at("under_former").get<std::uint64_t>());
    read_audit_log(reader.file, [&](const AuditLine& line) {
      const auto read = ring::line_from_text(line.text);
      CHECK(read.has_value() == line.entry.has_value());
      if (!read) return;
      CHECK(ring::to_text(*read) == line.text);
      ++lines;
    });
    ++ran;
  }
  CHECK(ran > 10);
  CHECK(lines > 50);
}

TEST_CASE("every invalid audit log of the vectors is refused, at its line and for its reason") {
  static const std::map<std::string, AuditFault> kFaults = {{"Altered", AuditFault::Altered},
                                                            {"OtherRing", AuditFault::OtherRing},
                                                            {"UnknownKey", AuditFault::UnknownKey},
                                                            {"Inserted", AuditFault::Inserted},
                                                            {"Reordered", AuditFault::Reordered},
                                                            {"Removed", AuditFault::Removed},
                                                            {"Cut", AuditFault::Cut}};
  const Reader reader;
  std::map<AuditFault, std::size_t> seen;
  std::size_t ran = 0;
  for (const auto& entry : Vectors::instance().list("invalid_audit_logs")) {
    INFO(entry.at("name"));
    const AuditVerdict verdict = reader.verdict(entry);
    REQUIRE(verdict.bad);
    INFO(verdict.bad->why);
    CHECK(verdict.bad->line == entry.at("line").get<std::uint64_t>());
    CHECK(verdict.bad->fault == kFaults.at(entry.at("error").get<std::string>()));
    ++seen[verdict.bad->fault];
    ++ran;
  }
  CHECK(ran > 100);
  CHECK(seen.size() == kFaults.size());
}
