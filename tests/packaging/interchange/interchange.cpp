// What one build of hsmseal leaves behind must open in every other one:
//
//   interchange make FOLDER     makes two SoftHSM tokens, a ring in SQLite with a set on each, its pin, its export, and
//                               envelopes of every kind with the secrets that are in them
//   interchange check FOLDER    opens all of it, and goes on with it: rewraps, reseals and seals
//
// `check` works on a copy, so that FOLDER can be checked again, and elsewhere.

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <hsmseal/envelope.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/sql_ring_store.hpp>

#include "core/hex.hpp"
#include "support/softhsm.hpp"
#include "support/vectors.hpp"

namespace {

using namespace hsmseal;
using nlohmann::json;
namespace fs = std::filesystem;

const char* const kLabels[] = {"hsm1", "hsm2"};
const char* const kList = "envelopes.json";

void expect(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what);
}

std::shared_ptr<RingStore> store(const fs::path& folder, const std::string& name) {
  return sql_ring_store("sqlite:" + (folder / name).string());
}

/// A context as the list has it: names and values, or null for none.
Context context_of(const json& pairs) {
  Context context;
  for (const auto& [name, value] : pairs.items()) context.add(name, value.get<std::string>());
  return context;
}

/// How an envelope was sealed and is to be sealed again.
EnvelopeEncryptor encryptor_for(const json& entry, const KeyRing& ring) {
  const auto bucket = entry.at("padding").get<std::size_t>();
  return EnvelopeEncryptor{ring,
                           {.suite = entry.at("suite").get<Suite>(),
                            .padding = bucket == 0 ? Padding::none() : Padding::to_multiple_of(bucket)}};
}

/// Calls `work` with the entry's context in the way that a caller has one.
template <typename Work>
auto with_context(const json& entry, const Work& work) {
  if (entry.at("context").is_null()) return work(ContextView{kNoContext});
  const Context context = context_of(entry.at("context"));
  return work(ContextView{context});
}

// ---- make ----------------------------------------------------------------------------------------------------------

/// Bytes of every value, others for each size.
Bytes secret_of(std::size_t size) {
  Bytes secret(size);
  for (std::size_t i = 0; i < size; ++i) secret[i] = static_cast<std::byte>((i * 7 + size) & 0xff);
  return secret;
}

/// One envelope of each kind, under the set that is active now.
void seal_every_kind(const KeyRing& ring, json& list) {
  const std::vector<json> contexts = {nullptr, {{"table", "passwords"}, {"record", "42"}, {"Mandant", "Österreich"}}};
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    for (const std::size_t padding : {0U, 64U}) {
      for (const json& context : contexts) {
        for (const std::size_t size : {0U, 17U, 1'000U, 100'000U}) {
          if (suite == Suite::Token && size > ring.active().key.profile.max_plaintext) continue;
          json entry = {{"suite", suite}, {"padding", padding}, {"context", context}};
          const EnvelopeEncryptor vault = encryptor_for(entry, ring);
          const Bytes secret = secret_of(size);
          const std::string_view text{reinterpret_cast<const char*>(secret.data()), size};
          entry["secret"] = core::to_hex(secret);
          entry["binary"] = with_context(entry, [&](auto view) { return core::to_hex(vault.seal(secret, view)); });
          entry["text"] = with_context(entry, [&](auto view) { return vault.seal_text(text, view); });
          list.push_back(std::move(entry));
        }
      }
    }
  }
}

void make(const fs::path& folder) {
  expect(!fs::exists(folder) || fs::exists(folder / kList), folder.string() + " holds something else: remove it");
  const test::SoftHsm tokens{{kLabels[0], kLabels[1]}};
  const fs::path& home = tokens.directory();
  ::setenv("SOFTHSM2_CONF", tokens.conf().c_str(), 1);
  json list = json::array();
  {
    auto ring = KeyRing::create(store(home, "ring.db"), pkcs11_provider(tokens.host()), {.token = kLabels[0]},
                                RingPin::trust_first_use(home / "ring.pin"));
    seal_every_kind(ring, list);
    ring.add({.token = kLabels[1]});
    seal_every_kind(ring, list);
    ring.export_to(home / "ring.export");
  }
  std::ofstream(home / kList) << json{{"made by", __VERSION__}, {"envelopes", list}}.dump(1) << "\n";
  fs::remove_all(folder);
  fs::create_directories(folder.parent_path());
  fs::copy(home, folder, fs::copy_options::recursive);
  fmt::print("made two tokens, a ring and {} envelopes\n", 2 * list.size());
}

