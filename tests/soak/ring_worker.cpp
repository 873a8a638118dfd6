// A process that works on a ring, to be killed at any instant: one change, a check, or changes and seals without end.
//
//   ring_worker FOLDER URL ACTION [ARGUMENT...]
//
// FOLDER holds the PINs of the tokens hsm1 and hsm2, the ring's pin, and the envelopes: a line each, its number and its
// text. URL is the ring's store.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <fmt/format.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/error.hpp>
#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/sql_ring_store.hpp>

namespace {

using namespace hsmseal;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

/// So short that every change is allowed at once.
constexpr RingSettings kHurried{.max_staleness = 1ms, .removal_grace = 2ms, .quarantine = 3ms};
/// What the processes that work side by side keep to.
constexpr RingSettings kShared{.max_staleness = 200ms, .removal_grace = 400ms, .quarantine = 10s};

struct Envelope {
  std::string number, text;
};

class Worker {
 public:
  Worker(fs::path folder, std::string url) : folder_(std::move(folder)), url_(std::move(url)) {
    Host host;
    for (const char* label : {"hsm1", "hsm2"}) {
      host.token(label, {.driver = "softhsm2",
                         .select = {.label = label},
                         .pin = PinSource::file(folder_ / (std::string{label} + ".pin"))});
    }
    provider_ = pkcs11_provider(std::move(host));
  }

  [[nodiscard]] KeyRing create(const RingSettings& settings) {
    return KeyRing::create(sql_ring_store(url_), provider_, {.token = "hsm1"}, pin(), {}, settings);
  }
  [[nodiscard]] KeyRing open() { return KeyRing::open(sql_ring_store(url_), provider_, pin()); }
  [[nodiscard]] KeyRing import() {
    return KeyRing::import_from(folder_ / "export", sql_ring_store(url_), provider_, pin());
  }
  [[nodiscard]] fs::path path(const std::string& name) const { return folder_ / name; }

