#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>

#include "matrix/table.hpp"
#include "matrix/tokens.hpp"
#include "support/catch.hpp"
#include "support/opencryptoki.hpp"
#include "support/ring_parts.hpp"

using namespace hsmseal;
using test::MatrixRow;
using test::MatrixTokens;
using test::OtherProgram;
using test::Table;

namespace {

using namespace std::chrono_literals;

constexpr std::string_view kSecret = "correct horse battery staple";

/// What follows the wrapped key in an envelope: commitment, nonce, ciphertext and tag.
constexpr std::size_t kPayloadBytes = 32 + 12 + kSecret.size() + 16;

Context context() { return Context{}.add("record", "42"); }

void must(bool fulfilled, const std::string& what) {
  if (!fulfilled) throw std::runtime_error("not so: " + what);
}

/// Calls what must throw just this.
template <typename Expected, typename Call>
Expected error_of(const Call& call) {
  try {
    call();
  } catch (const Expected& error) {
    if (typeid(error) == typeid(Expected)) return error;
    throw;
  }
  throw std::runtime_error("nothing was thrown");
}

/// The clock of every provider here: drivers are restarted at most every 30 s of it.
std::atomic<std::int64_t> passed_hours = 1;

std::shared_ptr<KeyProvider> provider(Host host, std::shared_ptr<Observer> observer = {}) {
  return pkcs11_provider(std::move(host), {.observer = std::move(observer), .clock = [] {
                                             return std::chrono::steady_clock::time_point{1h * passed_hours.load()};
                                           }});
}

/// A ring whose first set is a row's.
struct Scene {
  Scene(const MatrixTokens& all_tokens, const MatrixRow& of)
      : tokens(all_tokens), row(of), ring(KeyRing::create(store, provider(tokens.host(), events), row.spec, pin)) {}

  /// Leaves nothing but what is stored: no session, no login.
  static CredentialSet left_behind(const MatrixTokens& tokens, const MatrixRow& row,
                                   const std::shared_ptr<RingStore>& store, const RingPin& pin) {
    return KeyRing::create(store, provider(tokens.host()), row.spec, pin).active();
  }

