// Restarts of the driver: those that fail (F22), and those of others (F23).

#include <hsmseal/pkcs11_module.hpp>
#include <hsmseal/pkcs11_session.hpp>

#include "fault/faulty_vault.hpp"
#include "pkcs11/cryptoki.hpp"
#include "support/expect_error.hpp"
#include "token/in_threads.hpp"

using namespace hsmseal;
using namespace hsmseal::test;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

VaultSetup patient() {
  VaultSetup setup;
  setup.options.circuit.failures = 1'000'000;
  return setup;
}

/// Somebody else's C_Finalize, of which the next call learns.
void lose_driver(const FaultyVault& scene) { scene.hsm.apply("foreign_finalize"); }

}  // namespace

TEST_CASE("F22: C_Initialize that fails several times after C_Finalize is tried again, and C_Finalize is not") {
  for (const char* const rv : {"CKR_FUNCTION_FAILED", "0x80000384", "CKR_DEVICE_ERROR"}) {
    INFO(rv);
    FaultyVault scene(patient());
    scene.hsm.apply(std::string("init_fails_after_finalize ") + rv + " times=4");
    lose_driver(scene);
    int tries = 0;
    while (!scene.tries() && ++tries < 60) scene.clock.move(seconds{5});
    CHECK(scene.seals_and_opens());
    CHECK(scene.hsm.fired("init_fails_after_finalize") == 4);
    CHECK(scene.hsm.calls("C_Initialize") == 5);
    CHECK(scene.hsm.calls("C_Finalize") <= 1);
    CHECK(scene.events(Event::Kind::DriverRestarted) == 5);
    CHECK(scene.hsm.counter("wrong_pins") == 0);
  }
}

TEST_CASE("F22: a session over a list that was lent is over, too, when hsmseal restarts the driver") {
  const FaultyVault scene;
  CK_FUNCTION_LIST* list = nullptr;
  REQUIRE(reinterpret_cast<CK_C_GetFunctionList>(scene.hsm.symbol("C_GetFunctionList"))(&list) == CKR_OK);
  const auto lent = Pkcs11Module::borrow(list);
  Pkcs11Session before{lent, {.label = "one"}};
  CHECK_FALSE(before.find_key({.label = "none"}));
  lose_driver(scene);
  CHECK(scene.seals_and_opens());
  REQUIRE(scene.hsm.fired("foreign_finalize") == 1);
  CHECK(scene.events(Event::Kind::DriverRestarted) == 1);
  const auto searches = scene.hsm.calls("C_FindObjectsInit");
  CHECK(error_of<TokenError>([&] { return before.find_key({.label = "none"}); }).rv() == CKR_SESSION_HANDLE_INVALID);
  CHECK(scene.hsm.calls("C_FindObjectsInit") == searches);
  Pkcs11Session after{lent, {.label = "one"}};
  CHECK_FALSE(after.find_key({.label = "none"}));
}

TEST_CASE("F22: a C_Finalize that fails keeps nothing from coming back") {
  FaultyVault scene(patient());
  const FaultFor fault(scene.hsm, "fail C_Finalize CKR_FUNCTION_FAILED");
  lose_driver(scene);
  for (int tries = 0; tries < 20 && !scene.tries(); ++tries) scene.clock.move(seconds{31});
  CHECK(scene.hsm.fired("fail") > 0);
  CHECK(scene.seals_and_opens());
}

TEST_CASE("F22: C_Finalize waits until no call is inside, with eight threads") {
  // The faulty driver ends the process if it does not.
  const FaultyVault scene(patient());
  scene.hsm.apply("delay C_Decrypt 300");
  scene.hsm.apply("renumber");
  std::atomic<int> opened = 0;
  std::atomic<bool> moving = true;
  Threads mover;
  mover.start([&] {
    auto clock = scene.clock;
    while (moving) {
      clock.move(seconds{31});
      scene.hsm.apply("foreign_finalize skip=5");
      std::this_thread::sleep_for(milliseconds{25});
    }
  });
  {
    const std::unique_ptr<std::atomic<bool>, void (*)(std::atomic<bool>*)> end{&moving,
                                                                               [](auto* flag) { *flag = false; }};
    in_threads(8, [&](std::size_t) {
      for (int i = 0; i < 60; ++i) opened += scene.tries() ? 1 : 0;
    });
  }
  mover.join();
  scene.hsm.apply("foreign_finalize off");
  CHECK(scene.hsm.fired("foreign_finalize") > 0);
  CHECK(scene.hsm.fired("delay") > 0);
  CHECK(scene.hsm.fired("renumber") > 0);
  CHECK(scene.hsm.calls("C_Finalize") > 0);
  CHECK(opened > 0);
  CHECK(scene.hsm.threads_in_one_session() == 0);
  auto clock = scene.clock;
  for (int tries = 0; tries < 10 && !scene.tries(); ++tries) clock.move(seconds{600});
  CHECK(scene.seals_and_opens());
}

