// Groups of HSMs (F19), slots (F20), and tokens that go and come back (F21).

#include "fault/faulty_vault.hpp"

using namespace hsmseal;
using namespace hsmseal::test;
using std::chrono::milliseconds;

TEST_CASE("F19: a new key that other members see later is waited for") {
  const FaultyVault scene;
  for (const char* const lag : {"lag_ms 150", "lag_finds 3"}) {
    INFO(lag);
    scene.hsm.reset();
    const FaultFor fault(scene.hsm, lag);
    const auto version = scene.ring->add({.token = "one"});
    CHECK(scene.hsm.fired("F19") > 0);
    CHECK(scene.ring->active().version == version);
    CHECK(scene.seals_and_opens());
    CHECK(scene.opens_with(scene.another()));
    CHECK(scene.hsm.calls("C_GenerateKey") == 1);
  }
  CHECK(scene.ring->orphans().empty());
}

TEST_CASE("F19: a new key that other members see, but cannot use yet, is waited for") {
  const FaultyVault scene;
  const FaultFor fault(scene.hsm, "lag_unusable 150");
  const auto version = scene.ring->add({.token = "one"});
  CHECK(scene.hsm.fired("lag_unusable") > 0);
  CHECK(scene.ring->active().version == version);
  CHECK(scene.hsm.calls("C_GenerateKey") == 1);
  CHECK(scene.hsm.calls("C_DestroyObject") == 0);
  CHECK(scene.seals_and_opens());
  CHECK(scene.ring->orphans().empty());
}

TEST_CASE("F19: a new key of a group whose members answer each call in turn is waited for") {
  const FaultyVault scene;
  scene.hsm.apply("members per_call");
  scene.hsm.apply("lag_ms 150");
  const auto version = scene.ring->add({.token = "one"});
  CHECK(scene.hsm.fired("F19") > 0);
  CHECK(scene.ring->active().version == version);
  CHECK(scene.hsm.calls("C_GenerateKey") == 1);
  CHECK(scene.hsm.calls("C_DestroyObject") == 0);
  CHECK(scene.hsm.counter("stale_again") == 0);
  for (int i = 0; i < 10; ++i) CHECK(scene.seals_and_opens());
  CHECK(scene.ring->orphans().empty());
}

TEST_CASE("F19: a key that other members do not see in time becomes no set") {
  VaultSetup setup;
  setup.ring_deadline = milliseconds{600};
  const FaultyVault scene(setup);
  const FaultFor fault(scene.hsm, "lag_ms 60000");
  CHECK_THROWS_AS(scene.ring->add({.token = "one"}), KeyNotFoundError);
  CHECK(scene.hsm.fired("lag_ms") > 0);
  CHECK(scene.hsm.calls("C_DestroyObject") == 1);
  CHECK(scene.ring->list().size() == 1);
  CHECK(scene.seals_and_opens());
}

TEST_CASE("F19: of members that answer in turn all must know a new key before it seals") {
  const FaultyVault scene;
  scene.hsm.apply("members per_session");
  scene.hsm.apply("lag_ms 150");
  const auto version = scene.ring->add({.token = "one"});
  CHECK(scene.hsm.fired("F19") > 0);
  CHECK(scene.ring->active().version == version);
  for (int i = 0; i < 10; ++i) CHECK(scene.seals_and_opens());
  const auto other = scene.another();
  for (int i = 0; i < 10; ++i) CHECK(scene.opens_with(other));
}

TEST_CASE("F19: another host opens what was sealed under a key that has just come to its member") {
  const FaultyVault scene;
  const auto other = scene.another();
  REQUIRE(scene.opens_with(other));
  scene.hsm.apply("lag_ms 100");
  scene.ring->add({.token = "one"});
  const auto sealed = scene.vault->seal(bytes_of("on one member"), kNoContext);
  // Not there again for a moment: reads go to a member that lags behind.
  scene.hsm.apply("lag_finds 0");
  scene.hsm.apply("find zero_one_two times=1");
  const auto third = scene.another();
  CHECK(third.open(sealed, kNoContext).text() == "on one member");
  CHECK(scene.hsm.fired("find") == 1);
  CHECK(scene.hsm.fired("lag_ms") > 0);
}

TEST_CASE("F19: the death of a member ends no operation for good") {
  const FaultyVault scene;
  scene.hsm.apply("members per_session");
  scene.hsm.apply("lag_ms 20");
  scene.ring->add({.token = "one"});
  const auto sealed = scene.vault->seal(bytes_of("before"), kNoContext);
  scene.hsm.apply("member_dies 0");
  CHECK(scene.vault->open(sealed, kNoContext).text() == "before");
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.fired("member_dies") == 1);
  CHECK(scene.hsm.calls("C_Finalize") == 0);
}

TEST_CASE("F20: slots that were renumbered are found again by their token") {
  const FaultyVault scene;
  scene.hsm.apply("slots_renumber now");
  scene.hsm.apply("kill all");
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.fired("slots_renumber") > 0);

  scene.hsm.apply("slots_renumber off");
  scene.hsm.apply("slots_renumber reinit");
  scene.hsm.apply("foreign_finalize");
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.fired("foreign_finalize") == 1);
  CHECK(scene.hsm.fired("slots_renumber") > 1);
}

