#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include <hsmseal/credential_set.hpp>

namespace hsmseal::envelope {

/// A file that remembers how far a run came. It saves work and decides nothing: what it leaves out comes in the next
/// pass.
class Checkpoint {
 public:
  /// @param file  empty: nothing is remembered.
  Checkpoint(std::filesystem::path file, const RingId& ring) : file_(std::move(file)), ring_(ring) {}

  /// @returns nothing if there is none, or none of this ring and active set.
  /// @throws InvalidArgumentError  others could have written it.
  [[nodiscard]] std::optional<std::string> load(Version active) const;

  /// @throws InvalidArgumentError
  void save(Version active, const std::string& after) const;

  void remove() const noexcept;

 private:
  [[nodiscard]] std::string head(Version active) const;

  const std::filesystem::path file_;
  const RingId ring_;
};

}  // namespace hsmseal::envelope
