#include "ring/audit_writer.hpp"

#include <algorithm>
#include <exception>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <hsmseal/error.hpp>

#include "platform/platform.hpp"

namespace hsmseal::ring {
namespace {

/// What is read of a file's end: in most cases the first is enough.
constexpr std::size_t kTailBytes = 2 * kMostLineBytes, kLongTailBytes = kMostTornBytes + 2 * kMostLineBytes;

/// The end of a file, as another process or a crash left it.
struct Tail {
  std::optional<LogLine> last;      ///< the last line that has a line's form
  bool open = false;                ///< the file does not end with a line feed
  std::optional<std::string> rest;  ///< what is no line behind it, without the line feed at its end
};

Tail tail_of(std::string_view content) {
  Tail tail;
  tail.open = !content.empty() && content.back() != '\n';
  std::string_view rest = content;
  for (std::size_t end = content.size(); end > 0;) {
    const std::size_t stop = content[end - 1] == '\n' ? end - 1 : end;
    const std::size_t feed = content.substr(0, stop).rfind('\n');
    const std::size_t begin = feed == std::string_view::npos ? 0 : feed + 1;
    tail.last = line_from_text(content.substr(begin, stop - begin));
    if (tail.last) {
      rest = content.substr(end);
      break;
    }
    end = begin;
  }
  if (!rest.empty()) tail.rest = rest.substr(0, rest.size() - (tail.open ? 0 : 1));
  return tail;
}

/// @throws InvalidArgumentError  it is no log's, as far as its end shows.
Tail tail_of(const platform::AppendFile& file, const std::filesystem::path& path) {
  for (const std::size_t most : {kTailBytes, kLongTailBytes}) {
    Tail tail = tail_of(file.tail(most));
    if (tail.last || file.size() <= most) return tail;
  }
  throw InvalidArgumentError(
      fmt::format("the end of file '{}' holds no line of an audit log; name another file", platform::shown(path)));
}

std::filesystem::path absolute_file(const std::filesystem::path& path) {
  std::error_code error;
  auto absolute = std::filesystem::absolute(path, error);
  if (error || !path.has_filename()) throw InvalidArgumentError("an audit log needs the path of a file");
  return absolute;
}

bool is_use(Event::Kind kind) {
  return kind == Event::Kind::Sealed || kind == Event::Kind::Opened || kind == Event::Kind::Rewrapped;
}

/// Lines that follow each other.
class Chain {
 public:
  Chain(const PresentKey::Key& key, AuditEnd end) : key_(key), audit_key_(audit_key(*key.key)), end_(end) {}

  void add(AuditEntry entry) {
    LogLine line{std::move(entry), end_.mac};
    make_fit(line.entry);
    line.entry.ring = key_.ring;
    line.entry.key = key_.number;
    line.entry.sequence = end_.sequence + 1;
    line.entry.mac = mac_of(line, audit_key_);
    end_ = {line.entry.sequence, line.entry.mac};
    text_ += to_text(line);
    text_ += '\n';
  }
  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  [[nodiscard]] const AuditEnd& end() const noexcept { return end_; }

