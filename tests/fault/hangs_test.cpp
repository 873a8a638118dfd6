// Calls that do not come back, or come back late (F26), and threads (F27).

#include "fault/faulty_vault.hpp"
#include "token/in_threads.hpp"

using namespace hsmseal;
using namespace hsmseal::test;
using std::chrono::milliseconds;

namespace {

VaultSetup isolated(milliseconds deadline, std::size_t sessions = 4) {
  VaultSetup setup;
  setup.deadline = deadline;
  setup.binding = [sessions](TokenBinding& binding) {
    binding.hang_policy = HangPolicy::Isolated;
    binding.limits.max_sessions = sessions;
  };
  return setup;
}

VaultSetup direct(milliseconds deadline) {
  VaultSetup setup;
  setup.deadline = deadline;
  setup.binding = [](TokenBinding& binding) { binding.hang_policy = HangPolicy::Direct; };
  return setup;
}

}  // namespace

TEST_CASE("F26: a caller leaves a call that hangs at its deadline, and others go on") {
  const FaultyVault scene(isolated(milliseconds{150}));
  scene.hsm.apply("hang C_Decrypt forever times=1");
  const auto took = time_of([&] {
    const auto error = error_of<TokenUnavailableError>([&] { return scene.opens(); });
    CHECK(error.rv() == CKR_FUNCTION_CANCELED);
    CHECK(error.retryable());
  });
  CHECK(took >= milliseconds{140});
  CHECK(took < milliseconds{1000});
  CHECK(scene.hsm.fired("hang") == 1);
  CHECK(scene.events(Event::Kind::CallHung) == 1);
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.calls("C_Login") == 0);
  CHECK(scene.hsm.calls("C_Finalize") == 0);
  CHECK(scene.hsm.counter("inside") == 1);
  scene.hsm.apply("release");
  CHECK(eventually([&] { return scene.hsm.counter("inside") == 0; }));
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.threads_in_one_session() == 0);
  CHECK(scene.events(Event::Kind::CircuitOpened) == 0);
}

TEST_CASE("F26: a recovery that hangs is taken over by the next caller") {
  for (const char* const function : {"C_OpenSession", "C_FindObjects"}) {
    INFO(function);
    FaultyVault scene(isolated(milliseconds{200}));
    scene.hsm.apply(std::string("hang ") + function + " forever times=1");
    scene.hsm.apply("kill all");
    CHECK_THROWS_AS(scene.opens(), TokenUnavailableError);
    REQUIRE(scene.hsm.fired("hang") == 1);
    scene.vault = std::make_unique<EnvelopeEncryptor>(*scene.ring, EnvelopeOptions{.deadline = milliseconds{9000}});
    const auto took = time_of([&] { CHECK(scene.seals_and_opens()); });
    CHECK(took < milliseconds{6000});
    CHECK(scene.hsm.counter("inside") == 1);  // still
    scene.hsm.apply("release");
    CHECK(eventually([&] { return scene.hsm.counter("inside") == 0; }));
    CHECK(scene.seals_and_opens());
    CHECK(eventually([&] { return scene.hsm.open_sessions() <= 5; }));
    CHECK(scene.hsm.threads_in_one_session() == 0);
    CHECK(scene.hsm.counter("wrong_pins") == 0);
  }
}

TEST_CASE("F26: while C_Login hangs nobody calls it again, and all leave in time") {
  const FaultyVault scene(isolated(milliseconds{200}));
  scene.hsm.apply("hang C_Login forever times=1");
  scene.hsm.apply("kill all");
  for (int i = 0; i < 3; ++i) {
    const auto took = time_of([&] { CHECK_THROWS_AS(scene.opens(), TokenUnavailableError); });
    CHECK(took < milliseconds{1500});
  }
  CHECK(scene.hsm.calls("C_Login") == 1);
  scene.hsm.apply("release");
  CHECK(eventually([&] { return scene.hsm.counter("inside") == 0; }));
  CHECK(eventually([&] { return scene.tries(); }));
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.counter("wrong_pins") == 0);
}

TEST_CASE("F26: sessions that hang are written off and replaced, up to as many as the limit") {
  VaultSetup setup = isolated(milliseconds{100}, 2);
  setup.options.circuit.failures = 100;
  const FaultyVault scene(setup);
  scene.hsm.apply("hang C_Decrypt forever times=2");
  for (int i = 0; i < 2; ++i) CHECK_THROWS_AS(scene.opens(), TokenUnavailableError);
  CHECK(scene.hsm.fired("hang") == 2);
  // Two hang, and two others work in their place, beside the one that keeps the login.
  in_threads(4, [&](std::size_t) {
    for (int i = 0; i < 20; ++i) static_cast<void>(scene.tries());
  });
  CHECK(scene.opens());
  CHECK(scene.hsm.open_sessions() <= 5);
  CHECK(scene.hsm.counter("open_sessions_at_most") <= 5);
  scene.hsm.apply("release");
  CHECK(eventually([&] { return scene.hsm.counter("inside") == 0; }));
  CHECK(scene.seals_and_opens());
  CHECK(eventually([&] { return scene.hsm.open_sessions() <= 3; }));
  CHECK(scene.hsm.threads_in_one_session() == 0);
}

