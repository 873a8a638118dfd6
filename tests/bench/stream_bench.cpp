// How fast streams go through, against Botan's AES-256-GCM over buffers of the same size, side by side in one run, and how
// much memory that takes:
//
//   sh examples/with_tokens.sh build/bench/tests/stream_bench [FILE.json]
//
// Needs the token hsm1 and its PIN, as the examples do. Each figure is the median of some rounds; in each round all of
// them are taken one after the other, and a ratio is the median of the ratios of the rounds.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <istream>
#include <ostream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <sys/resource.h>

#include <hsmseal/pkcs11_key_wrapper.hpp>
#include <hsmseal/stream.hpp>

#include "bench/floor_stream.hpp"
#include "bench/measure.hpp"

namespace {

using namespace hsmseal;

constexpr int kRounds = 11;
constexpr std::size_t kSegment = std::size_t{64} << 10;
constexpr std::size_t kSegments = std::size_t{256} << 20 >> 16;     // 256 MiB in each round
constexpr std::size_t kKeptSegments = std::size_t{16} << 20 >> 16;  // of the stream that is opened again and again
constexpr double kSegmentMib = 1.0 / 16;
constexpr double kTarget = 0.95;

/// An input of so many bytes that nobody has to copy, as from a disk that takes no time.
class Input final : public std::streambuf {
 public:
  explicit Input(std::uint64_t size) : rest_(size) {}

 protected:
  std::streamsize xsgetn(char* to, std::streamsize size) override {
    std::streamsize done = 0;
    if (gptr() != egptr() && size != 0) {
      *to = *gptr();
      gbump(1);
      done = 1;
    }
    const auto more =
        static_cast<std::streamsize>(std::min<std::uint64_t>(rest_, static_cast<std::uint64_t>(size - done)));
    rest_ -= static_cast<std::uint64_t>(more);
    return done + more;
  }
  int_type underflow() override {
    if (rest_ == 0) return traits_type::eof();
    --rest_;
    setg(&next_, &next_, &next_ + 1);
    return traits_type::to_int_type(next_);
  }

 private:
  std::uint64_t rest_;
  char next_ = 'x';
};

/// An output that is thrown away.
class Output final : public std::streambuf {
 protected:
  std::streamsize xsputn(const char*, std::streamsize size) override { return size; }
};

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Case {
  std::string name;
  std::size_t threads;
  std::function<void()> work;  ///< passes kSegments through
  std::vector<double> rates = {}, floor_rates = {}, ratios = {};
};

void take(Case& one) {
  const double floor = bench::seconds_of_botan(kSegments, one.threads);
  const double ours = seconds(one.work);
  one.rates.push_back(static_cast<double>(kSegments) * kSegmentMib / ours);
  one.floor_rates.push_back(static_cast<double>(kSegments) * kSegmentMib / floor);
  one.ratios.push_back(floor / ours);
}

long peak_kib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

/// 1 GiB that is sealed and opened at once, so that nothing but the streams themselves is in memory.
void pass_a_gib(const EnvelopeEncryptor& vault, std::size_t threads) {
  std::uint64_t opened = 0;
  const Bytes chunk(kSegment);
  StreamOpener opener{vault, kNoContext, [&](ByteView bytes) { opened += bytes.size(); }, {.threads = threads}};
  StreamSealer sealer{vault, kNoContext, [&](ByteView bytes) { opener.write(bytes); }, {.threads = threads}};
  for (std::size_t i = 0; i < (std::size_t{1} << 30) / kSegment; ++i) sealer.write(chunk);
  sealer.finish();
  opener.finish();
  fmt::print("1 GiB sealed and opened, {} threads each: {} bytes came out, peak memory of the process {:.1f} MiB\n",
             threads, opened, static_cast<double>(peak_kib()) / 1024);
}

std::vector<Case> cases(const EnvelopeEncryptor& vault, const Bytes& kept) {
  static const Bytes chunk(kSegment);
  std::vector<Case> all;
  for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
    const StreamOptions options{.threads = threads};
    all.push_back({"stream seal, chunks", threads, [=, &vault] {
                     StreamSealer sealer{vault, kNoContext, [](ByteView) {}, options};
                     for (std::size_t i = 0; i < kSegments; ++i) sealer.write(chunk);
                     sealer.finish();
                   }});
    all.push_back({"stream seal, iostreams", threads, [=, &vault] {
                     Input source{kSegments * kSegment};
                     Output sink;
                     std::istream in{&source};
                     std::ostream out{&sink};
                     seal_stream(vault, in, out, kNoContext, options);
                   }});
    all.push_back({"stream open, chunks", threads, [=, &vault, &kept] {
                     for (std::size_t i = 0; i < kSegments / kKeptSegments; ++i) {
                       StreamOpener opener{vault, kNoContext, [](ByteView) {}, options};
                       opener.write(kept);
                       opener.finish();
                     }
                   }});
  }
  return all;
}

}  // namespace

int main(int count, char** arguments) {
  Host host;
  host.token("hsm1", {.driver = "softhsm2", .select = {.label = "hsm1"}, .pin = PinSource::file("hsm1.pin")});
  const EnvelopeEncryptor vault{
      KeyRing::create(memory_ring_store(), pkcs11_provider(host), {.token = "hsm1"}, RingPin::in_process())};
  pass_a_gib(vault, 1);
  pass_a_gib(vault, 2);

  Bytes kept;
  StreamSealer sealer{vault, kNoContext, [&](ByteView bytes) { kept.insert(kept.end(), bytes.begin(), bytes.end()); }};
  sealer.write(Bytes(kKeptSegments * kSegment));
  sealer.finish();
  std::vector<Case> all = cases(vault, kept);
  for (int round = 0; round <= kRounds; ++round) {
    for (Case& one : all) {
      take(one);
      if (round == 0) one.rates.clear(), one.floor_rates.clear(), one.ratios.clear();  // warming up
    }
  }
  bench::Table table;
  for (const Case& one : all) {
    table.add({.name = one.name + ", MiB",
               .threads = one.threads,
               .ops_per_second = bench::median(one.rates),
               .floor_name = "Botan AES-256-GCM, buffers of 64 KiB, MiB",
               .floor_ops_per_second = bench::median(one.floor_rates),
               .ratio = bench::median(one.ratios),
               .target = kTarget});
  }
  if (count > 1) table.add_to(arguments[1]);
}
