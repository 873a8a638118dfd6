#pragma once

#include <cstdint>

namespace hsmseal::platform {

/// A second handle of a socket that somebody else opened, uses and closes: of the component `sql`, which alone links it.
///
/// A number of a socket may stand for another one as soon as its owner closed it, which a library does when it likes.
/// This handle stands for the same one while it lives, and keeps the connection open.
class SharedSocket {
 public:
  /// @throws std::system_error
  explicit SharedSocket(std::intptr_t socket);
  SharedSocket(const SharedSocket&) = delete;
  SharedSocket& operator=(const SharedSocket&) = delete;
  ~SharedSocket();

  /// Ends the connection in both directions: calls that wait for it return. May run while others use the socket.
  void shut_down() noexcept;

 private:
  std::intptr_t handle_;
};

}  // namespace hsmseal::platform
