// Numbers that nobody knows (F29), several drivers in one process (F30), and drivers that lie (F31).

#include "fault/faulty_vault.hpp"
#include "token/in_threads.hpp"

using namespace hsmseal;
using namespace hsmseal::test;
using std::chrono::milliseconds;

namespace {

constexpr const char* kPath[] = {"C_GetSlotList",      "C_GetTokenInfo", "C_OpenSession",       "C_CloseSession",
                                 "C_GetSessionInfo",   "C_Login",        "C_FindObjectsInit",   "C_FindObjects",
                                 "C_FindObjectsFinal", "C_EncryptInit",  "C_Encrypt",           "C_DecryptInit",
                                 "C_Decrypt",          "C_GenerateKey",  "C_GetAttributeValue", "C_GenerateRandom",
                                 "C_DestroyObject",    "C_Initialize",   "C_Finalize"};

/// Goes well, or is a typed error of the library's; anything else fails the test.
template <typename Work>
void works_or_says_why(const Work& work) {
  try {
    const bool right = work();
    CHECK(right);
  } catch (const Error& error) {
    CHECK(std::string_view(error.what()).size() > 10);
  }
}

}  // namespace

TEST_CASE("F29: a number that nobody knows is a typed error or overcome, from whatever function") {
  const bool after = GENERATE(false, true);
  for (const char* const rv : {"0x80000384", "0x81000071", "0x3E8"}) {
    FaultyVault scene;
    unsigned long fired = 0;
    for (const char* const function : kPath) {
      INFO(function << " " << rv << (after ? " after its effect" : ""));
      scene.hsm.reset();
      scene.hsm.apply("kill all");
      scene.hsm.apply(std::string(after ? "fail_after " : "fail ") + function + " " + rv + " times=1");
      works_or_says_why([&] { return scene.opens(); });
      works_or_says_why([&] { return scene.ring->add({.token = "one"}) != 0; });
      fired += scene.hsm.fired("F29");
      scene.hsm.apply(std::string(after ? "fail_after " : "fail ") + function + " off");
      scene.clock.move(std::chrono::hours{1});
      if (std::string_view(function) == "C_Login") {  // may have been a verdict on the PIN
        works_or_says_why([&] { return scene.opens(); });
        break;
      }
    }
    CHECK(fired >= 5);
  }
  for (const char* const rv : {"0x80000384", "0x81000071", "0x3E8"}) {
    const FaultyVault scene;
    unsigned long fired = 0;
    for (const char* const function : kPath) {
      if (std::string_view(function) == "C_Login") continue;
      INFO(function << " " << rv << (after ? " after its effect" : ""));
      scene.hsm.reset();
      scene.hsm.apply(std::string(after ? "fail_after " : "fail ") + function + " " + rv + " times=1");
      works_or_says_why([&] { return scene.opens_with(scene.another()); });
      works_or_says_why([&] { return scene.ring->add({.token = "one"}) != 0; });
      CHECK(scene.hsm.fired("F29") == (scene.hsm.calls(function) == 0 ? 0 : 1));
      fired += scene.hsm.fired("F29");
      scene.hsm.apply(std::string(after ? "fail_after " : "fail ") + function + " off");
      CHECK(scene.seals_and_opens());
    }
    CHECK(fired >= 10);
  }
}

TEST_CASE("F29: a driver that does not give its functions, or says that it was not started, is a typed error") {
  for (const char* const function : {"C_GetFunctionList", "C_Initialize"}) {
    for (const char* const rv : {"CKR_CRYPTOKI_NOT_INITIALIZED", "CKR_GENERAL_ERROR", "0x80000384"}) {
      INFO(function << " " << rv);
      const FaultyHsm hsm;
      hsm.apply(std::string("fail ") + function + " " + rv);
      CHECK_THROWS_AS(
          KeyRing::create(memory_ring_store(), pkcs11_provider(hsm.host()), {.token = "one"}, RingPin::in_process()),
          TokenError);
      CHECK(hsm.fired("fail") > 0);
    }
  }
}

