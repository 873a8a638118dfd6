#include <algorithm>
#include <array>
#include <utility>

#include <fmt/ranges.h>

#include <hsmseal/error.hpp>
#include <hsmseal/token_error.hpp>
#include <hsmseal/vendors.hpp>

#include "diagnosis.hpp"
#include "system.hpp"

namespace tool {
namespace {

// CKF_* of CK_TOKEN_INFO, PKCS#11 2.40 section 3.2.
constexpr std::uint64_t kWriteProtected = 0x2, kLoginRequired = 0x4, kUserPinInitialized = 0x8,
                        kUserPinCountLow = 0x10000, kUserPinFinalTry = 0x20000, kUserPinLocked = 0x40000,
                        kUserPinToBeChanged = 0x80000;

std::string whole_name(const hsmseal::TokenInfo& token) {
  return fmt::format("'{}' (serial {})", token.label, token.serial);
}

bool is_of(const HostToken& token, std::string_view driver) { return token.driver.find(driver) != std::string::npos; }

std::string cure_of_blank_token(const HostToken& token) {
  const std::string label = token.binding.select.label.empty() ? "NAME" : token.binding.select.label;
  if (is_of(token, "softhsm")) {
    return fmt::format(
        "make one: softhsm2-util --init-token --free --label {}; or let SOFTHSM2_CONF name the "
        "configuration of those there are",
        label);
  }
  if (is_of(token, "opencryptoki")) {
    return fmt::format("initialize the blank one as {}: pkcsconf -I, -P and -u with -c and the slot's number", label);
  }
  return fmt::format("initialize the blank one with the vendor's tool, and call it {}", label);
}

std::string cure_of_no_token(const HostToken& token) {
  if (is_of(token, "softhsm")) return cure_of_blank_token(token);
  return "connect the HSM or its partition, and check the driver's configuration";
}

/// What a driver shows of its tokens.
struct Shown {
  std::vector<hsmseal::TokenInfo> ready = {}, blank = {};

  /// Those that may be meant, by their names; sorted, as drivers number slots anew.
  [[nodiscard]] std::string names() const {
    std::vector<std::string> names;
    std::ranges::transform(ready, std::back_inserter(names), whole_name);
    std::ranges::sort(names);
    return fmt::format("{}", fmt::join(names, ", "));
  }

