#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <hsmseal/pkcs11_module.hpp>
#include <hsmseal/token_binding.hpp>

#include "support/softhsm.hpp"

namespace hsmseal::test {

/// A SoftHSM behind the faulty driver, which counts the calls that arrive and fails as it is told.
///
/// Both libraries are copies of its own: no login, no refused PIN, no fault and no session is left from an earlier test,
/// though drivers stay loaded to the end of the process. Must outlive all that is connected to it.
class FaultyHsm {
 public:
  explicit FaultyHsm(const std::vector<std::string>& labels = {"one"});
  /// Another driver in front of the same tokens, as in another process: not logged in, nothing counted.
  explicit FaultyHsm(std::shared_ptr<const SoftHsm> tokens);
  FaultyHsm(const FaultyHsm&) = delete;
  FaultyHsm& operator=(const FaultyHsm&) = delete;
  /// Ends all faults, so that nothing hangs when the rest of the test is taken down.
  ~FaultyHsm();

  [[nodiscard]] const SoftHsm& tokens() const { return *tokens_; }
  [[nodiscard]] const std::shared_ptr<const SoftHsm>& shared_tokens() const { return tokens_; }
  /// How to load it: with the two variables of the environment that say which real driver, and which tokens.
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

  /// Follows a directive of faultyhsm/README.md. @throws std::invalid_argument if it is none.
  void apply(const std::string& directive) const;
  /// How often a fault acted: a directive's word, or a number such as "F4". @throws std::invalid_argument for another.
  [[nodiscard]] unsigned long fired(const std::string& fault) const;
  /// What is counted, see faultyhsm/faultyhsm.h. @throws std::invalid_argument for a name that is not there.
  [[nodiscard]] unsigned long counter(const std::string& name) const;
  /// Calls of one function. @throws std::invalid_argument for a name that is no function.
  [[nodiscard]] unsigned long calls(const std::string& c_function_name) const;
  [[nodiscard]] unsigned long last_session(const char* c_function_name) const;
  /// Sets what is counted to zero; faults stay.
  void reset() const;

  [[nodiscard]] unsigned long calls_total() const { return counter("calls"); }
  [[nodiscard]] unsigned long length_queries() const { return counter("length_queries"); }
  [[nodiscard]] unsigned long threads_in_one_session() const { return counter("threads_in_one_session"); }
  [[nodiscard]] unsigned long open_sessions() const { return counter("open_sessions"); }
  /// The next `count` calls of a function return `rv` and are not forwarded; 0 takes back what is pending.
  void fail_next(const std::string& c_function_name, unsigned long rv, unsigned long count = 1) const;

 private:
  std::shared_ptr<const SoftHsm> tokens_;
  ScratchDirectory libraries_{DirectoryUse::Libraries};
  void* library_;
};

/// A fault that ends with its scope.
class FaultFor {
 public:
  FaultFor(const FaultyHsm& hsm, const std::string& directive);
  FaultFor(const FaultFor&) = delete;
  FaultFor& operator=(const FaultFor&) = delete;
  ~FaultFor();

 private:
  const FaultyHsm& hsm_;
  std::string off_;
};

}  // namespace hsmseal::test
