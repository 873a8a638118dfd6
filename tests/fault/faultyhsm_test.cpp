// The faulty driver itself: that each directive does what its README says, with plain PKCS#11 calls. Here: directives
// and calls; module_faults_test.cpp has modules, slots, sessions and logins, cipher_faults_test.cpp keys and ciphers.

#include <fstream>
#include <functional>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>

#include <unistd.h>

#include "fault/plain_token.hpp"
#include "faultyhsm/faultyhsm.h"

using namespace hsmseal::test;

namespace {

/// One call, and what it answers while a directive holds.
struct Answer {
  std::string directive;
  std::function<CK_RV(const PlainToken&)> call;
  CK_RV expected;
};

CK_RV info_of_session(const PlainToken& token) {
  CK_SESSION_INFO info{};
  return token.p11->C_GetSessionInfo(token.session, &info);
}

CK_RV info_of_slot(const PlainToken& token) {
  CK_SLOT_INFO info{};
  return token.p11->C_GetSlotInfo(token.slot, &info);
}

CK_RV five_random_bytes(const PlainToken& token) {
  Octets bytes(5);
  return token.p11->C_GenerateRandom(token.session, bytes.data(), bytes.size());
}

CK_RV make_a_key(const PlainToken& token) {
  CK_OBJECT_HANDLE key = 0;
  return token.make_key("made", key);
}

CK_RV open_reading(const PlainToken& token) {
  CK_SESSION_HANDLE opened = 0;
  const CK_RV rv = token.open(0, opened);
  if (rv == CKR_OK) token.p11->C_CloseSession(opened);
  return rv;
}

CK_RV encrypt(const PlainToken& token) { return token.encrypt(token.find("k").at(0)).rv; }

CK_RV count_slots(const PlainToken& token) {
  CK_ULONG count = 0;
  return token.p11->C_GetSlotList(CK_TRUE, nullptr, &count) == CKR_OK && count == 0 ? CKR_TOKEN_NOT_PRESENT : CKR_OK;
}

std::string first_word(const std::string& directive) { return directive.substr(0, directive.find(' ')); }

std::string content_of(const std::string& path) {
  std::ifstream file(HSMSEAL_SOURCE_DIR "/tests/" + path);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("a directive lets a call answer what it says, is counted, and ends") {
  PlainToken token;
  static_cast<void>(token.key("k"));
  const Answer answers[] = {
      {"fail C_GetSessionInfo CKR_DEVICE_ERROR", info_of_session, CKR_DEVICE_ERROR},
      {"fail C_GetSessionInfo 0x80000384 times=1", info_of_session, 0x80000384},
      {"fail * 0x3E8", info_of_slot, 0x3E8},
      {"fail C_GetSessionInfo CKR_HOST_MEMORY session=anchor", info_of_session, CKR_HOST_MEMORY},
      {"fail C_Encrypt CKR_DEVICE_MEMORY times=1", encrypt, CKR_DEVICE_MEMORY},
      {"fail_after C_GenerateKey CKR_FUNCTION_FAILED", make_a_key, CKR_FUNCTION_FAILED},
      {"generate_rejects CKA_WRAP", make_a_key, CKR_ATTRIBUTE_TYPE_INVALID},
      {"random limits", five_random_bytes, CKR_ARGUMENTS_BAD},
      {"refuse_ro", open_reading, CKR_FUNCTION_FAILED},
      {"session_limit 1", open_reading, CKR_SESSION_COUNT},
      {"mechanism_refused CKM_AES_GCM", encrypt, CKR_MECHANISM_INVALID},
      {"gcm_layout five", encrypt, CKR_MECHANISM_PARAM_INVALID},
      {"gcm_mechanism 0x8000011c", encrypt, CKR_MECHANISM_INVALID},
      {"gcm_iv writeback", encrypt, CKR_MECHANISM_PARAM_INVALID},
      {"slots_empty", count_slots, CKR_TOKEN_NOT_PRESENT},
      {"token_absent", count_slots, CKR_TOKEN_NOT_PRESENT},
  };
  for (const auto& [directive, call, expected] : answers) {
    INFO(directive);
    if (directive.find("times=") == std::string::npos) REQUIRE(call(token) != expected);
    token.hsm.reset();
    {
      const FaultFor fault(token.hsm, directive);
      CHECK(call(token) == expected);
      CHECK(token.hsm.fired(first_word(directive)) == 1);
    }
    token.another_session();  // see the next test
    CHECK(call(token) != expected);
  }
}

TEST_CASE("a call that fails is not forwarded, so that an operation stays active") {
  PlainToken token;
  const auto key = token.key("k");
  const FaultFor fault(token.hsm, "stays_active CKR_GENERAL_ERROR");
  CHECK(token.encrypt(key).rv == CKR_GENERAL_ERROR);
  CHECK(token.hsm.fired("F13") == 1);
  CHECK(token.encrypt(key).rv == CKR_OPERATION_ACTIVE);
  token.another_session();
  CHECK(token.encrypt(key).rv == CKR_OK);
}

TEST_CASE("options say in which calls a fault acts") {
  const PlainToken token;
  const auto answers = [&](const std::string& directive, std::size_t calls) {
    const FaultFor fault(token.hsm, directive);
    std::string seen;
    for (std::size_t i = 0; i < calls; ++i) seen += info_of_session(token) == CKR_OK ? '-' : 'x';
    return seen;
  };
  CHECK(answers("fail C_GetSessionInfo 0x30 times=2", 4) == "xx--");
  CHECK(answers("fail C_GetSessionInfo 0x30 skip=2 times=1", 4) == "--x-");
  CHECK(answers("fail C_GetSessionInfo 0x30 after=60000", 2) == "--");
  CHECK(answers("fail C_GetSessionInfo 0x30 for=60000", 2) == "xx");
  CHECK(answers("fail C_GetSessionInfo 0x30 session=99", 2) == "--");
  CHECK(answers("fail * 0x30 in=C_GetSessionInfo", 2) == "xx");
  CHECK(answers("fail * 0x30 in=C_Login", 2) == "--");
  CHECK(answers("fail C_GetSessionInfo 0x30 p=0", 9) == "---------");
  const auto random = answers("fail C_GetSessionInfo 0x30 p=0.5 seed=7", 64);
  CHECK(random == answers("fail C_GetSessionInfo 0x30 p=0.5 seed=7", 64));
  CHECK(std::count(random.begin(), random.end(), 'x') > 16);
  CHECK(std::count(random.begin(), random.end(), '-') > 16);
}

TEST_CASE("what is no directive is refused") {
  const FaultyHsm hsm;
  for (const char* const line :
       {"no_such_fault", "fail", "fail C_Nothing 0x30", "fail C_Encrypt", "fail C_Encrypt CKR_NOTHING",
        "fail C_Encrypt 0x30 often", "fail C_Encrypt 0x30 times=x", "fail C_Encrypt 0x30 p=2", "gcm_iv sideways",
        "renumber 3 4", "clear all", "session_limit", "random", "pin_tries -1", "fail C_Encrypt 0x30 in=C_Nothing"}) {
    INFO(line);
    CHECK_THROWS_AS(hsm.apply(line), std::invalid_argument);
  }
  for (const char* const line : {"", "   ", "# a remark", "renumber # a remark", "renumber off", "clear", "release"}) {
    INFO(line);
    CHECK_NOTHROW(hsm.apply(line));
  }
  CHECK_THROWS_AS(hsm.fired("no_such_fault"), std::invalid_argument);
  CHECK_THROWS_AS(hsm.fired("F99"), std::invalid_argument);
  CHECK_THROWS_AS(hsm.counter("no_such_counter"), std::invalid_argument);
  CHECK_THROWS_AS(hsm.calls("C_Nothing"), std::invalid_argument);
}

TEST_CASE("a script is read when the driver starts and when it changes") {
  PlainToken token;
  REQUIRE(token.p11->C_Finalize(nullptr) == CKR_OK);
  const auto script = token.hsm.tokens().write_file("faults", "# one line\nfail C_GetSessionInfo CKR_DEVICE_ERROR\n");
  ::setenv("FAULTYHSM_SCRIPT", script.c_str(), 1);
  token.start();
  CHECK(info_of_session(token) == CKR_DEVICE_ERROR);
  token.hsm.tokens().write_file("faults", "fail C_GetSlotInfo CKR_DEVICE_MEMORY\n");
  for (int looks = 0; looks < 1000 && info_of_slot(token) == CKR_OK; ++looks) ::usleep(1000);
  CHECK(info_of_slot(token) == CKR_DEVICE_MEMORY);
  CHECK(info_of_session(token) == CKR_OK);
}

TEST_CASE("a copy of the driver has faults and counts of its own") {
  const PlainToken one;
  const PlainToken two;
  const FaultFor fault(one.hsm, "fail C_GetSessionInfo CKR_DEVICE_ERROR");
  two.hsm.reset();
  CHECK(info_of_session(one) == CKR_DEVICE_ERROR);
  CHECK(two.hsm.calls_total() == 0);
  CHECK(info_of_session(two) == CKR_OK);
  CHECK(two.hsm.fired("fail") == 0);
  REQUIRE(one.p11->C_Finalize(nullptr) == CKR_OK);
  CHECK(info_of_session(two) == CKR_OK);
}

TEST_CASE("each directive stands in the README with its faults, and in a test") {
  const std::string readme = content_of("faultyhsm/README.md");
  const std::string table = content_of("faultyhsm/faults.hpp");
  const std::string tests = content_of("fault/faultyhsm_test.cpp") + content_of("fault/module_faults_test.cpp") +
                            content_of("fault/cipher_faults_test.cpp") + content_of("fault/profiles_test.cpp");
  static const std::regex kRow{R"re(X\(\w+, "(\w+)", "([F0-9 ]+)")re"};
  std::set<std::string> faults;
  std::size_t directives = 0;
  for (std::sregex_iterator at{table.begin(), table.end(), kRow}, end; at != end; ++at, ++directives) {
    const std::string word = (*at)[1];
    INFO(word);
    CHECK(readme.find("| `" + word) != std::string::npos);
    CHECK(std::regex_search(readme, std::regex("\\| `" + word + "[ `][^\n]*\\| " + (*at)[2].str() + " \\|")));
    CHECK(std::regex_search(tests, std::regex("\"" + word + "[ \"]")));
    std::istringstream numbers((*at)[2]);
    for (std::string number; numbers >> number;) faults.insert(number);
  }
  CHECK(directives > 60);
  CHECK(faults.size() >= 29);
}
