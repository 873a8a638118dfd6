#include "support/postgres_proxy.hpp"

#include <array>
#include <cstring>
#include <stdexcept>

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace hsmseal::test {
namespace {

constexpr int kTick = 20;  // milliseconds

sockaddr_un address_of(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.native().size() >= sizeof address.sun_path)
    throw std::runtime_error("too long for a socket: " + path.string());
  std::strcpy(address.sun_path, path.c_str());
  return address;
}

int connect_to(const std::filesystem::path& path) {
  const auto address = address_of(path);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return socket;
  ::close(socket);
  return -1;
}

bool send_all(int socket, const char* bytes, std::size_t size) {
  while (size > 0) {
    const auto sent = ::send(socket, bytes, size, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes += sent;
    size -= static_cast<std::size_t>(sent);
  }
  return true;
}

/// @returns whether there is anything to read within a tick.
bool readable(int socket) {
  pollfd entry{socket, POLLIN, 0};
  return ::poll(&entry, 1, kTick) > 0;
}

/// Reads what the server answers to one request, up to ReadyForQuery, or to its end.
void take_answer(int server) {
  std::vector<char> bytes;
  std::array<char, 65536> part{};
  for (;;) {
    for (std::size_t at = 0; at + 5 <= bytes.size();) {
      std::uint32_t length = 0;
      std::memcpy(&length, bytes.data() + at + 1, 4);
      if (bytes[at] == 'Z') return;
      at += 1 + ntohl(length);
    }
    const auto size = ::read(server, part.data(), part.size());
    if (size <= 0) return;
    bytes.insert(bytes.end(), part.data(), part.data() + size);
  }
}

void wait_for_end(int client, const std::atomic<bool>& ending) {
  std::array<char, 1024> part{};
  while (!ending && (!readable(client) || ::read(client, part.data(), part.size()) > 0)) {
  }
}

}  // namespace

PostgresProxy::PostgresProxy(const std::filesystem::path& at, std::filesystem::path server)
    : server_(std::move(server)), listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  std::filesystem::remove(at);
  const auto address = address_of(at);
  if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener_, 50) != 0) {
    throw std::runtime_error("no proxy at " + at.string());
  }
  acceptor_ = std::thread{[this] { accept_clients(); }};
}

PostgresProxy::~PostgresProxy() {
  ending_ = true;
  acceptor_.join();
  for (auto& client : clients_) client.join();
  ::close(listener_);
}

void PostgresProxy::break_after(int passed, Break how) {
  requests_ = 0;
  broken_ = false;
  how_ = how;
  passed_ = passed;
}

void PostgresProxy::accept_clients() {
  while (!ending_) {
    if (!readable(listener_)) continue;
    const int client = ::accept(listener_, nullptr, nullptr);
    if (refusing_ && broken_) {
      ::close(client);
    } else {
      clients_.emplace_back([this, client] { serve(client); });
    }
  }
}

void PostgresProxy::serve(int client) {
  const int server = connect_to(server_);
  std::vector<char> held;  // of a message that is not complete yet
  std::array<char, 65536> part{};
  bool open = server >= 0;
  while (open && !ending_) {
    std::array<pollfd, 2> both{{{client, POLLIN, 0}, {server, POLLIN, 0}}};
    if (::poll(both.data(), both.size(), kTick) <= 0) continue;
    if (both[1].revents != 0) {
      const auto size = ::read(server, part.data(), part.size());
      open = size > 0 && send_all(client, part.data(), static_cast<std::size_t>(size));
    }
    if (open && both[0].revents != 0) {
      const auto size = ::read(client, part.data(), part.size());
      open = size > 0;
      if (open) {
        held.insert(held.end(), part.data(), part.data() + size);
        open = forward_requests(client, server, held);
      }
    }
  }
  ::shutdown(client, SHUT_RDWR);
  ::close(client);
  if (server >= 0) ::close(server);
}

/// The first message of a connection has no letter before its length.
bool PostgresProxy::forward_requests(int client, int server, std::vector<char>& held) {
  for (std::size_t letter = 0; held.size() >= 5;) {
    letter = held[0] == 0 ? 0 : 1;
    std::uint32_t length = 0;
    std::memcpy(&length, held.data() + letter, 4);
    const std::size_t size = letter + ntohl(length);
    if (held.size() < size) break;
    if (!forward(client, server, held.data(), size)) return false;
    held.erase(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(size));
  }
  return true;
}

bool PostgresProxy::forward(int client, int server, const char* message, std::size_t size) {
  const bool is_request = message[0] == 'Q' || message[0] == 'S';  // a query, or the end of an extended one
  if (is_request) {
    ++requests_;
    if (passed_-- == 0) {
      broken_ = true;
      if (how_ == Break::RequestLate) {
        ::shutdown(client, SHUT_RDWR);
        std::this_thread::sleep_for(std::chrono::milliseconds{100});
      }
      const bool passed_on = how_ != Break::BeforeRequest && how_ != Break::SilentRequest;
      if (passed_on && send_all(server, message, size)) take_answer(server);
      if (how_ == Break::SilentRequest || how_ == Break::SilentAnswer) wait_for_end(client, ending_);
      return false;
    }
  }
  return send_all(server, message, size);
}

}  // namespace hsmseal::test