  /// Blank ones have no name. A slot's number is the one thing by which the vendor's tool knows them.
  [[nodiscard]] std::string blank_ones() const {
    std::vector<std::string> slots;
    for (const auto& token : blank) slots.push_back(fmt::format("slot {} ({})", token.slot, token.model));
    return fmt::format("{}", fmt::join(slots, ", "));
  }
};

void tell_of_none(const Shown& shown, const HostToken& token, Findings& findings) {
  if (shown.blank.empty()) {
    findings.problem(name_of(token), "its driver shows no token at all", cure_of_no_token(token));
  } else {
    findings.problem(
        name_of(token),
        fmt::format("its driver shows no token that is initialized, and blank ones in {}", shown.blank_ones()),
        cure_of_blank_token(token));
  }
}

std::optional<hsmseal::TokenInfo> find_token(const std::shared_ptr<hsmseal::Pkcs11Module>& module,
                                             const HostToken& token, const Patience& patience, Findings& findings) {
  const Shown shown = patience.call("the search for tokens", [module] {
    return Shown{module->tokens(), module->blank_tokens()};
  });
  if (shown.ready.empty()) {
    tell_of_none(shown, token, findings);
    return std::nullopt;
  }
  try {
    return patience.call("the search for tokens",
                         [module, select = token.binding.select] { return module->token(select); });
  } catch (const hsmseal::TokenUnavailableError&) {
    findings.problem(
        name_of(token),
        fmt::format("no token with {}; its driver shows {}{}", token.binding.select.describe(), shown.names(),
                    shown.blank.empty() ? "" : ", and blank ones in " + shown.blank_ones()),
        fmt::format("write what one of these is called into \"select\", or connect the HSM that is meant{}",
                    shown.blank.empty() ? "" : "; or " + cure_of_blank_token(token)));
  } catch (const hsmseal::InvalidArgumentError&) {
    findings.problem(
        name_of(token),
        fmt::format("more than one token with {}; its driver shows {}", token.binding.select.describe(), shown.names()),
        "add the serial to \"select\", as in {\"label\": ..., \"serial\": ...}");
  }
  return std::nullopt;
}

/// What keeps a login from being tried.
bool may_log_in(const hsmseal::TokenInfo& info, const HostToken& token, Findings& findings) {
  const auto is = [&](std::uint64_t flag) { return (info.flags & flag) != 0; };
  const std::size_t before = findings.problems();
  if (is(kUserPinLocked)) {
    findings.problem(name_of(token), "its user PIN is locked", "ask its security officer to set a new PIN");
  } else if (!is(kUserPinInitialized)) {
    findings.problem(name_of(token), "its user PIN was never set",
                     "set it with the vendor's tool, as the security officer");
  } else if (is(kUserPinToBeChanged)) {
    findings.problem(name_of(token), "its user PIN must be changed before it is used",
                     "change it with the vendor's tool");
  } else if ((is(kUserPinFinalTry) || is(kUserPinCountLow)) &&
             token.binding.low_pin_count == hsmseal::LowPinCount::Refuse) {
    findings.problem(
        name_of(token),
        is(kUserPinFinalTry) ? "one more wrong PIN locks it, so no PIN was sent"
                             : "it reports wrong PINs and may lock, so no PIN was sent",
        "correct the PIN, then log in once with the vendor's tool, or with \"low_pin_count\": \"try-once\"");
  }
  return findings.problems() == before;
}

std::string where_pin_is(const PinPlace& pin) {
  switch (pin.kind) {
    case PinPlace::Kind::File:
      return fmt::format("in file '{}'", pin.name);
    case PinPlace::Kind::Environment:
      return fmt::format("in the environment variable '{}'", pin.name);
    case PinPlace::Kind::Prompt:
      return "as it was typed";
    case PinPlace::Kind::None:
    case PinPlace::Kind::ProtectedPath:
      break;
  }
  return "at the token";
}

/// The form that the vendor wants, as far as that shows without the token.
void check_form(const hsmseal::SecretBytes& pin, const HostToken& token, Findings& findings) {
  const std::string_view text = pin.text();
  if (text.front() == ' ' || text.back() == ' ' || text.back() == '\t') {
    findings.note(name_of(token), fmt::format("the PIN {} begins or ends with a blank", where_pin_is(token.pin)),
                  "take the blank away, unless it belongs to the PIN");
  }
  const hsmseal::Vendor* vendor = hsmseal::find_vendor(token.driver);
  if (vendor == nullptr || !vendor->login) return;
  const bool has_colon = text.find(':') != std::string_view::npos;
  const bool has_address = has_colon && text.find('@') != std::string_view::npos;
  const auto style = vendor->login->value;
  if (style == hsmseal::LoginStyle::UserPassword && !has_colon) {
    findings.note(name_of(token),
                  fmt::format("{} wants `user:password` for a PIN, and there is no colon in it", vendor->name),
                  fmt::format("write user and password {}", where_pin_is(token.pin)));
  }
  if (style == hsmseal::LoginStyle::UserPasswordAddress && !has_address) {
    findings.note(name_of(token),
                  fmt::format("{} wants `user:password@address` for a PIN, and it has another form", vendor->name),
                  fmt::format("write user, password and address {}", where_pin_is(token.pin)));
  }
}

bool pin_is_there(const HostToken& token, Findings& findings) {
  if (token.binding.pin.kind() != hsmseal::PinSource::Kind::Pin) return true;
  try {
    check_form(token.binding.pin.read(token.binding.select), token, findings);
    return true;
  } catch (const hsmseal::InvalidArgumentError& error) {
    const bool of_environment = token.pin.kind == PinPlace::Kind::Environment;
    findings.problem(name_of(token), error,
                     of_environment ? "set it where hsmseal is started, or let the host file name a PIN file"
                                    : "write the PIN into the file's first line");
  } catch (const std::exception& error) {
    findings.problem(name_of(token), error, "run hsmseal where somebody can type the PIN, or name a PIN file");
  }
  return false;
}

void tell_refusal(const hsmseal::TokenLoginError& error, std::uint64_t now, const HostToken& token,
                  Findings& findings) {
  std::string left;
  if ((now & kUserPinLocked) != 0) {
    left = "; the token is locked now";
  } else if ((now & kUserPinFinalTry) != 0) {
    left = "; the token says that one more wrong PIN locks it";
  } else if ((now & kUserPinCountLow) != 0) {
    left = "; the token says that it may lock soon";
  }
  constexpr std::uint64_t kPinIncorrect = 0xa0, kPinLocked = 0xa4;  // CKR_PIN_*
  if (error.rv() < kPinIncorrect || error.rv() > kPinLocked) {
    findings.problem(name_of(token), fmt::format("its login failed: {}{}", error.rv_name(), left),
                     "look into the HSM's log; the PIN may be right, but hsmseal does not send it again");
    return;
  }
  findings.problem(
      name_of(token), fmt::format("it refuses the PIN {} ({}){}", where_pin_is(token.pin), error.rv_name(), left),
      (now & kUserPinLocked) != 0 ? "ask its security officer to set a new PIN"
                                  : "correct the PIN; hsmseal sent this one once and does not send it again");
}

}  // namespace

std::optional<hsmseal::Pkcs11Session> diagnose_token(const std::shared_ptr<hsmseal::Pkcs11Module>& module,
                                                     const HostToken& token, const Patience& patience,
                                                     Findings& findings) {
  try {
    const auto info = find_token(module, token, patience, findings);
    if (!info) return std::nullopt;
    findings.good(name_of(token),
                  fmt::format("{}, model {}, of {}", whole_name(*info), info->model, info->manufacturer));
    if ((info->flags & kWriteProtected) != 0) {
      findings.problem(name_of(token), "it is write-protected, so no key can be made",
                       "unlock it with the vendor's tool");
    }
    const auto kind = token.binding.pin.kind();
    if (kind == hsmseal::PinSource::Kind::None && (info->flags & kLoginRequired) != 0) {
      findings.problem(name_of(token), "it wants a login, and the host file has none",
                       R"(give it a PIN: "pin": {"file": ...}, say)");
      return std::nullopt;
    }
    if (kind != hsmseal::PinSource::Kind::None &&
        (!may_log_in(*info, token, findings) || !pin_is_there(token, findings))) {
      return std::nullopt;
    }
    auto session = patience.call("C_OpenSession and C_Login", [module, binding = token.binding, kind] {
      hsmseal::Pkcs11Session opened{module, binding.select};
      if (kind != hsmseal::PinSource::Kind::None) opened.login(binding.pin, binding.low_pin_count);
      return opened;
    });
    findings.good(name_of(token),
                  kind == hsmseal::PinSource::Kind::None ? "it works without a login" : "the login works");
    return session;
  } catch (const hsmseal::TokenLoginError& error) {
    const auto now = patience.call("C_GetTokenInfo",
                                   [module, select = token.binding.select] { return module->token(select).flags; });
    tell_refusal(error, now, token, findings);
  } catch (const hsmseal::Error& error) {
    findings.problem(name_of(token), error, "look into the HSM's and the driver's log, and check the connection");
  }
  return std::nullopt;
}

hsmseal::ProbeReport probe(const HostFile& host, const HostToken& token, hsmseal::Pkcs11Session session,
                           const hsmseal::ProbeOptions& options, const Patience& patience) {
  return patience.call("the probe", [host = host.host(), alias = token.alias, session = std::move(session), options] {
    return hsmseal::probe_token(host, alias, options);
  });
}

}  // namespace tool
