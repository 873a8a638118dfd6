#include "envelope/segment_line.hpp"

#include <utility>

#include <hsmseal/error.hpp>

namespace hsmseal::envelope {
namespace {

/// Enough that threads find work while the caller reads and writes.
constexpr std::size_t kSegmentsForThread = 4;

}  // namespace

SegmentLine::SegmentLine(const StreamKey& key, const Bytes& aad, Options options, Sink sink)
    : options_(options),
      sink_(std::move(sink)),
      cipher_(key, aad),
      segments_(options.threads == 1 ? 1 : options.threads * kSegmentsForThread) {
  try {
    for (std::size_t i = 1; i < options_.threads; ++i) {
      threads_.emplace_back([this, cipher = SegmentCipher{key, aad}]() mutable { work_in_thread(std::move(cipher)); });
    }
  } catch (...) {
    end_threads();
    throw;
  }
}

SegmentLine::~SegmentLine() { end_threads(); }

void SegmentLine::end_threads() noexcept {
  {
    const std::scoped_lock lock{mutex_};
    ending_ = true;
  }
  submission_.notify_all();
  threads_.clear();
}

std::span<std::byte> SegmentLine::room() {
  if (at_hand().used == full()) submit({.index = submitted_, .is_last = false});
  return at_hand().bytes.writable().first(full()).subspan(at_hand().used);
}

void SegmentLine::finish() {
  submit({.index = submitted_, .is_last = true});
  while (out_ < submitted_) let_one_out();
}

/// Sends off the segment at hand, and makes room for the next one.
void SegmentLine::submit(SegmentPlace place) {
  Segment& sent = at_hand();
  sent.place = place;
  sent.error = refusal_of(sent);
  {
    const std::scoped_lock lock{mutex_};
    ++submitted_;
  }
  submission_.notify_one();
  while (!place.is_last && submitted_ - out_ == segments_.size()) let_one_out();
}

/// Comes out in its turn, like whatever else is wrong with a segment.
std::exception_ptr SegmentLine::refusal_of(const Segment& sent) const {
  const bool too_many = sent.place.index >= options_.most_segments;
  if (options_.work == Work::Seal) {
    if (!too_many) return nullptr;
    return std::make_exception_ptr(InvalidArgumentError("a stream has at most 2^48 bytes"));
  }
  const bool fits = !sent.place.is_last || can_be_last(sent.place.index, sent.used);
  return fits && !too_many ? nullptr : std::make_exception_ptr(OpenError());
}

void SegmentLine::work_on(Segment& segment, SegmentCipher& cipher) const noexcept {
  if (segment.error) return;
  try {
    const auto bytes = segment.bytes.writable();
    if (options_.work == Work::Seal) {
      cipher.encrypt(segment.place, bytes.first(segment.used), bytes.subspan(segment.used).first<wire::kTagBytes>());
    } else {
      const std::size_t size = segment.used - wire::kTagBytes;
      cipher.decrypt(segment.place, bytes.first(size), bytes.subspan(size).first<wire::kTagBytes>());
    }
  } catch (...) {
    segment.error = std::current_exception();
  }
}

void SegmentLine::work_in_thread(SegmentCipher cipher) {
  std::unique_lock lock{mutex_};
  for (;;) {
    submission_.wait(lock, [this] { return ending_ || started_ < submitted_; });
    if (ending_) return;
    work_on_next(lock, cipher);
    completion_.notify_one();
  }
}

/// @param lock  held, and let go meanwhile.
void SegmentLine::work_on_next(std::unique_lock<std::mutex>& lock, SegmentCipher& cipher) {
  Segment& next = segment(started_++);
  lock.unlock();
  work_on(next, cipher);
  lock.lock();
  next.done = true;
}

/// Lets the first segment out, and works on others until it is ready.
void SegmentLine::let_one_out() {
  Segment& first = segment(out_);
  {
    std::unique_lock lock{mutex_};
    while (!first.done) {
      if (started_ < submitted_) {
        work_on_next(lock, cipher_);
      } else {
        completion_.wait(lock, [&] { return first.done; });
      }
    }
  }
  if (first.error) std::rethrow_exception(first.error);
  const std::size_t text = options_.work == Work::Seal ? first.used : first.used - wire::kTagBytes;
  const std::size_t size = options_.work == Work::Seal ? first.used + wire::kTagBytes : text;
  if (size != 0) sink_(first.bytes.view().first(size));
  plain_bytes_ += text;
  first.used = 0;
  first.done = false;
  ++out_;
}

}  // namespace hsmseal::envelope
