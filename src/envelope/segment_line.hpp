#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include <hsmseal/secret_bytes.hpp>

#include "envelope/stream_key.hpp"

namespace hsmseal::envelope {

/// Segments of one stream that several threads work on, and that come out in the order in which they went in.
///
/// The thread that fills them takes part in the work when all are full, and is the only one that lets them out. As many
/// segments as this object was made with lie in memory, however long the stream is.
///
/// Thread safety: none; its own threads are its own affair.
class SegmentLine {
 public:
  enum class Work : std::uint8_t { Seal, Open };
  using Sink = std::function<void(ByteView)>;

  struct Options {
    Work work = Work::Seal;
    std::size_t threads = 1;  ///< the caller's included
    std::uint64_t most_segments = kMostSegments;
  };

  /// @param sink  gets what comes out, on the caller's thread.
  SegmentLine(const StreamKey& key, const Bytes& aad, Options options, Sink sink);
  SegmentLine(const SegmentLine&) = delete;
  SegmentLine& operator=(const SegmentLine&) = delete;
  ~SegmentLine();

  /// Where the next bytes go, never empty. A segment that is full goes off, as one that is not the last: only for callers
  /// that have more bytes.
  /// @throws InvalidArgumentError  there are too many to be sealed.
  /// @throws OpenError  a segment does not open; those before it have come out.
  /// @throws what the sink throws.
  [[nodiscard]] std::span<std::byte> room();
  void filled(std::size_t bytes) noexcept { at_hand().used += bytes; }

  /// Makes the segment at hand the last, and waits until all have come out.
  /// @throws as room(). OpenError also if it cannot be the last one.
  void finish();

  /// How much plaintext went in or came out.
  [[nodiscard]] std::uint64_t plain_bytes() const noexcept { return plain_bytes_; }

 private:
  struct Segment {
    SecretBytes bytes{kSealedSegmentBytes};
    std::size_t used = 0;
    SegmentPlace place = {};
    bool done = false;  ///< guarded by mutex_
    std::exception_ptr error = {};
  };

  [[nodiscard]] Segment& segment(std::uint64_t number) noexcept { return segments_[number % segments_.size()]; }
  [[nodiscard]] Segment& at_hand() noexcept { return segment(submitted_); }
  [[nodiscard]] std::size_t full() const noexcept {
    return options_.work == Work::Seal ? kSegmentBytes : kSealedSegmentBytes;
  }
  void submit(SegmentPlace place);
  [[nodiscard]] std::exception_ptr refusal_of(const Segment& sent) const;
  void work_on(Segment& segment, SegmentCipher& cipher) const noexcept;
  void work_on_next(std::unique_lock<std::mutex>& lock, SegmentCipher& cipher);
  void work_in_thread(SegmentCipher cipher);
  void end_threads() noexcept;
  void let_one_out();

  const Options options_;
  const Sink sink_;
  SegmentCipher cipher_;  ///< the caller's
  std::vector<Segment> segments_;
  std::uint64_t plain_bytes_ = 0;
  std::uint64_t out_ = 0;  ///< how many have come out

  std::mutex mutex_;
  std::condition_variable submission_, completion_;
  std::uint64_t submitted_ = 0;  ///< how many have gone off; changed by the caller alone
  std::uint64_t started_ = 0;    ///< how many of these somebody works on, or has
  bool ending_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace hsmseal::envelope
