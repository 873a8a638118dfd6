#include <hsmseal/pin_source.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>

#include <sys/stat.h>
#include <unistd.h>

#include <hsmseal/error.hpp>
#include <hsmseal/token_binding.hpp>

#include "helpers.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;
using test::contains;
using test::message_of;

namespace {

namespace fs = std::filesystem;

constexpr const char* kPin = "correct-horse-4711";
const TokenSelector kToken{.label = "vault", .serial = "0123"};

class PinFile {
 public:
  explicit PinFile(const std::string& content, mode_t mode = 0600) {
    std::ofstream(path()) << content;
    set_mode(mode);
  }

  void set_mode(mode_t mode) const { REQUIRE(::chmod(path().c_str(), mode) == 0); }
  [[nodiscard]] fs::path folder() const { return folder_.path(); }
  [[nodiscard]] fs::path path() const { return folder_.path() / "token.pin"; }
  [[nodiscard]] std::string read() const { return read_at(path()); }

  /// The message with which the file is refused.
  [[nodiscard]] std::string refusal() const { return refusal_at(path()); }

  static std::string read_at(const fs::path& path) { return std::string{PinSource::file(path).read(kToken).text()}; }

  static std::string refusal_at(const fs::path& path) {
    const std::string message = message_of<InvalidArgumentError>([&] { (void)PinSource::file(path).read(kToken); });
    CHECK(contains(message, path.string()));
    CHECK_FALSE(contains(message, kPin));
    return message;
  }

