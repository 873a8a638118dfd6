#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include <hsmseal/key_wrapper.hpp>

#include "core/flight.hpp"
#include "keywrap/pkcs11_key.hpp"
#include "keywrap/tokens.hpp"
#include "platform/per_process.hpp"

namespace hsmseal::keywrap {

/// The wrapper of one described key: finds and proves the key when it is first used, and again after each loss.
///
/// Thread safety: as KeyWrapper says.
class DescribedWrapper final : public KeyWrapper, public std::enable_shared_from_this<DescribedWrapper> {
 public:
  /// @param version  the set that the key belongs to, for events.
  DescribedWrapper(std::shared_ptr<Tokens> tokens, KeyDescription key, Version version);

  [[nodiscard]] Bytes wrap(ByteView key, ByteView aad) override;
  [[nodiscard]] SecretBytes unwrap(ByteView wrapped, ByteView aad) override;
  /// As many as the host allows sessions: whether the token gives them shows when they are opened.
  [[nodiscard]] std::size_t concurrency() const override;

 private:
  class Found;
  class Retries;
  /// What this process has found.
  struct Memory {
    std::mutex mutex;
    std::shared_ptr<TokenConnection> token;
    std::shared_ptr<Found> key;
    std::shared_ptr<core::Flight> search;  ///< the one under way, if any
    std::shared_ptr<Life> searched_in;
  };

  template <typename Result>
  [[nodiscard]] Result operate(Result (Pkcs11Key::*use)(ByteView, ByteView), ByteView data, ByteView aad);
  template <typename Result>
  [[nodiscard]] Result with_key(TokenConnection& token, const std::function<Result(Pkcs11Key&)>& use);
  [[nodiscard]] Memory& memory();
  /// The token's connection, looked up by its alias once.
  [[nodiscard]] std::shared_ptr<TokenConnection> token();
  [[nodiscard]] std::shared_ptr<Found> found_in(const std::shared_ptr<Life>& life);
  [[nodiscard]] std::shared_ptr<Found> find_and_prove(const std::shared_ptr<Life>& life) const;
  /// @param missing  which key is not there, if nothing is returned.
  [[nodiscard]] std::shared_ptr<Found> look_once(const std::shared_ptr<Life>& life, KeyPart& missing) const;
  static void end_search(Memory& mine, const std::shared_ptr<core::Flight>& search, const std::shared_ptr<Life>& life,
                         std::shared_ptr<Found> found);
  [[nodiscard]] Direction direction() const noexcept;

  const std::shared_ptr<Tokens> tokens_;
  const KeyDescription description_;
  const Version version_;
  platform::PerProcess<Memory> memory_;
};

}  // namespace hsmseal::keywrap
