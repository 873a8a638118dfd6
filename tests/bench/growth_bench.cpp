// What grows with the number of credential sets, and what should not; and what a million seals leave in memory:
//
//   build/bench/tests/growth_bench FILE.json
//
// Keys are in memory, so that only hsmseal's own work is measured. `sh cmake/setup.sh bench` runs it.

#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

#include <hsmseal/envelope.hpp>

#include "bench/measure.hpp"
#include "support/many_sets.hpp"

namespace {

using namespace hsmseal;
using bench::Operation;
using bench::Side;
using bench::Table;

/// A ring of so many sets, as a host has it that has opened it.
struct Ring {
  explicit Ring(Version count) : sets(count), many(test::ring_of_many(count, provider)) {}

  [[nodiscard]] Side side(const std::string& what, const std::function<void()>& work) const {
    return {fmt::format("{}, {} sets", what, sets), 1, [work](std::size_t) -> Operation { return work; }};
  }
  [[nodiscard]] Side seal(const EnvelopeEncryptor& by, const std::string& how) const {
    return side("seal, " + how, [by] { static_cast<void>(by.seal(bytes_of("a secret"), kNoContext)); });
  }
  [[nodiscard]] Side open(const EnvelopeEncryptor& by, const std::string& how) const {
    return side("open, " + how, [by, sealed = by.seal(bytes_of("a secret"), kNoContext)] {
      static_cast<void>(by.open(sealed, kNoContext));
    });
  }
  /// Of a set in the middle.
  [[nodiscard]] Side open_old() const {
    return side("open, an older set's", [vault = vault, sealed = many.sealed.at(sets / 2)] {
      static_cast<void>(vault.open_text(sealed, kNoContext));
    });
  }
  [[nodiscard]] Side refresh() const {
    return side("refresh", [shared = std::make_shared<KeyRing>(ring)] { shared->refresh(); });
  }

  Version sets;
  std::shared_ptr<test::SoftwareProvider> provider = std::make_shared<test::SoftwareProvider>();
  test::ManySets many;
  KeyRing ring = KeyRing::open(many.store(), provider, RingPin::in_process());
  EnvelopeEncryptor vault{ring};
  EnvelopeEncryptor reusing{ring, {.data_keys = DataKeyPolicy::reuse(std::uint64_t{1} << 32)}};
};

void growth(Table& table) {
  const Ring few{10};
  for (const Version sets : {100U, 10'000U}) {
    const Ring many{sets};
    table.compare(many.seal(many.vault, "data key per secret"), few.seal(few.vault, "data key per secret"));
    table.compare(many.open(many.vault, "data key per secret"), few.open(few.vault, "data key per secret"));
    table.compare(many.open_old(), few.open_old());
    table.compare(many.seal(many.reusing, "reused data key"), few.seal(few.reusing, "reused data key"));
    table.compare(many.open(many.reusing, "kept data key"), few.open(few.reusing, "kept data key"));
    // The whole record is read and verified, which takes as long as it is: once for each change, not for each seal.
    table.compare(many.refresh(), few.refresh());
  }
}

std::size_t resident_bytes() {
  std::ifstream file{"/proc/self/statm"};
  std::size_t size = 0, resident = 0;
  if (!(file >> size >> resident)) return 0;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

void memory() {
  const Ring ring{1};
  static_cast<void>(ring.reusing.seal(bytes_of("a secret"), kNoContext));
  const std::size_t before = resident_bytes();
  for (int i = 0; i < 1'000'000; ++i) static_cast<void>(ring.reusing.seal(bytes_of("a secret"), kNoContext));
  const std::size_t after = resident_bytes();
  fmt::print("memory after a million seals under one data key: {} KiB more ({} KiB in all)\n",
             after > before ? (after - before) / 1024 : 0, after / 1024);
}

}  // namespace

int main(int argc, char** argv) try {
  memory();  // first: what the rings below take and give back would hide it
  Table table;
  growth(table);
  if (argc > 1) table.add_to(argv[1]);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "growth_bench: {}\n", error.what());
  return 1;
}
