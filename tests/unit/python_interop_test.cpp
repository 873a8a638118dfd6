// Another implementation of src/FORMAT.md, in Python, opens what the library seals.
#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include <fmt/format.h>
#include <sys/wait.h>
#include <nlohmann/json.hpp>

#include <hsmseal/envelope.hpp>

#include "helpers.hpp"
#include "software_ring.hpp"
#include "streams.hpp"
#include "support/catch.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;
using nlohmann::json;
using test::contains;
using test::hex;

namespace {

struct Outcome {
  int status;
  std::string output;
};

/// Runs a command line of the shell, with both outputs in one.
Outcome outcome_of(const std::string& command_line) {
  const test::ScratchDirectory scratch;
  const std::string output = (scratch.path() / "output").string();
  const int status = std::system(fmt::format("{} > '{}' 2>&1", command_line, output).c_str());
  REQUIRE(WIFEXITED(status));
  std::ifstream file(output);
  return {WEXITSTATUS(status), {std::istreambuf_iterator<char>(file), {}}};
}

Outcome opened_by_python(const json& sealed) {
  const test::ScratchDirectory scratch;
  const std::string input = (scratch.path() / "input.json").string();
  std::ofstream(input) << sealed;
  return outcome_of(
      fmt::format("/usr/bin/python3 '{}/tests/vectors/make_vectors.py' open - < '{}'", HSMSEAL_SOURCE_DIR, input));
}

/// What the library sealed under a ring's active key, with that key.
json sealed_by_library(const test::SoftwareRing& ring) {
  const CredentialSet set = ring.ring.active();
  json all = {{"kek", hex(ring.provider->key(set.key.key_id).view())},
              {"kek_id", set.key.kek_id.to_string()},
              {"ring_id", ring.ring.id().to_string()},
              {"algorithm", set.key.profile.algorithm},
              {"iv_bytes", set.key.profile.gcm.iv_bytes},
              {"mac_key", set.key.mac_key_id.empty() ? "" : hex(ring.provider->key(set.key.mac_key_id).view())},
              {"envelopes", json::array()}};
  const Context record = Context{}.add("record", "42");
  const Context several = Context{}.add("tenant", "acme").add("record", "").add("f\xc3\xbcr", std::string(300, 'x'));
  const Bytes raw{std::byte{0}, std::byte{0xff}, std::byte{0x80}};
  const std::array<ContextView, 5> contexts = {kNoContext, record, several, ContextView::raw(raw), record};
  const std::array<std::size_t, 5> sizes = {0, 1, 32, 63, 1000};
  for (const Suite suite : {Suite::DataKey, Suite::Token}) {
    if (suite == Suite::Token && set.key.profile.algorithm != WrapAlgorithm::Aes256Gcm) continue;
    for (const std::size_t bucket : {0U, 2U, 16U, 64U, 1000U}) {
      const auto padding = bucket == 0 ? Padding::none() : Padding::to_multiple_of(bucket);
      const EnvelopeEncryptor encryptor = ring.encryptor({.suite = suite, .padding = padding});
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        Bytes secret(sizes[i]);
        for (std::size_t at = 0; at < secret.size(); ++at) secret[at] = static_cast<std::byte>(at * 89 + bucket);
        const std::size_t context = (i + bucket) % contexts.size();
        all["envelopes"].push_back({{"name", fmt::format("suite {}, {} bytes in {}, context {}",
                                                         static_cast<int>(suite), sizes[i], bucket, context)},
                                    {"sealed", hex(encryptor.seal(secret, contexts.at(context)))},
                                    {"context", hex(contexts.at(context).bytes())},
                                    {"secret", hex(secret)}});
      }
    }
  }
  return all;
}

/// Streams at the borders of segments, sealed by several threads.
json streams_sealed_by_library(const test::SoftwareRing& ring) {
  json all = sealed_by_library(ring);
  all["envelopes"] = json::array();
  const EnvelopeEncryptor encryptor = ring.encryptor();
  const Context record = Context{}.add("record", "42");
  for (const std::size_t size : {0U, 1U, 65535U, 65536U, 65537U, 131072U, 131073U, 200000U}) {
    const Bytes secret = test::pattern(size);
    const ContextView context = size % 2 == 0 ? ContextView{kNoContext} : ContextView{record};
    all["envelopes"].push_back({{"name", fmt::format("a stream of {} bytes", size)},
                                {"sealed", hex(test::sealed_stream(encryptor, secret, context, {.threads = 3}))},
                                {"context", hex(context.bytes())},
                                {"secret", hex(secret)}});
  }
  return all;
}

}  // namespace

