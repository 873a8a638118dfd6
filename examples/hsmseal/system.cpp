#include "system.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "failure.hpp"

namespace tool {
namespace {

constexpr std::size_t kMaxLine = 4096;
constexpr std::size_t kMaxConfiguration = std::size_t{1} << 20;
constexpr mode_t kWritableByOthers = S_IWGRP | S_IWOTH;

std::string reason(int error) { return std::generic_category().message(error); }

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  [[nodiscard]] int get() const { return number_; }
  /// @returns whether what was written arrived.
  bool close() { return ::close(std::exchange(number_, -1)) == 0; }

 private:
  int number_;
};

bool write_all(int file, hsmseal::ByteView content) {
  while (!content.empty()) {
    const ssize_t written = ::write(file, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    content = content.subspan(static_cast<std::size_t>(written));
  }
  return true;
}

// --- the terminal --------------------------------------------------------------------------------------------------

volatile std::sig_atomic_t signal_seen = 0;

/// Takes signals that would end the process while the terminal does not echo, and sends them again at the end.
class DelayedSignals {
 public:
  DelayedSignals() {
    signal_seen = 0;
    struct sigaction action {};
    action.sa_handler = [](int number) { signal_seen = number; };
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &action, &old_[i]);
  }
  DelayedSignals(const DelayedSignals&) = delete;
  DelayedSignals& operator=(const DelayedSignals&) = delete;
  ~DelayedSignals() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &old_[i], nullptr);
    if (signal_seen != 0) ::raise(signal_seen);
  }

 private:
  static constexpr std::array<int, 5> kSignals = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
  std::array<struct sigaction, 5> old_{};
};

class SilentTerminal {
 public:
  explicit SilentTerminal(int terminal) : terminal_(terminal) {
    if (::tcgetattr(terminal_, &old_) != 0) throw UsageError("the terminal does not let its echo be turned off");
    termios silent = old_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHOE | ECHOK | ECHONL);
    if (::tcsetattr(terminal_, TCSAFLUSH, &silent) != 0) {
      throw UsageError("the terminal does not let its echo be turned off");
    }
  }
  SilentTerminal(const SilentTerminal&) = delete;
  SilentTerminal& operator=(const SilentTerminal&) = delete;
  ~SilentTerminal() { ::tcsetattr(terminal_, TCSAFLUSH, &old_); }

 private:
  int terminal_;
  termios old_{};
};

Descriptor terminal_for(std::string_view what, std::string_view instead) {
  const int number = ::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
  if (number < 0) throw UsageError(fmt::format("{} cannot be asked for, as there is no terminal; {}", what, instead));
  return Descriptor{number};
}

/// A line without its end; a signal ends it. In pieces of one byte, so that no buffer keeps what was typed.
hsmseal::SecretBytes read_line(int terminal) {
  hsmseal::SecretBytes line{kMaxLine};
  std::size_t size = 0;
  while (signal_seen == 0) {
    constexpr int kLookAtSignals = 100;  // milliseconds: another thread may get the signal
    pollfd ready{terminal, POLLIN, 0};
    if (::poll(&ready, 1, kLookAtSignals) <= 0) continue;
    std::byte typed{};
    const ssize_t got = ::read(terminal, &typed, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || typed == std::byte{'\n'} || typed == std::byte{'\r'}) break;
    if (size == kMaxLine) throw UsageError(fmt::format("more than {} characters were typed", kMaxLine));
    line.writable()[size++] = typed;
  }
  line.truncate(size);
  return line;
}

}  // namespace

bool is_terminal(Stream stream) { return ::isatty(static_cast<int>(stream)) == 1; }

hsmseal::SecretBytes ask_secret(const std::string& what, std::string_view instead) {
  const Descriptor terminal = terminal_for(what, instead);
  hsmseal::SecretBytes typed;
  {
    const DelayedSignals signals;
    const SilentTerminal silent{terminal.get()};
    write_all(terminal.get(), hsmseal::bytes_of(what + ": "));
    typed = read_line(terminal.get());
    write_all(terminal.get(), hsmseal::bytes_of("\n"));
  }
  if (typed.empty()) throw UsageError(fmt::format("nothing was typed for the {}", what));
  return typed;
}

std::string ask_line(const std::string& prompt, std::string_view what, std::string_view instead) {
  const Descriptor terminal = terminal_for(what, instead);
  const DelayedSignals signals;
  write_all(terminal.get(), hsmseal::bytes_of(prompt + ": "));
  return std::string{read_line(terminal.get()).text()};
}

