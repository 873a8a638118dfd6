#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/ring_options.hpp>
#include <hsmseal/secret_bytes.hpp>

namespace hsmseal {

/// One value that the application stores: a row of a table, a file, an entry of a map.
struct Row {
  std::string key;  ///< tells it from all others, also in reports; not secret
  Bytes value;      ///< as stored: an envelope, its text form, or what is not sealed
  /// The canonical bytes of what the envelope is bound to (Context::encoded(); empty: kNoContext). Nothing: the source
  /// does not know.
  std::optional<Bytes> context = {};
};

/// Whether rows are only looked at.
enum class RowAccess : std::uint8_t {
  Read,     ///< nothing is replaced
  Replace,  ///< other hosts that work on the same rows should be given others
};

/// Which rows are wanted.
struct RowQuery {
  std::optional<std::string> after = {};  ///< a cursor of this source; nothing: from the first row on
  std::size_t most = 1;                   ///< how many, at least 1
  RingId ring = {};                       ///< the ring at work, and
  Version active = 0;                     ///< its active set: a source may leave out what names it, and plain rows
  RowAccess access = RowAccess::Read;     ///< what is done with them
};

/// Rows that follow each other in the source's order, which never changes.
struct RowBatch {
  std::vector<Row> rows;            ///< at most RowQuery::most
  std::optional<std::string> next;  ///< the cursor behind the last one; nothing: there are no more
  /// What the source holds for whoever works on them, such as a transaction; released when it is dropped. May be null.
  std::shared_ptr<void> hold = {};
};

/// A value that is to take the place of another.
struct RowChange {
  std::string key;  ///< of the row
  Bytes old_value;  ///< what the row must still hold
  Bytes new_value;  ///< what it holds then
};

/// How many rows there are of each kind.
struct HSMSEAL_API RowCensus {
  static constexpr std::size_t kStartBytes = 18;       ///< how much of an envelope add() needs to see
  static constexpr std::size_t kStartCharacters = 29;  ///< the same of its text form

  /// Counts rows by the beginning of their values.
  /// @param start  the first kStartBytes of an envelope, or kStartCharacters of a text, or more; all of a shorter one.
  void add(ByteView start, std::uint64_t rows = 1);

  /// Those that an active set does not seal: what is left to move, or to repair.
  [[nodiscard]] std::uint64_t not_under(Version active) const;
  /// Those that may need a set: they name it, or cannot say which one they name.
  [[nodiscard]] std::uint64_t may_need(Version version) const;

  RingId ring = {};                         ///< whose envelopes are counted
  std::map<Version, std::uint64_t> sealed;  ///< by the set they name
  std::uint64_t plain = 0;                  ///< not sealed
  std::uint64_t foreign = 0;                ///< of another ring
  std::uint64_t unreadable = 0;             ///< they begin like envelopes and name no set
};

/// Where an application keeps its envelopes, as the Rewrapper sees it.
///
/// Thread safety: members may run concurrently.
struct HSMSEAL_API RowSource {
  RowSource() = default;
  RowSource(const RowSource&) = delete;
  RowSource& operator=(const RowSource&) = delete;
  virtual ~RowSource();

  /// The next rows. All that are there from the first call to the last must come once, unless they may be left out, or
  /// another host holds them.
  /// @throws StoreError  try again later.
  [[nodiscard]] virtual RowBatch next(const RowQuery& query) = 0;

  /// Replaces values, each if its row still holds the old one, and never makes a row.
  ///
  /// @param batch  where the rows came from, with its hold, which ends with this; or one without rows and hold.
  /// @returns for each change whether it was made; what was made is kept for good.
  /// @throws StoreError  any of them may have been made, or none.
  [[nodiscard]] virtual std::vector<bool> replace(RowBatch& batch, const std::vector<RowChange>& changes) = 0;

  /// Rows as they are stored now, in the order of the keys; nothing for those that are gone.
  /// @throws StoreError  try again later.
  [[nodiscard]] virtual std::vector<std::optional<Row>> read(const std::vector<std::string>& keys) = 0;

  /// Counts all rows as they are at one moment.
  /// @throws StoreError  try again later.
  [[nodiscard]] virtual RowCensus census(const RingId& ring) = 0;
};

/// What KeyRing::remove(), purge() and destroy_key() ask: the rows that may need a set. Rows that name no set although
/// they begin like envelopes may need any.
[[nodiscard]] HSMSEAL_API Census census_of(std::shared_ptr<RowSource> source, const RingId& ring);

}  // namespace hsmseal
