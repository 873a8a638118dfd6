#pragma once

#include <map>
#include <memory>
#include <string>

#include <hsmseal/ring_store.hpp>

#include "support/software_provider.hpp"

namespace hsmseal::test {

/// A ring of many sets, the newest active, and envelopes from when older ones were.
struct ManySets {
  RingRecord record;
  std::map<Version, std::string> sealed;  ///< "secret N" under the first set, one in the middle, and the last

  /// A store that holds it.
  [[nodiscard]] std::shared_ptr<RingStore> store() const;
};

/// Makes the record itself: adding the sets one by one would take as long as what is to be measured.
[[nodiscard]] ManySets ring_of_many(Version sets, const std::shared_ptr<SoftwareProvider>& provider);

}  // namespace hsmseal::test
