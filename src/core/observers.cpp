#include <utility>

#include <hsmseal/observer.hpp>

namespace hsmseal {
namespace {

class Several final : public Observer {
 public:
  explicit Several(std::vector<std::shared_ptr<Observer>> observers) : observers_(std::move(observers)) {
    std::erase(observers_, nullptr);
  }
  void on_event(const Event& event) noexcept override {
    for (const auto& observer : observers_) observer->on_event(event);
  }

 private:
  std::vector<std::shared_ptr<Observer>> observers_;
};

}  // namespace

std::string_view to_string(Event::Kind kind) noexcept {
  using enum Event::Kind;
  switch (kind) {
    case Sealed:
      return "sealed";
    case Opened:
      return "opened";
    case OpenRefused:
      return "open-refused";
    case Rewrapped:
      return "rewrapped";
    case SetAdded:
      return "set-added";
    case SetActivated:
      return "set-activated";
    case SetAmended:
      return "set-amended";
    case SetRemoved:
      return "set-removed";
    case SetRestored:
      return "set-restored";
    case SetPurged:
      return "set-purged";
    case KeyDestroyed:
      return "key-destroyed";
    case RingChanged:
      return "ring-changed";
    case RingStale:
      return "ring-stale";
    case UsageNearLimit:
      return "usage-near-limit";
    case UsageNotCounted:
      return "usage-not-counted";
    case PinNotSaved:
      return "pin-not-saved";
    case TokenLost:
      return "token-lost";
    case TokenRecovered:
      return "token-recovered";
    case DriverRestarted:
      return "driver-restarted";
    case CallHung:
      return "call-hung";
    case CircuitOpened:
      return "circuit-opened";
    case CircuitClosed:
      return "circuit-closed";
    case PinRefused:
      return "pin-refused";
  }
  return "unknown";
}

std::shared_ptr<Observer> observe_all(std::vector<std::shared_ptr<Observer>> observers) {
  return std::make_shared<Several>(std::move(observers));
}

}  // namespace hsmseal
