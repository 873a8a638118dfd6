#include <algorithm>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <hsmseal/envelope.hpp>
#include <hsmseal/envelope_header.hpp>
#include <hsmseal/key_ring.hpp>
#include <hsmseal/sql_ring_store.hpp>

#include "soak/scene.hpp"
#include "support/catch.hpp"
#include "support/many_sets.hpp"
#include "support/software_provider.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

/// The median of some runs, in microseconds.
template <typename Work>
double median_us(int runs, const Work& work) {
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  std::ranges::nth_element(times, times.begin() + runs / 2);
  return times[static_cast<std::size_t>(runs) / 2];
}

struct Figures {
  double bytes, open, look, add, find, seal;
};

Figures measure(Version sets) {
  const ScratchDirectory folder;
  const auto provider = std::make_shared<SoftwareProvider>();
  const std::string url = "sqlite:" + (folder.path() / "ring.db").string();
  const auto [record, sealed] = ring_of_many(sets, provider);
  REQUIRE(sql_ring_store(url)->compare_and_swap(std::nullopt, record));
  auto now = std::make_shared<std::chrono::steady_clock::time_point>();
  const RingOptions options{.clock = [now] { return *now; }};
  const auto open = [&] { return KeyRing::open(sql_ring_store(url), provider, RingPin::in_process(), options); };
  Figures figures{
      .bytes = static_cast<double>(record.body.size()), .open = {}, .look = {}, .add = {}, .find = {}, .seal = {}};
  figures.open = median_us(5, open);
  KeyRing ring = open();
  const EnvelopeEncryptor vault{ring};
  REQUIRE(sealed.size() == 3);
  for (const auto& [version, text] : sealed) {
    CHECK(inspect_text(text).version == version);
    CHECK(vault.open_text(text, kNoContext).text() == fmt::format("secret {}", version));
  }
  const auto seal = [&] { static_cast<void>(vault.seal_text("x", kNoContext)); };
  figures.seal = median_us(1'001, seal);
  figures.look = median_us(101, [&] {
    *now += std::chrono::hours{1};  // so that it asks the store
    seal();
  });
  Version version = 0;
  figures.find = median_us(101,
                           [&] {
                             for (int i = 0; i < 1'000; ++i) {
                               version = version % sets + 1;
                               if (!ring.find(version)) throw std::logic_error("a set is missing");
                             }
                           }) /
                 1'000;
  figures.add = median_us(3, [&] { ring.add({.token = "t"}); });
  CHECK(ring.list().size() == sets + 3);
  return figures;
}

}  // namespace

TEST_CASE("a ring of many sets works as one of few") {
  std::string table = "sets      record KiB   open ms   add ms   look us   seal us   find us\n";
  for (const Version sets : {10U, 100U, soaking() ? 10'000U : 1'000U}) {
    const Figures f = measure(sets);
    table += fmt::format("{:<8} {:>11.1f} {:>9.2f} {:>8.2f} {:>9.1f} {:>9.2f} {:>9.3f}\n", sets, f.bytes / 1024,
                         f.open / 1000, f.add / 1000, f.look, f.seal, f.find);
  }
  WARN(table);
}
