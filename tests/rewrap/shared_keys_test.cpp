#include <cstdint>
#include <set>

#include <hsmseal/error.hpp>

#include "envelope/row_mover.hpp"
#include "envelope/wire.hpp"
#include "rewrap/vault_rows.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

/// Puts rows into a vault, of which so many that follow each other have one data key.
void put_shared(Vault& vault, int rows, std::uint64_t rows_each) {
  const EnvelopeEncryptor encryptor{vault.ring, {.data_keys = DataKeyPolicy::reuse(rows_each)}};
  std::set<Bytes> starts;
  for (int i = 0; i < rows; ++i) {
    const std::string key = Vault::key(i);
    const Bytes sealed = encryptor.seal(bytes_of(Vault::secret(key)), context_of(key));
    starts.emplace(sealed.begin(), sealed.begin() + wire::kStartBytes + 60);
    vault.rows->put(key, sealed);
  }
  REQUIRE(starts.size() == static_cast<std::uint64_t>(rows) / rows_each);
}

/// How often a run asks the token.
int uses_of(const Vault& vault, const RewrapOptions& options, RewrapVerdict verdict = RewrapVerdict::Done) {
  const int before = vault.parts.provider->wraps() + vault.parts.provider->unwraps();
  const auto report = vault.run(options);
  CHECK(report.verdict == verdict);
  return vault.parts.provider->wraps() + vault.parts.provider->unwraps() - before;
}

}  // namespace

TEST_CASE("rows of a batch that share a data key ask the token once to move it") {
  const auto check = GENERATE(RowCheck::Open, RowCheck::Commitment);
  Vault vault;
  put_shared(vault, 60, 10);
  vault.rotate();
  auto options = vault.options();
  options.check = check;
  options.batch = 30;
  const int uses = uses_of(vault, options);
  CHECK(uses == (check == RowCheck::Open ? 6 * 3 + 54 : 6 * 2));  // each row is opened once more, or not
  CHECK(vault.opened_under(2) == 60);
}

TEST_CASE("data keys are moved anew in each batch, and resealed rows share none") {
  Vault vault;
  put_shared(vault, 20, 20);
  vault.rotate();
  auto options = vault.options();
  SECTION("each batch") {
    options.batch = 5;
    CHECK(uses_of(vault, options) == 4 * 3 + 16);
  }
  SECTION("resealed") {
    options.mode = RewrapMode::Reseal;
    CHECK(uses_of(vault, options) == 20 * 3);
  }
  CHECK(vault.opened_under(2) == 20);
}

TEST_CASE("a damaged row among those of its data key is reported and left, wherever it stands") {
  const int damaged = GENERATE(0, 1, 19);
  CAPTURE(damaged);
  Vault vault;
  put_shared(vault, 20, 20);
  Bytes& value = vault.rows->values.at(Vault::key(damaged));
  const bool payload = GENERATE(true, false);
  if (payload) {
    value.back() ^= std::byte{1};
  } else {
    value.at(80) ^= std::byte{1};  // of the commitment
  }
  const Bytes before = value;
  vault.rotate();
  auto options = vault.options();
  options.batch = 20;
  const auto report = vault.run(options);
  CHECK(report.verdict == RewrapVerdict::RowsLeft);
  CHECK(report.moved == 19);
  REQUIRE(report.errors.size() == 1);
  CHECK(report.errors[0].key == Vault::key(damaged));
  CHECK(report.errors[0].code == ErrorCode::Open);
  CHECK(vault.rows->values.at(Vault::key(damaged)) == before);
  vault.rows->remove(Vault::key(damaged));
  CHECK(vault.opened_under(2) == 19);
}

TEST_CASE("a set that becomes the active one in a batch has the rest of it, also of shared data keys") {
  Vault vault;
  put_shared(vault, 3, 3);
  vault.rotate();
  const auto options = vault.options();
  const envelope::RowMover mover{vault.ring, options};
  envelope::MovedKeys keys;
  const auto version_of_moved = [&](int number) {
    const auto row = vault.rows->read({Vault::key(number)}).at(0);
    return inspect(mover.new_value(*row, keys).value()).version;
  };
  CHECK(version_of_moved(0) == 2);
  CHECK(version_of_moved(1) == 2);
  vault.rotate();
  CHECK(version_of_moved(2) == 3);
}
