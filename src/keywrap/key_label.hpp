#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <hsmseal/credential_set.hpp>

namespace hsmseal::keywrap {

/// The label of a key that is made for a version of a ring unless it is given another: see SetSpec::key_label.
[[nodiscard]] std::string key_label(const RingId& ring, Version version);

/// The version that a label names, if it is one of key_label() for this ring, byte for byte.
[[nodiscard]] std::optional<Version> version_in(std::string_view label, const RingId& ring);

}  // namespace hsmseal::keywrap
