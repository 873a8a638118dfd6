#include <algorithm>
#include <array>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <p11-kit/uri.h>

#include <hsmseal/error.hpp>
#include <hsmseal/token_binding.hpp>

#include "pkcs11/cryptoki.hpp"

namespace hsmseal {
namespace {

struct UriFree {
  void operator()(P11KitUri* uri) const noexcept { p11_kit_uri_free(uri); }
};

/// What may be shown of a URI: the name of an attribute, if it is one. Anything else may be a misplaced PIN.
std::string shown(std::string_view name) {
  const bool is_name = !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
  });
  return is_name ? fmt::format("attribute '{}'", name) : "something that is no attribute and";
}

/// p11-kit takes the last of repeated attributes and ignores unknown ones; a selector must do neither.
/// @returns how many attributes there are.
std::size_t check_attributes(std::string_view uri) {
  static const std::set<std::string_view> selects = {"token", "serial", "model", "manufacturer"};
  std::string_view rest = uri.substr(uri.find(':') + 1);
  std::set<std::string_view> seen;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find_first_of(";?&"), rest.size());
    const std::string_view attribute = rest.substr(0, end);
    const std::string_view name = attribute.substr(0, std::min(attribute.find('='), attribute.size()));
    if (!selects.contains(name)) {
      throw InvalidArgumentError(
          fmt::format("PKCS#11 URI: {} does not select a token; use token, serial, model and manufacturer{}",
                      shown(name), name.starts_with("pin-") ? ", and a PinSource for the PIN" : ""));
    }
    if (!seen.insert(name).second) {
      throw InvalidArgumentError(fmt::format("PKCS#11 URI: attribute '{}' stands twice", name));
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return seen.size();
}

}  // namespace

TokenSelector TokenSelector::from_uri(std::string_view pkcs11_uri) {
  const std::string text{pkcs11_uri};
  if (!text.starts_with("pkcs11:")) throw InvalidArgumentError("a PKCS#11 URI starts with 'pkcs11:'");
  const std::size_t attributes = check_attributes(text);
  const std::unique_ptr<P11KitUri, UriFree> uri{p11_kit_uri_new()};
  if (!uri) throw std::bad_alloc();
  if (text.find('\0') != std::string::npos ||
      p11_kit_uri_parse(text.c_str(), P11_KIT_URI_FOR_TOKEN, uri.get()) != P11_KIT_URI_OK ||
      p11_kit_uri_any_unrecognized(uri.get()) != 0) {
    throw InvalidArgumentError("PKCS#11 URI: not well-formed (RFC 7512)");
  }
  const CK_TOKEN_INFO& token = *p11_kit_uri_get_token_info(uri.get());
  TokenSelector selector{.label = pkcs11::unpadded(token.label),
                         .serial = pkcs11::unpadded(token.serialNumber),
                         .model = pkcs11::unpadded(token.model),
                         .manufacturer = pkcs11::unpadded(token.manufacturerID)};
  const std::array fields{&selector.label, &selector.serial, &selector.model, &selector.manufacturer};
  const auto given = std::ranges::count_if(fields, [](const std::string* field) { return !field->empty(); });
  if (given == 0 || static_cast<std::size_t>(given) != attributes) {
    throw InvalidArgumentError("PKCS#11 URI: an attribute is empty, or there is none; it would match any token");
  }
  return selector;
}

}  // namespace hsmseal
