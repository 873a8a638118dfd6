#include "platform/socket.hpp"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace hsmseal::platform {

SharedSocket::SharedSocket(std::intptr_t socket) : handle_(::fcntl(static_cast<int>(socket), F_DUPFD_CLOEXEC, 0)) {
  if (handle_ < 0) throw std::system_error(errno, std::generic_category());
}

SharedSocket::~SharedSocket() { ::close(static_cast<int>(handle_)); }

void SharedSocket::shut_down() noexcept { ::shutdown(static_cast<int>(handle_), SHUT_RDWR); }

}  // namespace hsmseal::platform
