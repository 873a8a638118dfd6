#include <memory>
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

/// p11-kit takes the last of repeated attributes and ignores unknown ones; a selector must do neither.
void check_attributes(std::string_view uri) {
  static const std::set<std::string_view> selects = {"token", "serial", "model", "manufacturer"};
  const std::size_t colon = uri.find(':');
  std::string_view rest = colon == std::string_view::npos ? std::string_view{} : uri.substr(colon + 1);
  std::set<std::string_view> seen;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find_first_of(";?&"), rest.size());
    const std::string_view attribute = rest.substr(0, end);
    const std::string_view name = attribute.substr(0, std::min(attribute.find('='), attribute.size()));
    // Only the name goes into the message: the value may be a PIN.
    if (!selects.contains(name)) {
      throw InvalidArgumentError(fmt::format(
          "PKCS#11 URI: attribute '{}' does not select a token; use token, serial, model and manufacturer{}", name,
          name.starts_with("pin-") ? ", and a PinSource for the PIN" : ""));
    }
    if (attribute.size() <= name.size() + 1) {
      throw InvalidArgumentError(fmt::format("PKCS#11 URI: attribute '{}' is empty and would match any token", name));
    }
    if (!seen.insert(name).second) {
      throw InvalidArgumentError(fmt::format("PKCS#11 URI: attribute '{}' stands twice", name));
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (seen.empty()) throw InvalidArgumentError("PKCS#11 URI: no attribute that selects a token");
}

}  // namespace

TokenSelector TokenSelector::from_uri(std::string_view pkcs11_uri) {
  const std::string text{pkcs11_uri};
  if (!text.starts_with("pkcs11:")) throw InvalidArgumentError("a PKCS#11 URI starts with 'pkcs11:'");
  check_attributes(text);
  const std::unique_ptr<P11KitUri, UriFree> uri{p11_kit_uri_new()};
  if (!uri) throw std::bad_alloc();
  if (p11_kit_uri_parse(text.c_str(), P11_KIT_URI_FOR_TOKEN, uri.get()) != P11_KIT_URI_OK ||
      p11_kit_uri_any_unrecognized(uri.get()) != 0) {
    throw InvalidArgumentError("PKCS#11 URI: not well-formed (RFC 7512)");
  }
  const CK_TOKEN_INFO& token = *p11_kit_uri_get_token_info(uri.get());
  TokenSelector selector;
  selector.label = pkcs11::unpadded(token.label);
  selector.serial = pkcs11::unpadded(token.serialNumber);
  selector.model = pkcs11::unpadded(token.model);
  selector.manufacturer = pkcs11::unpadded(token.manufacturerID);
  return selector;
}

}  // namespace hsmseal
