#include "envelope/batch.hpp"

#include <algorithm>
#include <atomic>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

#include <hsmseal/deadline.hpp>
#include <hsmseal/error.hpp>

#include "envelope/data_keys.hpp"
#include "envelope/payload.hpp"
#include "envelope/wire.hpp"
#include "envelope/wrapped_key.hpp"

namespace hsmseal {

std::optional<ErrorCode> code_of(const std::exception_ptr& error) noexcept {
  if (!error) return std::nullopt;
  try {
    std::rethrow_exception(error);
  } catch (const Error& known) {
    return known.code();
  } catch (...) {
    return std::nullopt;
  }
}

namespace envelope {
namespace {

std::string_view text_of(ByteView bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::size_t concurrency_of(const ring::Snapshot& snapshot, Version version) noexcept {
  try {
    const auto* entry = snapshot.find(version);
    return entry != nullptr && entry->wrapper ? std::max<std::size_t>(1, entry->wrapper->concurrency()) : 1;
  } catch (const Error&) {
    return 1;
  }
}

/// Envelopes under one data key, or one that shares none.
struct Group {
  ByteView first;           ///< the whole of one envelope
  wire::Envelope envelope;  ///< its fields
  std::vector<std::size_t> items;
};

class Opener {
 public:
  Opener(ring::RingCore& ring, DataKeys* data_keys, std::span<const OpenItem> items,
         const std::function<SecretBytes(const OpenItem&)>& open_alone)
      : ring_(ring), data_keys_(data_keys), items_(items), open_alone_(open_alone) {
    results_.reserve(items.size());
    for (std::size_t i = 0; i < items.size(); ++i) results_.emplace_back(SecretBytes{});
  }

  [[nodiscard]] std::vector<OpenResult> run() {
    sort_into_groups();
    const auto without_token = std::partition(groups_.begin(), groups_.end(), [&](const Group& group) {
      return data_keys_ != nullptr && group.envelope.suite == Suite::DataKey &&
             data_keys_->keeps(group.first, group.envelope);
    });
    std::for_each(groups_.begin(), without_token, [&](const Group& group) { open(group); });
    const std::span<const Group> rest{without_token, groups_.end()};
    in_parallel(rest.size(), threads_for(rest), [&](std::size_t i) { open(rest[i]); });
    return std::move(results_);
  }

 private:
  void sort_into_groups() {
    envelopes_.resize(items_.size());
    std::unordered_map<std::string_view, std::size_t> by_name;
    for (std::size_t i = 0; i < items_.size(); ++i) {
      const ByteView sealed = items_[i].sealed;
      try {
        envelopes_[i] = wire::read(sealed);
      } catch (const Error&) {
        results_[i] = OpenResult{std::current_exception()};
        continue;
      }
      const wire::Envelope& envelope = envelopes_[i];
      std::size_t group = groups_.size();
      if (envelope.suite == Suite::DataKey) {
        group = by_name.emplace(text_of(wire::through_wrapped(sealed, envelope)), group).first->second;
      }
      if (group == groups_.size()) groups_.push_back({sealed, envelope, {}});
      groups_[group].items.push_back(i);
    }
  }

  /// As many as the most capable of the sets that are asked.
  [[nodiscard]] std::size_t threads_for(std::span<const Group> groups) const {
    std::set<Version> versions;
    for (const Group& group : groups) versions.insert(group.envelope.version);
    const auto snapshot = ring_.snapshot();
    std::size_t most = 1;
    for (const Version version : versions) most = std::max(most, concurrency_of(*snapshot, version));
    return most;
  }

  /// Items of different groups are different objects, so groups may be opened at once.
  void open(const Group& group) noexcept {
    if (group.envelope.suite != Suite::DataKey) {
      const std::size_t item = group.items.front();
      results_[item] = result_of<OpenResult>([&] { return open_alone_(items_[item]); });
      return;
    }
    try {
      if (data_keys_ != nullptr) {
        const auto key = data_keys_->opened_key(group.first, group.envelope);
        return open_with(group, key->key(), key->ring(), key->token());
      }
      const auto set = ring_.named_by_envelope(group.envelope.ring_prefix, group.envelope.version);
      const PayloadKey key = telling_refusals(ring_, set, [&] {
        return PayloadKey{unwrap_data_key(set, group.envelope), Suite::DataKey, set.ring()};
      });
      open_with(group, key.view(), set.ring(), set.set().key.token);
    } catch (...) {
      for (const std::size_t item : group.items) results_[item] = OpenResult{std::current_exception()};
    }
  }

  void open_with(const Group& group, PayloadKeyView key, const RingId& ring, const std::string& token) {
    Opening opening{key};
    for (const std::size_t item : group.items) {
      results_[item] =
          result_of<OpenResult>([&] { return opening.open(envelopes_[item], ring, items_[item].context); });
      const auto kind = results_[item] ? Event::Kind::Opened : Event::Kind::OpenRefused;
      ring_.tell(kind, ring, group.envelope.version, token);
    }
  }

  ring::RingCore& ring_;
  DataKeys* const data_keys_;
  const std::span<const OpenItem> items_;
  const std::function<SecretBytes(const OpenItem&)>& open_alone_;
  std::vector<wire::Envelope> envelopes_;
  std::vector<Group> groups_;
  std::vector<OpenResult> results_;
};

}  // namespace

void in_parallel(std::size_t pieces, std::size_t threads, const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> next = 0;
  const auto work_off = [&] {
    for (std::size_t i = next++; i < pieces; i = next++) work(i);
  };
  std::vector<std::jthread> others;
  try {
    others.reserve(std::min(threads, pieces));
    while (others.size() + 1 < std::min(threads, pieces)) {
      others.emplace_back([&, until = Deadline::current()] {
        const Deadline deadline{until};
        work_off();
      });
    }
  } catch (const std::system_error&) {
    // Those that there are do it all.
  }
  work_off();
}

std::size_t concurrency_of_active(const ring::RingCore& ring) noexcept {
  try {
    const auto set = ring.active();
    return concurrency_of(*set.snapshot, set.set().version);
  } catch (const Error&) {
    return 1;
  }
}

std::vector<OpenResult> open_many(ring::RingCore& ring, DataKeys* data_keys, std::span<const OpenItem> items,
                                  const std::function<SecretBytes(const OpenItem&)>& open_alone) {
  return Opener{ring, data_keys, items, open_alone}.run();
}

}  // namespace envelope
}  // namespace hsmseal
