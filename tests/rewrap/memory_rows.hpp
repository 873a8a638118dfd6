#pragma once

#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <hsmseal/error.hpp>
#include <hsmseal/row_source.hpp>

namespace hsmseal::test {

/// Rows in memory, which a test can look into, write to and make trouble with.
class MemoryRows final : public RowSource {
 public:
  [[nodiscard]] RowBatch next(const RowQuery& query) override {
    note("next");
    const std::scoped_lock lock{mutex};
    queries.push_back(query);
    RowBatch batch;
    auto row = query.after ? values.upper_bound(*query.after) : values.begin();
    for (; row != values.end() && batch.rows.size() < query.most; ++row) {
      if (!held_back.contains(row->first)) batch.rows.push_back(row_of(row->first, row->second));
    }
    if (row != values.end()) batch.next = std::prev(row)->first;
    return batch;
  }

  [[nodiscard]] std::vector<bool> replace(RowBatch& batch, const std::vector<RowChange>& changes) override {
    note("replace");
    batch.hold.reset();
    std::vector<bool> made;
    for (const RowChange& change : changes) {
      if (before_replace) before_replace(change);
      const std::scoped_lock lock{mutex};
      const auto row = values.find(change.key);
      made.push_back(row != values.end() && row->second == change.old_value);
      if (!made.back()) continue;
      row->second = kept ? kept(change.new_value) : change.new_value;
      ++replaced;
    }
    note("replaced");
    return made;
  }

  [[nodiscard]] std::vector<std::optional<Row>> read(const std::vector<std::string>& keys) override {
    note("read");
    const std::scoped_lock lock{mutex};
    std::vector<std::optional<Row>> rows;
    for (const auto& key : keys) {
      const auto row = values.find(key);
      rows.push_back(row == values.end() ? std::nullopt : std::optional{row_of(key, row->second)});
    }
    return rows;
  }

  [[nodiscard]] RowCensus census(const RingId& ring) override {
    note("census");
    const std::scoped_lock lock{mutex};
    RowCensus census;
    census.ring = ring;
    for (const auto& [key, value] : values) census.add(value);
    return census;
  }

  /// What the application does: it writes, whatever is there.
  void put(const std::string& key, Bytes value) {
    const std::scoped_lock lock{mutex};
    values[key] = std::move(value);
  }
  void remove(const std::string& key) {
    const std::scoped_lock lock{mutex};
    values.erase(key);
  }

  std::mutex mutex;
  std::map<std::string, Bytes> values;
  std::set<std::string> held_back;  ///< as rows that another host has locked
  std::vector<RowQuery> queries;
  int replaced = 0;
  bool knows_contexts = true;
  std::function<void(const std::string& what)> on_call;  ///< before each call, and after replace(); may throw
  std::function<void(const RowChange&)> before_replace;  ///< before each row
  std::function<Bytes(const Bytes&)> kept;               ///< what the store makes of a value

 private:
  void note(const std::string& what) const {
    if (on_call) on_call(what);
  }
  [[nodiscard]] Row row_of(const std::string& key, const Bytes& value) const;
};

}  // namespace hsmseal::test
