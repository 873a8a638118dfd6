#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <hsmseal/credential_set.hpp>
#include <hsmseal/ring_options.hpp>

namespace hsmseal::ring {

using Mac = std::array<std::byte, 32>;

/// What a ring's record says, src/FORMAT.md section 6. A plain value.
struct Body {
  RingId id;
  std::uint64_t generation = 0;
  Version next_version = 1;
  Mac prev_mac{};  ///< zeros in generation 1
  RingSettings settings;
  std::vector<Bytes> former_ring_keys;  ///< each under the one after it, the last under the present one; oldest first
  std::vector<CredentialSet> sets;      ///< by version, oldest first

  bool operator==(const Body&) const = default;

  /// @returns nullptr if there is none.
  [[nodiscard]] const CredentialSet* find(Version version) const noexcept;
  [[nodiscard]] CredentialSet* find(Version version) noexcept;
  [[nodiscard]] const CredentialSet& active() const;
  [[nodiscard]] CredentialSet& active();
};

/// The canonical text: one text for each value.
/// @throws InvalidArgumentError  a text in it is not UTF-8.
[[nodiscard]] std::string to_text(const Body& body);

/// @throws RingTamperedError  not what to_text() makes of any valid ring.
[[nodiscard]] Body from_text(std::string_view text);

/// One set, cut out of a body that need not be whole.
/// @returns nothing if it is not a set's text.
[[nodiscard]] std::optional<CredentialSet> set_from_text(std::string_view text);

/// @returns what is wrong with these settings, if anything.
[[nodiscard]] std::optional<std::string> wrong_setting(const RingSettings& settings);

/// @param what  names the text in the message.
/// @throws InvalidArgumentError  `text` is not UTF-8, so that it could not be stored.
void check_utf8(const std::string& text, std::string_view what);

}  // namespace hsmseal::ring