 private:
  test::ScratchDirectory folder_;
};

/// Set for as long as the object lives.
class EnvironmentVariable {
 public:
  EnvironmentVariable(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
  EnvironmentVariable(const EnvironmentVariable&) = delete;
  EnvironmentVariable& operator=(const EnvironmentVariable&) = delete;
  ~EnvironmentVariable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

constexpr const char* kVariable = "HSMSEAL_TEST_PIN";

}  // namespace

TEST_CASE("a PIN file's first line is the PIN") {
  CHECK(PinFile(kPin).read() == kPin);
  CHECK(PinFile(std::string{kPin} + "\n").read() == kPin);
  CHECK(PinFile(std::string{kPin} + "\r\n").read() == kPin);
  CHECK(PinFile(std::string{kPin} + "\nnot the PIN\n").read() == kPin);
  CHECK(PinFile(std::string{kPin} + "\n\n").read() == kPin);
  CHECK(PinFile("1").read() == "1");
}

TEST_CASE("nothing but the end of the line is taken off a PIN") {
  CHECK(PinFile("  user:pass word@10.0.0.1  \n").read() == "  user:pass word@10.0.0.1  ");
  CHECK(PinFile("\tquoted \"PIN\"\t\r\n").read() == "\tquoted \"PIN\"\t");
}

TEST_CASE("a PIN file is read each time, so that a changed PIN is seen") {
  const PinFile file("first\n");
  const PinSource source = PinSource::file(file.path());
  CHECK(source.kind() == PinSource::Kind::Pin);
  CHECK(source.read(kToken).text() == "first");
  std::ofstream(file.path()) << "second\n";
  CHECK(source.read(kToken).text() == "second");
  fs::remove(file.path());
  CHECK_THROWS_AS(source.read(kToken), InvalidArgumentError);
}

TEST_CASE("a PIN file that is not there is named when it is read, not before") {
  const test::ScratchDirectory folder;
  const PinSource source = PinSource::file(folder.path() / "no.pin");
  CHECK(contains(message_of<InvalidArgumentError>([&] { (void)source.read(kToken); }),
                 (folder.path() / "no.pin").string()));
  PinFile::refusal_at(folder.path() / "no" / "folder.pin");
}

TEST_CASE("a PIN file is where it was when its source was made") {
  const PinFile file(kPin);
  CHECK(test::exit_status_of([&] {
          fs::current_path(file.folder());
          const PinSource source = PinSource::file("token.pin");
          fs::current_path("/");
          return source.read(kToken).text() == kPin;
        }) == 0);
  CHECK_THROWS_AS(PinSource::file(""), InvalidArgumentError);
}

TEST_CASE("a PIN file without a PIN is refused") {
  CHECK(contains(PinFile("").refusal(), "empty"));
  CHECK(contains(PinFile("\n").refusal(), "empty"));
  CHECK(contains(PinFile("\r\n").refusal(), "empty"));
  CHECK(contains(PinFile(std::string{"\n"} + kPin + "\n").refusal(), "empty"));
}

TEST_CASE("a PIN file has at most 4096 bytes") {
  CHECK(PinFile(std::string(4096, '7')).read() == std::string(4096, '7'));
  CHECK(PinFile(std::string(4095, '7') + "\n").read() == std::string(4095, '7'));
  CHECK(contains(PinFile(kPin + std::string(4096, '7')).refusal(), "4096"));
  CHECK(contains(PinFile(kPin + std::string("\n") + std::string(100'000, '7')).refusal(), "4096"));
}

TEST_CASE("a PIN file that its group or others may touch is refused, and the message says how to close it") {
  const PinFile file(kPin);
  for (const mode_t open : {040U, 020U, 010U, 04U, 02U, 01U, 070U, 07U}) {
    file.set_mode(0600U | open);
    CHECK(contains(file.refusal(), "chmod 600"));
  }
  for (const mode_t closed : {0400U, 0600U, 0700U}) {
    file.set_mode(closed);
    CHECK(file.read() == kPin);
  }
}

TEST_CASE("a PIN file that is a folder, a pipe or a device is refused") {
  const PinFile file(kPin);
  CHECK(contains(PinFile::refusal_at(file.folder()), "not a regular file"));
  const fs::path pipe = file.folder() / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(contains(PinFile::refusal_at(pipe), "not a regular file"));
  CHECK(contains(PinFile::refusal_at("/dev/null"), "not a regular file"));
}

TEST_CASE("a PIN file may be reached by a link, and what the link leads to counts") {
  const PinFile file(std::string{kPin} + "\n");
  const fs::path link = file.folder() / "link.pin";
  fs::create_symlink(file.path(), link);
  CHECK(PinFile::read_at(link) == kPin);
  file.set_mode(0644);
  CHECK(contains(PinFile::refusal_at(link), "chmod 600"));
  fs::remove(file.path());
  PinFile::refusal_at(link);
}

TEST_CASE("a PIN file of another user is refused") {
  if (::geteuid() != 0) {
    WARN("not run: only root can make another user's file");
    return;
  }
  const PinFile file(kPin);
  REQUIRE(::chown(file.path().c_str(), 65534, 65534) == 0);
  CHECK(contains(file.refusal(), "another user"));
  REQUIRE(::chown(file.path().c_str(), 0, 0) == 0);
  CHECK(file.read() == kPin);
}

TEST_CASE("a PIN comes from the environment as it is, each time it is needed") {
  const PinSource source = PinSource::environment(kVariable);
  CHECK(source.kind() == PinSource::Kind::Pin);
  {
    const EnvironmentVariable set(kVariable, " user:password@host ");
    CHECK(source.read(kToken).text() == " user:password@host ");
  }
  {
    const EnvironmentVariable set(kVariable, "second");
    CHECK(source.read(kToken).text() == "second");
  }
  CHECK(contains(message_of<InvalidArgumentError>([&] { (void)source.read(kToken); }), kVariable));
}

TEST_CASE("an empty environment variable holds no PIN") {
  const EnvironmentVariable set(kVariable, "");
  CHECK(contains(message_of<InvalidArgumentError>([] { (void)PinSource::environment(kVariable).read(kToken); }),
                 kVariable));
}

TEST_CASE("a callback is asked for the PIN of a token each time") {
  int asked = 0;
  const PinSource source = PinSource::callback([&](const TokenSelector& token) {
    CHECK(token.label == "vault");
    CHECK(token.serial == "0123");
    return SecretBytes::from_text("pin " + std::to_string(++asked));
  });
  CHECK(source.kind() == PinSource::Kind::Pin);
  CHECK(asked == 0);
  CHECK(source.read(kToken).text() == "pin 1");
  const PinSource copy = source;
  CHECK(copy.read(kToken).text() == "pin 2");
}

TEST_CASE("a callback that gives no PIN is refused, and the message names the token") {
  const PinSource source = PinSource::callback([](const TokenSelector&) { return SecretBytes{}; });
  CHECK(contains(message_of<InvalidArgumentError>([&] { (void)source.read(kToken); }), "label 'vault', serial '0123'"));
}

TEST_CASE("what a callback throws reaches the caller") {
  const PinSource source = PinSource::callback(
      [](const TokenSelector&) -> SecretBytes { throw std::runtime_error("the prompt was closed"); });
  CHECK(message_of<std::runtime_error>([&] { (void)source.read(kToken); }) == "the prompt was closed");
}

TEST_CASE("a missing callback is refused at once") {
  CHECK_THROWS_AS(PinSource::callback(nullptr), InvalidArgumentError);
}

TEST_CASE("no login and a token's own PIN pad have no PIN to read") {
  CHECK(PinSource::none().kind() == PinSource::Kind::None);
  CHECK(PinSource::protected_path().kind() == PinSource::Kind::ProtectedPath);
  CHECK_THROWS_AS(PinSource::none().read(kToken), InvalidArgumentError);
  CHECK_THROWS_AS(PinSource::protected_path().read(kToken), InvalidArgumentError);
}
