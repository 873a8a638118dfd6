#include "host_file.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

#include <fmt/ranges.h>

#include <hsmseal/error.hpp>
#include <hsmseal/sql_ring_store.hpp>

#include "failure.hpp"
#include "system.hpp"

namespace tool {
namespace {

using namespace std::chrono_literals;

/// Asks once, whatever the number of logins, and keeps the answer as long as the tool runs.
hsmseal::PinSource prompt_for(const std::string& alias) {
  struct Asked {
    std::mutex mutex;
    hsmseal::SecretBytes pin;
  };
  return hsmseal::PinSource::callback([alias, asked = std::make_shared<Asked>()](const hsmseal::TokenSelector&) {
    const std::lock_guard lock{asked->mutex};
    if (asked->pin.empty())
      asked->pin = ask_secret(fmt::format("PIN of token '{}'", alias), "name a PIN file in the host file");
    return asked->pin.clone();
  });
}

hsmseal::TokenSelector read_selector(Fields& token) {
  if (const Json* given = token.find("select"); given != nullptr && given->is_string()) {
    try {
      return hsmseal::TokenSelector::from_uri(given->get<std::string>());
    } catch (const hsmseal::InvalidArgumentError& error) {
      token.refuse("select", fmt::format("is wrong: {}", error.what()));
    }
  }
  Fields fields = token.object("select");
  hsmseal::TokenSelector select{.label = fields.text("label").value_or(""),
                                .serial = fields.text("serial").value_or(""),
                                .model = fields.text("model").value_or(""),
                                .manufacturer = fields.text("manufacturer").value_or("")};
  fields.done();
  if (select.label.empty() && select.serial.empty() && select.model.empty() && select.manufacturer.empty()) {
    token.refuse("select", "is empty; give the token's label or serial");
  }
  return select;
}

void read_limits(Fields& token, hsmseal::SessionLimits& limits) {
  if (!token.has("limits")) return;
  Fields fields = token.object("limits");
  const auto milliseconds = [&](const std::string& name, std::chrono::milliseconds& value) {
    const auto given = fields.number(name);
    if (!given) return;
    if (*given > static_cast<std::uint64_t>(std::chrono::milliseconds{24h}.count())) {
      fields.refuse(name, "must be at most 86400000");
    }
    value = std::chrono::milliseconds{*given};
  };
  if (const auto most = fields.number("max_sessions")) limits.max_sessions = *most;
  milliseconds("session_wait_ms", limits.session_wait);
  milliseconds("idle_check_ms", limits.idle_check);
  milliseconds("keep_alive_ms", limits.keep_alive);
  fields.done();
}

bool same(const hsmseal::DriverOptions& a, const hsmseal::DriverOptions& b) {
  return a.library == b.library && a.start_up == b.start_up && a.environment == b.environment &&
         a.concurrency == b.concurrency && a.restart == b.restart;
}

}  // namespace

HostFile HostFile::read(const std::filesystem::path& path) {
  HostFile file;
  file.name_ = path.string();
  file.path_ = std::filesystem::absolute(path);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw UsageError(
        fmt::format("there is no host file '{}'; write one, or name it with --host or HSMSEAL_HOST: man "
                    "hsmseal shows an example",
                    file.name_));
  }
  const Json parsed = parse_json(file.name_, trusted_content_of(path));
  Fields whole{path.string(), "", parsed};
  file.read_tokens(whole);
  file.read_store(whole);
  if (const auto pin = whole.text("ring_pin")) file.ring_pin_ = file.beside(*pin);
  if (const auto log = whole.text("audit_log")) file.audit_log_ = file.beside(*log);
  whole.done();
  return file;
}

std::filesystem::path HostFile::beside(const std::filesystem::path& path) const { return path_.parent_path() / path; }

void HostFile::read_tokens(Fields& whole) {
  const Json* tokens = whole.find("tokens");
  if (tokens == nullptr) whole.refuse_missing("tokens", "; it names the tokens of this host");
  static_cast<void>(whole.object("tokens"));
  for (const auto& [alias, token] : tokens->items()) {
    read_token(alias, Fields{name_, "tokens." + alias, token});
  }
  if (tokens_.empty()) whole.refuse("tokens", "names no token");
  for (const auto& [driver, said] : drivers_) {
    try {
      host_.driver(driver, said.options);
    } catch (const hsmseal::InvalidArgumentError& error) {
      throw UsageError(fmt::format("host file '{}': field '{}': {}", name_, said.field, error.what()));
    }
  }
}

void HostFile::read_token(const std::string& alias, Fields fields) {
  HostToken token{.alias = alias, .driver = {}, .binding = {}, .pin = {}};
  token.driver = fields.text("driver").value_or("");
  if (token.driver.empty()) {
    fields.refuse_missing("driver", "; give a vendor's alias (hsmseal drivers lists them), or the library's path");
  }
  token.binding.driver = read_driver(fields, token.driver);
  token.binding.select = read_selector(fields);
  token.pin = read_pin(fields, alias, token.binding);
  read_limits(fields, token.binding.limits);
  token.binding.low_pin_count = fields.word<hsmseal::LowPinCount>(
      "low_pin_count", hsmseal::LowPinCount::Refuse,
      {{"refuse", hsmseal::LowPinCount::Refuse}, {"try-once", hsmseal::LowPinCount::TryOnce}});
  token.binding.hang_policy = fields.word<hsmseal::HangPolicy>(
      "calls", hsmseal::HangPolicy::Isolated,
      {{"isolated", hsmseal::HangPolicy::Isolated}, {"direct", hsmseal::HangPolicy::Direct}});
  fields.done();
  try {
    host_.token(alias, token.binding);
  } catch (const hsmseal::InvalidArgumentError& error) {
    fields.refuse("limits", fmt::format("is out of range: {}", error.what()));
  }
  tokens_.push_back(std::move(token));
}

