// Limits of sessions (F24), and tokens that are busy or full (F25).

#include <hsmseal/pkcs11_session.hpp>

#include "fault/faulty_vault.hpp"
#include "token/in_threads.hpp"

using namespace hsmseal;
using namespace hsmseal::test;
using std::chrono::milliseconds;

namespace {

/// Eight threads open fifty times each. @returns how often it went well.
int open_in_eight_threads(const FaultyVault& scene) {
  std::atomic<int> opened = 0;
  in_threads(8, [&](std::size_t) {
    for (int i = 0; i < 50; ++i) opened += scene.tries() ? 1 : 0;
  });
  return opened;
}

}  // namespace

TEST_CASE("F24: with fewer sessions than the token said all callers are served by those there are") {
  for (const char* const limit : {"2", "3", "5"}) {
    INFO(limit);
    const FaultyVault scene(VaultSetup{.faults = {"session_max 100", std::string("session_limit ") + limit}});
    scene.hsm.apply("delay C_Decrypt 200");
    CHECK(open_in_eight_threads(scene) == 400);
    CHECK(scene.hsm.fired("session_limit") > 0);
    CHECK(scene.hsm.counter("open_sessions_at_most") <= std::stoul(limit));
    CHECK(scene.hsm.calls("C_Login") == 0);
    CHECK(scene.hsm.calls("C_Finalize") == 0);
  }
}

TEST_CASE("F24: odd numbers of sessions that drivers report mean no limit") {
  for (const char* const most : {"0", "0xffffffffffffffff", "0xfffffffffffffffe", "0xfffffffe", "0xffffffff"}) {
    INFO(most);
    const FaultyVault scene(VaultSetup{.faults = {std::string("session_max ") + most}});
    scene.hsm.apply("delay C_Decrypt 200");
    CHECK(open_in_eight_threads(scene) == 400);
    CHECK(scene.hsm.counter("open_sessions_at_most") <= 9);
    CHECK(scene.opens_with(scene.another()));
    CHECK(scene.hsm.fired("session_max") > 0);
  }
}

TEST_CASE("F24: a token for two sessions serves many threads, and one for a single session is refused") {
  const FaultyVault scene(VaultSetup{.faults = {"session_max 2", "session_limit 2"}});
  CHECK(scene.fired_at_start.at("session_max") > 0);
  CHECK(open_in_eight_threads(scene) == 400);
  CHECK(scene.hsm.counter("open_sessions_at_most") == 2);
  CHECK(scene.hsm.fired("session_limit") == 0);  // nobody tries for more than the token said

  const FaultyHsm one;
  one.apply("session_max 1");
  CHECK_THROWS_AS(
      KeyRing::create(memory_ring_store(), pkcs11_provider(one.host()), {.token = "one"}, RingPin::in_process()),
      InvalidArgumentError);
  CHECK(one.fired("session_max") > 0);
  CHECK(one.calls("C_Login") == 0);
}

TEST_CASE("F24: sessions are lent in the order in which callers came") {
  VaultSetup setup;
  setup.binding = [](TokenBinding& binding) {
    binding.limits.max_sessions = 1;
    binding.hang_policy = HangPolicy::Direct;
  };
  const FaultyVault scene(setup);
  scene.hsm.apply("hang C_Decrypt forever times=1");
  std::mutex mutex;
  std::vector<int> order;
  Threads threads;
  for (int i = 0; i < 6; ++i) {
    threads.start([&, i] {
      static_cast<void>(scene.tries());
      const std::scoped_lock lock{mutex};
      order.push_back(i);
    });
    if (i == 0) static_cast<void>(eventually([&] { return scene.hsm.fired("hang") == 1; }));
    std::this_thread::sleep_for(milliseconds{15});
  }
  scene.hsm.apply("delay C_Decrypt 5000");
  scene.hsm.apply("release");
  threads.join();
  CHECK(order == std::vector<int>{0, 1, 2, 3, 4, 5});
  CHECK(scene.hsm.fired("hang") == 1);
}

