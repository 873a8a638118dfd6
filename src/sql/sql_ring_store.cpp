#include <hsmseal/sql_ring_store.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <soci/soci.h>

#include <hsmseal/error.hpp>

#include "sql/limited_connection.hpp"
#include "sql/of_process.hpp"
#include "sql/tables.hpp"

namespace hsmseal {
namespace {

using sql::CallDeadline;
using sql::Connection;
using sql::IfMissing;
using sql::Tables;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxBodyBytes = std::size_t{64} << 20;

/// When a call that failed is made once more, on a new connection.
enum class Retry : std::uint8_t {
  OldConnection,  ///< if the connection had been there before: the server may have been started anew since
  Once,           ///< in any case: another host may have inserted the row in the same moment
};

/// A commit was sent, and no answer came back.
struct Unanswered {
  std::string reason;
};

/// The connection, and what it takes to use it.
struct Link : sql::LimitedConnection {
  Link(const sql::Location& location, const SqlOptions& options, bool used)
      : LimitedConnection(location, options.timeout), was_there(used) {}

  std::mutex mutex;
  std::atomic<bool> in_use = false;  ///< for a child, which cannot ask the mutex
  bool was_there;                    ///< the database has been used: if its file is missing now, it is not to be made
};

/// A call on the link, while it lives; one at a time.
class Use {
 public:
  explicit Use(Link& link) : link_(link), lock_(link.mutex), limited_(link.limit()) { link.in_use = true; }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  ~Use() { link_.in_use = false; }

 private:
  Link& link_;
  const std::scoped_lock<std::mutex> lock_;
  const CallDeadline::Call limited_;
};

class SqlRingStore final : public RingStore {
 public:
  SqlRingStore(sql::Location location, SqlOptions options)
      : location_(std::move(location)), options_(std::move(options)) {}

  [[nodiscard]] std::optional<RingRecord> load() override;
  [[nodiscard]] std::optional<RingHead> head() override;
  [[nodiscard]] bool compare_and_swap(const std::optional<RingHead>& expected, const RingRecord& record) override;
  [[nodiscard]] std::vector<RingRecord> history(std::size_t most) override;
  [[nodiscard]] std::uint64_t reserve_usage(const KekId& kek_id, std::uint64_t block) override;
  [[nodiscard]] Timestamp now() override;

 private:
  Link& link();
  Connection& connected(Link& at) const;
  template <typename Work>
  auto call(std::string_view what, Retry retry, const Work& work);
  bool swap(Connection& at, const std::optional<RingHead>& expected, const RingRecord& record);
  bool find_out(const std::optional<RingHead>& expected, const RingRecord& record, const std::string& reason);

