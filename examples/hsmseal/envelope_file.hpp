#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <hsmseal/envelope.hpp>

namespace tool {

/// An envelope from a file, in the form that it has there.
struct StoredEnvelope {
  enum class Form { Bytes, Text } form = Form::Bytes;
  hsmseal::Bytes bytes = {};  ///< of Form::Bytes
  std::string text = {};      ///< of Form::Text
  std::size_t line = 0;       ///< of Form::Text, from 1

  /// @throws hsmseal::FormatError
  [[nodiscard]] hsmseal::EnvelopeHeader header() const;
  [[nodiscard]] bool needs_rewrap(const hsmseal::EnvelopeEncryptor& vault) const;
  [[nodiscard]] hsmseal::SecretBytes open(const hsmseal::EnvelopeEncryptor& vault, hsmseal::ContextView context) const;
  void rewrap(const hsmseal::EnvelopeEncryptor& vault);
  void reseal(const hsmseal::EnvelopeEncryptor& vault, hsmseal::ContextView context);
};

/// A file of envelopes: one in bytes, or any number in the text form, one on each line; empty lines are kept.
class EnvelopeFile {
 public:
  /// @throws UsageError            it cannot be read.
  /// @throws hsmseal::FormatError  it holds something else, with the number of the line.
  [[nodiscard]] static EnvelopeFile read(const std::filesystem::path& path);

  [[nodiscard]] std::vector<StoredEnvelope>& envelopes() { return envelopes_; }
  [[nodiscard]] const std::vector<StoredEnvelope>& envelopes() const { return envelopes_; }
  /// The one envelope that it holds.
  /// @throws UsageError  it holds none, or several.
  [[nodiscard]] const StoredEnvelope& only() const;
  /// What the file is to hold now.
  [[nodiscard]] hsmseal::Bytes content() const;

 private:
  std::filesystem::path path_;
  std::vector<StoredEnvelope> envelopes_;
  std::size_t lines_ = 0;
  bool ends_with_line_feed_ = false;
};

/// What a person calls the file: its path, or the standard input.
[[nodiscard]] std::string name_of_input(const std::filesystem::path& path);

}  // namespace tool