std::string HostFile::read_driver(Fields& fields, const std::string& driver) {
  hsmseal::DriverOptions options;
  if (const auto library = fields.text("library")) options.library = beside(*library);
  options.start_up = fields.text("start_up").value_or("");
  options.environment = fields.texts("environment");
  options.concurrency = fields.word<hsmseal::Concurrency>(
      "concurrency", hsmseal::Concurrency::Parallel,
      {{"parallel", hsmseal::Concurrency::Parallel}, {"serialized", hsmseal::Concurrency::Serialized}});
  if (fields.find("restart") != nullptr) {  // otherwise as the driver is known to need it
    options.restart = fields.word<hsmseal::DriverRestart>(
        "restart", hsmseal::DriverRestart::WhenOwner,
        {{"when-owner", hsmseal::DriverRestart::WhenOwner}, {"never", hsmseal::DriverRestart::Never}});
  }
  std::string name = driver;
  if (std::filesystem::path{driver}.has_parent_path()) {
    // Host takes no path for a name.
    options.library = driver;
    std::ranges::replace(name, '/', '|');
  } else if (same(options, {})) {
    return name;
  }
  const auto [known, is_new] = drivers_.try_emplace(name, SaidOfDriver{fields.name_of("driver"), options});
  if (!is_new && !same(known->second.options, options)) {
    fields.refuse("driver",
                  fmt::format("comes with another start_up, environment or library than '{}', though a process "
                              "starts a driver once; say the same in both",
                              known->second.field));
  }
  return name;
}

PinPlace HostFile::read_pin(Fields& token, const std::string& alias, hsmseal::TokenBinding& binding) const {
  Fields fields = token.object("pin");
  const auto file = fields.text("file");
  const auto variable = fields.text("environment");
  const auto prompt = fields.flag("prompt"), none = fields.flag("none"), pad = fields.flag("protected_path");
  fields.done();
  const int given = (file ? 1 : 0) + (variable ? 1 : 0) + (prompt.value_or(false) ? 1 : 0) +
                    (none.value_or(false) ? 1 : 0) + (pad.value_or(false) ? 1 : 0);
  if (given != 1) {
    token.refuse("pin", R"(must be one of {"file": ...}, {"environment": ...}, {"prompt": true}, {"none": true}, )"
                        R"({"protected_path": true}; a PIN itself has no place here)");
  }
  if (file) {
    binding.pin = hsmseal::PinSource::file(beside(*file));
    return {PinPlace::Kind::File, beside(*file).string()};
  }
  if (variable) {
    binding.pin = hsmseal::PinSource::environment(*variable);
    return {PinPlace::Kind::Environment, *variable};
  }
  if (pad.value_or(false)) {
    binding.pin = hsmseal::PinSource::protected_path();
    return {PinPlace::Kind::ProtectedPath};
  }
  if (none.value_or(false)) return {PinPlace::Kind::None};
  binding.pin = prompt_for(alias);
  return {PinPlace::Kind::Prompt};
}

void HostFile::read_store(Fields& whole) {
  const Json* given = whole.find("store");
  if (given == nullptr) return;
  if (given->is_object()) {
    Fields fields = whole.object("store");
    store_url_ = fields.text("url").value_or("");
    if (store_url_.empty()) fields.refuse_missing("url");
    store_ring_ = fields.text("ring").value_or("default");
    if (const auto timeout = fields.number("timeout_ms")) store_timeout_ = std::chrono::milliseconds{*timeout};
    fields.done();
  } else {
    store_url_ = whole.text("store").value_or("");
  }
  constexpr std::string_view kSqlite = "sqlite:";
  if (store_url_.starts_with(kSqlite))
    store_url_ = std::string{kSqlite} + beside(store_url_.substr(kSqlite.size())).string();
}

const HostToken& HostFile::token(const std::string& alias) const {
  const auto found = std::ranges::find(tokens_, alias, &HostToken::alias);
  if (found != tokens_.end()) return *found;
  throw UsageError(fmt::format("host file '{}' names no token '{}'; it names {}", name_, alias,
                               fmt::join(host_.token_aliases(), ", ")));
}

std::shared_ptr<hsmseal::RingStore> HostFile::store() const {
  if (store_url_.empty()) {
    throw UsageError(fmt::format("host file '{}' names no store; add \"store\": \"sqlite:ring.db\", say", name_));
  }
  return hsmseal::sql_ring_store(store_url_, {.ring = store_ring_, .timeout = store_timeout_});
}

bool HostFile::store_has_password() const {
  std::string lower = store_url_;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto has = [&](std::string_view what) { return lower.find(what) != std::string::npos; };
  const auto at = lower.find("://");
  const bool in_authority = at != std::string::npos && lower.find('@', at) != std::string::npos &&
                            lower.find(':', at + 3) < lower.find('@', at);
  return has("pwd=") || has("password=") || in_authority;
}

std::filesystem::path HostFile::ring_pin() const {
  if (ring_pin_.empty()) {
    throw UsageError(
        fmt::format("host file '{}' names no ring_pin; add \"ring_pin\": \"ring.pin\", say: the file in which "
                    "this host remembers its ring",
                    name_));
  }
  return ring_pin_;
}

std::chrono::milliseconds HostFile::deadline() const {
  const bool typed = std::ranges::any_of(tokens_, [](const HostToken& token) {
    return token.pin.kind == PinPlace::Kind::Prompt || token.pin.kind == PinPlace::Kind::ProtectedPath;
  });
  return typed ? std::chrono::milliseconds{10min} : std::chrono::milliseconds{30s};
}

}  // namespace tool
