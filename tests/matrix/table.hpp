#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace hsmseal::test {

/// What was tried on each row, and how it ended. A cell that nothing was written to is a problem too.
class Table {
 public:
  Table(std::vector<std::string> rows, std::vector<std::string> columns)
      : rows_(std::move(rows)), columns_(std::move(columns)) {}

  /// Does `work`, and notes `ok` and what it returned, or that it failed and what was thrown.
  void try_cell(const std::string& row, const std::string& column, const std::function<std::string()>& work) {
    try {
      const std::string remark = work();
      write(row, column, remark.empty() ? "ok" : "ok, " + remark);
    } catch (const std::exception& error) {
      problems_.push_back(fmt::format("{}, {}: {}", row, column, error.what()));
      write(row, column, fmt::format("FAILED ({})", problems_.size()));
    }
  }

  /// Notes that something cannot be done there, and why.
  void leave_out(const std::string& row, const std::string& column, const std::string& why) {
    if (reasons_.try_emplace(row, why).second) order_of_reasons_.push_back(row);
    write(row, column, "n/a");
  }

  /// The table, what failed, and what was left out and why.
  [[nodiscard]] std::string text() const {
    std::string result = line([](const std::string& column) { return column; }, "");
    for (const std::string& row : rows_) {
      result += line([&](const std::string& column) { return cell(row, column); }, row);
    }
    for (std::size_t i = 0; i < problems_.size(); ++i) result += fmt::format("({}) {}\n", i + 1, problems_[i]);
    for (const std::string& row : order_of_reasons_) result += fmt::format("n/a: {}: {}\n", row, reasons_.at(row));
    return result;
  }

  /// Cells that failed, and cells that are missing.
  [[nodiscard]] std::vector<std::string> problems() const {
    std::vector<std::string> all = problems_;
    for (const std::string& row : rows_) {
      for (const std::string& column : columns_) {
        if (!cells_.contains({row, column})) all.push_back(fmt::format("{}, {}: nothing was tried", row, column));
      }
    }
    return all;
  }

 private:
  void write(const std::string& row, const std::string& column, std::string text) {
    cells_.insert_or_assign({row, column}, std::move(text));
  }

  [[nodiscard]] std::string cell(const std::string& row, const std::string& column) const {
    const auto found = cells_.find({row, column});
    return found == cells_.end() ? "MISSING" : found->second;
  }

  [[nodiscard]] std::size_t width_of(const std::string& column) const {
    std::size_t width = column.size();
    for (const std::string& row : rows_) width = std::max(width, cell(row, column).size());
    return width;
  }

  template <typename TextOf>
  [[nodiscard]] std::string line(const TextOf& text_of, const std::string& first) const {
    std::size_t width = 0;
    for (const std::string& row : rows_) width = std::max(width, row.size());
    std::string result = fmt::format("{:<{}}", first, width);
    for (const std::string& column : columns_) {
      result += fmt::format(" | {:<{}}", text_of(column), width_of(column));
    }
    return result + "\n";
  }

  std::vector<std::string> rows_;
  std::vector<std::string> columns_;
  std::map<std::pair<std::string, std::string>, std::string> cells_;
  std::vector<std::string> problems_;
  std::map<std::string, std::string> reasons_;
  std::vector<std::string> order_of_reasons_;
};

}  // namespace hsmseal::test