 private:
  const PresentKey::Key& key_;
  const SecretBytes audit_key_;
  AuditEnd end_;
  std::string text_;
};

}  // namespace

AuditWriter::AuditWriter(const std::filesystem::path& file, AuditOptions options)
    : file_(absolute_file(file)), options_(std::move(options)), forks_(platform::forks()) {
  constexpr std::size_t kMostKept = 1'000'000;
  if (options_.most_kept > kMostKept) {
    throw InvalidArgumentError(fmt::format("an audit log keeps at most {} events", kMostKept));
  }
}

AuditEntry AuditWriter::note(std::string_view name, std::uint64_t lost, std::string reason) const {
  AuditEntry entry;
  entry.time = options_.clock
                   ? options_.clock()
                   : std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  entry.process = platform::process_id();
  entry.event = name;
  entry.reason = std::move(reason);
  entry.lost = lost;
  return entry;
}

AuditEntry AuditWriter::entry_of(const Event& event) const {
  AuditEntry entry = note(to_string(event.kind), 0, event.reason);
  entry.ring = event.ring;
  entry.version = event.version;
  entry.token = event.token;
  entry.rv = event.rv;
  entry.duration = std::max(event.duration, std::chrono::milliseconds{0});
  return entry;
}

/// Under queue_mutex_. What a forked child inherits of the queue is its parent's to write.
void AuditWriter::leave_to_parent() {
  if (forks_ == platform::forks()) return;
  forks_ = platform::forks();
  waiting_ = {};
  failures_ = {};
}

/// Under queue_mutex_.
void AuditWriter::not_written(std::uint64_t events, const std::string& why) {
  failures_.events += events;
  failures_.last_error = why;
  waiting_.lost += events;
  waiting_.why = why;
}

/// @returns whether there is a ring to write for.
bool AuditWriter::keep(AuditEntry entry) {
  const std::scoped_lock lock{queue_mutex_};
  leave_to_parent();
  if (!key_ && waiting_.events.size() >= options_.most_kept) {
    not_written(1, fmt::format("more than {} events before the log was attached to its ring", options_.most_kept));
  } else {
    waiting_.events.push_back(std::move(entry));
  }
  return key_ != nullptr;
}

void AuditWriter::take(const Event& event) noexcept {
  if (options_.scope == AuditScope::WithoutUses && is_use(event.kind)) return;
  try {
    if (!keep(entry_of(event))) return;
    const std::scoped_lock file{file_mutex_};
    write_what_waits();
  } catch (...) {  // no memory for it, or the clock threw: it is not in the queue
    const std::scoped_lock lock{queue_mutex_};
    ++failures_.events;
    ++waiting_.lost;
    failures_.last_error = "no memory";  // short enough to need none
  }
}

/// Under file_mutex_. Writes what the threads have brought that came while another wrote, or nothing if that wrote it.
void AuditWriter::write_what_waits() {
  Waiting waiting;
  std::shared_ptr<const PresentKey> key;
  {
    const std::scoped_lock lock{queue_mutex_};
    if (waiting_.events.empty()) return;
    waiting = std::exchange(waiting_, {});
    key = key_;
  }
  const std::uint64_t events = waiting.events.size(), lost = waiting.lost;
  try {
    write(key->get(), std::move(waiting), LostCome::Before);
  } catch (const std::exception& error) {
    const std::scoped_lock lock{queue_mutex_};
    waiting_.lost += lost;  // they were counted before
    not_written(events, error.what());
  }
}

void AuditWriter::attach(std::shared_ptr<const PresentKey> key) {
  const auto of_ring = key->get();
  if (!of_ring.key) throw InvalidArgumentError("a ring that was opened for salvage has no key for an audit log");
  const std::scoped_lock file{file_mutex_};
  Waiting kept;
  {
    const std::scoped_lock lock{queue_mutex_};
    leave_to_parent();
    if (key_ && key_->get().ring != of_ring.ring) {
      throw WrongRingError(fmt::format("the audit log '{}' is attached to ring {} already; give each ring its own",
                                       platform::shown(file_), key_->get().ring.to_string()));
    }
    kept = waiting_;
  }
  write(of_ring, kept, LostCome::After);
  {
    const std::scoped_lock lock{queue_mutex_};
    key_ = std::move(key);
    const auto written = static_cast<std::ptrdiff_t>(kept.events.size());
    waiting_.events.erase(waiting_.events.begin(), waiting_.events.begin() + written);
    waiting_.lost -= kept.lost;
  }
  write_what_waits();
}

/// @throws WrongRingError  the file is another ring's.
void AuditWriter::write(const PresentKey::Key& key, Waiting waiting, LostCome order) {
  const auto foreign = std::erase_if(
      waiting.events, [&](const AuditEntry& entry) { return entry.ring != RingId{} && entry.ring != key.ring; });
  platform::AppendFile file{file_};
  const Tail tail = tail_of(file, file_);
  if (tail.last && tail.last->entry.ring != key.ring) {
    throw WrongRingError(fmt::format("file '{}' is the audit log of ring {}; give each ring its own",
                                     platform::shown(file_), tail.last->entry.ring.to_string()));
  }
  const AuditEnd found = tail.last ? AuditEnd{tail.last->entry.sequence, tail.last->entry.mac} : AuditEnd{};
  Chain chain{key, found};
  if (tail.rest) {
    const bool torn = tail.open && tail.rest->find('\n') == std::string::npos;
    chain.add(note(torn ? kLineTorn : kLineDamaged, 0, digest_of(*tail.rest)));
  }
  const bool is_shorter = found.sequence < end_.sequence;
  if (is_shorter || (found.sequence == end_.sequence && found.mac != end_.mac)) {
    chain.add(note(kLogCut, end_.sequence - found.sequence,
                   fmt::format("this process has seen another line {} at the log's end", end_.sequence)));
  }
  const auto add_lost = [&] {
    if (waiting.lost > 0) chain.add(note(kEventsLost, waiting.lost, waiting.why));
  };
  if (order == LostCome::Before) add_lost();
  for (AuditEntry& entry : waiting.events) chain.add(std::move(entry));
  if (order == LostCome::After) add_lost();
  if (!chain.text().empty()) {
    file.append((tail.open ? "\n" : "") + chain.text());
    end_ = chain.end();
  }
  if (foreign > 0) {
    const std::scoped_lock lock{queue_mutex_};
    not_written(foreign, "an event of another ring came to this log; give each ring its own");
  }
}

AuditFailures AuditWriter::failures() const {
  const std::scoped_lock lock{queue_mutex_};
  return forks_ == platform::forks() ? failures_ : AuditFailures{};
}

}  // namespace hsmseal::ring
