#include <hsmseal/secret_bytes.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <new>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helpers.hpp"
#include "platform/platform.hpp"
#include "support/catch.hpp"

using namespace hsmseal;
using test::hex;

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

/// 16 bytes of this process's memory as a debugger sees them, so that no rule of C++ about dead objects is broken.
/// Nothing if there is no memory at the address.
std::optional<std::array<std::byte, 16>> memory_at(const std::byte* address) {
  const int file = ::open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  REQUIRE(file >= 0);
  std::array<std::byte, 16> bytes{};
  const ssize_t got =
      ::pread(file, bytes.data(), bytes.size(), static_cast<off_t>(std::bit_cast<std::uintptr_t>(address)));
  ::close(file);
  if (got != static_cast<ssize_t>(bytes.size())) return std::nullopt;
  return bytes;
}

/// The kernel's flags of the mapping that an address lies in: "dd" is not dumped, "lo" is locked.
std::vector<std::string> vm_flags_of(const std::byte* address) {
  const auto wanted = std::bit_cast<std::uintptr_t>(address);
  std::ifstream smaps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    std::uintptr_t begin = 0, end = 0;
    char dash = 0;
    std::istringstream words(line);
    if (words >> std::hex >> begin >> dash >> end && dash == '-') inside = begin <= wanted && wanted < end;
    if (!inside || line.rfind("VmFlags:", 0) != 0) continue;
    std::istringstream flags(line.substr(8));
    return {std::istream_iterator<std::string>(flags), {}};
  }
  return {};
}

bool has_flag(const std::byte* address, const std::string& flag) {
  const auto flags = vm_flags_of(address);
  return std::find(flags.begin(), flags.end(), flag) != flags.end();
}

/// @returns what `work` returned in a child process.
int in_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int result = 99;
    try {
      result = work();
    } catch (...) {
      result = 98;
    }
    ::_exit(result);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

/// Takes away all right to lock memory; root could ignore the limit.
bool give_up_locked_memory() {
  const rlimit nothing{0, 0};
  if (::setrlimit(RLIMIT_MEMLOCK, &nothing) != 0) return false;
  if (::geteuid() != 0) return true;
  constexpr unsigned kNobody = 65534;
  return ::setgroups(0, nullptr) == 0 && ::setgid(kNobody) == 0 && ::setuid(kNobody) == 0 &&
         ::prctl(PR_SET_DUMPABLE, 1) == 0;  // or /proc/self would be root's
}

}  // namespace

/// The system's mlock(), in whose place the sanitizers put an empty function.
extern "C" int mlock(const void* address, std::size_t size) noexcept {
  return static_cast<int>(::syscall(SYS_mlock, address, size));
}

TEST_CASE("an empty secret has no memory") {
  const SecretBytes nothing;
  CHECK(nothing.empty());
  CHECK(nothing.size() == 0);
  CHECK(nothing.view().empty());
  CHECK(nothing.text().empty());
  CHECK(SecretBytes{std::size_t{0}}.view().data() == nullptr);
  CHECK(SecretBytes{ByteView{}}.empty());
  CHECK(nothing.clone().empty());
}

TEST_CASE("a secret starts as zeros or as a copy of its source") {
  const SecretBytes zeros{40};
  CHECK(hex(zeros.view()) == std::string(80, '0'));
  const SecretBytes text = SecretBytes::from_text("hunter2");
  CHECK(text.text() == "hunter2");
  CHECK(text.size() == 7);
  const std::string source(5000, 'x');
  const SecretBytes copy{bytes_of(source)};
  CHECK(copy.text() == source);
  CHECK(copy.view().data() != bytes_of(source).data());
}

