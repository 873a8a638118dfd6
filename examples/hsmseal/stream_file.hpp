#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include <hsmseal/stream.hpp>

#include "system.hpp"

namespace tool {

/// Whether a regular file holds a sealed stream, by its first bytes.
[[nodiscard]] bool holds_stream(const std::filesystem::path& path);

/// What the sealed stream in a file says about itself.
[[nodiscard]] hsmseal::EnvelopeHeader header_of_stream(const std::filesystem::path& path);

/// Seals a file, or the standard input, as a stream.
/// @returns how many bytes were written.
std::uint64_t seal_stream_file(const hsmseal::EnvelopeEncryptor& vault, const std::filesystem::path& input,
                               hsmseal::ContextView context, const Pieces& put);

/// Opens a file, or the standard input, that is a stream. What was put is whole only when this returns.
/// @returns how many bytes were written.
std::uint64_t open_stream_file(const hsmseal::EnvelopeEncryptor& vault, const std::filesystem::path& input,
                               hsmseal::ContextView context, const Pieces& put);

/// Moves the stream in a file to the active set, in place and whole or not at all.
void rewrap_stream_file(const hsmseal::EnvelopeEncryptor& vault, const std::filesystem::path& path);

}  // namespace tool
