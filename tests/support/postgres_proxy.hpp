#pragma once

#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>
#include <vector>

namespace hsmseal::test {

/// Stands between clients and a PostgreSQL server, on a socket of its own in the server's folder, and breaks a
/// connection at a chosen request.
class PostgresProxy {
 public:
  enum class Break {
    BeforeRequest,  ///< the server never sees it
    BeforeAnswer,   ///< the server has done it, the client is not told
    RequestLate,    ///< the client is cut off at once; the request reaches the server a while later
    SilentRequest,  ///< as BeforeRequest, but the connection stays until the client ends it
    SilentAnswer,   ///< as BeforeAnswer, but the connection stays until the client ends it
  };

  /// @param at  the socket to listen on.  @param server  the server's.
  PostgresProxy(const std::filesystem::path& at, std::filesystem::path server);
  PostgresProxy(const PostgresProxy&) = delete;
  PostgresProxy& operator=(const PostgresProxy&) = delete;
  ~PostgresProxy();

  /// Breaks the connection of the request after `passed` more ones, once.
  void break_after(int passed, Break how);
  /// Whether new connections, and from then on all those that break, find nothing.
  void refuse_when_broken(bool refused) { refusing_ = refused; }
  /// How many requests came since break_after(), and whether one of them was broken.
  [[nodiscard]] int requests() const { return requests_; }
  [[nodiscard]] bool has_broken() const { return broken_; }

 private:
  void accept_clients();
  void serve(int client);
  bool forward_requests(int client, int server, std::vector<char>& held);
  bool forward(int client, int server, const char* message, std::size_t size);

  std::filesystem::path server_;
  int listener_ = -1;
  std::atomic<bool> ending_ = false, refusing_ = false, broken_ = false;
  std::atomic<int> requests_ = 0, passed_ = -1;
  std::atomic<Break> how_ = Break::BeforeRequest;
  std::mutex mutex_;
  std::thread acceptor_;
  std::vector<std::thread> clients_;  // the acceptor adds to them
};

}  // namespace hsmseal::test
