#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <memory>
#include <span>

#include <hsmseal/context.hpp>
#include <hsmseal/envelope.hpp>
#include <hsmseal/envelope_header.hpp>
#include <hsmseal/export.hpp>
#include <hsmseal/secret_bytes.hpp>

/// Values that do not fit in memory: envelopes of Suite::Stream, cut into segments of 64 KiB that are each authentic.
///
/// What is opened is handed out segment by segment, each only after its tag was right, in its place and its context. That
/// nothing is missing shows at the end alone: until open_stream() or StreamOpener::finish() has returned, what came out
/// is the beginning of what was sealed, and no more. When they throw, throw away what was written: write into a
/// temporary file, and rename it after they have returned.
///
/// The token is called at the beginning alone: to wrap a data key of the stream's own under the active set, or to unwrap
/// it. A change of sets after that does not concern the stream, which names the set that was active when it began.
///
/// Encryptors with Padding or Suite::Token refuse streams: InvalidArgumentError.
namespace hsmseal {

/// How a stream is worked on. Its bytes do not depend on this.
struct StreamOptions {
  /// How many threads encrypt or decrypt, 1 to 64: the caller's, and others for as long as the work lasts. With one, a
  /// segment is in memory; with more, four for each thread (256 KiB).
  std::size_t threads = 1;
};

/// Takes the next bytes, on the caller's thread. What it throws ends the stream and reaches the caller.
using StreamSink = std::function<void(ByteView)>;

/// The first bytes of a stream that tell all about its beginning, or all of it if it is shorter.
inline constexpr std::size_t kStreamStartBytes = 158;

/// Whether bytes start like a stream, and not like another envelope or something else. Takes 5 bytes to say yes.
[[nodiscard]] HSMSEAL_API bool is_stream(ByteView start) noexcept;

/// inspect() for a stream that is not in memory.
///
/// @param start         its first kStreamStartBytes.
/// @param sealed_bytes  how long it is.
/// @throws FormatError  not a stream, or cut short.
[[nodiscard]] HSMSEAL_API EnvelopeHeader inspect_stream(ByteView start, std::uint64_t sealed_bytes);

/// Seals what is read from `in` up to its end, at most 2^48 bytes, and writes it to `out`.
///
/// @param context  what the stream is bound to. Not retained.
/// @returns how many bytes were read. 16 more are written for each segment begun, and 122 to 142 before them.
/// @throws InvalidArgumentError  reading or writing failed, or the options are wrong. What was written does not open.
/// @throws as EnvelopeEncryptor::seal(); nothing was written then.
///
/// Blocking: one wrap, as EnvelopeEncryptor::seal(); besides, as long as `in` and `out` take.
HSMSEAL_API std::uint64_t seal_stream(const EnvelopeEncryptor& encryptor, std::istream& in, std::ostream& out,
                                      ContextView context, StreamOptions options = {});

/// Opens what is read from `in` up to its end, and writes the plaintext to `out`.
///
/// @param context  must equal, byte for byte, the context given when it was sealed. Not retained.
/// @returns how many bytes were written.
/// @throws FormatError           not a stream; the token was not asked. Do not retry.
/// @throws OpenError             altered, cut, reordered or extended data, wrong context or key: not told apart. What was
///         written is to be thrown away.
/// @throws InvalidArgumentError  reading or writing failed, or the options are wrong. Likewise.
/// @throws as EnvelopeEncryptor::open(); nothing was written then.
///
/// Blocking: one unwrap, as EnvelopeEncryptor::open(); besides, as long as `in` and `out` take.
HSMSEAL_API std::uint64_t open_stream(const EnvelopeEncryptor& encryptor, std::istream& in, std::ostream& out,
                                      ContextView context, StreamOptions options = {});

/// Seals a stream that comes in chunks of any size.
///
/// Destroyed before finish(), it leaves a stream without an end, which does not open.
///
/// Thread safety: none. After an error every member but the destructor throws InvalidArgumentError.
class HSMSEAL_API StreamSealer {
 public:
  /// Wraps the data key. The sink is not called before write() or finish().
  /// @throws InvalidArgumentError  the options are wrong, or there is no sink. Besides, as EnvelopeEncryptor::seal().
  StreamSealer(const EnvelopeEncryptor& encryptor, ContextView context, StreamSink sink, StreamOptions options = {});
  StreamSealer(StreamSealer&& other) noexcept;  ///< Takes over the stream under way; `other` can only be destroyed.
  StreamSealer& operator=(StreamSealer&& other) noexcept;  ///< Gives up its own and takes over the other.
  ~StreamSealer();