  const sql::Location location_;
  const SqlOptions options_;
  sql::OfProcess<Link> link_;
};

/// @throws StoreError  the process was forked while it was in SQLite or in ODBC's libraries.
Link& SqlRingStore::link() {
  return link_.get([this](const Link* parents) {
    // Those libraries share mutexes, and SQLite what it knows of locked files, among all connections of a process: the
    // child would wait without end, or read and write what it takes for locked.
    if (parents != nullptr && parents->in_use && location_.backend != sql::Backend::Postgresql) {
      throw StoreError(described(location_) +
                       ": this process was forked while another thread used the database; fork when none does, or let "
                       "the child start a program");
    }
    return Link{location_, options_, parents != nullptr && parents->was_there};
  });
}

Connection& SqlRingStore::connected(Link& at) const {
  if (at.connection && !at.connection->in_place()) at.connection.reset();
  if (!at.connection) {
    at.connection =
        std::make_unique<Connection>(location_, options_.timeout, at.was_there ? IfMissing::Refuse : IfMissing::Make,
                                     at.limit(), sql::Schema::Hsmseal);
    at.was_there = true;
  }
  return *at.connection;
}

/// Runs `work` on the connection, one call at a time. A call that failed leaves no connection behind.
template <typename Work>
auto SqlRingStore::call(std::string_view what, Retry retry, const Work& work) {
  Link& at = link();
  const Use use{at};
  const auto begin = Clock::now();
  for (bool again = false;; again = true) {
    const bool retried = !again && (retry == Retry::Once || at.connection != nullptr);
    try {
      return work(connected(at));
    } catch (const soci::soci_error& error) {
      const auto reason = at.reason_of(error, location_);
      at.connection.reset();
      // Not after a wait for somebody's lock, which would be as long a second time.
      if (retried && Clock::now() - begin < options_.timeout / 2) continue;
      throw StoreError(fmt::format("{}: cannot {}: {}", described(location_), what, reason));
    } catch (...) {
      at.connection.reset();
      throw;
    }
  }
}

std::optional<RingRecord> SqlRingStore::load() {
  return call("load the ring", Retry::OldConnection, [&](Connection& at) {
    return Tables{at.session(), options_.ring}.newest();
  });
}

std::optional<RingHead> SqlRingStore::head() {
  return call("read which record of the ring is the newest", Retry::OldConnection, [&](Connection& at) {
    return Tables{at.session(), options_.ring}.head();
  });
}

std::vector<RingRecord> SqlRingStore::history(std::size_t most) {
  return call("read the ring's history", Retry::OldConnection, [&](Connection& at) {
    return Tables{at.session(), options_.ring}.history(most);
  });
}

Timestamp SqlRingStore::now() {
  return call("read the clock", Retry::OldConnection, [](Connection& at) {
    long long milliseconds = 0;
    at.session() << at.dialect().clock, soci::into(milliseconds);
    return Timestamp{std::chrono::milliseconds{milliseconds}};
  });
}

std::uint64_t SqlRingStore::reserve_usage(const KekId& kek_id, std::uint64_t block) {
  return call("count wraps", Retry::Once, [&](Connection& at) {
    at.session().begin();
    Tables tables{at.session(), options_.ring};
    const auto total = tables.add_usage(kek_id.to_string(), block);
    if (!total)
      throw StoreError("the number of wraps of key " + kek_id.to_string() + " would be more than can be stored");
    at.session().commit();
    // As after a swap: PostgreSQL's ODBC driver has said yes to a commit of a connection that was dead.
    if (tables.usage(kek_id.to_string()).value_or(0) < *total) throw soci::soci_error("the commit was lost");
    return *total;
  });
}

bool SqlRingStore::compare_and_swap(const std::optional<RingHead>& expected, const RingRecord& record) {
  if (record.generation == 0 || (expected && record.generation != expected->generation + 1)) {
    throw StoreError("a ring record must have the generation after the one it replaces");
  }
  if (static_cast<std::int64_t>(record.generation) < 0) throw StoreError("a ring's generation is at most 2^63 - 1");
  if (record.body.size() > kMaxBodyBytes) throw StoreError("a ring's body is at most 64 MiB");
  try {
    return call("store the ring", expected ? Retry::OldConnection : Retry::Once,
                [&](Connection& at) { return swap(at, expected, record); });
  } catch (const Unanswered& unanswered) {
    return find_out(expected, record, unanswered.reason);
  }
}

bool SqlRingStore::swap(Connection& at, const std::optional<RingHead>& expected, const RingRecord& record) {
  Tables tables{at.session(), options_.ring};
  if (!expected && tables.head()) return false;
  at.session().begin();
  if (!tables.replace(expected, record)) {
    at.session().rollback();
    return false;
  }
  tables.remember(record);
  // Databases and drivers cut long text, replace characters that their encoding lacks, or end at a zero.
  if (tables.newest() != record) {
    throw StoreError(described(location_) +
                     ": the database changes the ring's text, so that it was not stored; its encoding must be UTF-8");
  }
  try {
    at.session().commit();
    // PostgreSQL's ODBC driver has said yes to a commit of a connection that was dead.
    if (tables.newest() == record) return true;
  } catch (const soci::soci_error& error) {
    throw Unanswered{link().reason_of(error, location_)};
  } catch (const StoreError& error) {
    throw Unanswered{error.what()};
  }
  throw Unanswered{"it is not the newest record after the commit"};
}

enum class Fate : std::uint8_t { Stored, NotStored, Overtaken, Unknown };

/// Waits until the transaction of a lost connection has ended, which may still run on the server: it holds the lock of
/// the row that it changed, or keeps a second first row from being inserted.
/// @returns whether the ring is still without a record.
/// @throws soci::soci_error  it did not end in time.
bool is_still_empty(Connection& at, Tables& tables, const std::optional<RingHead>& expected, const RingRecord& record) {
  if (!at.dialect().has_server) return !expected && !tables.head();
  bool inserted = false;
  at.session().begin();
  try {
    if (expected) {
      tables.lock();
    } else {
      inserted = tables.replace(expected, record);
    }
  } catch (const soci::soci_error&) {
    at.session().rollback();
    if (expected || !tables.head()) throw;
    return false;
  }
  at.session().rollback();
  return inserted;
}

/// What became of a record whose commit was not answered. A row that is not locked any more can only get newer.
/// @throws soci::soci_error  it cannot be seen at present.
Fate fate_of(Connection& at, const std::string& ring, const std::optional<RingHead>& expected,
             const RingRecord& record) {
  Tables tables{at.session(), ring};
  if (is_still_empty(at, tables, expected, record)) return Fate::NotStored;
  const auto newest = tables.head();
  const auto past = tables.history(kHistoryKept);
  if (std::ranges::find(past, record) != past.end()) return Fate::Stored;
  // Another host stored a record after the look at the newest one: it is not known what that replaced.
  if (newest != tables.head()) return Fate::Unknown;
  if (newest == expected) return Fate::NotStored;
  // So much was stored since that the history need not have it any more.
  if (newest && newest->generation >= record.generation + kHistoryKept) return Fate::Unknown;
  return Fate::Overtaken;
}

/// Looks until the time is over, through new connections if need be.
bool SqlRingStore::find_out(const std::optional<RingHead>& expected, const RingRecord& record,
                            const std::string& reason) {
  constexpr std::chrono::milliseconds kPause{20};
  Link& at = link();
  const Use use{at};
  const auto deadline = Clock::now() + options_.timeout;
  std::string obstacle = "others change the ring";
  for (auto fate = Fate::Unknown; Clock::now() < deadline; std::this_thread::sleep_for(kPause)) {
    try {
      fate = fate_of(connected(at), options_.ring, expected, record);
    } catch (const soci::soci_error& error) {
      obstacle = at.reason_of(error, location_);
      at.connection.reset();
    } catch (const StoreError& error) {
      at.connection.reset();
      obstacle = error.what();
    }
    if (fate == Fate::Stored) return true;
    if (fate == Fate::Overtaken) return false;
    if (fate == Fate::NotStored) {
      throw StoreError(fmt::format("{}: cannot commit the ring: {}; it was not stored", described(location_), reason));
    }
  }
  throw StoreInDoubtError(
      fmt::format("{}: the commit of the ring was not answered: {}; whether it is stored could not "
                  "be found out: {}",
                  described(location_), reason, obstacle));
}

bool is_ring_name(std::string_view name) {
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !name.empty() && name.size() <= 64 && name.find_first_not_of(kAllowed) == std::string_view::npos;
}

}  // namespace

std::shared_ptr<RingStore> sql_ring_store(std::string_view url, SqlOptions options) {
  if (!is_ring_name(options.ring)) {
    throw InvalidArgumentError("a ring's name in a database is 1 to 64 characters of A-Z a-z 0-9 . _ -");
  }
  if (options.timeout < std::chrono::milliseconds{100} || options.timeout > std::chrono::hours{1}) {
    throw InvalidArgumentError("the timeout of a database is 100 milliseconds to an hour");
  }
  auto location = sql::location_of(url, options.timeout);
  location.ring = options.ring;
  return std::make_shared<SqlRingStore>(std::move(location), std::move(options));
}

}  // namespace hsmseal
