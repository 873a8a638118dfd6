#include <hsmseal/error.hpp>

#include "core/binding.hpp"
#include "crypto/crypto.hpp"
#include "envelope/data_key.hpp"
#include "envelope/row_mover.hpp"
#include "envelope/wire.hpp"
#include "rewrap/vault_rows.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

/// Rows of a vault, of which several that follow each other have one data key.
class SharedKeys {
 public:
  /// @param rows_each  of one data key.
  SharedKeys(Vault& vault, int rows, int rows_each) {
    for (int i = 0; i < rows; ++i) {
      const std::string key = Vault::key(i);
      if (i % rows_each == 0)
        first_ = EnvelopeEncryptor{vault.ring}.seal(bytes_of(Vault::secret(key)), context_of(key));
      vault.rows->put(key, i % rows_each == 0 ? first_ : beside(vault, key));
    }
  }

 private:
  /// What is sealed under the data key of the last first one.
  [[nodiscard]] Bytes beside(const Vault& vault, const std::string& key) const {
    wire::Envelope envelope = wire::read(first_);
    const CredentialSet set = vault.ring.active();
    const Bytes aad = core::Binding{core::kWrapLabel}
                          .append(static_cast<std::uint8_t>(envelope.suite))
                          .append(static_cast<std::uint8_t>(envelope.algorithm))
                          .append(vault.ring.id())
                          .append(set.version)
                          .append(set.key.kek_id)
                          .take();
    const auto wrapper = vault.parts.provider->connect(set.key, set.version);
    const envelope::PayloadKey data_key{wrapper->unwrap(envelope.wrapped, aad), Suite::DataKey, vault.ring.id()};
    const auto nonce = crypto::random_array<wire::kNonceBytes>();
    envelope.nonce = nonce;
    const Bytes payload = data_key.encrypt(envelope, context_of(key), SecretBytes::from_text(Vault::secret(key)));
    envelope.payload = payload;
    return wire::write(envelope);
  }

  Bytes first_;
};

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
  const SharedKeys rows{vault, 60, 10};
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
  const SharedKeys rows{vault, 20, 20};
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
  const SharedKeys rows{vault, 20, 20};
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
  const SharedKeys rows{vault, 3, 3};
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
