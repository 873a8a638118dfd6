// Processes that are forked (F28).

#include <hsmseal/pkcs11_session.hpp>

#include "fault/faulty_vault.hpp"
#include "support/child.hpp"
#include "token/token_keys.hpp"

using namespace hsmseal;
using namespace hsmseal::test;

namespace {

VaultSetup forking(ForkPolicy policy) {
  VaultSetup setup;
  setup.options.after_fork = policy;
  // Threads do not come along into a child.
  setup.binding = [](TokenBinding& binding) { binding.hang_policy = HangPolicy::Direct; };
  return setup;
}

/// The parent goes on in the sessions and with the login that it had, and no child touched them.
void check_parent(const FaultyVault& scene, unsigned long sessions) {
  CHECK(scene.hsm.counter("child_finalized") == 0);
  CHECK(scene.hsm.counter("child_closed") == 0);
  CHECK(scene.hsm.open_sessions() == sessions);
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.calls("C_Login") == 0);
  CHECK(scene.hsm.calls("C_OpenSession") == 0);
  CHECK(scene.hsm.calls("C_Initialize") == 0);
  CHECK(scene.hsm.calls("C_Logout") == 0);
}

}  // namespace

TEST_CASE("F28: a child that may not use tokens says so, and its end harms nobody") {
  for (const HangPolicy policy : {HangPolicy::Direct, HangPolicy::Isolated}) {
    VaultSetup setup = forking(ForkPolicy::Refuse);
    setup.binding = [policy](TokenBinding& binding) { binding.hang_policy = policy; };
    FaultyVault scene(setup);
    const auto sessions = scene.hsm.open_sessions();
    CHECK(exit_status_of([&] {
            for (int i = 0; i < 2; ++i) {
              try {
                static_cast<void>(scene.opens());
                return false;
              } catch (const TokenError& error) {
                if (error.function() != "fork" || error.retryable()) return false;
              }
            }
            scene.vault.reset();
            scene.ring.reset();
            return true;
          }) == 0);
    CHECK(scene.hsm.counter("child_calls") == 0);
    check_parent(scene, sessions);
  }
}

TEST_CASE("F28: a session that a child inherited is not used there, nor closed") {
  const FaultyHsm hsm;
  const auto module = hsm.module();
  auto session = std::make_optional(logged_in(hsm, "one"));
  const auto refused = [](const auto& work, const std::string& function) {
    try {
      work();
      return false;
    } catch (const TokenError& error) {
      return error.function() == function && error.rv() == CKR_CRYPTOKI_NOT_INITIALIZED;
    }
  };
  hsm.reset();
  CHECK(exit_status_of([&] {
          if (!refused([&] { static_cast<void>(session->random(8)); }, "fork")) return false;
          if (!refused([&] { static_cast<void>(session->find_key({.label = "x"})); }, "fork")) return false;
          if (!refused([&] { static_cast<void>(module->info()); }, "C_GetInfo")) return false;
          if (!refused([&] { Pkcs11Session{module, {.label = "one"}}; }, "C_GetSlotList")) return false;
          session.reset();
          return true;
        }) == 0);
  CHECK(hsm.counter("child_calls") == 0);
  CHECK(hsm.counter("child_closed") == 0);
  CHECK(hsm.calls_total() == 0);
  CHECK(session->random(8).size() == 8);
}

TEST_CASE("F28: a child that may starts anew, seals and opens, and its parent goes on") {
  for (const char* const fork : {"", "fork not_initialized"}) {
    INFO("with " << fork);
    FaultyVault scene(forking(ForkPolicy::StartAnew));
    scene.hsm.apply(fork);
    const auto sessions = scene.hsm.open_sessions();
    CHECK(exit_status_of([&] {
            if (!scene.seals_and_opens()) return false;
            if (scene.hsm.fired("fork") == 0 && *fork != '\0') return false;
            scene.vault.reset();
            scene.ring.reset();
            return true;
          }) == 0);
    CHECK(scene.hsm.counter("child_calls") > 0);
    CHECK(exit_status_of([&] { return scene.seals_and_opens() && scene.opens_with(scene.another()); }) == 0);
    // A child of a child.
    CHECK(exit_status_of([&] {
            return scene.opens() && exit_status_of([&] { return scene.seals_and_opens(); }) == 0 && scene.opens();
          }) == 0);
    check_parent(scene, sessions);
  }
}

TEST_CASE("F28: children in which calls run in threads of hsmseal's own start anew as well") {
  VaultSetup setup = forking(ForkPolicy::StartAnew);
  setup.binding = [](TokenBinding& binding) { binding.hang_policy = HangPolicy::Isolated; };
  const FaultyVault scene(setup);
  scene.hsm.apply("fork not_initialized");
  const auto sessions = scene.hsm.open_sessions();
  for (int i = 0; i < 3; ++i) {
    CHECK(exit_status_of([&] { return scene.seals_and_opens() && scene.hsm.fired("fork") > 0; }) == 0);
  }
  CHECK(scene.hsm.counter("child_calls") > 0);
  check_parent(scene, sessions);
}

TEST_CASE("F28: a PIN that was refused before the fork is not tried by the child") {
  FaultyVault scene(forking(ForkPolicy::StartAnew));
  scene.hsm.apply("pin 87654321");
  scene.hsm.apply("kill all");
  CHECK_THROWS_AS(scene.opens(), TokenLoginError);
  CHECK(scene.hsm.calls("C_Login") == 1);
  CHECK(scene.hsm.fired("pin") == 1);
  CHECK(exit_status_of([&] {
          scene.hsm.reset();
          try {
            static_cast<void>(scene.opens());
            return false;
          } catch (const TokenLoginError&) {
            return scene.hsm.calls("C_Login") == 0;
          }
        }) == 0);
  CHECK(scene.hsm.counter("child_finalized") == 0);
}
