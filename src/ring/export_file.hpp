#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include <hsmseal/ring_store.hpp>

/// A ring's record as a file: src/FORMAT.md section 6.5.
namespace hsmseal::ring {

[[nodiscard]] std::string write_export(const RingRecord& record);

/// @throws FormatError  not what write_export() makes. The body itself is not looked into.
[[nodiscard]] RingRecord read_export(std::string_view text);

/// @throws InvalidArgumentError  the file cannot be read.
[[nodiscard]] std::string read_export_file(const std::filesystem::path& path);

}  // namespace hsmseal::ring