TEST_CASE("memory used for a secret before comes back as zeros") {
  for (const std::size_t size : {std::size_t{1}, std::size_t{32}, std::size_t{1024}, std::size_t{5000}, kMiB}) {
    {
      SecretBytes used{size};
      std::ranges::fill(used.writable(), std::byte{0xaa});
    }
    const SecretBytes again{size};
    CHECK(std::ranges::all_of(again.view(), [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST_CASE("a moved secret keeps its memory and leaves nothing behind") {
  SecretBytes from = SecretBytes::from_text("hunter2");
  const std::byte* const memory = from.view().data();
  SecretBytes to{std::move(from)};
  CHECK(to.view().data() == memory);
  CHECK(to.text() == "hunter2");
  CHECK(from.empty());  // NOLINT(bugprone-use-after-move): this is what is tested
  CHECK(from.view().data() == nullptr);

  SecretBytes other = SecretBytes::from_text("correct horse");
  other = std::move(to);
  CHECK(other.view().data() == memory);
  CHECK(other.text() == "hunter2");
  CHECK(to.empty());  // NOLINT(bugprone-use-after-move)
}

TEST_CASE("a secret moved to itself stays whole") {
  SecretBytes secret = SecretBytes::from_text("hunter2");
  SecretBytes& same = secret;
  secret = std::move(same);
  CHECK(secret.text() == "hunter2");
}

TEST_CASE("a clone is equal and has memory of its own") {
  SecretBytes original = SecretBytes::from_text("hunter2");
  const SecretBytes clone = original.clone();
  CHECK(clone.text() == "hunter2");
  CHECK(clone.view().data() != original.view().data());
  original.writable()[0] = std::byte{'H'};
  CHECK(clone.text() == "hunter2");
}

TEST_CASE("truncating keeps the first bytes and wipes the rest at once") {
  SecretBytes secret = SecretBytes::from_text("0123456789");
  const ByteView all = secret.view();
  secret.truncate(10);
  secret.truncate(11);
  CHECK(secret.text() == "0123456789");
  secret.truncate(4);
  CHECK(secret.text() == "0123");
  CHECK(secret.view().data() == all.data());
  CHECK(hex(all) == "30313233000000000000");
  secret.truncate(0);
  CHECK(secret.empty());
  CHECK(hex(all) == "00000000000000000000");
}

TEST_CASE("the memory of a secret is wiped when it is destroyed or moved over") {
  const SecretBytes neighbour{32};  // its page stays
  const std::byte* destroyed = nullptr;
  {
    SecretBytes secret = SecretBytes::from_text("sixteen letters.");
    destroyed = secret.view().data();
    REQUIRE(memory_at(destroyed));
    CHECK(hex(*memory_at(destroyed)) == hex(bytes_of("sixteen letters.")));
  }
  REQUIRE(memory_at(destroyed));
  CHECK(hex(*memory_at(destroyed)) == std::string(32, '0'));

  SecretBytes target = SecretBytes::from_text("another sixteen.");
  const std::byte* const moved_over = target.view().data();
  target = SecretBytes::from_text("short");
  REQUIRE(memory_at(moved_over));
  CHECK(hex(*memory_at(moved_over)).find(hex(bytes_of("another"))) == std::string::npos);
  CHECK(target.text() == "short");
}

TEST_CASE("what was truncated away is wiped when the secret is destroyed, not given to others") {
  const std::byte* memory = nullptr;
  {
    SecretBytes secret = SecretBytes::from_text("sixteen letters.");
    memory = secret.view().data();
    secret.truncate(8);
    std::ranges::fill(secret.writable(), std::byte{0x55});
  }
  REQUIRE(memory_at(memory));
  CHECK(hex(*memory_at(memory)) == std::string(32, '0'));
}

TEST_CASE("a large secret has pages of its own, which go with it") {
  { const SecretBytes warm_up{kMiB}; }
  const SecretMemory before = secret_memory();
  const std::byte* memory = nullptr;
  {
    SecretBytes large{kMiB + 1};
    memory = large.view().data();
    std::ranges::fill(large.writable(), std::byte{0x5a});
    CHECK(large.view().back() == std::byte{0x5a});
    const SecretMemory during = secret_memory();
    CHECK(during.reserved >= before.reserved + kMiB + platform::page_size());
    CHECK(during.locked <= during.reserved);
    CHECK(memory_at(memory));
  }
  CHECK_FALSE(memory_at(memory));
  CHECK(secret_memory().reserved == before.reserved);
  CHECK(secret_memory().locked == before.locked);
}

TEST_CASE("small secrets share pages") {
  std::vector<SecretBytes> secrets;
  std::set<std::uintptr_t> pages, addresses;
  for (int i = 0; i < 1000; ++i) {
    secrets.emplace_back(std::size_t{32});
    const auto address = std::bit_cast<std::uintptr_t>(secrets.back().view().data());
    addresses.insert(address);
    pages.insert(address / platform::page_size());
  }
  CHECK(addresses.size() == 1000);
  CHECK(pages.size() < 100);
}

TEST_CASE("no secret is in core dumps, and all are locked in memory as far as the process may") {
  for (const std::size_t size : {std::size_t{1}, std::size_t{32}, std::size_t{1000}, std::size_t{3000}, kMiB}) {
    CAPTURE(size);
    const SecretMemory before = secret_memory();
    const SecretBytes secret{size};
    const SecretMemory after = secret_memory();
    const std::byte* const first = secret.view().data();
    const std::byte* const last = &secret.view().back();
    REQUIRE_FALSE(vm_flags_of(first).empty());
    CHECK(has_flag(first, "dd"));
    CHECK(has_flag(last, "dd"));
    CHECK(has_flag(first, "lo") == has_flag(last, "lo"));
    if (after.reserved == before.reserved) continue;  // shares pages with others
    CHECK(has_flag(first, "lo") == (after.locked - before.locked == after.reserved - before.reserved));
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    if (limit.rlim_cur >= 4 * kMiB) CHECK(has_flag(first, "lo"));
  }
  // The same look at ordinary memory sees neither.
  const Bytes ordinary(kMiB);
  REQUIRE_FALSE(vm_flags_of(ordinary.data()).empty());
  CHECK_FALSE(has_flag(ordinary.data(), "dd"));
  CHECK_FALSE(has_flag(ordinary.data(), "lo"));
}

TEST_CASE("a process that may not lock memory has secrets all the same, and is told") {
  enum Outcome { Good, NoLimit, NotUsable, NotReserved, Dumped, CountedAsLocked, Locked, MiscountedWhenReleased };
  const int outcome = in_child([&] {
    if (!give_up_locked_memory()) return NoLimit;
    const SecretMemory before = secret_memory();
    SecretBytes secret{kMiB};
    const SecretMemory after = secret_memory();
    std::ranges::fill(secret.writable(), std::byte{0x5a});
    if (secret.view().back() != std::byte{0x5a}) return NotUsable;
    if (after.reserved < before.reserved + kMiB) return NotReserved;
    if (!has_flag(secret.view().data(), "dd")) return Dumped;
    if (after.locked != before.locked || after.locked >= after.reserved) return CountedAsLocked;
    if (has_flag(secret.view().data(), "lo")) return Locked;
    secret = SecretBytes{};
    const SecretMemory afterwards = secret_memory();
    return afterwards.locked == before.locked && afterwards.reserved < after.reserved ? Good : MiscountedWhenReleased;
  });
  CHECK(outcome == Good);
}

TEST_CASE("a secret larger than all memory is bad_alloc") {
  const auto before = secret_memory();
  CHECK_THROWS_AS(SecretBytes{std::numeric_limits<std::size_t>::max()}, std::bad_alloc);
  CHECK_THROWS_AS(SecretBytes{std::numeric_limits<std::size_t>::max() / 4}, std::bad_alloc);
  CHECK(secret_memory().reserved <= before.reserved + platform::page_size());
  CHECK(SecretBytes::from_text("still works").text() == "still works");
}
