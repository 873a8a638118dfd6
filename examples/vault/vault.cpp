#include "vault.hpp"

#include <chrono>
#include <memory>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/sql_ring_store.hpp>
#include <hsmseal/sql_row_source.hpp>

namespace vault {
namespace {

using namespace std::chrono_literals;

/// The database names tokens, and this host says what the names mean. Here each file LABEL.pin binds the token with that
/// label. Rule 4: a group that the vendor's client shows as one token is bound like a single HSM.
std::shared_ptr<hsmseal::KeyProvider> tokens_of(const Settings& settings) {
  hsmseal::Host host;
  for (const auto& entry : std::filesystem::directory_iterator{settings.folder}) {
    if (entry.path().extension() != ".pin") continue;
    const std::string label = entry.path().stem().string();
    host.token(label,
               {.driver = settings.driver, .select = {.label = label}, .pin = hsmseal::PinSource::file(entry.path())});
  }
  return hsmseal::pkcs11_provider(std::move(host));
}

/// What this host has seen of the ring, so that nobody who writes the database can show it an older one.
std::filesystem::path seen_ring(const Settings& settings) { return settings.folder / "ring.seen"; }

/// What a password is bound to: an envelope that is moved to another row does not open there.
hsmseal::Context record(std::string_view name) {
  return hsmseal::Context{}.add("table", PasswordTable::kTable).add("name", name);
}

/// So that the size of an envelope does not tell how long a password is.
hsmseal::EnvelopeOptions padded() { return {.padding = hsmseal::Padding::to_multiple_of(64)}; }

std::shared_ptr<hsmseal::RowSource> rows_of(const Settings& settings) {
  hsmseal::SqlRowOptions options{
      .table = PasswordTable::kTable, .key_column = PasswordTable::kKey, .value_column = PasswordTable::kValue};
  options.context = [](std::string_view name) { return record(name).encoded(); };
  return hsmseal::sql_row_source(settings.database, options);
}

[[noreturn]] void refuse_missing(const std::string& name) {
  throw std::runtime_error(fmt::format("there is no password '{}'", name));
}

}  // namespace

Vault::Vault(const Settings& settings, hsmseal::KeyRing ring, PasswordTable table)
    : settings_(settings), ring_(std::move(ring)), encryptor_(ring_, padded()), table_(std::move(table)) {}

Vault Vault::create(const Settings& settings, const std::string& token, Removal removal) {
  hsmseal::RingSettings rules;
  if (removal == Removal::AtOnce) {
    rules.max_staleness = 10ms;
    rules.removal_grace = 20ms;
  }
  auto ring = hsmseal::KeyRing::create(hsmseal::sql_ring_store(settings.database), tokens_of(settings),
                                       {.token = token, .description = "the first"},
                                       hsmseal::RingPin::trust_first_use(seen_ring(settings)), {}, rules);
  PasswordTable table{settings.database};
  table.create();
  return {settings, std::move(ring), std::move(table)};
}

Vault Vault::open(const Settings& settings) {
  if (!std::filesystem::exists(seen_ring(settings))) {
    throw std::runtime_error("there is no vault here, since there is no file ring.seen; vault create makes one");
  }
  PasswordTable table{settings.database};
  auto ring = hsmseal::KeyRing::open(hsmseal::sql_ring_store(settings.database), tokens_of(settings),
                                     hsmseal::RingPin::file(seen_ring(settings)));
  return {settings, std::move(ring), std::move(table)};
}

// Rule 1. Nobody says which set encrypts: seal_text() takes the latest, also if another host has just added it.

void Vault::add(const std::string& name, const hsmseal::SecretBytes& password) {
  if (!table_.add(name, encryptor_.seal_text(password.text(), record(name)))) {
    throw std::runtime_error(fmt::format("there is a password '{}' already; vault edit changes it", name));
  }
}

void Vault::edit(const std::string& name, const hsmseal::SecretBytes& password) {
  if (!table_.replace(name, encryptor_.seal_text(password.text(), record(name)))) refuse_missing(name);
}

// Rule 2. Nor does anybody say which set decrypts: the envelope does.

hsmseal::SecretBytes Vault::get(const std::string& name) const {
  const auto sealed = table_.find(name);
  if (!sealed) refuse_missing(name);
  return encryptor_.open_text(*sealed, record(name));
}

void Vault::remove(const std::string& name) {
  if (!table_.remove(name)) refuse_missing(name);
}

std::vector<Vault::Entry> Vault::list() const {
  std::vector<Entry> entries;
  for (const PasswordTable::Entry& entry : table_.all()) {
    hsmseal::Version set = 0;
    try {
      set = hsmseal::inspect_text(entry.sealed).version;
    } catch (const hsmseal::FormatError&) {
      // Somebody damaged the row. The list goes on; get and rewrap say what is wrong with it.
    }
    entries.push_back({entry.name, set});
  }
  return entries;
}

hsmseal::Version Vault::rotate(const std::string& token, const std::string& description) {
  return ring_.add({.token = token, .description = description});
}

/// Passwords may be added, edited and deleted meanwhile, here and on other hosts. Whoever kills this process loses
/// nothing: the next run goes on where it was.
hsmseal::RewrapReport Vault::rewrap(std::size_t workers,
                                    const std::function<void(const hsmseal::RewrapProgress&)>& on_progress) {
  hsmseal::RewrapOptions options;
  options.workers = workers;
  options.checkpoint = settings_.folder / "rewrap.checkpoint";
  options.on_progress = on_progress;
  return hsmseal::Rewrapper{ring_, rows_of(settings_), options}.run();
}

hsmseal::RowCensus Vault::census() const { return rows_of(settings_)->census(ring_.id()); }

// Rule 3. Nothing but this takes a set out of the ring, and it counts first.
void Vault::remove_set(hsmseal::Version version) {
  ring_.remove(version, hsmseal::census_of(rows_of(settings_), ring_.id()));
}

}  // namespace vault
