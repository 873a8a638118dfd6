#include <hsmseal/sql_row_source.hpp>

#include <atomic>
#include <mutex>
#include <utility>

#include <fmt/format.h>
#include <soci/soci.h>

#include <hsmseal/error.hpp>

#include "platform/platform.hpp"
#include "sql/limited_connection.hpp"
#include "sql/of_process.hpp"
#include "sql/row_statements.hpp"

namespace hsmseal {
namespace {

using sql::CallDeadline;
using sql::Connection;
using sql::LimitedConnection;
using Link = std::unique_ptr<LimitedConnection>;

/// The connections of a process.
struct Pool {
  std::mutex mutex;
  std::vector<Link> idle;
  std::atomic<int> in_use = 0;  ///< for a child, which cannot ask the mutex
};

/// A connection out of the pool, and the transaction on it if one was begun.
class Lease {
 public:
  Lease(std::shared_ptr<RowSource> source, Pool& pool) : source_(std::move(source)), pool_(pool) { ++pool_.in_use; }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease();

  [[nodiscard]] Link& link() noexcept { return link_; }
  void begin();
  void commit();
  /// After a failure, when the others that are idle have likely lost their server too.
  void drop() noexcept;

 private:
  const std::shared_ptr<RowSource> source_;  ///< which has the pool
  Pool& pool_;
  const std::uint64_t forks_ = platform::forks();
  Link link_;
  bool in_transaction_ = false;
};

Lease::~Lease() {
  if (forks_ != platform::forks()) {
    static_cast<void>(link_.release());  // the parent's, which goes on with it
    return;
  }
  try {
    if (in_transaction_) {
      const CallDeadline::Call limited{link_->limit()};
      link_->connection->session().rollback();
    }
    if (link_ && link_->connection) {
      const std::scoped_lock lock{pool_.mutex};
      pool_.idle.push_back(std::move(link_));
    }
  } catch (const std::exception&) {
    // A connection that does not take back what was begun is closed.
  }
  link_.reset();
  --pool_.in_use;
}

void Lease::begin() {
  if (in_transaction_) return;
  link_->connection->session().begin();
  in_transaction_ = true;
}

void Lease::commit() {
  link_->connection->session().commit();
  in_transaction_ = false;
}

void Lease::drop() noexcept {
  in_transaction_ = false;
  link_.reset();
  std::vector<Link> idle;
  const std::scoped_lock lock{pool_.mutex};
  idle.swap(pool_.idle);
}

soci::statement selected(soci::session& session, const std::string& text, const std::optional<std::string>& after,
                         std::string& key, std::string& value) {
  if (!after) return (session.prepare << text, soci::into(key), soci::into(value));
  return (session.prepare << text, soci::into(key), soci::into(value), soci::use(*after, "after"));
}

/// Replaces one value after the other: with one statement, if the values can be bound to it.
class Replacement {
 public:
  Replacement(Connection& at, const sql::RowStatements& statements) : at_(at), statements_(statements) {}
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  /// @returns false if the row is gone, or holds another value.
  [[nodiscard]] bool make(const RowChange& change);

 private:
  Connection& at_;
  const sql::RowStatements& statements_;
  std::string key_, old_value_, new_value_;
  std::optional<soci::statement> prepared_;
};

bool Replacement::make(const RowChange& change) {
  using soci::use;
  const bool binds = statements_.binds_values(at_.dialect());
  key_ = change.key;
  if (binds) {
    old_value_ = statements_.to_text(change.old_value);
    new_value_ = statements_.to_text(change.new_value);
  }
  if (!binds || !prepared_) {
    const std::string text = statements_.replace(at_.dialect(), change);
    if (binds) {
      prepared_.emplace((at_.session().prepare << text, use(new_value_, "new_value"), use(key_, "key"),
                         use(old_value_, "old_value")));
    } else {
      prepared_.emplace((at_.session().prepare << text, use(key_, "key")));
    }
  }
  prepared_->execute(true);
  const auto rows = prepared_->get_affected_rows();
  if (rows > 1) throw StoreError("several rows have the key '" + change.key + "'; the column of keys must be unique");
  return rows == 1;
}

class SqlRowSource final : public RowSource, public std::enable_shared_from_this<SqlRowSource> {
 public:
  SqlRowSource(sql::Location location, SqlRowOptions options)
      : location_(std::move(location)), options_(std::move(options)), statements_(options_) {}

  [[nodiscard]] RowBatch next(const RowQuery& query) override;
  [[nodiscard]] std::vector<bool> replace(RowBatch& batch, const std::vector<RowChange>& changes) override;
  [[nodiscard]] std::vector<std::optional<Row>> read(const std::vector<std::string>& keys) override;
  [[nodiscard]] RowCensus census(const RingId& ring) override;

 private:
  [[nodiscard]] std::shared_ptr<Lease> lease();
  void take_link(Lease& lease);
  template <typename Work>
  auto call(std::string_view what, Lease& lease, const Work& work);
  [[nodiscard]] Pool& pool();
  [[nodiscard]] Row row_of(std::string key, std::string_view value) const;

