#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <hsmseal/pkcs11_module.hpp>
#include <hsmseal/token_binding.hpp>

#include "support/softhsm.hpp"

namespace hsmseal::test {

/// A SoftHSM behind the forwarding driver, which counts the calls that arrive and lets them fail.
///
/// Both libraries are copies of its own: no login, no refused PIN and no session is left from an earlier test, though
/// drivers stay loaded to the end of the process. Must outlive all that is connected to it.
class CountedHsm {
 public:
  explicit CountedHsm(const std::vector<std::string>& labels = {"one"});
  /// Another driver in front of the same tokens, as in another process: not logged in, nothing counted.
  explicit CountedHsm(std::shared_ptr<const SoftHsm> tokens);

  [[nodiscard]] const SoftHsm& tokens() const { return *tokens_; }
  [[nodiscard]] const std::shared_ptr<const SoftHsm>& shared_tokens() const { return tokens_; }
  /// How to load it: with the two variables of the environment that say where to forward, and to which tokens.
  [[nodiscard]] DriverOptions driver() const;
  [[nodiscard]] std::shared_ptr<Pkcs11Module> module() const { return Pkcs11Module::load(driver()); }
  /// A token with its PIN from a file, for a host that knows driver().
  [[nodiscard]] TokenBinding binding(const std::string& label) const;
  /// A host that knows the driver and no token.
  [[nodiscard]] Host bare_host() const;
  /// A host on which all tokens but twins are bound under their labels.
  [[nodiscard]] Host host() const;

  /// The symbol `name` of the loaded copy.
  [[nodiscard]] void* symbol(const char* name) const;

  /// See forwarding/forwarding.h.
  [[nodiscard]] unsigned long calls(const char* c_function_name) const;
  [[nodiscard]] unsigned long calls_total() const;
  [[nodiscard]] unsigned long length_queries() const;
  [[nodiscard]] unsigned long threads_in_one_session() const;
  [[nodiscard]] unsigned long open_sessions() const;
  void reset() const;
  void fail_next(const char* c_function_name, unsigned long rv, unsigned long count = 1) const;
  void limit_sessions(unsigned long most) const;
  void limit_found(unsigned long most) const;
  [[nodiscard]] unsigned long last_session(const char* c_function_name) const;
  void change_ivs(bool on) const;
  void swap_labels(const char* one, const char* other) const;

 private:
  std::shared_ptr<const SoftHsm> tokens_;
  ScratchDirectory libraries_{DirectoryUse::Libraries};
  void* library_;
};

}  // namespace hsmseal::test
