#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <hsmseal/ring_store.hpp>

namespace soci {
class session;
}

namespace hsmseal::sql {

/// One ring's rows. A row is locked by writing to it, which works alike everywhere; so a transaction that reads what it
/// depends on writes first.
///
/// Members throw soci::soci_error, and StoreError for rows that hsmseal would not have written.
class Tables {
 public:
  Tables(soci::session& session, const std::string& ring) : session_(session), ring_(ring) {}

  /// @throws StoreError  also if there is a history, but no newest record.
  [[nodiscard]] std::optional<RingHead> head();
  /// @throws StoreError  as head().
  [[nodiscard]] std::optional<RingRecord> newest();
  /// Newest first; also if there is no newest record any more.
  [[nodiscard]] std::vector<RingRecord> history(std::size_t most);

  /// Puts `record` in the place of the newest one, `expected`; a first one of its own if there is none.
  /// @returns false if the newest one is another.
  /// @throws soci::soci_error  also if there is a first one already.
  [[nodiscard]] bool replace(const std::optional<RingHead>& expected, const RingRecord& record);
  /// Writes the newest record into the history, out of which old ones are removed.
  void remember(const RingRecord& record);

  /// Waits until no other transaction is about to change the ring's row, and keeps others from it.
  void lock();

  [[nodiscard]] std::optional<std::uint64_t> usage(const std::string& kek_id);
  /// @returns the new total; nothing if it would be more than fits.
  [[nodiscard]] std::optional<std::uint64_t> add_usage(const std::string& kek_id, std::uint64_t block);

 private:
  [[nodiscard]] std::optional<RingHead> head_row();
  [[nodiscard]] std::optional<RingRecord> newest_row();
  [[nodiscard]] std::optional<std::uint64_t> newest_of_history();

  soci::session& session_;
  const std::string& ring_;
};

}  // namespace hsmseal::sql