// --- files ---------------------------------------------------------------------------------------------------------

namespace {

class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path) : file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (file_.get() < 0 || ::fstat(file_.get(), &status_) != 0) {
      throw UsageError(fmt::format("'{}' cannot be read: {}", path.string(), reason(errno)));
    }
    if (S_ISDIR(status_.st_mode)) throw UsageError(fmt::format("'{}' is a folder; give a file", path.string()));
  }
  [[nodiscard]] int get() const { return file_.get(); }
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(std::max<off_t>(status_.st_size, 0)); }

 private:
  Descriptor file_;
  struct stat status_ {};
};

/// @returns how many bytes were read; 0 at the end, or if there is no room.
std::size_t read_some(int file, std::span<std::byte> room, const std::function<void()>& fail) {
  for (;;) {
    const ssize_t got = ::read(file, room.data(), room.size());
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) fail();
  }
}

/// Reads to the end. What was read stays in memory that is wiped.
hsmseal::SecretBytes read_all(int file, std::size_t expected, const std::string& name) {
  constexpr std::size_t kFirst = 64 * 1024;
  hsmseal::SecretBytes content{std::max(expected + 1, kFirst)};
  std::size_t size = 0;
  while (true) {
    if (size == content.size()) {
      if (size > kMaxInputBytes) {
        throw UsageError(fmt::format("'{}' is larger than {} bytes, which is the most", name, kMaxInputBytes));
      }
      hsmseal::SecretBytes larger{content.size() * 2};
      std::ranges::copy(content.view(), larger.writable().begin());
      content = std::move(larger);
    }
    const std::size_t got = read_some(file, content.writable().subspan(size), [&] {
      throw UsageError(fmt::format("'{}' cannot be read: {}", name, reason(errno)));
    });
    if (got == 0) break;
    size += got;
  }
  content.truncate(size);
  return content;
}

/// A file that takes another's place when it is whole.
class NewFile {
 public:
  explicit NewFile(std::filesystem::path path)
      : path_(std::move(path)), temporary_((path_.string() + ".XXXXXX")), file_(make()) {}
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  void fill(const std::function<void(const Pieces&)>& filler) {
    filler([this](hsmseal::ByteView piece) {
      if (!write_all(file_.get(), piece)) fail(errno);
    });
    if (::fsync(file_.get()) != 0) fail(errno);
  }

  void become_like(const struct stat& old) {
    struct stat own {};
    if (::fstat(file_.get(), &own) != 0) fail(errno);
    const bool other_owner = own.st_uid != old.st_uid || own.st_gid != old.st_gid;
    if (other_owner && ::fchown(file_.get(), old.st_uid, old.st_gid) != 0) fail(errno);
    if (::fchmod(file_.get(), old.st_mode & static_cast<mode_t>(07777)) != 0) fail(errno);
  }

  void put_in_place(Existing existing) {
    if (!file_.close()) fail(errno);
    // A link, unlike a rename, does not replace what somebody made meanwhile.
    if (existing == Existing::Keep) {
      if (::link(temporary_.c_str(), path_.c_str()) != 0) fail(errno);
    } else {
      if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(errno);
      temporary_.clear();
    }
    const auto folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path{"."};
    const Descriptor opened{::open(folder.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY)};
    if (opened.get() >= 0) ::fsync(opened.get());
  }

 private:
  int make() {
    const int number = ::mkostemp(temporary_.data(), O_CLOEXEC);
    if (number < 0) {
      temporary_.clear();
      fail(errno);
    }
    return number;
  }

  [[noreturn]] void fail(int error) const {
    if (error == EEXIST) {
      throw UsageError(fmt::format("'{}' exists and is not overwritten; give --force if it may be", path_.string()));
    }
    throw Failure(Exit::Failed,
                  fmt::format("'{}' cannot be written: {}; nothing was changed", path_.string(), reason(error)));
  }

  std::filesystem::path path_;
  std::string temporary_;
  Descriptor file_;
};

}  // namespace

hsmseal::SecretBytes content_of(const std::filesystem::path& path) {
  if (path == "-") return read_all(STDIN_FILENO, 0, "the standard input");
  const InputFile file{path};
  return read_all(file.get(), file.size(), path.string());
}