TEST_CASE("F30: a driver that fails or hangs does not disturb another one in the process") {
  const FaultyVault well;
  VaultSetup setup;
  setup.deadline = milliseconds{100};
  for (const char* const fault : {"fail * CKR_DEVICE_ERROR", "hang * forever", "kill all times=forever"}) {
    INFO(fault);
    FaultyVault ill(setup);
    ill.hsm.apply(fault);
    well.hsm.reset();
    std::atomic<int> opened = 0;
    Threads threads;
    for (int i = 0; i < 4; ++i) {
      threads.start([&] {
        for (int k = 0; k < 3; ++k) static_cast<void>(ill.tries());
      });
    }
    const auto took = time_of([&] {
      in_threads(4, [&](std::size_t) {
        for (int k = 0; k < 50; ++k) opened += well.tries() ? 1 : 0;
      });
    });
    threads.join();
    CHECK(opened == 200);
    CHECK(took < milliseconds{1500});
    CHECK(well.seals_and_opens());
    CHECK(well.hsm.calls("C_Login") == 0);
    CHECK(well.hsm.calls("C_Finalize") == 0);
    CHECK(well.hsm.threads_in_one_session() == 0);
    CHECK(ill.hsm.fired(std::string(fault).substr(0, 4)) > 0);
    ill.hsm.apply("clear");
    CHECK(eventually([&] { return ill.hsm.counter("inside") == 0; }));
  }
}

TEST_CASE("F30: envelopes of a token that another driver also shows under this label do not open there") {
  const FaultyVault one;
  const FaultyVault two;  // "one" as well, and the same handles
  const auto provider = pkcs11_provider(two.host(), one.setup.options);
  two.hsm.reset();
  CHECK_THROWS_AS(KeyRing::open(one.store, provider, one.pin), WrongKeyError);
  CHECK(two.hsm.calls("C_GetTokenInfo") > 0);  // it was there, and looked at
  CHECK(two.hsm.calls("C_DecryptInit") == 0);
  CHECK(one.seals_and_opens());
  CHECK(two.seals_and_opens());
}

TEST_CASE("F30: a function that is missing from the list is an error, and not needed if it is not used") {
  for (const char* const function : {"C_GenerateRandom", "C_Logout", "C_GetInfo", "C_WrapKey", "C_CloseAllSessions"}) {
    INFO(function);
    const FaultyVault scene(VaultSetup{.faults = {std::string("missing ") + function}});
    CHECK(scene.fired_at_start.at("missing") > 0);
    CHECK(scene.seals_and_opens());
  }
  const FaultyVault scene;
  scene.hsm.apply("missing C_GenerateKey");
  CHECK(scene.hsm.fired("missing") > 0);
  const auto error = error_of<TokenError>([&] { return scene.ring->add({.token = "one"}); });
  CHECK(error.rv() == CKR_FUNCTION_NOT_SUPPORTED);
  CHECK(scene.seals_and_opens());

  const FaultyHsm incomplete;
  incomplete.apply("missing C_Encrypt");
  CHECK_THROWS_AS(
      KeyRing::create(memory_ring_store(), pkcs11_provider(incomplete.host()), {.token = "one"}, RingPin::in_process()),
      InvalidArgumentError);
  CHECK(incomplete.fired("missing") > 0);
}

TEST_CASE("F31: a mechanism that is listed and refused makes no set") {
  const FaultyVault scene;
  {
    const FaultFor fault(scene.hsm, "mechanism_refused CKM_AES_GCM");
    const auto error = error_of<WrongKeyError>(
        [&] { return scene.ring->add({.token = "one", .algorithm = WrapAlgorithm::Aes256Gcm}); });
    CHECK(std::string(error.what()).find("C_EncryptInit failed: CKR_MECHANISM_INVALID") != std::string::npos);
    CHECK(scene.hsm.fired("mechanism_refused") > 0);
  }
  CHECK(scene.ring->list().size() == 1);
  CHECK(scene.ring->orphans().empty());
  CHECK(scene.seals_and_opens());
}

TEST_CASE("F31: structures that a driver does not clear, and names that end in NUL, do no harm") {
  const FaultyVault scene(VaultSetup{.faults = {"garbage_out", "nul_padded"}});
  CHECK(scene.ring->active().key.token_label == "one");
  scene.hsm.apply("kill all");
  CHECK(scene.seals_and_opens());
  CHECK(scene.hsm.fired("garbage_out") > 0);
  CHECK(scene.hsm.fired("nul_padded") > 0);
  CHECK_NOTHROW(scene.ring->add({.token = "one"}));
  // A driver's next release pads with blanks: it is the same token.
  scene.hsm.apply("nul_padded off");
  scene.hsm.apply("kill all");
  CHECK(scene.seals_and_opens());
  CHECK(scene.opens_with(scene.another()));
}