TEST_CASE("Python's cryptography package is there") {
  const Outcome outcome = outcome_of("/usr/bin/python3 -c 'import cryptography; print(cryptography.__version__)'");
  INFO(outcome.output);
  REQUIRE(outcome.status == 0);
}

TEST_CASE("Python opens what the library sealed") {
  test::SoftwareRing ring;
  ring.add_set();
  const json sealed = sealed_by_library(ring);
  REQUIRE(sealed.at("envelopes").size() == 50);
  const Outcome outcome = opened_by_python(sealed);
  INFO(outcome.output);
  CHECK(outcome.status == 0);
  CHECK(outcome.output == "50 opened\n");
}

TEST_CASE("Python opens what sets of CBC and HMAC, or with longer IVs, have sealed") {
  test::SoftwareRing cbc{.spec = {.token = "t", .algorithm = WrapAlgorithm::Aes256CbcHmac}};
  test::SoftwareRing long_iv{.spec = {.token = "t", .gcm = GcmForm{IvRule::TokenWrites, 16}}};
  const json of_cbc = sealed_by_library(cbc), of_long_iv = sealed_by_library(long_iv);
  REQUIRE(of_cbc.at("envelopes").size() == 25);
  CHECK(opened_by_python(of_cbc).output == "25 opened\n");
  CHECK(opened_by_python(of_long_iv).output == "50 opened\n");
  json without_mac_key = of_cbc;
  without_mac_key["mac_key"] = hex(Bytes(32));
  CHECK(contains(opened_by_python(without_mac_key).output, "25 envelopes, 25 faults"));
}

TEST_CASE("Python opens the streams that the library sealed") {
  test::SoftwareRing ring;
  test::SoftwareRing cbc{.spec = {.token = "t", .algorithm = WrapAlgorithm::Aes256CbcHmac}};
  for (const test::SoftwareRing* sealer : {&ring, &cbc}) {
    json sealed = streams_sealed_by_library(*sealer);
    CHECK(opened_by_python(sealed).output == "8 opened\n");
    auto last = sealed["envelopes"][7]["sealed"].get<std::string>();
    sealed["envelopes"][7]["sealed"] = last.substr(0, last.size() - 2);
    CHECK(contains(opened_by_python(sealed).output, "8 envelopes, 1 faults"));
  }
}

TEST_CASE("Python opens what the library rewrapped") {
  test::SoftwareRing ring;
  const EnvelopeEncryptor encryptor = ring.encryptor({.padding = Padding::to_multiple_of(64)});
  const Context context = Context{}.add("record", "42");
  const Bytes old = encryptor.seal(bytes_of("hunter2"), context);
  ring.add_set();
  json sealed = sealed_by_library(ring);
  sealed["envelopes"] = {{{"name", "rewrapped"},
                          {"sealed", hex(encryptor.rewrap(old))},
                          {"context", hex(context.encoded())},
                          {"secret", hex(bytes_of("hunter2"))}}};
  const Outcome outcome = opened_by_python(sealed);
  INFO(outcome.output);
  CHECK(outcome.status == 0);
  CHECK(outcome.output == "1 opened\n");
}

TEST_CASE("Python does not open what it should not, so that its answer means something") {
  test::SoftwareRing ring;
  const json sealed = sealed_by_library(ring);
  const auto altered = [&](const char* field, const std::string& value) {
    json copy = sealed;
    copy["envelopes"][7][field] = value;
    return opened_by_python(copy);
  };
  const Bytes last = test::unhex(sealed["envelopes"][7]["sealed"].get<std::string>());
  for (const Outcome& outcome : {altered("secret", "00"), altered("context", "00ff"),
                                 altered("sealed", hex(test::with_flipped_bit(last, last.size() * 8 - 1)))}) {
    INFO(outcome.output);
    CHECK(outcome.status == 1);
    CHECK(contains(outcome.output, "50 envelopes, 1 faults"));
  }
  json nothing = sealed;
  nothing["envelopes"] = json::array();
  CHECK(opened_by_python(nothing).status == 1);
}