void read_in_pieces(const std::filesystem::path& path, const Pieces& take, std::uint64_t offset) {
  constexpr std::size_t kPiece = std::size_t{1} << 18;
  std::optional<InputFile> opened;
  if (path != "-") opened.emplace(path);
  const int file = opened ? opened->get() : STDIN_FILENO;
  const auto fail = [&] { throw UsageError(fmt::format("'{}' cannot be read: {}", path.string(), reason(errno))); };
  if (offset != 0 && ::lseek(file, static_cast<off_t>(offset), SEEK_SET) < 0) fail();
  hsmseal::SecretBytes piece{kPiece};
  while (const std::size_t got = read_some(file, piece.writable(), fail)) take(piece.view().first(got));
}

hsmseal::Bytes start_of(const std::filesystem::path& path, std::size_t size) {
  if (!size_of(path)) return {};
  const InputFile file{path};
  const auto fail = [&] { throw UsageError(fmt::format("'{}' cannot be read: {}", path.string(), reason(errno))); };
  hsmseal::Bytes start(size);
  std::size_t done = 0;
  while (const std::size_t got = read_some(file.get(), std::span{start}.subspan(done), fail)) done += got;
  start.resize(done);
  return start;
}

std::optional<std::uint64_t> size_of(const std::filesystem::path& path) {
  struct stat status {};
  if (path == "-" || ::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return static_cast<std::uint64_t>(status.st_size);
}

void write_output(hsmseal::ByteView content) {
  std::fflush(stdout);
  if (!write_all(STDOUT_FILENO, content)) {
    throw Failure(Exit::Failed, fmt::format("the standard output cannot be written: {}", reason(errno)));
  }
}

void write_file(const std::filesystem::path& path, hsmseal::ByteView content, Existing existing) {
  write_file(path, existing, [content](const Pieces& put) { put(content); });
}

void write_file(const std::filesystem::path& path, Existing existing, const std::function<void(const Pieces&)>& fill) {
  struct stat status {};
  if (existing == Existing::Keep && ::lstat(path.c_str(), &status) == 0) {
    throw UsageError(fmt::format("'{}' exists and is not overwritten; give --force if it may be", path.string()));
  }
  NewFile file{path};
  file.fill(fill);
  file.put_in_place(existing);
}

void replace_content(const std::filesystem::path& path, hsmseal::ByteView content) {
  replace_content(path, [content](const Pieces& put) { put(content); });
}

void replace_content(const std::filesystem::path& path, const std::function<void(const Pieces&)>& fill) {
  const auto target = std::filesystem::canonical(path);
  struct stat status {};
  if (::stat(target.c_str(), &status) != 0) {
    throw Failure(Exit::Failed, fmt::format("'{}' cannot be read: {}", path.string(), reason(errno)));
  }
  NewFile file{target};
  file.become_like(status);
  file.fill(fill);
  file.put_in_place(Existing::Replace);
}

std::string trusted_content_of(const std::filesystem::path& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    throw UsageError(fmt::format("'{}' cannot be read: {}", path.string(), reason(errno)));
  }
  if (!S_ISREG(status.st_mode)) throw UsageError(fmt::format("'{}' is not a regular file", path.string()));
  if ((status.st_mode & kWritableByOthers) != 0) {
    throw UsageError(
        fmt::format("'{0}' is writable by its group or others, who could let the tool load their code; "
                    "run: chmod go-w '{0}'",
                    path.string()));
  }
  if (status.st_uid != 0 && status.st_uid != ::geteuid()) {
    throw UsageError(fmt::format("'{}' belongs to another user; it must belong to you or to root", path.string()));
  }
  if (static_cast<std::size_t>(status.st_size) > kMaxConfiguration) {
    throw UsageError(fmt::format("'{}' is larger than {} bytes", path.string(), kMaxConfiguration));
  }
  return std::string{read_all(file.get(), static_cast<std::size_t>(status.st_size), path.string()).text()};
}

bool readable_by_others(const std::filesystem::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && (status.st_mode & (S_IRGRP | S_IROTH)) != 0;
}

// --- processes -----------------------------------------------------------------------------------------------------

std::string output_of_command(const std::string& command) {
  const auto close = [](FILE* pipe) { ::pclose(pipe); };
  std::unique_ptr<FILE, decltype(close)> pipe{::popen(command.c_str(), "re"), close};
  if (!pipe) throw Failure(Exit::Failed, fmt::format("the command cannot be run: {}", reason(errno)));
  std::string output;
  std::array<char, 4096> piece{};
  while (const std::size_t got = std::fread(piece.data(), 1, piece.size(), pipe.get()))
    output.append(piece.data(), got);
  const int status = ::pclose(pipe.release());
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw Failure(Exit::Failed, fmt::format("the command '{}' failed", command));
  }
  return output;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string{} : value;
}

void set_environment(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }

std::string time_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

}  // namespace tool
