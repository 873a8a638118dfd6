#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <hsmseal/credential_set.hpp>

namespace hsmseal::keywrap {

/// The label of a key that is made for a version of a ring unless it is given another: see SetSpec::key_label.
[[nodiscard]] std::string key_label(const RingId& ring, Version version);

/// The label of the second key beside one with this label.
[[nodiscard]] std::string mac_key_label(const std::string& key_label);

/// What a label says of a key.
struct LabelledKey {
  Version version = 0;
  KeyPart part = KeyPart::Encryption;
};

/// What a label names, if it is one that these functions make for this ring, byte for byte.
[[nodiscard]] std::optional<LabelledKey> key_in(std::string_view label, const RingId& ring);

}  // namespace hsmseal::keywrap