TEST_CASE("F20: a list of slots that is empty at first is asked for again") {
  const FaultyVault scene(VaultSetup{.faults = {"slots_empty times=3"}});
  CHECK(scene.fired_at_start.at("slots_empty") == 3);
  CHECK(scene.seals_and_opens());
  scene.hsm.apply("slots_empty times=3");
  scene.hsm.apply("kill all");
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.fired("slots_empty") == 3);
}

TEST_CASE("F20: a list of slots that grows between two calls is read whole") {
  const FaultyVault scene(VaultSetup{.faults = {"slots_grow times=2"}});
  CHECK(scene.fired_at_start.at("slots_grow") > 0);
  scene.hsm.apply("slots_grow times=2");
  scene.hsm.apply("kill all");
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.fired("slots_grow") > 0);
}

TEST_CASE("F20: a token in the place of another gets no PIN") {
  const FaultyVault scene;
  for (int round = 0; round < 2; ++round) {
    scene.hsm.reset();
    const FaultFor fault(scene.hsm, "other_serial 0123456789abcdef");
    if (round == 0) {
      scene.hsm.apply("kill all");
      CHECK_THROWS_AS(scene.opens(), WrongKeyError);
    } else {  // from the start
      const auto other = pkcs11_provider(scene.host(), scene.setup.options);
      CHECK_THROWS_AS(KeyRing::open(scene.store, other, scene.pin), WrongKeyError);
    }
    CHECK(scene.hsm.fired("other_serial") > 0);
    CHECK(scene.hsm.calls("C_Login") == 0);
    CHECK(scene.hsm.calls("C_Decrypt") == 0);
  }
  CHECK(scene.seals_and_opens());
}

TEST_CASE("F20: a slot without its token is an error until the token is there") {
  VaultSetup setup;
  setup.options.circuit.failures = 100;
  setup.deadline = milliseconds{300};
  const FaultyVault scene(setup);
  {
    const FaultFor fault(scene.hsm, "token_absent");
    scene.hsm.apply("kill all");
    const auto error = error_of<TokenUnavailableError>([&] { return scene.opens(); });
    CHECK(error.retryable());
    CHECK(scene.hsm.fired("token_absent") > 0);
    CHECK(scene.hsm.calls("C_Login") == 0);
  }
  CHECK(scene.seals_and_opens());
}

TEST_CASE("F20: a driver is not started anew for a token that is missing while another one of it works") {
  const FaultyHsm hsm{{"one", "two"}};
  auto provider = pkcs11_provider(hsm.host());
  const auto here = memory_ring_store(), gone = memory_ring_store();
  { const auto ring = KeyRing::create(gone, pkcs11_provider(hsm.host()), {.token = "two"}, RingPin::in_process()); }
  auto vault =
      std::make_optional<EnvelopeEncryptor>(KeyRing::create(here, provider, {.token = "one"}, RingPin::in_process()));
  const auto open_gone = [&] {
    return KeyRing::open(gone, pkcs11_provider(hsm.host()), RingPin::in_process(), {.deadline = milliseconds{5'000}});
  };
  const auto works = [&] { return vault->open(vault->seal(bytes_of("x"), kNoContext), kNoContext).text() == "x"; };
  REQUIRE(works());
  const auto sessions = hsm.open_sessions();
  const FaultFor fault(hsm, "swap_labels two gone");
  hsm.reset();
  CHECK_THROWS_AS(EnvelopeEncryptor{open_gone()}.seal(bytes_of("x"), kNoContext), TokenUnavailableError);
  CHECK(works());
  CHECK(hsm.fired("swap_labels") > 0);
  CHECK(hsm.calls("C_Finalize") == 0);
  CHECK(hsm.calls("C_OpenSession") == 0);
  CHECK(hsm.calls("C_Login") == 0);
  CHECK(hsm.open_sessions() == sessions);
  CHECK(hsm.counter("stale_handles") == 0);

  vault.reset();
  provider.reset();  // nobody is disturbed any more
  CHECK_THROWS_AS(EnvelopeEncryptor{open_gone()}.seal(bytes_of("x"), kNoContext), TokenUnavailableError);
  CHECK(hsm.calls("C_Finalize") == 1);
}

TEST_CASE("F21: a token that was away is used again, and no handle from before") {
  for (const char* const rv : {"CKR_TOKEN_NOT_PRESENT", "CKR_DEVICE_REMOVED"}) {
    INFO(rv);
    FaultyVault scene;
    scene.hsm.apply("renumber");
    scene.hsm.apply(std::string("removed ") + rv + " for=150");
    for (int tries = 0; tries < 100 && !scene.tries(); ++tries) scene.clock.move(milliseconds{1000});
    CHECK(scene.seals_and_opens());
    CHECK(scene.hsm.fired("removed") > 0);
    CHECK(scene.hsm.fired("renumber") > 0);
    CHECK(scene.hsm.counter("wrong_pins") == 0);
    CHECK(scene.events(Event::Kind::TokenLost) >= 1);
    CHECK(scene.events(Event::Kind::TokenRecovered) >= 1);
  }
}

TEST_CASE("F21: a token that was away while nobody looked has lost all handles") {
  const FaultyVault scene;
  scene.hsm.apply("renumber");
  scene.hsm.apply("removed times=1");
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.fired("removed") == 1);
  CHECK(scene.hsm.fired("renumber") > 0);
  CHECK(scene.hsm.calls("C_Login") >= 1);
}