  const sql::Location location_;
  const SqlRowOptions options_;
  const sql::RowStatements statements_;
  sql::OfProcess<Pool> pool_;
};

/// @throws StoreError  the process was forked while it was in SQLite or in ODBC's libraries: see SqlRingStore.
Pool& SqlRowSource::pool() {
  return pool_.get([this](const Pool* parents) {
    if (parents != nullptr && parents->in_use != 0 && location_.backend != sql::Backend::Postgresql) {
      throw StoreError(described(location_) + ": this process was forked while another thread used the database");
    }
    return Pool{};
  });
}

std::shared_ptr<Lease> SqlRowSource::lease() { return std::make_shared<Lease>(shared_from_this(), pool()); }

/// Takes a connection that is idle, if there is one.
void SqlRowSource::take_link(Lease& lease) {
  Link& link = lease.link();
  if (link) return;
  Pool& at = pool();
  const std::scoped_lock lock{at.mutex};
  if (at.idle.empty()) {
    link = std::make_unique<LimitedConnection>(location_, options_.timeout);
  } else {
    link = std::move(at.idle.back());
    at.idle.pop_back();
  }
}

/// Runs `work` on the lease's connection. A call that failed leaves no connection behind.
template <typename Work>
auto SqlRowSource::call(std::string_view what, Lease& lease, const Work& work) {
  take_link(lease);
  LimitedConnection& link = *lease.link();
  std::string reason;
  try {
    const CallDeadline::Call limited{link.limit()};
    if (link.connection && !link.connection->in_place()) link.connection.reset();
    if (!link.connection) {
      link.connection = std::make_unique<Connection>(location_, options_.timeout, sql::IfMissing::Refuse, link.limit(),
                                                     sql::Schema::Applications);
    }
    if (location_.backend == sql::Backend::Odbc && !link.connection->dialect().has_server) {
      throw InvalidArgumentError(
          "SQLite's ODBC driver cuts off what a query computes at 255 characters; name the file of rows with 'sqlite:'");
    }
    return work(*link.connection);
  } catch (const soci::soci_error& error) {
    reason = link.reason_of(error, location_);
    lease.drop();
  } catch (...) {
    lease.drop();
    throw;
  }
  throw StoreError(fmt::format("{}, table '{}': cannot {}: {}", described(location_), options_.table, what, reason));
}

Row SqlRowSource::row_of(std::string key, std::string_view value) const {
  Row row{.key = std::move(key), .value = statements_.from_text(value)};
  if (options_.context) row.context = options_.context(row.key);
  return row;
}

RowBatch SqlRowSource::next(const RowQuery& query) {
  const auto holder = lease();
  return call("read rows", *holder, [&](Connection& at) {
    const bool holds = query.access == RowAccess::Replace && !at.dialect().skip_locked.empty();
    if (holds) holder->begin();
    RowBatch batch;
    std::string key, value;
    soci::statement statement = selected(at.session(), statements_.next(at.dialect(), query), query.after, key, value);
    statement.execute();
    while (statement.fetch()) batch.rows.push_back(row_of(key, value));
    if (batch.rows.size() == query.most) batch.next = batch.rows.back().key;
    if (holds && !batch.rows.empty()) batch.hold = holder;
    return batch;
  });
}

std::vector<bool> SqlRowSource::replace(RowBatch& batch, const std::vector<RowChange>& changes) {
  auto holder = std::static_pointer_cast<Lease>(std::exchange(batch.hold, nullptr));
  if (!holder) holder = lease();
  return call("replace rows", *holder, [&](Connection& at) {
    holder->begin();
    Replacement replacement{at, statements_};
    std::vector<bool> made;
    made.reserve(changes.size());
    for (const RowChange& change : changes) made.push_back(replacement.make(change));
    holder->commit();
    return made;
  });
}

std::vector<std::optional<Row>> SqlRowSource::read(const std::vector<std::string>& keys) {
  const auto holder = lease();
  return call("read rows back", *holder, [&](Connection& at) {
    std::vector<std::optional<Row>> rows;
    rows.reserve(keys.size());
    std::string key, value;
    soci::statement statement =
        (at.session().prepare << statements_.read(at.dialect()), soci::into(value), soci::use(key, "key"));
    for (const std::string& wanted : keys) {
      key = wanted;
      rows.push_back(statement.execute(true) ? std::optional{row_of(wanted, value)} : std::nullopt);
    }
    return rows;
  });
}

RowCensus SqlRowSource::census(const RingId& ring) {
  const auto holder = lease();
  return call("count rows", *holder, [&](Connection& at) {
    RowCensus census;
    census.ring = ring;
    std::string start;
    long long rows = 0;
    soci::statement statement =
        (at.session().prepare << statements_.census(at.dialect()), soci::into(start), soci::into(rows));
    statement.execute();
    while (statement.fetch()) census.add(statements_.from_text(start), static_cast<std::uint64_t>(rows));
    return census;
  });
}

}  // namespace

std::shared_ptr<RowSource> sql_row_source(std::string_view url, SqlRowOptions options) {
  if (options.timeout < std::chrono::milliseconds{100} || options.timeout > std::chrono::hours{1}) {
    throw InvalidArgumentError("the timeout of a database is 100 milliseconds to an hour");
  }
  return std::make_shared<SqlRowSource>(sql::location_of(url, options.timeout), std::move(options));
}

}  // namespace hsmseal
