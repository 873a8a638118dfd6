#pragma once

#include <string>
#include <vector>

#include "support/faultyhsm.hpp"

#include "cli/scene.hpp"

namespace hsmseal::test {

/// A host whose token `bad` is behind the faulty driver, which reads its faults from the file `faults`.
class FaultyScene {
 public:
  /// @param good  tokens beside it that the host file reaches through SoftHSM itself, which has one configuration for both.
  explicit FaultyScene(const std::vector<std::string>& good = {});

  Scene& scene() { return scene_; }

  /// What a command says of a token that does this.
  /// @param faults  directives, each in a line.
  Ran with(const std::string& faults, const std::string& command);

 private:
  FaultyHsm hsm_;
  Scene scene_;
};

}  // namespace hsmseal::test