  const MatrixTokens& tokens;
  const MatrixRow& row;
  std::shared_ptr<test::Recorder> events = std::make_shared<test::Recorder>();
  std::shared_ptr<RingStore> store = memory_ring_store();
  RingPin pin = RingPin::in_process();
  KeyRing ring;
};

void must_open(const EnvelopeEncryptor& vault, ByteView sealed, const std::string& whose) {
  must(vault.open(sealed, context()).text() == kSecret, whose + " opens");
}

void must_be_of(ByteView sealed, Version version, const MatrixRow& row) {
  const EnvelopeHeader header = inspect(sealed);
  must(header.version == version, fmt::format("it is of version {}", version));
  must(header.algorithm == row.expected.algorithm, "it is wrapped as its set says");
}

std::string adds(const MatrixTokens& tokens, const MatrixRow& row) {
  const Scene scene{tokens, row};
  const CredentialSet set = scene.ring.active();
  must(set.key.profile.algorithm == row.expected.algorithm, "the expected algorithm was found");
  must(set.key.profile.gcm == row.expected.gcm, "the expected form of AES-GCM was found");
  must(set.key.mac_key_id.empty() == (row.expected.algorithm == WrapAlgorithm::Aes256Gcm),
       "there is a second key where one is needed");
  must(scene.ring.list().size() == 1, "the ring has one set");
  return "";
}

std::string seals(const MatrixTokens& tokens, const MatrixRow& row) {
  const Scene scene{tokens, row};
  const EnvelopeEncryptor vault{scene.ring};
  const Bytes first = vault.seal(bytes_of(kSecret), context());
  const Bytes second = vault.seal(bytes_of(kSecret), context());
  must_be_of(first, 1, row);
  must(first != second, "no two envelopes are the same");
  must(first.size() == second.size(), "their size is the same");
  return fmt::format("{} bytes", first.size() - kSecret.size());
}

std::string opens(const MatrixTokens& tokens, const MatrixRow& row) {
  const Scene scene{tokens, row};
  const EnvelopeEncryptor vault{scene.ring};
  const Bytes sealed = vault.seal(bytes_of(kSecret), context());
  must_open(vault, sealed, "what was sealed");
  const EnvelopeEncryptor another{
      KeyRing::open(scene.store, provider(tokens.host()), scene.pin)};  // with sessions of its own
  must_open(another, sealed, "what another part of the program sealed");
  error_of<OpenError>([&] { static_cast<void>(vault.open(sealed, Context{}.add("record", "43"))); });
  const std::size_t wrapped = sealed.size() - kPayloadBytes;
  for (const std::size_t at : {wrapped - 1, wrapped - 33, std::size_t{18}, sealed.size() - 1}) {
    Bytes altered = sealed;
    altered[at] ^= std::byte{1};
    error_of<OpenError>([&] { static_cast<void>(vault.open(altered, context())); });
  }
  must_open(vault, sealed, "what was sealed, after all that,");
  return "";
}

std::string rewraps(const MatrixTokens& tokens, const MatrixRow& row) {
  Scene scene{tokens, row};
  const EnvelopeEncryptor vault{scene.ring};
  const Bytes sealed = vault.seal(bytes_of(kSecret), context());
  const auto payload = [](ByteView envelope) { return envelope.last(kPayloadBytes); };
  Bytes here = sealed;
  std::size_t others = 0;
  for (const MatrixRow& other : tokens.rows()) {
    if (&other == &row || !other.not_applicable.empty()) continue;
    try {
      const Version there = scene.ring.add(other.spec);
      const Bytes moved = vault.rewrap(here);
      must_be_of(moved, there, other);
      must_open(vault, moved, "what was rewrapped");
      const Version again = scene.ring.add(row.spec);
      here = vault.rewrap(moved);
      must_be_of(here, again, row);
      must_open(vault, here, "what came back");
      must(std::ranges::equal(payload(here), payload(sealed)) && std::ranges::equal(payload(moved), payload(sealed)),
           "the payload is untouched");
    } catch (const std::exception& error) {
      throw std::runtime_error(fmt::format("to {} and back: {}", other.name(), error.what()));
    }
    ++others;
  }
  must_open(vault, sealed, "what the first set sealed");
  return fmt::format("to {} and back", others);
}

std::string recovers(const MatrixTokens& tokens, const MatrixRow& row) {
  const Scene scene{tokens, row};
  const EnvelopeEncryptor vault{scene.ring};
  const Bytes sealed = vault.seal(bytes_of(kSecret), context());
  must_open(vault, sealed, "what was sealed");
  ++passed_hours;
  row.token->restart();
  for (int i = 0; i < 3; ++i) must_open(vault, sealed, "what was sealed before");
  must_open(vault, vault.seal(bytes_of(kSecret), context()), "what is sealed afterwards");
  const auto kinds = scene.events->kinds();
  if (const auto& due = row.token->recovery; due) {
    must(std::ranges::count(kinds, *due) == 1, "one recovery brought it back, and was told of");
  } else {
    must(std::ranges::count(kinds, Event::Kind::DriverRestarted) == 0, "its driver was left alone");
  }
  return row.token->restarted_by;
}

std::string refuses_wrong_pin(const MatrixTokens& tokens, const MatrixRow& row) {
  const auto store = memory_ring_store();
  const RingPin pin = RingPin::in_process();
  static_cast<void>(Scene::left_behind(tokens, row, store, pin));
  TokenBinding wrong = row.token->binding;
  wrong.pin = PinSource::callback(
      [pin_text = row.token->wrong_pin](const TokenSelector&) { return SecretBytes::from_text(pin_text); });
  const auto error = error_of<TokenLoginError>(
      [&] { static_cast<void>(KeyRing::open(store, provider(tokens.host_with(row.token, wrong)), pin)); });
  must(error.function() == "C_Login" && error.rv_name() == "CKR_PIN_INCORRECT",
       fmt::format("it is the PIN that is wrong, not {} from {}", error.rv_name(), error.function()));
  TokenBinding right = row.token->binding;
  right.low_pin_count = LowPinCount::TryOnce;  // some tokens count the wrong one
  const EnvelopeEncryptor vault{KeyRing::open(store, provider(tokens.host_with(row.token, right)), pin)};
  must_open(vault, vault.seal(bytes_of(kSecret), context()), "what is sealed with the right PIN");
  return "";
}

/// Does something to the key behind a set's back, and opens the ring.
template <typename Expected, typename Harm>
void must_fail_after(const MatrixTokens& tokens, const MatrixRow& row, const Harm& harm) {
  const auto store = memory_ring_store();
  const RingPin pin = RingPin::in_process();
  const KeyDescription key = Scene::left_behind(tokens, row, store, pin).key;
  {
    OtherProgram other{tokens.host(), *row.token};
    harm(other, key);
  }
  error_of<Expected>([&] { static_cast<void>(KeyRing::open(store, provider(tokens.host()), pin)); });
}

std::string misses_keys(const MatrixTokens& tokens, const MatrixRow& row) {
  must_fail_after<KeyNotFoundError>(
      tokens, row, [](OtherProgram& other, const KeyDescription& key) { other.destroy_key(key.key_id); });
  if (row.expected.algorithm == WrapAlgorithm::Aes256Gcm) return "";
  must_fail_after<KeyNotFoundError>(
      tokens, row, [](OtherProgram& other, const KeyDescription& key) { other.destroy_key(key.mac_key_id); });
  return "either key";
}

std::string knows_replaced_keys(const MatrixTokens& tokens, const MatrixRow& row) {
  must_fail_after<WrongKeyError>(
      tokens, row, [](OtherProgram& other, const KeyDescription& key) { other.replace_encryption_key(key); });
  if (row.expected.algorithm == WrapAlgorithm::Aes256Gcm) return "";
  must_fail_after<WrongKeyError>(tokens, row,
                                 [](OtherProgram& other, const KeyDescription& key) { other.replace_mac_key(key); });
  return "either key";
}

using Cell = std::string (*)(const MatrixTokens&, const MatrixRow&);
const std::vector<std::pair<std::string, Cell>> kCells = {
    {"add", adds},
    {"seal", seals},
    {"open", opens},
    {"rewrap", rewraps},
    {"recovery after restart", recovers},
    {"wrong PIN", refuses_wrong_pin},
    {"key missing", misses_keys},
    {"key replaced", knows_replaced_keys},
};
const std::string kBeside = "beside the others";

/// One ring with a set of every row: each opens what it sealed, also for a host that comes later.
void try_side_by_side(const MatrixTokens& tokens, const std::vector<MatrixRow>& rows, Table& table) {
  struct Sealed {
    const MatrixRow& row;
    Version version;
    Bytes envelope;
  };
  const auto store = memory_ring_store();
  const RingPin pin = RingPin::in_process();
  std::optional<KeyRing> ring;
  std::vector<Sealed> sealed;
  for (const MatrixRow& row : rows) {
    table.try_cell(row.name(), kBeside, [&]() -> std::string {
      if (ring) {
        static_cast<void>(ring->add(row.spec));
      } else {
        ring = KeyRing::create(store, provider(tokens.host()), row.spec, pin);
      }
      const Version version = ring->active().version;
      sealed.push_back({row, version, EnvelopeEncryptor{*ring}.seal(bytes_of(kSecret), context())});
      return "added";
    });
  }
  if (!ring) return;
  const EnvelopeEncryptor vault{*ring};
  const EnvelopeEncryptor later{KeyRing::open(store, provider(tokens.host()), pin)};
  for (const auto& [row, version, envelope] : sealed) {
    table.try_cell(row.name(), kBeside, [&, of = version]() -> std::string {
      must_be_of(envelope, of, row);
      must_open(vault, envelope, "what it sealed");
      must_open(later, envelope, "what it sealed, on another host,");
      return fmt::format("set {} of {}", of, ring->list().size());
    });
  }
}

/// What a token cannot do is refused when a set is added, and no key is left.
void leave_out(const MatrixTokens& tokens, const MatrixRow& row, Table& table) {
  table.try_cell(row.name(), "add", [&]() -> std::string {
    const auto keys = provider(tokens.host());
    error_of<WrongKeyError>(
        [&] { static_cast<void>(KeyRing::create(memory_ring_store(), keys, row.spec, RingPin::in_process())); });
    const RingId ring{};
    error_of<WrongKeyError>([&] { static_cast<void>(keys->provision(row.spec, ring, 1)); });
    must(keys->find_keys(ring, row.token->alias).empty(), "no key is left");
    return "refused";
  });
  for (const auto& [column, cell] : kCells) {
    if (column != "add") table.leave_out(row.name(), column, row.not_applicable);
  }
  table.leave_out(row.name(), kBeside, row.not_applicable);
}

}  // namespace

TEST_CASE("every token does what a ring needs in each of its profiles, alone and beside every other") {
  if (test::OpenCryptoki::ran_in_namespaces(test::OutputOf::Always)) return;
  const MatrixTokens tokens;
  std::vector<std::string> names;
  std::vector<MatrixRow> applicable;
  for (const MatrixRow& row : tokens.rows()) {
    names.push_back(row.name());
    if (row.not_applicable.empty()) applicable.push_back(row);
  }
  std::vector<std::string> columns;
  for (const auto& [column, cell] : kCells) columns.push_back(column);
  columns.push_back(kBeside);
  Table table{names, columns};

  for (const MatrixRow& row : tokens.rows()) {
    if (!row.not_applicable.empty()) {
      leave_out(tokens, row, table);
      continue;
    }
    for (const auto& [column, cell] : kCells) {
      table.try_cell(row.name(), column, [&, work = cell] { return work(tokens, row); });
    }
  }
  try_side_by_side(tokens, applicable, table);

  fmt::print("{}", table.text());
  std::fflush(stdout);
  CHECK(applicable.size() >= 10);
  for (const std::string& problem : table.problems()) FAIL_CHECK(problem);
}
