// bench: how fast this host seals, opens and rewraps with its tokens.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include <hsmseal/envelope.hpp>

#include "command.hpp"
#include "failure.hpp"
#include "ring_parts.hpp"
#include "words.hpp"

namespace tool {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchOptions {
  unsigned seconds = 3, threads = 1;
  std::size_t bytes = 32;
};

/// How long each of many operations took, of all threads.
struct Times {
  std::vector<std::chrono::nanoseconds> each = {};
  std::chrono::nanoseconds total{0};

  [[nodiscard]] std::chrono::nanoseconds quantile(double part) const {
    return each.at(static_cast<std::size_t>(part * static_cast<double>(each.size() - 1)));
  }
  [[nodiscard]] double per_second() const {
    return static_cast<double>(each.size()) / std::chrono::duration<double>(total).count();
  }
};

Times measure(const BenchOptions& options, const std::function<void()>& operation) {
  operation();  // the first one logs in and finds the key
  std::vector<Times> of_threads(options.threads);
  std::vector<std::exception_ptr> failures(options.threads);
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::seconds{options.seconds};
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < options.threads; ++i) {
      threads.emplace_back([&, i] {
        try {
          auto before = Clock::now();
          do {
            operation();
            const auto after = Clock::now();
            of_threads[i].each.push_back(after - before);
            before = after;
          } while (before < end);
        } catch (...) {
          failures[i] = std::current_exception();
        }
      });
    }
  }
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
  Times all;
  all.total = Clock::now() - begin;
  for (const Times& one : of_threads) all.each.insert(all.each.end(), one.each.begin(), one.each.end());
  std::ranges::sort(all.each);
  return all;
}

Exit bench(const Tool& tool, const BenchOptions& options) {
  const HostFile host = tool.host();
  return with_ring(host, [&](const hsmseal::KeyRing& ring) {
    const hsmseal::EnvelopeEncryptor vault{ring};
    const hsmseal::SecretBytes secret{options.bytes};
    const auto context = hsmseal::Context{}.add("hsmseal", "bench");
    const hsmseal::Bytes sealed = vault.seal(secret.view(), context);
    const Output out = tool.output();
    const auto active = ring.active();
    out.line("set {}, token '{}', secrets of {} bytes, {} threads, {} s each", active.version, active.key.token,
             options.bytes, options.threads, options.seconds);
    Json document = {{"version", active.version},
                     {"token", active.key.token},
                     {"bytes", options.bytes},
                     {"threads", options.threads},
                     {"operations", Json::array()}};
    const auto show = [&](std::string_view name, const Times& times) {
      out.line("{}: {:.0f} a second; half within {}, 99 of 100 within {}, slowest {}", name, times.per_second(),
               to_text(times.quantile(0.5)), to_text(times.quantile(0.99)), to_text(times.each.back()));
      document["operations"].push_back({{"name", name},
                                        {"count", times.each.size()},
                                        {"per_second", times.per_second()},
                                        {"median_ns", times.quantile(0.5).count()},
                                        {"p99_ns", times.quantile(0.99).count()},
                                        {"slowest_ns", times.each.back().count()}});
    };
    show("seal", measure(options, [&] { static_cast<void>(vault.seal(secret.view(), context)); }));
    show("open", measure(options, [&] { static_cast<void>(vault.open(sealed, context)); }));
    show("rewrap", measure(options, [&] { static_cast<void>(vault.rewrap(sealed)); }));
    out.document(document);
    return Exit::Success;
  });
}

}  // namespace

void add_bench(Tool& tool) {
  const auto options = std::make_shared<BenchOptions>();
  auto* command = tool.command("bench",
                               "measure sealing, opening and rewrapping under the active set; each seal counts as "
                               "a wrap under its key",
                               [&tool, options] { return bench(tool, *options); });
  command->add_option("--seconds", options->seconds, "how long each is measured; 3 by default")
      ->check(CLI::Range(1, 3600));
  command->add_option("--threads", options->threads, "how many work at once; 1 by default")->check(CLI::Range(1, 256));
  command->add_option("--bytes", options->bytes, "the size of a secret; 32 by default")->check(CLI::Range(0, 1 << 24));
}

}  // namespace tool