TEST_CASE(
    "F26: the circuit opens after five hanging calls, half opens by the clock and closes when the token is back") {
  FaultyVault scene(isolated(milliseconds{60}));
  scene.hsm.apply("hang C_Decrypt forever");
  for (int i = 0; i < 5; ++i) CHECK_THROWS_AS(scene.opens(), TokenUnavailableError);
  CHECK(scene.events(Event::Kind::CallHung) == 5);
  CHECK(scene.events(Event::Kind::CircuitOpened) == 1);

  const auto asked = scene.hsm.calls_total();
  const auto fast = time_of([&] {
    for (int i = 0; i < 100; ++i) CHECK_THROWS_AS(scene.opens(), TokenUnavailableError);
  });
  CHECK(fast < milliseconds{500});
  CHECK(scene.hsm.calls_total() == asked);

  scene.clock.move(milliseconds{1001});  // one tries, and fails: the pause doubles
  CHECK_THROWS_AS(scene.opens(), TokenUnavailableError);
  CHECK(scene.events(Event::Kind::CallHung) == 6);
  const auto hung = scene.hsm.fired("hang");
  CHECK(hung == 6);
  scene.clock.move(milliseconds{1001});
  CHECK_THROWS_AS(scene.opens(), TokenUnavailableError);
  CHECK(scene.hsm.fired("hang") == hung);

  scene.hsm.apply("hang C_Decrypt off");
  scene.hsm.apply("release");
  CHECK(eventually([&] { return scene.hsm.counter("inside") == 0; }));
  scene.clock.move(milliseconds{1001});
  CHECK(scene.seals_and_opens());
  CHECK(scene.events(Event::Kind::CircuitOpened) == 1);
  CHECK(scene.events(Event::Kind::CircuitClosed) == 1);
  CHECK(scene.hsm.calls("C_Login") == 0);
}

TEST_CASE("F26: when every call hangs all callers leave in time, and the end of the ring does not hang") {
  auto scene = std::make_unique<FaultyVault>(isolated(milliseconds{120}));
  scene->hsm.apply("hang * forever");
  std::atomic<int> left = 0;
  const auto took = time_of([&] {
    in_threads(8, [&](std::size_t) {
      for (int i = 0; i < 5; ++i) left += scene->tries() ? 0 : 1;
    });
  });
  CHECK(left == 40);
  CHECK(took < milliseconds{1500});
  CHECK(scene->hsm.fired("hang") > 0);
  CHECK(scene->events(Event::Kind::CircuitOpened) == 1);
  const auto ended = time_of([&] {
    scene->vault.reset();
    scene->ring.reset();
  });
  CHECK(ended < milliseconds{2500});
  scene->hsm.apply("hang * off");
  scene->hsm.apply("release");
  CHECK(eventually([&] { return scene->hsm.counter("inside") == 0 && scene->hsm.open_sessions() == 0; }));
}

TEST_CASE("F26: with calls in the caller's thread those who wait for one connection leave at their deadline") {
  const FaultyVault scene(direct(milliseconds{150}));
  scene.hsm.apply("kill all");
  scene.hsm.apply("hang C_OpenSession forever times=1");
  Threads threads;
  std::atomic<bool> first_done = false;
  threads.start([&] {
    static_cast<void>(scene.tries());
    first_done = true;
  });
  const bool hangs = eventually([&] { return scene.hsm.fired("hang") == 1; });
  const auto took = time_of([&] { CHECK_THROWS_AS(scene.opens(), TokenUnavailableError); });
  CHECK(hangs);
  CHECK(took < milliseconds{1000});
  CHECK_FALSE(first_done);
  scene.hsm.apply("release");
  threads.join();
  CHECK(scene.seals_and_opens());
}

TEST_CASE("F26: a slow look at sessions is not on the way of a secret") {
  const FaultyVault scene;
  const FaultFor slow(scene.hsm, "delay C_GetSessionInfo 300000");
  CHECK(time_of([&] {
          for (int i = 0; i < 20; ++i) CHECK(scene.seals_and_opens());
        }) < milliseconds{1000});
  CHECK(scene.hsm.calls("C_GetSessionInfo") == 0);
  scene.hsm.apply("kill all");  // then it is
  CHECK(scene.opens());
  CHECK(scene.hsm.fired("delay") > 0);
}