  /// @param plaintext  any number of bytes. Not retained.
  /// @throws InvalidArgumentError  the stream is over 2^48 bytes.
  void write(ByteView plaintext);

  /// Says that this is all, and waits until the sink has the rest.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Opens a stream that comes in chunks of any size.
///
/// Thread safety: none. After an error every member but the destructor throws InvalidArgumentError.
class HSMSEAL_API StreamOpener {
 public:
  /// @throws InvalidArgumentError  the options are wrong, or there is no sink.
  StreamOpener(const EnvelopeEncryptor& encryptor, ContextView context, StreamSink sink, StreamOptions options = {});
  StreamOpener(StreamOpener&& other) noexcept;  ///< Takes over the stream under way; `other` can only be destroyed.
  StreamOpener& operator=(StreamOpener&& other) noexcept;  ///< Gives up its own and takes over the other.
  ~StreamOpener();

  /// Unwraps the data key as soon as the header is there.
  /// @param sealed  any number of bytes. Not retained.
  /// @throws as open_stream().
  void write(ByteView sealed);

  /// Says that this is all. What came out is whole only after this has returned.
  /// @throws as open_stream(); OpenError also if the end is missing.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Reads a sealed stream at any place.
///
/// Thread safety: none; each thread may have a reader of its own.
class HSMSEAL_API StreamReader {
 public:
  /// Fills `out` with what stands from `offset` on in the sealed stream, which never ends before that. What it throws
  /// reaches the caller.
  using ReadAt = std::function<void(std::uint64_t offset, std::span<std::byte> out)>;

  /// Unwraps the data key and opens the last segment: then the size is authentic, and nothing is missing at the end.
  ///
  /// @param sealed_bytes  how long the sealed stream is.
  /// @throws as open_stream(); InvalidArgumentError also if there is no `read_at`.
  StreamReader(const EnvelopeEncryptor& encryptor, ContextView context, std::uint64_t sealed_bytes, ReadAt read_at);
  StreamReader(StreamReader&& other) noexcept;  ///< Takes over the opened stream; `other` can only be destroyed.
  StreamReader& operator=(StreamReader&& other) noexcept;  ///< Gives up its own and takes over the other.
  ~StreamReader();

  /// Of the plaintext, in bytes.
  [[nodiscard]] std::uint64_t size() const noexcept;

  /// Copies plaintext from `offset` on. Opens the segments it touches, and keeps the last of them for the next call.
  ///
  /// @returns how many bytes: as many as `out` has, or fewer at the end.
  /// @throws OpenError  a segment was altered. The rest of the stream can still be read.
  [[nodiscard]] std::size_t read(std::uint64_t offset, std::span<std::byte> out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A new beginning for a stream.
struct StreamRewrap {
  Bytes start;               ///< what it begins with now
  std::size_t replaced = 0;  ///< how many of its bytes this takes the place of
};

/// EnvelopeEncryptor::rewrap() for a stream that is not in memory: its first bytes change, all others stay as they are.
///
/// If `start` has `replaced` bytes they can be overwritten where they are (keep them until the new ones are on the disk);
/// sets whose IVs or algorithms differ make it longer or shorter, and the rest has to move.
///
/// @param start  the stream's first kStreamStartBytes.
/// @throws FormatError  not a stream. Besides, as EnvelopeEncryptor::rewrap().
/// Blocking: one unwrap and one wrap.
[[nodiscard]] HSMSEAL_API StreamRewrap rewrap_stream_start(const EnvelopeEncryptor& encryptor, ByteView start);

}  // namespace hsmseal
