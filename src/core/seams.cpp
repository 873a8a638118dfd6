// The seams are abstract; their destructors stand here so that each has one home for its type information.
#include <hsmseal/key_wrapper.hpp>
#include <hsmseal/observer.hpp>
#include <hsmseal/ring_store.hpp>

namespace hsmseal {

KeyWrapper::~KeyWrapper() = default;
KeyProvider::~KeyProvider() = default;
RingStore::~RingStore() = default;
Observer::~Observer() = default;

}  // namespace hsmseal
