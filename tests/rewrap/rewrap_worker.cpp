// One process of an application whose rows are rewrapped:  rewrap_worker FOLDER URL ACTION [ARGUMENT...]
// The ring is in a file in the folder, the rows are in table vault at the URL. Exit code 3: rows are left.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/rewrap.hpp>
#include <hsmseal/sql_ring_store.hpp>
#include <hsmseal/sql_row_source.hpp>

namespace {

using namespace hsmseal;
namespace fs = std::filesystem;

Context context_of(std::string_view key) { return Context{}.add("row", key); }

std::shared_ptr<KeyProvider> provider(const fs::path& folder) {
  Host host;
  host.token("hsm1", {.driver = "softhsm2", .select = {.label = "hsm1"}, .pin = PinSource::file(folder / "hsm1.pin")});
  return pkcs11_provider(std::move(host));
}

std::shared_ptr<RingStore> store(const fs::path& folder) {
  return sql_ring_store("sqlite:" + (folder / "ring.db").string());
}

RingPin pin(const fs::path& folder) { return RingPin::trust_first_use(folder / "ring.pin"); }

/// Seals as many rows as are wanted under a new ring, into the file "sealed"; then another set is the active one.
void prepare(const fs::path& folder, int rows) {
  KeyRing ring = KeyRing::create(store(folder), provider(folder), {.token = "hsm1"}, pin(folder));
  const EnvelopeEncryptor vault{ring};
  std::ofstream file(folder / "sealed");
  for (int i = 1; i <= rows; ++i) {
    const std::string key = std::to_string(i);
    file << key << ' ' << vault.seal_text("secret of " + key, context_of(key)) << '\n';
  }
  ring.add({.token = "hsm1"});
}

int rewrap(const KeyRing& ring, const fs::path& folder, const std::string& url, std::size_t workers) {
  SqlRowOptions where{.table = "vault", .key_column = "id", .value_column = "sealed"};
  where.context = [](std::string_view key) { return context_of(key).encoded(); };
  RewrapOptions how;
  how.workers = workers;
  how.checkpoint = folder / "checkpoint";
  const auto report = Rewrapper{ring, sql_row_source(url, where), how}.run();
  fmt::print("moved {} edited {} failed {} {}\n", report.moved, report.edited, report.failed, report.reason);
  return report.verdict == RewrapVerdict::Done ? 0 : 3;
}

/// Opens all rows of the file "rows".
void check(const KeyRing& ring, const fs::path& folder) {
  const EnvelopeEncryptor vault{ring};
  std::ifstream file(folder / "rows");
  std::size_t opened = 0, old = 0;
  for (std::string key, text; file >> key >> text; ++opened) {
    if (vault.open_text(text, context_of(key)).text() != "secret of " + key) {
      throw std::runtime_error("a row holds another secret");
    }
    old += vault.needs_rewrap_text(text) ? 1 : 0;
  }
  fmt::print("opened {} old {}\n", opened, old);
}

int run(const fs::path& folder, const std::string& url, const std::vector<std::string>& words) {
  if (words.at(0) == "prepare") {
    prepare(folder, std::stoi(words.at(1)));
    return 0;
  }
  const KeyRing ring = KeyRing::open(store(folder), provider(folder), pin(folder));
  if (words.at(0) == "rewrap") return rewrap(ring, folder, url, std::stoul(words.at(1)));
  if (words.at(0) != "check") throw std::runtime_error("no such action: " + words.at(0));
  check(ring, folder);
  return 0;
}

}  // namespace

int main(int count, char** arguments) try {
  if (count < 4) throw std::runtime_error("usage: rewrap_worker FOLDER URL ACTION [ARGUMENT...]");
  return run(arguments[1], arguments[2], {arguments + 3, arguments + count});
} catch (const std::exception& error) {
  fmt::print(stderr, "rewrap_worker: {}\n", error.what());
  return 1;
}
