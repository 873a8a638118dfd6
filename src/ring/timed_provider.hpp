#pragma once

#include <chrono>
#include <memory>
#include <utility>

#include <hsmseal/deadline.hpp>
#include <hsmseal/key_wrapper.hpp>

namespace hsmseal::ring {

/// A provider with a Deadline for each of its calls and for each use of its wrappers.
///
/// Thread safety: as the inner provider.
class TimedProvider final : public KeyProvider {
 public:
  TimedProvider(std::shared_ptr<KeyProvider> inner, std::chrono::milliseconds each) noexcept
      : inner_(std::move(inner)), each_(each) {}

  [[nodiscard]] KeyDescription provision(const SetSpec& spec, const RingId& ring, Version version) override {
    const Deadline deadline{each_};
    return inner_->provision(spec, ring, version);
  }

  [[nodiscard]] std::shared_ptr<KeyWrapper> connect(const KeyDescription& key, Version version) override {
    return std::make_shared<Wrapper>(inner_->connect(key, version), each_);
  }

  [[nodiscard]] std::vector<FoundKey> find_keys(const RingId& ring, const std::string& token) override {
    const Deadline deadline{each_};
    return inner_->find_keys(ring, token);
  }

  void destroy(const KeyDescription& key) override {
    const Deadline deadline{each_};
    inner_->destroy(key);
  }

 private:
  class Wrapper final : public KeyWrapper {
   public:
    Wrapper(std::shared_ptr<KeyWrapper> inner, std::chrono::milliseconds each) noexcept
        : inner_(std::move(inner)), each_(each) {}

    [[nodiscard]] Bytes wrap(ByteView key, ByteView aad) override {
      const Deadline deadline{each_};
      return inner_->wrap(key, aad);
    }
    [[nodiscard]] SecretBytes unwrap(ByteView wrapped, ByteView aad) override {
      const Deadline deadline{each_};
      return inner_->unwrap(wrapped, aad);
    }
    [[nodiscard]] std::size_t concurrency() const override { return inner_->concurrency(); }

   private:
    const std::shared_ptr<KeyWrapper> inner_;
    const std::chrono::milliseconds each_;
  };

  const std::shared_ptr<KeyProvider> inner_;
  const std::chrono::milliseconds each_;
};

}  // namespace hsmseal::ring
