#include "support/forwarding.hpp"

#include <algorithm>
#include <stdexcept>

#include <dlfcn.h>

#include "forwarding/forwarding.h"

namespace hsmseal::test {
namespace {

constexpr const char* kAlias = "counted";

/// What a group-writable folder of a build would make a bad driver.
void copy_privately(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::filesystem::copy_file(from, to);
  std::filesystem::permissions(to, std::filesystem::perms::owner_all);
}

}  // namespace

CountedHsm::CountedHsm(const std::vector<std::string>& labels) : CountedHsm(std::make_shared<const SoftHsm>(labels)) {}

CountedHsm::CountedHsm(std::shared_ptr<const SoftHsm> tokens) : tokens_(std::move(tokens)) {
  copy_privately(SoftHsm::library(), libraries_.path() / "softhsm2.so");
  copy_privately(HSMSEAL_FORWARDING_LIBRARY, driver().library);
  // hsmseal gets this same copy when it loads the file later.
  library_ = ::dlopen(driver().library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) throw std::runtime_error(::dlerror());
}

DriverOptions CountedHsm::driver() const {
  return {.library = libraries_.path() / "forwarding.so",
          .start_up = {},
          .environment = {{"HSMSEAL_FORWARD_TO", (libraries_.path() / "softhsm2.so").string()},
                          {"SOFTHSM2_CONF", tokens_->conf().string()}}};
}

TokenBinding CountedHsm::binding(const std::string& label) const {
  TokenBinding binding = tokens_->binding(label);
  binding.driver = kAlias;
  return binding;
}

Host CountedHsm::bare_host() const {
  Host host;
  host.driver(kAlias, driver());
  return host;
}

Host CountedHsm::host() const {
  Host host = bare_host();
  const auto& labels = tokens_->labels();
  for (const std::string& label : labels) {
    if (std::ranges::count(labels, label) == 1) host.token(label, binding(label));
  }
  return host;
}

void* CountedHsm::symbol(const char* name) const {
  void* const found = ::dlsym(library_, name);
  if (found == nullptr) throw std::runtime_error(std::string{"the forwarding driver has no "} + name);
  return found;
}

// A copy's own function, not one of this program's.
#define HSMSEAL_OF_COPY(function) reinterpret_cast<decltype(&(function))>(symbol(#function))

unsigned long CountedHsm::calls(const char* c_function_name) const {
  const unsigned long calls = HSMSEAL_OF_COPY(forwarding_calls)(c_function_name);
  if (calls == static_cast<unsigned long>(-1))
    throw std::runtime_error(std::string{"no such function: "} + c_function_name);
  return calls;
}

unsigned long CountedHsm::calls_total() const { return HSMSEAL_OF_COPY(forwarding_calls_total)(); }

unsigned long CountedHsm::length_queries() const { return HSMSEAL_OF_COPY(forwarding_length_queries)(); }

unsigned long CountedHsm::threads_in_one_session() const {
  return HSMSEAL_OF_COPY(forwarding_threads_in_one_session)();
}

unsigned long CountedHsm::open_sessions() const { return HSMSEAL_OF_COPY(forwarding_open_sessions)(); }

void CountedHsm::reset() const { HSMSEAL_OF_COPY(forwarding_reset)(); }

void CountedHsm::fail_next(const char* c_function_name, unsigned long rv, unsigned long count) const {
  HSMSEAL_OF_COPY(forwarding_fail_next)(c_function_name, rv, count);
}

void CountedHsm::limit_found(unsigned long most) const { HSMSEAL_OF_COPY(forwarding_limit_found)(most); }

unsigned long CountedHsm::last_session(const char* c_function_name) const {
  return HSMSEAL_OF_COPY(forwarding_last_session)(c_function_name);
}

void CountedHsm::change_ivs(bool on) const { HSMSEAL_OF_COPY(forwarding_change_ivs)(on ? 1 : 0); }

void CountedHsm::swap_labels(const char* one, const char* other) const {
  HSMSEAL_OF_COPY(forwarding_swap_labels)(one, other);
}

void CountedHsm::limit_sessions(unsigned long most) const { HSMSEAL_OF_COPY(forwarding_limit_sessions)(most); }

}  // namespace hsmseal::test
