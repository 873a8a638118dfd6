// One process of an application whose rows are rewrapped:  rewrap_worker FOLDER URL ACTION [ARGUMENT...]
// The ring is in a file in the folder, the rows are in table vault at the URL. Exit code 3: rows are left.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include <dlfcn.h>

#include <fmt/format.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/rewrap.hpp>
#include <hsmseal/sql_ring_store.hpp>
#include <hsmseal/sql_row_source.hpp>

namespace {

using namespace hsmseal;
namespace fs = std::filesystem;

/// Of those actions that are not measured.
constexpr std::size_t kThreads = 2;

Context context_of(std::string_view key) { return Context{}.add("row", key); }

/// The driver in front of the real one that counts its calls; empty: there is none.
std::string counting_driver() {
  const char* const path = std::getenv("HSMSEAL_REWRAP_DRIVER");
  return path == nullptr ? "" : path;
}

/// How many calls were made that work with a key.
unsigned long calls() {
  if (counting_driver().empty()) return 0;
  void* const library = dlopen(counting_driver().c_str(), RTLD_NOW | RTLD_NOLOAD);
  void* const symbol = library == nullptr ? nullptr : dlsym(library, "faultyhsm_calls");
  if (symbol == nullptr) throw std::runtime_error("the driver does not count its calls");
  const auto calls_of = reinterpret_cast<unsigned long (*)(const char*)>(symbol);
  return calls_of("C_EncryptInit") + calls_of("C_Encrypt") + calls_of("C_DecryptInit") + calls_of("C_Decrypt");
}

std::shared_ptr<KeyProvider> provider(const fs::path& folder, std::size_t sessions) {
  Host host;
  if (!counting_driver().empty()) host.driver("counting", {.library = counting_driver()});
  host.token("hsm1", {.driver = counting_driver().empty() ? "softhsm2" : "counting",
                      .select = {.label = "hsm1"},
                      .pin = PinSource::file(folder / "hsm1.pin"),
                      .limits = {.max_sessions = sessions}});
  return pkcs11_provider(std::move(host));
}

std::shared_ptr<RingStore> store(const fs::path& folder) {
  return sql_ring_store("sqlite:" + (folder / "ring.db").string());
}

RingPin pin(const fs::path& folder) { return RingPin::trust_first_use(folder / "ring.pin"); }

/// Runs work(0) to work(kThreads - 1) at once, and throws what one of them throws.
void in_threads(const std::function<void(std::size_t)>& work) {
  std::vector<std::future<void>> running;
  for (std::size_t i = 0; i < kThreads; ++i) running.push_back(std::async(std::launch::async, work, i));
  for (auto& one : running) one.get();
}

/// @param secrets  of one data key.
EnvelopeOptions sharing(std::size_t secrets) {
  EnvelopeOptions options;
  if (secrets > 1) options.data_keys = DataKeyPolicy::reuse(secrets);
  return options;
}

/// Seals as many rows as are wanted under a new ring, into the file "sealed"; then another set is the active one.
void prepare(const fs::path& folder, std::size_t rows, std::size_t secrets) {
  KeyRing ring = KeyRing::create(store(folder), provider(folder, kThreads), {.token = "hsm1"}, pin(folder));
  const EnvelopeEncryptor vault{ring, sharing(secrets)};
  std::vector<std::string> sealed(rows);
  in_threads([&](std::size_t thread) {
    for (std::size_t i = rows * thread / kThreads; i < rows * (thread + 1) / kThreads; ++i) {
      const std::string key = std::to_string(i + 1);
      sealed[i] = vault.seal_text("secret of " + key, context_of(key));
    }
  });
  std::ofstream file(folder / "sealed");
  for (std::size_t i = 0; i < rows; ++i) file << i + 1 << ' ' << sealed[i] << '\n';
  ring.add({.token = "hsm1"});
}

std::shared_ptr<RowSource> rows_at(const std::string& url) {
  SqlRowOptions where{.table = "vault", .key_column = "id", .value_column = "sealed"};
  where.context = [](std::string_view key) { return context_of(key).encoded(); };
  return sql_row_source(url, where);
}

/// How much memory this process has, in KiB.
long memory() {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    long size = 0;
    if (word == "VmRSS:" && file >> size) return size;
  }
  throw std::runtime_error("/proc does not tell the memory of this process");
}

/// Prints what became of the rows and what it took. The file "progress" has the number of rows moved meanwhile.
int rewrap(const KeyRing& ring, const fs::path& folder, const std::string& url, std::size_t workers,
           std::size_t secrets) {
  RewrapOptions how;
  how.envelopes = sharing(secrets);
  how.workers = workers;
  how.checkpoint = folder / "checkpoint";
  long quarter = 0, last = 0;
  how.on_progress = [&](const RewrapProgress& progress) {
    std::ofstream{folder / "progress"} << progress.moved;
    last = memory();
    if (quarter == 0 && progress.moved >= progress.to_move / 4) quarter = last;
  };
  const auto begin = std::chrono::steady_clock::now();
  const auto report = Rewrapper{ring, rows_at(url), how}.run();
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  fmt::print("moved {} edited {} failed {} {}\n", report.moved, report.edited, report.failed, report.reason);
  fmt::print("seconds {:.3f} calls {} quarter_kib {} end_kib {}\n", time.count(), calls(), quarter, last);
  return report.verdict == RewrapVerdict::Done ? 0 : 3;
}

/// Opens all rows.
void check(const KeyRing& ring, const std::string& url) {
  constexpr Version kNone = 0;  // which no row names, so that all of them come
  const EnvelopeEncryptor vault{ring};
  const auto rows = rows_at(url);
  RowQuery query{.most = 1'000, .ring = ring.id(), .active = kNone};
  bool ended = false;
  std::mutex mutex;
  std::atomic<std::size_t> opened = 0, old = 0;
  in_threads([&](std::size_t) {
    for (;;) {
      std::unique_lock lock{mutex};
      if (ended) return;
      const RowBatch batch = rows->next(query);
      query.after = batch.next;
      ended = !batch.next;
      lock.unlock();
      for (const Row& row : batch.rows) {
        const std::string_view text{reinterpret_cast<const char*>(row.value.data()), row.value.size()};
        if (vault.open_text(text, context_of(row.key)).text() != "secret of " + row.key) {
          throw std::runtime_error("a row holds another secret");
        }
        ++opened;
        if (vault.needs_rewrap_text(text)) ++old;
      }
    }
  });
  fmt::print("opened {} old {}\n", opened.load(), old.load());
}

int run(const fs::path& folder, const std::string& url, const std::vector<std::string>& words) {
  if (words.at(0) == "prepare") {
    prepare(folder, std::stoul(words.at(1)), std::stoul(words.at(2)));
    return 0;
  }
  const bool rewraps = words.at(0) == "rewrap";
  const std::size_t workers = rewraps ? std::stoul(words.at(1)) : kThreads;
  const KeyRing ring = KeyRing::open(store(folder), provider(folder, workers), pin(folder));
  if (rewraps) return rewrap(ring, folder, url, workers, std::stoul(words.at(2)));
  if (words.at(0) != "check") throw std::runtime_error("no such action: " + words.at(0));
  check(ring, url);
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