TEST_CASE("F26: a token that dies of idle sessions comes back by a restart, where new sessions do not cure it") {
  const FaultyVault scene;
  scene.hsm.apply("idle_dies 50");
  std::this_thread::sleep_for(milliseconds{80});
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.fired("idle_dies") > 0);
  CHECK(scene.hsm.calls("C_Finalize") == 1);
  CHECK(scene.events(Event::Kind::DriverRestarted) == 1);
  CHECK(scene.hsm.counter("wrong_pins") == 0);
}

TEST_CASE("F26: sessions that are kept alive do not let the token fall asleep") {
  VaultSetup setup;
  setup.binding = [](TokenBinding& binding) { binding.limits.keep_alive = milliseconds{10}; };
  const FaultyVault scene(setup);
  CHECK(eventually([&] { return scene.hsm.calls("C_GenerateRandom") >= 3; }));
  CHECK(scene.hsm.calls("C_GetSessionInfo") >= 3);
  scene.hsm.apply("kill anchor");  // which its keeper sees first
  CHECK(eventually([&] { return scene.hsm.fired("kill") == 1; }));
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.threads_in_one_session() == 0);
}

TEST_CASE("F26: a caller leaves while a slow search for its key goes on, and finds it later") {
  VaultSetup setup = isolated(milliseconds{100});
  setup.options.circuit.failures = 100;
  const FaultyVault scene(setup);
  const FaultFor slow(scene.hsm, "delay C_FindObjects 250000");
  scene.hsm.apply("kill all");
  CHECK_THROWS_AS(scene.opens(), TokenUnavailableError);
  CHECK(scene.hsm.fired("delay") > 0);
  CHECK(eventually([&] { return scene.tries(); }));
  CHECK(scene.hsm.threads_in_one_session() == 0);
}

TEST_CASE("F27: no two threads are in one session, whatever is lost meanwhile") {
  const FaultyVault scene;
  scene.hsm.apply("checker abort");
  scene.hsm.apply("renumber");
  scene.hsm.apply("kill one p=0.02 seed=3 times=20");
  std::atomic<int> opened = 0;
  in_threads(8, [&](std::size_t) {
    for (int i = 0; i < 60; ++i) opened += scene.tries() ? 1 : 0;
  });
  CHECK(scene.hsm.fired("kill") > 0);
  CHECK(opened > 400);
  CHECK(scene.hsm.threads_in_one_session() == 0);
  CHECK(scene.hsm.counter("threads_at_once") == 0);
  CHECK(scene.seals_and_opens());
}

TEST_CASE("F27: a driver that is for one thread has one thread in it at a time") {
  VaultSetup setup;
  setup.faults = {"not_thread_safe", "checker abort"};
  setup.driver = [](DriverOptions& driver) { driver.concurrency = Concurrency::Serialized; };
  setup.binding = [](TokenBinding& binding) { binding.limits.keep_alive = milliseconds{10}; };
  const FaultyVault scene(setup);
  std::atomic<int> opened = 0;
  in_threads(8, [&](std::size_t) {
    for (int i = 0; i < 25; ++i) opened += scene.tries() ? 1 : 0;
  });
  CHECK(opened == 200);
  CHECK(scene.hsm.counter("threads_at_once") == 0);

  // That the checker would have seen it: without the setting it does.
  const FaultyVault careless;
  careless.hsm.apply("not_thread_safe");
  careless.hsm.apply("delay C_Decrypt 1000");
  in_threads(4, [&](std::size_t) {
    for (int i = 0; i < 10; ++i) static_cast<void>(careless.tries());
  });
  CHECK(careless.hsm.counter("threads_at_once") > 0);
  CHECK(careless.hsm.fired("not_thread_safe") > 0);
}

TEST_CASE("F27: a driver that cannot lock is called by one thread at a time") {
  VaultSetup setup;
  setup.faults = {"fail C_Initialize CKR_CANT_LOCK times=1", "checker abort"};
  const FaultyVault scene(setup);
  CHECK(scene.fired_at_start.at("fail") == 1);
  std::atomic<int> opened = 0;
  in_threads(8, [&](std::size_t) {
    for (int i = 0; i < 25; ++i) opened += scene.tries() ? 1 : 0;
  });
  CHECK(opened == 200);
  CHECK(scene.hsm.counter("threads_at_once") == 0);

  // That the driver was started without locks, so that the checker would have seen it.
  scene.hsm.apply("checker off");
  CK_FUNCTION_LIST* list = nullptr;
  REQUIRE(reinterpret_cast<CK_C_GetFunctionList>(scene.hsm.symbol("C_GetFunctionList"))(&list) == CKR_OK);
  scene.hsm.apply("hang C_GetInfo forever times=1");
  Threads careless;
  careless.start([&] {
    CK_INFO info{};
    list->C_GetInfo(&info);
  });
  CHECK(eventually([&] { return scene.hsm.fired("hang") == 1; }));
  CK_INFO info{};
  CHECK(list->C_GetInfo(&info) == CKR_OK);
  scene.hsm.apply("release");
  careless.join();
  CHECK(scene.hsm.counter("threads_at_once") == 1);
}
