#include "sql/tables.hpp"

#include <algorithm>
#include <limits>

#include <soci/soci.h>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"

namespace hsmseal::sql {
namespace {

using soci::into;
using soci::use;

/// SOCI's 64-bit number; std::int64_t is another type on some systems.
using Number = long long;
using Mac = decltype(RingRecord::mac);

Number number_of(std::uint64_t value) { return static_cast<Number>(value); }

std::uint64_t positive(Number value) {
  if (value < 1) throw StoreError("a row of the ring has a number below 1; restore the database");
  return static_cast<std::uint64_t>(value);
}

/// The 32 bytes that the text stands for; zeros if hsmseal would not have written it.
///
/// A text that was damaged is told by the ring, as a damaged body is: no record has zeros for its mac. Were it an error
/// here, one such row would keep the whole history from who salvages it, who needs the bodies alone.
Mac mac_of(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  Mac mac{};
  if (text.size() != 2 * mac.size() || text.find_first_not_of(kDigits) != std::string_view::npos) return mac;
  for (std::size_t i = 0; i < mac.size(); ++i) {
    mac[i] = static_cast<std::byte>(kDigits.find(text[2 * i]) * 16 + kDigits.find(text[2 * i + 1]));
  }
  return mac;
}

RingHead head_of(Number generation, std::string_view mac) {
  return {.generation = positive(generation), .mac = mac_of(mac)};
}

RingRecord record_of(Number generation, std::string body, std::string_view mac) {
  return {.generation = positive(generation), .body = std::move(body), .mac = mac_of(mac)};
}

bool one_row(soci::details::prepare_temp_type& prepared) {
  soci::statement statement = prepared;
  statement.execute(true);
  return statement.get_affected_rows() == 1;
}

}  // namespace

std::optional<RingHead> Tables::head_row() {
  Number generation = 0;
  std::string mac;
  session_ << "select generation, mac from hsmseal_ring where ring = :ring", into(generation), into(mac),
      use(ring_, "ring");
  if (!session_.got_data()) return std::nullopt;
  return head_of(generation, mac);
}

std::optional<RingRecord> Tables::newest_row() {
  Number generation = 0;
  std::string body, mac;
  session_ << "select generation, body, mac from hsmseal_ring where ring = :ring", into(generation), into(body),
      into(mac), use(ring_, "ring");
  if (!session_.got_data()) return std::nullopt;
  return record_of(generation, std::move(body), mac);
}

std::optional<std::uint64_t> Tables::newest_of_history() {
  Number generation = 0;
  auto indicator = soci::i_null;
  session_ << "select max(generation) from hsmseal_history where ring = :ring", into(generation, indicator),
      use(ring_, "ring");
  if (indicator != soci::i_ok) return std::nullopt;
  return positive(generation);
}

/// A ring whose row somebody deleted must not look like one that never was: a new one would take its place, and its
/// history with it.
template <typename Look, typename LookAtHistory>
auto found_or_never_there(const Look& look, const LookAtHistory& look_at_history) {
  auto found = look();
  if (found || !look_at_history()) return found;
  // Another host may have made the ring since the first look.
  found = look();
  if (!found) {
    throw StoreError(
        "the ring's row in hsmseal_ring is gone, but hsmseal_history still has its records; restore the row");
  }
  return found;
}

std::optional<RingHead> Tables::head() {
  return found_or_never_there([this] { return head_row(); }, [this] { return newest_of_history(); });
}

std::optional<RingRecord> Tables::newest() {
  return found_or_never_there([this] { return newest_row(); }, [this] { return newest_of_history(); });
}

std::vector<RingRecord> Tables::history(std::size_t most) {
  std::vector<RingRecord> records;
  const auto newest = newest_of_history();
  if (!newest) return records;
  const Number after = number_of(*newest - std::min<std::uint64_t>(most, *newest));
  Number generation = 0;
  std::string body, mac;
  soci::statement statement =
      (session_.prepare << "select generation, body, mac from hsmseal_history "
                           "where ring = :ring and generation > :after order by generation desc",
       into(generation), into(body), into(mac), use(ring_, "ring"), use(after, "after"));
  statement.execute();
  while (statement.fetch()) records.push_back(record_of(generation, body, mac));
  // Another host may have added one since.
  if (records.size() > most) records.resize(most);
  return records;
}

bool Tables::replace(const std::optional<RingHead>& expected, const RingRecord& record) {
  const Number generation = number_of(record.generation);
  const std::string mac = core::to_hex(record.mac);
  if (!expected) {
    session_ << "insert into hsmseal_ring (ring, generation, body, mac) values (:ring, :generation, :body, :mac)",
        use(ring_, "ring"), use(generation, "generation"), use(record.body, "body"), use(mac, "mac");
    return true;
  }
  const Number replaced = number_of(expected->generation);
  const std::string replaced_mac = core::to_hex(expected->mac);
  auto prepared = (session_.prepare << "update hsmseal_ring set generation = :generation, body = :body, mac = :mac "
                                       "where ring = :ring and generation = :replaced and mac = :replaced_mac",
                   use(generation, "generation"), use(record.body, "body"), use(mac, "mac"), use(ring_, "ring"),
                   use(replaced, "replaced"), use(replaced_mac, "replaced_mac"));
  return one_row(prepared);
}

void Tables::remember(const RingRecord& record) {
  const Number generation = number_of(record.generation);
  const Number oldest = generation - static_cast<Number>(kHistoryKept);
  session_ << "delete from hsmseal_history where ring = :ring and generation <= :oldest", use(ring_, "ring"),
      use(oldest, "oldest");
  const std::string mac = core::to_hex(record.mac);
  session_ << "insert into hsmseal_history (ring, generation, body, mac) values (:ring, :generation, :body, :mac)",
      use(ring_, "ring"), use(generation, "generation"), use(record.body, "body"), use(mac, "mac");
}

void Tables::lock() {
  session_ << "update hsmseal_ring set generation = generation where ring = :ring", use(ring_, "ring");
}

std::optional<std::uint64_t> Tables::usage(const std::string& kek_id) {
  Number total = 0;
  session_ << "select total from hsmseal_usage where ring = :ring and kek_id = :kek_id", into(total),
      use(ring_, "ring"), use(kek_id, "kek_id");
  if (!session_.got_data()) return std::nullopt;
  if (total < 0) throw StoreError("a row of the ring has a number below 0; restore the database");
  return static_cast<std::uint64_t>(total);
}

std::optional<std::uint64_t> Tables::add_usage(const std::string& kek_id, std::uint64_t block) {
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<Number>::max());
  if (block > kMost) return std::nullopt;
  const Number added = number_of(block);
  const Number room = number_of(kMost - block);
  for (;;) {
    auto prepared = (session_.prepare << "update hsmseal_usage set total = total + :added "
                                         "where ring = :ring and kek_id = :kek_id and total <= :room",
                     use(added, "added"), use(ring_, "ring"), use(kek_id, "kek_id"), use(room, "room"));
    if (one_row(prepared)) return usage(kek_id);
    const auto total = usage(kek_id);
    if (!total) break;
    if (*total > kMost - block) return std::nullopt;
    // Another host inserted the row after the update: now there is one to update.
  }
  session_ << "insert into hsmseal_usage (ring, kek_id, total) values (:ring, :kek_id, :added)", use(ring_, "ring"),
      use(kek_id, "kek_id"), use(added, "added");
  return block;
}

}  // namespace hsmseal::sql