TEST_CASE("F22: restarts are half a minute apart, and twice as far if one did not help") {
  FaultyVault scene(patient());
  lose_driver(scene);
  CHECK(scene.opens());
  CHECK(scene.hsm.counter("starts") == 1);

  lose_driver(scene);
  CHECK_FALSE(scene.tries());  // too soon
  scene.clock.move(seconds{29});
  CHECK_FALSE(scene.tries());
  CHECK(scene.hsm.counter("starts") == 1);
  scene.clock.move(seconds{2});
  CHECK(scene.opens());
  CHECK(scene.hsm.counter("starts") == 2);

  lose_driver(scene);
  scene.clock.move(seconds{45});
  CHECK_FALSE(scene.tries());
  CHECK(scene.hsm.counter("starts") == 2);
  scene.clock.move(seconds{16});
  CHECK(scene.opens());
  CHECK(scene.hsm.counter("starts") == 3);

  scene.clock.move(std::chrono::hours{1});  // all was well for long: from the beginning
  lose_driver(scene);
  CHECK(scene.opens());
  lose_driver(scene);
  scene.clock.move(seconds{31});
  CHECK(scene.opens());
  CHECK(scene.hsm.fired("foreign_finalize") == 5);
}

TEST_CASE("F23: somebody else's C_Finalize costs one restart, whoever comes") {
  const FaultyVault scene;
  lose_driver(scene);
  std::atomic<int> opened = 0;
  in_threads(8, [&](std::size_t) { opened += scene.tries() ? 1 : 0; });
  CHECK(opened == 8);
  CHECK(scene.hsm.fired("foreign_finalize") == 1);
  CHECK(scene.hsm.counter("starts") == 1);
  CHECK(scene.hsm.calls("C_Login") == 1);
  CHECK(scene.seals_and_opens());
}

TEST_CASE("F23: a driver that somebody else started is never ended, and called by one thread at a time") {
  VaultSetup setup = patient();
  setup.faults = {"already_initialized", "not_thread_safe", "checker abort"};
  FaultyVault scene(setup);
  CHECK(scene.fired_at_start.at("already_initialized") == 1);
  std::atomic<int> opened = 0;
  in_threads(8, [&](std::size_t) {
    for (int i = 0; i < 10; ++i) opened += scene.tries() ? 1 : 0;
  });
  CHECK(opened == 80);
  scene.hsm.apply("kill all");
  CHECK(scene.opens());
  lose_driver(scene);
  for (int tries = 0; tries < 5; ++tries) {
    CHECK_FALSE(scene.tries());
    scene.clock.move(std::chrono::hours{1});
  }
  CHECK(scene.hsm.calls("C_Finalize") == 0);
  CHECK(scene.hsm.calls("C_Initialize") == 0);
  CHECK(scene.hsm.fired("foreign_finalize") == 1);
}

TEST_CASE("F23: a start that was no start is seen, and repeated") {
  FaultyVault scene(patient());
  scene.hsm.apply("init_lies");
  lose_driver(scene);
  for (int tries = 0; tries < 10 && !scene.tries(); ++tries) scene.clock.move(seconds{61});
  CHECK(scene.hsm.fired("init_lies") == 1);
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.counter("wrong_pins") == 0);

  const FaultyVault from_the_start(VaultSetup{.faults = {"init_lies"}});
  CHECK(from_the_start.fired_at_start.at("init_lies") == 1);
  CHECK(from_the_start.seals_and_opens());
}
