#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include <hsmseal/ring_store.hpp>

namespace hsmseal::ring {

/// A record as an exported ring's file, src/FORMAT.md section 6.5: one text for each record.
[[nodiscard]] std::string write_export(const RingRecord& record);

/// @returns the record as the file has it; nothing of it is verified, its body is not even read.
/// @throws FormatError  not what write_export() makes of any record with a JSON object for a body.
[[nodiscard]] RingRecord read_export(std::string_view content);

/// @throws InvalidArgumentError  the file cannot be read.
[[nodiscard]] std::string read_export_file(const std::filesystem::path& path);

}  // namespace hsmseal::ring
