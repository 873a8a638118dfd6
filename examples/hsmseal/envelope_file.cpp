#include "envelope_file.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "failure.hpp"
#include "system.hpp"

namespace tool {

hsmseal::EnvelopeHeader StoredEnvelope::header() const {
  return form == Form::Text ? hsmseal::inspect_text(text) : hsmseal::inspect(bytes);
}

bool StoredEnvelope::needs_rewrap(const hsmseal::EnvelopeEncryptor& vault) const {
  return form == Form::Text ? vault.needs_rewrap_text(text) : vault.needs_rewrap(bytes);
}

hsmseal::SecretBytes StoredEnvelope::open(const hsmseal::EnvelopeEncryptor& vault, hsmseal::ContextView context) const {
  return form == Form::Text ? vault.open_text(text, context) : vault.open(bytes, context);
}

void StoredEnvelope::rewrap(const hsmseal::EnvelopeEncryptor& vault) {
  if (form == Form::Text) {
    text = vault.rewrap_text(text);
  } else {
    bytes = vault.rewrap(bytes);
  }
}

void StoredEnvelope::reseal(const hsmseal::EnvelopeEncryptor& vault, hsmseal::ContextView context) {
  if (form == Form::Text) {
    text = vault.reseal_text(text, context);
  } else {
    bytes = vault.reseal(bytes, context);
  }
}

EnvelopeFile EnvelopeFile::read(const std::filesystem::path& path) {
  EnvelopeFile file;
  file.path_ = path;
  const hsmseal::SecretBytes content = content_of(path);
  if (hsmseal::is_sealed(content.view())) {
    StoredEnvelope& only = file.envelopes_.emplace_back();
    only.bytes.assign(content.view().begin(), content.view().end());
    try {
      static_cast<void>(only.header());
    } catch (const hsmseal::FormatError& error) {
      throw hsmseal::FormatError(fmt::format("{}: {}", name_of_input(path), error.what()));
    }
    return file;
  }
  const std::string_view text = content.text();
  file.ends_with_line_feed_ = text.ends_with('\n');
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    at = end + 1;
    ++file.lines_;
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
    if (line.empty()) continue;
    try {
      static_cast<void>(hsmseal::inspect_text(line));
    } catch (const hsmseal::FormatError& error) {
      throw hsmseal::FormatError(fmt::format("{}, line {}: {}", name_of_input(path), file.lines_, error.what()));
    }
    file.envelopes_.push_back({StoredEnvelope::Form::Text, {}, std::string{line}, file.lines_});
  }
  return file;
}

const StoredEnvelope& EnvelopeFile::only() const {
  if (envelopes_.size() == 1) return envelopes_.front();
  throw UsageError(fmt::format("{} holds {} envelopes, where one is wanted", name_of_input(path_), envelopes_.size()));
}

hsmseal::Bytes EnvelopeFile::content() const {
  if (envelopes_.size() == 1 && envelopes_.front().form == StoredEnvelope::Form::Bytes) return envelopes_.front().bytes;
  std::string text;
  auto next = envelopes_.begin();
  for (std::size_t line = 1; line <= lines_; ++line) {
    if (next != envelopes_.end() && next->line == line) text += (next++)->text;
    if (line < lines_ || ends_with_line_feed_) text += '\n';
  }
  const auto view = hsmseal::bytes_of(text);
  return {view.begin(), view.end()};
}

std::string name_of_input(const std::filesystem::path& path) {
  return path == "-" ? "the standard input" : fmt::format("'{}'", path.string());
}

}  // namespace tool
