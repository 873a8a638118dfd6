#include <algorithm>
#include <utility>

#include <hsmseal/envelope_header.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/row_source.hpp>

#include "envelope/text_form.hpp"
#include "envelope/wire.hpp"

namespace hsmseal {
namespace {

static_assert(RowCensus::kStartBytes == wire::kStartBytes);
static_assert(RowCensus::kStartCharacters == std::string_view{"hse1."}.size() + wire::kStartBytes / 3 * 4);

std::string_view text_of(ByteView value) { return {reinterpret_cast<const char*>(value.data()), value.size()}; }

std::optional<wire::Start> start_of_text(std::string_view text) {
  try {
    return wire::read_start(envelope::from_text(text.substr(0, RowCensus::kStartCharacters)));
  } catch (const FormatError&) {
    return std::nullopt;
  }
}

}  // namespace

RowSource::~RowSource() = default;

void RowCensus::add(ByteView start, std::uint64_t rows) {
  const bool text = is_sealed_text(text_of(start));
  if (!text && !is_sealed(start)) {
    plain += rows;
    return;
  }
  const auto read = text ? start_of_text(text_of(start)) : wire::read_start(start);
  if (!read) {
    unreadable += rows;
  } else if (!std::ranges::equal(read->ring_prefix, ByteView{ring.bytes}.first(read->ring_prefix.size()))) {
    foreign += rows;
  } else {
    sealed[read->version] += rows;
  }
}

std::uint64_t RowCensus::not_under(Version active) const {
  std::uint64_t count = foreign + unreadable;
  for (const auto& [version, rows] : sealed) count += version == active ? 0 : rows;
  return count;
}

std::uint64_t RowCensus::may_need(Version version) const {
  const auto found = sealed.find(version);
  return unreadable + (found == sealed.end() ? 0 : found->second);
}

Census census_of(std::shared_ptr<RowSource> source, const RingId& ring) {
  if (!source) throw InvalidArgumentError("a census needs a source of rows");
  return [source = std::move(source), ring](Version version) { return source->census(ring).may_need(version); };
}

}  // namespace hsmseal
