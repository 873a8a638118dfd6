#include "support/faultyhsm.hpp"

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include <dlfcn.h>

#include "faultyhsm/faultyhsm.h"

namespace hsmseal::test {
namespace {

constexpr const char* kAlias = "faulty";

/// What a group-writable folder of a build would make a bad driver.
void copy_privately(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::filesystem::copy_file(from, to);
  std::filesystem::permissions(to, std::filesystem::perms::owner_all);
}

}  // namespace

FaultyHsm::FaultyHsm(const std::vector<std::string>& labels) : FaultyHsm(std::make_shared<const SoftHsm>(labels)) {}

FaultyHsm::FaultyHsm(std::shared_ptr<const SoftHsm> tokens) : tokens_(std::move(tokens)) {
  copy_privately(SoftHsm::library(), libraries_.path() / "softhsm2.so");
  copy_privately(HSMSEAL_FAULTYHSM_LIBRARY, driver().library);
  // hsmseal gets this same copy when it loads the file later.
  library_ = ::dlopen(driver().library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) throw std::runtime_error(::dlerror());
}

FaultyHsm::~FaultyHsm() { reinterpret_cast<decltype(&faultyhsm_apply)>(symbol("faultyhsm_apply"))("clear"); }

DriverOptions FaultyHsm::driver() const {
  return {.library = libraries_.path() / "faultyhsm.so",
          .start_up = {},
          .environment = {{"FAULTYHSM_REAL_MODULE", (libraries_.path() / "softhsm2.so").string()},
                          {"SOFTHSM2_CONF", tokens_->conf().string()}}};
}

TokenBinding FaultyHsm::binding(const std::string& label) const {
  TokenBinding binding = tokens_->binding(label);
  binding.driver = kAlias;
  return binding;
}

Host FaultyHsm::bare_host() const {
  Host host;
  host.driver(kAlias, driver());
  return host;
}

Host FaultyHsm::host() const {
  Host host = bare_host();
  const auto& labels = tokens_->labels();
  for (const std::string& label : labels) {
    if (std::ranges::count(labels, label) == 1) host.token(label, binding(label));
  }
  return host;
}

void* FaultyHsm::symbol(const char* name) const {
  void* const found = ::dlsym(library_, name);
  if (found == nullptr) throw std::runtime_error(std::string{"the faulty driver has no "} + name);
  return found;
}

// A copy's own function, not one of this program's.
#define HSMSEAL_OF_COPY(function) reinterpret_cast<decltype(&(function))>(symbol(#function))

void FaultyHsm::apply(const std::string& directive) const {
  if (HSMSEAL_OF_COPY(faultyhsm_apply)(directive.c_str()) != FAULTYHSM_OK)
    throw std::invalid_argument("no such directive: " + directive);
}

namespace {

unsigned long known(unsigned long number, const std::string& name) {
  if (number == FAULTYHSM_NO_SUCH_NAME) throw std::invalid_argument("the faulty driver does not count " + name);
  return number;
}

}  // namespace

unsigned long FaultyHsm::fired(const std::string& fault) const {
  return known(HSMSEAL_OF_COPY(faultyhsm_fired)(fault.c_str()), fault);
}

unsigned long FaultyHsm::counter(const std::string& name) const {
  return known(HSMSEAL_OF_COPY(faultyhsm_counter)(name.c_str()), name);
}

unsigned long FaultyHsm::calls(const std::string& c_function_name) const {
  return known(HSMSEAL_OF_COPY(faultyhsm_calls)(c_function_name.c_str()), c_function_name);
}

unsigned long FaultyHsm::last_session(const char* c_function_name) const {
  return HSMSEAL_OF_COPY(faultyhsm_last_session)(c_function_name);
}

void FaultyHsm::reset() const { HSMSEAL_OF_COPY(faultyhsm_reset)(); }

void FaultyHsm::fail_next(const std::string& c_function_name, unsigned long rv, unsigned long count) const {
  apply("fail " + c_function_name + " " + std::to_string(rv) + " times=" + std::to_string(count));
}

FaultFor::FaultFor(const FaultyHsm& hsm, const std::string& directive) : hsm_(hsm) {
  std::istringstream words(directive);
  std::string second;
  words >> off_ >> second;
  if (second == "*" || second.starts_with("C_")) off_ += " " + second;
  off_ += " off";
  hsm_.apply(directive);
}

FaultFor::~FaultFor() { hsm_.apply(off_); }

}  // namespace hsmseal::test