// ---- check ---------------------------------------------------------------------------------------------------------

Host host_in(const fs::path& folder) {
  Host host;
  for (const std::string label : kLabels) {
    host.token(label,
               {.driver = "softhsm2", .select = {.label = label}, .pin = PinSource::file(folder / (label + ".pin"))});
  }
  return host;
}

void check_sets(KeyRing& ring) {
  const auto sets = ring.list();
  expect(sets.size() == 2 && sets[0].state == SetState::Archived && sets[1].state == SetState::Active,
         "the ring has other sets than were made");
  for (const auto& set : sets) ring.verify(set.version);
}

struct Count {
  std::size_t opened = 0;  ///< as they were made
  std::size_t again = 0;   ///< moved to the active set, or new
};

void check_entry(const json& entry, const KeyRing& ring, Count& count) {
  const EnvelopeEncryptor vault = encryptor_for(entry, ring);
  const Bytes secret = test::bytes_at(entry, "secret"), binary = test::bytes_at(entry, "binary");
  const auto text = entry.at("text").get<std::string>();
  with_context(entry, [&](ContextView context) {
    const auto expect_secret = [&](const SecretBytes& found, std::size_t& counted) {
      expect(std::ranges::equal(found.view(), secret), "an envelope holds another secret: " + text.substr(0, 60));
      ++counted;
    };
    expect_secret(vault.open(binary, context), count.opened);
    expect_secret(vault.open_text(text, context), count.opened);
    const bool movable = inspect(binary).suite == Suite::DataKey;
    const Bytes moved = movable ? vault.rewrap(binary) : vault.reseal(binary, context);
    const std::string moved_text = movable ? vault.rewrap_text(text) : vault.reseal_text(text, context);
    expect(!vault.needs_rewrap(moved) && !vault.needs_rewrap_text(moved_text), "an envelope did not move");
    expect_secret(vault.open(moved, context), count.again);
    expect_secret(vault.open_text(moved_text, context), count.again);
    expect_secret(vault.open(vault.seal(secret, context), context), count.again);
  });
}

void check(const fs::path& folder) {
  const test::ScratchDirectory scratch;
  const fs::path& home = scratch.path();
  fs::copy(folder, home, fs::copy_options::recursive);
  std::ofstream(home / "softhsm2.conf") << fmt::format("directories.tokendir = {}\n", (home / "tokens").string());
  ::setenv("SOFTHSM2_CONF", (home / "softhsm2.conf").c_str(), 1);

  const json made = json::parse(std::ifstream(home / kList));
  const json& list = made.at("envelopes");
  expect(!list.empty(), "there are no envelopes");
  const auto provider = pkcs11_provider(host_in(home));
  std::map<std::string, KeyRing> rings;
  rings.emplace("ring", KeyRing::open(store(home, "ring.db"), provider, RingPin::file(home / "ring.pin")));
  rings.emplace("import", KeyRing::import_from(home / "ring.export", store(home, "imported.db"), provider,
                                               RingPin::file(home / "ring.pin")));
  fmt::print("made by {}, checked by {}\n", made.at("made by").get<std::string>(), __VERSION__);
  for (auto& [name, ring] : rings) {
    check_sets(ring);
    Count count;
    std::map<Version, std::size_t> of_set;
    for (const json& entry : list) {
      check_entry(entry, ring, count);
      ++of_set[inspect(test::bytes_at(entry, "binary")).version];
    }
    expect(of_set[1] != 0 && of_set[1] == of_set[2] && of_set.size() == 2, "the envelopes are of other sets");
    fmt::print("{}: opened {} of {} envelopes, and {} that were moved or new\n", name, count.opened, 2 * list.size(),
               count.again);
  }
}

}  // namespace

int main(int count, char** arguments) try {
  const std::vector<std::string_view> words(arguments + 1, arguments + count);
  if (words.size() == 2 && words[0] == "make") {
    make(fs::absolute(words[1]));
  } else if (words.size() == 2 && words[0] == "check") {
    check(fs::absolute(words[1]));
  } else {
    throw std::runtime_error("usage: interchange make|check FOLDER");
  }
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "interchange: {}\n", error.what());
  return 1;
}