TEST_CASE("F24: a token that refuses read-only sessions serves a ring, and who wants one gets a typed error") {
  const FaultyVault scene;
  const FaultFor fault(scene.hsm, "refuse_ro");
  scene.hsm.apply("kill all");
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.calls("C_OpenSession") >= 2);
  CHECK(scene.hsm.fired("refuse_ro") == 0);  // a ring wants none
  CHECK(scene.hsm.calls("C_Login") == 1);
  CHECK(scene.hsm.counter("wrong_pins") == 0);
  const auto error = error_of<TokenError>([&] {
    return Pkcs11Session{scene.hsm.module(), {.label = "one"}, SessionMode::ReadOnly};
  });
  CHECK(error.function() == "C_OpenSession");
  CHECK(error.rv() == CKR_FUNCTION_FAILED);
  CHECK(scene.hsm.fired("refuse_ro") == 1);
}

TEST_CASE("F25: bursts of a busy token are waited out") {
  for (const char* const rv : {"CKR_FUNCTION_FAILED", "CKR_OPERATION_ACTIVE"}) {
    for (const char* const function : {"C_EncryptInit", "C_Encrypt", "C_DecryptInit"}) {
      INFO(function << " " << rv);
      const FaultyVault scene;
      scene.hsm.apply(std::string("fail ") + function + " " + rv + " times=2");
      CHECK(scene.seals_and_opens());
      CHECK(scene.hsm.fired("fail") == 2);
      CHECK(scene.hsm.calls("C_Finalize") + scene.hsm.calls("C_Login") == 0);
    }
    for (const char* const function : {"C_OpenSession", "C_FindObjectsInit", "C_GetTokenInfo", "C_GetSlotList"}) {
      INFO(function << " at the start " << rv);
      const FaultyVault scene;
      scene.hsm.apply(std::string("fail ") + function + " " + rv + " times=2");
      CHECK(scene.opens_with(scene.another()));
      CHECK(scene.hsm.fired("fail") == 2);
      CHECK(scene.hsm.calls("C_Finalize") == 0);
    }
  }
}

TEST_CASE("F25: a login that was lost while the token was busy is made again") {
  const FaultyVault scene;
  // The sessions die unseen, since the next one to be used is a new one.
  scene.hsm.apply("fail C_DecryptInit CKR_FUNCTION_FAILED times=1");
  scene.hsm.apply("kill all in=C_OpenSession");
  CHECK(scene.opens());
  CHECK(scene.hsm.fired("fail") == 1);
  CHECK(scene.hsm.fired("kill") == 1);
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.calls("C_Login") == 1);
  CHECK(scene.hsm.calls("C_Finalize") == 0);
}

TEST_CASE("F25: eight threads survive a token that is busy now and then") {
  const FaultyVault scene;
  scene.hsm.apply("fail C_EncryptInit CKR_FUNCTION_FAILED p=0.05 seed=5");
  scene.hsm.apply("fail C_DecryptInit CKR_FUNCTION_FAILED p=0.05 seed=6");
  CHECK(open_in_eight_threads(scene) == 400);
  CHECK(scene.hsm.fired("fail") > 0);
  CHECK(scene.hsm.calls("C_Finalize") == 0);
  CHECK(scene.hsm.calls("C_Login") == 0);
}

TEST_CASE("F25: a token without memory is given time and fewer sessions") {
  for (const char* const rv : {"CKR_HOST_MEMORY", "CKR_DEVICE_MEMORY"}) {
    for (const char* const function : {"C_DecryptInit", "C_Decrypt", "C_OpenSession"}) {
      INFO(function << " " << rv);
      const FaultyVault scene;
      static_cast<void>(open_in_eight_threads(scene));
      scene.hsm.reset();
      scene.hsm.apply("kill one");
      scene.hsm.apply(std::string("fail ") + function + " " + rv + " times=2");
      CHECK(scene.opens());
      CHECK(scene.seals_and_opens());
      CHECK(scene.hsm.fired("fail") > 0);
      CHECK(scene.hsm.calls("C_Finalize") == 0);
    }
  }
}
