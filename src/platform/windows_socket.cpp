#include "platform/socket.hpp"

#include <system_error>

#include <winsock2.h>  // before the one it replaces parts of

#include <windows.h>

namespace hsmseal::platform {

SharedSocket::SharedSocket(std::intptr_t socket) {
  // DuplicateHandle() is not for sockets. Who opened the socket has called WSAStartup().
  WSAPROTOCOL_INFOW info{};
  auto made = INVALID_SOCKET;
  if (::WSADuplicateSocketW(static_cast<SOCKET>(socket), ::GetCurrentProcessId(), &info) == 0) {
    made = ::WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, &info, 0,
                        WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
  }
  if (made == INVALID_SOCKET) throw std::system_error(::WSAGetLastError(), std::system_category());
  handle_ = static_cast<std::intptr_t>(made);
}

SharedSocket::~SharedSocket() { ::closesocket(static_cast<SOCKET>(handle_)); }

void SharedSocket::shut_down() noexcept { ::shutdown(static_cast<SOCKET>(handle_), SD_BOTH); }

}  // namespace hsmseal::platform
