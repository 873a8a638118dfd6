#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

/// Rates of things that run in turn, so that what else the machine does hits them alike.
///
/// Not Google Benchmark: it runs a whole benchmark, with its threads, before the next one, and a shared machine is
/// another one by then. A ratio needs both of its sides within a fraction of a second, again and again.
namespace bench {

/// One call of what is measured.
using Operation = std::function<void()>;
/// Makes the operation of one thread, in that thread.
using Worker = std::function<Operation(std::size_t thread)>;

struct Side {
  std::string name;
  std::size_t threads = 1;
  Worker worker;
};

struct Row {
  std::string name;
  std::size_t threads = 1;
  double ops_per_second = 0;
  std::string floor_name;
  double floor_ops_per_second = 0;
  double ratio = 0;
  std::optional<double> target;
};

/// The rows of a run, printed as they come.
class Table {
 public:
  Table();

  /// Measures what is to be as fast as the floor, and the floor, in rounds that take turns: medians of the rates and of
  /// the rounds' ratios.
  void compare(const Side& side, const Side& floor, std::optional<double> target = std::nullopt);
  /// The same against a rate that is known.
  void compare(const Side& side, const std::string& floor_name, double floor_ops_per_second,
               std::optional<double> target = std::nullopt);
  void add(Row row);

  [[nodiscard]] const std::vector<Row>& rows() const noexcept { return rows_; }

  /// Adds the rows to the list in a JSON file, which is made if there is none.
  void add_to(const std::filesystem::path& json) const;

 private:
  std::vector<Row> rows_;
};

/// Operations a second in one round.
[[nodiscard]] double rate(const Side& side);

/// The middle one.
[[nodiscard]] double median(std::vector<double> values);

}  // namespace bench
