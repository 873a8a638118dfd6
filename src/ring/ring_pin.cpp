#include "ring/ring_pin.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "core/hex.hpp"
#include "crypto/crypto.hpp"
#include "platform/platform.hpp"
#include "ring/ring_key.hpp"

namespace hsmseal {

using ring::PinKeeper;

RingPin::RingPin(std::shared_ptr<PinKeeper> keeper) : keeper_(std::move(keeper)) {}

RingPin RingPin::file(std::filesystem::path path) {
  return RingPin{std::make_shared<PinKeeper>(path, PinKeeper::Missing::Refuse)};
}

RingPin RingPin::trust_first_use(std::filesystem::path path) {
  return RingPin{std::make_shared<PinKeeper>(path, PinKeeper::Missing::Trust)};
}

RingPin RingPin::accept_rollback(std::filesystem::path path) {
  return RingPin{std::make_shared<PinKeeper>(path, PinKeeper::Missing::Refuse, PinKeeper::Rollback::Accept)};
}

RingPin RingPin::fixed(const PinnedRing& pinned) { return RingPin{std::make_shared<PinKeeper>(pinned)}; }

std::string PinnedRing::to_text() const { return ring::to_text(*this); }
PinnedRing PinnedRing::from_text(std::string_view text) { return ring::pin_from_text(text); }

RingPin RingPin::in_process() { return RingPin{std::make_shared<PinKeeper>()}; }

namespace ring {
namespace {

using platform::shown;

constexpr std::string_view kName = "hsmseal-pin ", kThisFormat = "1";
constexpr std::uint64_t kMaxGeneration = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t kMaxFileBytes = 512;  // more than any pin has, and any first line of a later format
constexpr std::string_view kAdvice =
    "restore a copy of it; or, once you know that the store shows the right ring, remove it and open the ring with "
    "RingPin::trust_first_use()";

bool valid(std::uint64_t generation) { return generation >= 1 && generation <= kMaxGeneration; }

/// Takes a line that starts with `name` off the text. @returns the rest of the line; nothing if there is no such line.
std::optional<std::string_view> take_line(std::string_view& text, std::string_view name) {
  const auto end = text.find('\n');
  if (!text.starts_with(name) || end == std::string_view::npos) return std::nullopt;
  const std::string_view value = text.substr(name.size(), end - name.size());
  text.remove_prefix(end + 1);
  return value;
}

bool take_hex(std::string_view& text, std::string_view name, std::span<std::byte> into) {
  const auto value = take_line(text, name);
  const auto bytes = value ? crypto::from_hex(*value) : std::nullopt;
  if (!bytes || bytes->size() != into.size()) return false;
  std::ranges::copy(*bytes, into.begin());
  return true;
}

bool take_generation(std::string_view& text, std::uint64_t& generation) {
  const auto value = take_line(text, "generation ");
  if (!value || value->starts_with('0')) return false;
  const char* const end = value->data() + value->size();
  const auto [rest, error] = std::from_chars(value->data(), end, generation);
  return error == std::errc{} && rest == end && valid(generation);
}

/// Whether the first line names a later format than this version knows.
bool later_format(std::string_view text) {
  const auto format = take_line(text, kName);
  return format && *format != kThisFormat && format->size() < 10 && format->find_first_of("123456789") == 0 &&
         format->find_first_not_of("0123456789") == std::string_view::npos;
}

/// Of two things remembered, the one that counts.
const PinnedRing& newer(const PinnedRing& in_file, const PinnedRing& in_memory) {
  if (in_file.id != in_memory.id) {
    throw WrongRingError(fmt::format("this process has seen ring {}, but its pin's file remembers ring {}",
                                     in_memory.id.to_string(), in_file.id.to_string()));
  }
  if (in_file.generation == in_memory.generation && in_file.mac != in_memory.mac) {
    throw RingForkedError(fmt::format(
        "this process has seen another history of the ring's generation {} than the one that its pin's file remembers",
        in_memory.generation));
  }
  return in_file.generation > in_memory.generation ? in_file : in_memory;
}

std::filesystem::path absolute_file(const std::filesystem::path& path) {
  std::error_code error;
  auto absolute = std::filesystem::absolute(path, error);
  if (error || !path.has_filename()) throw InvalidArgumentError("a pin needs the path of a file");
  return absolute;
}

}  // namespace

std::string to_text(const PinnedRing& pinned) {
  return fmt::format("{}{}\nring {}\ngeneration {}\nmac {}\nkey {}\n", kName, kThisFormat, pinned.id.to_string(),
                     pinned.generation, core::to_hex(pinned.mac), core::to_hex(pinned.key_check));
}

PinnedRing pin_from_text(std::string_view text) {
  PinnedRing pinned;
  if (later_format(text)) {
    throw InvalidArgumentError(
        fmt::format("the pin was written by a newer hsmseal ('{}'); use that one", text.substr(0, text.find('\n'))));
  }
  const bool whole = take_line(text, kName) == kThisFormat && take_hex(text, "ring ", pinned.id.bytes) &&
                     take_generation(text, pinned.generation) && take_hex(text, "mac ", pinned.mac) &&
                     take_hex(text, "key ", pinned.key_check) && text.empty();
  if (!whole) throw InvalidArgumentError(fmt::format("the pin is damaged; {}", kAdvice));
  return pinned;
}

void check_same_ring(const PinnedRing& seen, const Body& body) {
  if (body.id != seen.id) {
    throw WrongRingError(fmt::format(
        "the store holds ring {}, but this host is pinned to ring {}; give each ring a store and a pin of its own",
        body.id.to_string(), seen.id.to_string()));
  }
}

RingForkedError forked(const PinnedRing& seen) {
  return RingForkedError(fmt::format(
      "the store shows another history of the ring's generation {} than this host has seen: a copy was restored and "
      "changed since, or somebody forged it; find out which, and if you restored it: RingPin::accept_rollback()",
      seen.generation));
}

void check_follows(const PinnedRing& seen, const Body& body, const Mac& mac, const SecretBytes& ring_key) {
  if (body.generation < seen.generation) {
    throw RingRolledBackError(fmt::format(
        "the store shows generation {} of the ring, but this host has seen {}: an old copy was restored, or somebody hides "
        "a change; find out which, and if you restored it: RingPin::accept_rollback()",
        body.generation, seen.generation));
  }
  const bool same = body.generation == seen.generation && mac == seen.mac;
  const bool next = body.generation == seen.generation + 1 && body.prev_mac == seen.mac;
  // What lies between this host's generation and a much later one is not kept; the MAC vouches for that.
  const bool later = body.generation > seen.generation + 1;
  if (!same && !next && !later) throw forked(seen);
  if (leads_to(body, ring_key, seen.key_check)) return;
  throw RingForkedError(fmt::format(
      "generation {} of the ring was made by somebody who does not know the ring's key as this host has seen it",
      body.generation));
}

PinKeeper::PinKeeper(const PinnedRing& pinned) : last_(pinned) {
  if (!valid(pinned.generation)) throw InvalidArgumentError("a ring's generation is 1 to 2^63 - 1");
}

PinKeeper::PinKeeper(const std::filesystem::path& file, Missing missing, Rollback rollback)
    : file_(absolute_file(file)), missing_(missing), rollback_(rollback) {}

std::optional<PinnedRing> PinKeeper::stored() const {
  if (file_.empty()) return std::nullopt;
  std::optional<std::string> text;
  try {
    text = platform::read_trusted_file(file_, kMaxFileBytes);
  } catch (const InvalidArgumentError& error) {
    throw InvalidArgumentError(fmt::format("the pin's {}; if it may have been changed, {}", error.what(), kAdvice));
  }
  if (!text) return std::nullopt;
  try {
    return pin_from_text(*text);
  } catch (const InvalidArgumentError& error) {
    throw InvalidArgumentError(fmt::format("file '{}': {}", shown(file_), error.what()));
  }
}

void PinKeeper::learn(const std::optional<PinnedRing>& stored) const {
  if (stored) last_ = last_ ? newer(*stored, *last_) : *stored;
}

std::optional<PinnedRing> PinKeeper::last() const {
  const std::scoped_lock lock{mutex_};
  learn(stored());
  return last_;
}

std::optional<PinnedRing> PinKeeper::last_for_open() const {
  auto known = last();
  if (known || missing_ == Missing::Trust) return known;
  throw InvalidArgumentError(
      fmt::format("the pin's file '{}' is missing: restore a copy of it; or, once you know that the store shows the "
                  "right ring, open it with RingPin::trust_first_use(), which makes the file",
                  shown(file_)));
}

bool PinKeeper::accepts_rollback() const {
  const std::scoped_lock lock{mutex_};
  return rollback_ == Rollback::Accept;
}

void PinKeeper::check_writable() const {
  if (!file_.empty()) platform::check_can_replace(file_);
}

bool PinKeeper::seen(const Body& body, const Mac& mac, const SecretBytes& ring_key) {
  const std::scoped_lock lock{mutex_};
  const auto in_file = stored();
  learn(in_file);
  if (last_) check_same_ring(*last_, body);
  // Others may have seen more meanwhile: an older record is then no news, another history still a fork.
  if (!last_ || body.generation >= last_->generation) {
    if (last_) check_follows(*last_, body, mac, ring_key);
    last_ = PinnedRing{body.id, body.generation, mac, key_check(ring_key)};
  }
  failure_.clear();
  return file_.empty() || in_file == last_ || write();
}

/// Writes what is remembered, unless another process was faster.
bool PinKeeper::write() {
  std::optional<platform::PathLock> folder;
  try {
    folder.emplace(file_.parent_path());
  } catch (const InvalidArgumentError& error) {
    failure_ = error.what();
    return false;
  }
  const auto in_file = stored();
  learn(in_file);
  if (in_file == last_) return true;
  try {
    platform::write_file_atomically(file_, to_text(*last_));
  } catch (const InvalidArgumentError& error) {
    failure_ = error.what();
  }
  return failure_.empty();
}

void PinKeeper::accept(const Body& body, const Mac& mac, const SecretBytes& ring_key) {
  const std::scoped_lock lock{mutex_};
  const PinnedRing accepted{body.id, body.generation, mac, key_check(ring_key)};
  if (last_) check_same_ring(*last_, body);
  if (!file_.empty()) {
    const platform::PathLock folder{file_.parent_path()};
    if (const auto in_file = stored()) check_same_ring(*in_file, body);
    platform::write_file_atomically(file_, to_text(accepted));
  }
  last_ = accepted;
  rollback_ = Rollback::Refuse;
}

std::string PinKeeper::name() const {
  return file_.empty() ? "this pin" : fmt::format("the pin's file '{}'", shown(file_));
}

std::string PinKeeper::failure() const {
  const std::scoped_lock lock{mutex_};
  return failure_;
}

}  // namespace ring
}  // namespace hsmseal