  /// open() for processes that start together: one that starts while another logs in to SoftHSM may not see the token.
  [[nodiscard]] KeyRing open_alone() {
    const int lock = ::open(path("start.lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    flock(lock, LOCK_EX);
    KeyRing ring = open();
    static_cast<void>(ring.orphans());  // logs in to both tokens
    close(lock);
    return ring;
  }

 private:
  [[nodiscard]] RingPin pin() const { return RingPin::trust_first_use(folder_ / "ring.pin"); }

  fs::path folder_;
  std::string url_;
  std::shared_ptr<KeyProvider> provider_;
};

std::vector<Envelope> read_envelopes(const fs::path& path) {
  std::vector<Envelope> envelopes;
  std::ifstream file(path);
  for (Envelope one; file >> one.number >> one.text;) envelopes.push_back(one);
  return envelopes;
}

Context context(const std::string& number) { return Context{}.add("number", number); }

/// One write, so that a process killed in between leaves the whole line or nothing.
void append(const fs::path& path, const std::string& line) {
  const int file = ::open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0 || write(file, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    throw std::runtime_error("cannot write " + path.string());
  }
  close(file);
}

void seal(const Worker& worker, const KeyRing& ring, const std::string& number) {
  const EnvelopeEncryptor vault{ring};
  append(worker.path("envelopes"),
         fmt::format("{} {}\n", number, vault.seal_text("secret " + number, context(number))));
}

void rewrap_all(const Worker& worker, const KeyRing& ring) {
  const EnvelopeEncryptor vault{ring};
  const fs::path temporary = worker.path("envelopes.new");
  fs::remove(temporary);
  for (const auto& one : read_envelopes(worker.path("envelopes"))) {
    append(temporary, fmt::format("{} {}\n", one.number, vault.rewrap_text(one.text)));
  }
  if (fs::exists(temporary)) fs::rename(temporary, worker.path("envelopes"));
}

/// Of this process and of those that worked beside it.
std::vector<Envelope> all_envelopes(const Worker& worker) {
  std::vector<Envelope> all;
  for (const auto& entry : fs::directory_iterator(worker.path("."))) {
    if (!entry.path().filename().string().starts_with("envelopes")) continue;
    for (auto& one : read_envelopes(entry.path())) all.push_back(std::move(one));
  }
  return all;
}

Census census_of(const Worker& worker) {
  return [&worker](Version version) {
    return static_cast<std::uint64_t>(std::ranges::count(
        all_envelopes(worker), version, [](const Envelope& one) { return inspect_text(one.text).version; }));
  };
}

/// Says what the ring is like now, and fails if anything about it is wrong.
void check(Worker& worker) {
  const KeyRing ring = worker.open();
  const EnvelopeEncryptor vault{ring};
  std::size_t opened = 0;
  for (const auto& one : all_envelopes(worker)) {
    if (vault.open_text(one.text, context(one.number)).text() != "secret " + one.number) {
      throw std::runtime_error("an envelope holds another secret");
    }
    ++opened;
  }
  if (vault.open_text(vault.seal_text("new", kNoContext), kNoContext).text() != "new") {
    throw std::runtime_error("the ring does not seal");
  }
  std::map<SetState, int> states;
  for (const auto& set : ring.list()) ++states[set.state];
  fmt::print("generation {} active {} staged {} archived {} deleted {} opened {} orphans {}\n", ring.generation(),
             ring.active().version, states[SetState::Staged], states[SetState::Archived], states[SetState::Deleted],
             opened, ring.orphans().size());
}

/// Versions in one state, oldest first.
std::vector<Version> in_state(const KeyRing& ring, SetState state) {
  std::vector<Version> versions;
  for (const auto& set : ring.list()) {
    if (set.state == state) versions.push_back(set.version);
  }
  return versions;
}

using Random = std::mt19937_64;

/// One random change, and what goes before it.
void change_something(Worker& worker, KeyRing& ring, Random& random) {
  const std::string token = random() % 2 == 0 ? "hsm1" : "hsm2";
  const auto archived = in_state(ring, SetState::Archived);
  const auto deleted = in_state(ring, SetState::Deleted);
  switch (random() % 8) {
    case 0:
      if (ring.list().size() < 6) ring.add({.token = token});
      return;
    case 1:
      if (ring.list().size() < 6) ring.activate(ring.add({.token = token}, Activation::Later));
      return;
    case 2:
      ring.amend(ring.active().version, {.description = std::to_string(random())});
      return;
    case 3:
      rewrap_all(worker, ring);
      return;
    case 4:
      if (archived.empty()) return;
      rewrap_all(worker, ring);
      ring.remove(archived.front(), census_of(worker));
      return;
    case 5:
      if (!deleted.empty() && !ring.find(deleted.back())->key_destroyed_at) ring.restore(deleted.back());
      return;
    case 6:
      if (!deleted.empty()) ring.destroy_key(deleted.front(), census_of(worker), {deleted.front()});
      return;
    default:
      if (!deleted.empty() && ring.find(deleted.front())->key_destroyed_at) {
        ring.purge(deleted.front(), census_of(worker));
      }
      return;
  }
}

[[noreturn]] void churn(Worker& worker, std::uint64_t seed) {
  Random random{seed};
  KeyRing ring = worker.open();
  for (std::uint64_t i = 0;; ++i) {
    seal(worker, ring, fmt::format("{}-{}", seed, i));
    std::this_thread::sleep_for(4ms);  // the grace
    try {
      change_something(worker, ring, random);
    } catch (const SetInUseError&) {
      // Its quarantine is not over.
    }
  }
}

long long now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

/// SoftHSM now and then does not show a process a key that another has just made. The error says to try again.
template <typename Work>
auto until_key_is_visible(const fs::path& events, const Work& work) {
  constexpr int kMost = 20;
  for (int tries = 1;; ++tries) {
    try {
      return work();
    } catch (const KeyNotFoundError&) {
      if (tries == kMost) throw;
      append(events, fmt::format("tried-again 0 {}\n", now_ns()));
      std::this_thread::sleep_for(5ms);
    }
  }
}

/// Works beside other processes for some seconds. Writes down each seal (its number is its start) and each activation.
void share(Worker& worker, std::uint64_t seed, int seconds, bool changes) {
  Random random{seed};
  KeyRing ring = worker.open_alone();
  const EnvelopeEncryptor vault{ring};
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{seconds};
  const fs::path envelopes = worker.path(fmt::format("envelopes.{}", seed));
  const fs::path events = worker.path(fmt::format("events.{}", seed));
  while (std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 20; ++i) {
      const std::string number = fmt::format("{}-{}", now_ns(), seed);
      const std::string sealed =
          until_key_is_visible(events, [&] { return vault.seal_text("secret " + number, context(number)); });
      append(envelopes, fmt::format("{} {}\n", number, sealed));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{random() % 20});
    if (!changes) continue;
    try {
      const std::string token = random() % 2 == 0 ? "hsm1" : "hsm2";
      switch (random() % 4) {
        case 0:
        case 1: {
          const Version version = ring.add({.token = token});
          const bool active = ring.find(version)->activated_at.has_value();
          append(events, fmt::format("{} {} {}\n", active ? "activated" : "overtaken", version, now_ns()));
          break;
        }
        case 2: {
          const Version version = ring.add({.token = token}, Activation::Later);
          try {
            ring.activate(version);
            append(events, fmt::format("activated {} {}\n", version, now_ns()));
          } catch (const InvalidArgumentError&) {
            append(events, fmt::format("overtaken {} {}\n", version, now_ns()));  // a newer one was faster
          }
          break;
        }
        default:
          ring.amend(ring.active().version, {.description = std::to_string(random())});
          append(events, fmt::format("amended 0 {}\n", now_ns()));
      }
    } catch (const StoreConflictError&) {
      append(events, fmt::format("conflict 0 {}\n", now_ns()));
    } catch (const WrongKeyError&) {
      // While several processes make keys at once, SoftHSM now and then tells other attributes than the key was made
      // with, or does not show it: such a key is not taken.
      append(events, fmt::format("key-refused 0 {}\n", now_ns()));
    } catch (const KeyNotFoundError&) {
      append(events, fmt::format("key-refused 0 {}\n", now_ns()));
    }
  }
}

void run(Worker& worker, const std::vector<std::string>& words) {
  const std::string& action = words.at(0);
  const auto number = [&](std::size_t place) { return static_cast<std::uint64_t>(std::stoull(words.at(place))); };
  const auto version = [&] { return static_cast<Version>(number(1)); };
  if (action == "create") return static_cast<void>(worker.create(kHurried));
  if (action == "create-shared") return static_cast<void>(worker.create(kShared));
  if (action == "import") return static_cast<void>(worker.import());
  if (action == "check") return check(worker);
  if (action == "churn") churn(worker, number(1));
  if (action == "share") return share(worker, number(1), static_cast<int>(number(2)), words.at(3) == "changes");
  KeyRing ring = worker.open();
  if (action == "seal") {
    for (std::uint64_t i = 0; i < number(1); ++i) seal(worker, ring, fmt::format("{}-{}", ring.generation(), i));
  } else if (action == "rewrap") {
    rewrap_all(worker, ring);
  } else if (action == "add") {
    ring.add({.token = words.at(1)});
  } else if (action == "add-later") {
    ring.add({.token = words.at(1)}, Activation::Later);
  } else if (action == "activate") {
    ring.activate(version());
  } else if (action == "amend") {
    ring.amend(version(), {.description = "amended"});
  } else if (action == "remove") {
    ring.remove(version(), census_of(worker));
  } else if (action == "restore") {
    ring.restore(version());
  } else if (action == "purge") {
    ring.purge(version(), census_of(worker));
  } else if (action == "destroy") {
    ring.destroy_key(version(), census_of(worker), {version()});
  } else if (action == "export") {
    ring.export_to(worker.path("export"));
  } else {
    throw std::runtime_error("no such action: " + action);
  }
}

}  // namespace

int main(int count, char** arguments) try {
  if (count < 4) throw std::runtime_error("usage: ring_worker FOLDER URL ACTION [ARGUMENT...]");
  Worker worker{arguments[1], arguments[2]};
  run(worker, {arguments + 3, arguments + count});
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "ring_worker: {}\n", error.what());
  return 1;
}
