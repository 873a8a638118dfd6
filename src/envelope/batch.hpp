#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include <hsmseal/envelope.hpp>

#include "ring/ring_core.hpp"

namespace hsmseal::envelope {

/// Calls `work` for each number below `pieces`, in several threads, of which the caller's is one. All have its Deadline.
///
/// @param threads  how many at most; with fewer to be had, those do it.
/// @param work     must not throw.
void in_parallel(std::size_t pieces, std::size_t threads, const std::function<void(std::size_t)>& work);

/// With how many threads the active set is worth being called; 1 if there is none, or it is not bound on this host.
[[nodiscard]] std::size_t concurrency_of_active(const ring::RingCore& ring) noexcept;

/// What `call` returns or throws.
template <typename Result, typename Call>
[[nodiscard]] Result result_of(const Call& call) {
  try {
    return Result{call()};
  } catch (...) {
    return Result{std::current_exception()};
  }
}

/// EnvelopeEncryptor::open_many().
/// @param data_keys      null: none are kept.
/// @param open_alone  opens an envelope of another suite than Suite::DataKey.
[[nodiscard]] std::vector<OpenResult> open_many(ring::RingCore& ring, DataKeys* data_keys,
                                                std::span<const OpenItem> items,
                                                const std::function<SecretBytes(const OpenItem&)>& open_alone);

}  // namespace hsmseal::envelope
