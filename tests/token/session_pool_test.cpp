#include <atomic>
#include <chrono>
#include <limits>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <hsmseal/error.hpp>

#include "keywrap/session_pool.hpp"
#include "support/catch.hpp"
#include "support/softhsm.hpp"

using namespace hsmseal;
using keywrap::pool_limit;
using keywrap::SessionPool;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t kSessionCount = 0xb1;  // CKR_SESSION_COUNT

std::shared_ptr<SessionPool> pool_of(std::size_t most, std::chrono::milliseconds wait,
                                     SessionPool::OpenSession open = nullptr) {
  const auto module = test::SoftHsm::instance().module();
  if (!open) open = [module] { return Pkcs11Session{module, {.label = "one"}}; };
  return std::make_shared<SessionPool>("one", std::move(open), most, SessionLimits{.session_wait = wait});
}

}  // namespace

TEST_CASE("a pool opens no more sessions than its limit and lends each to one holder") {
  const auto pool = pool_of(2, 1ms);
  auto first = pool->acquire();
  auto second = pool->acquire();
  CHECK(&*first != &*second);
  CHECK(pool->open_sessions() == 2);
  CHECK_THROWS_AS(pool->acquire(), TokenUnavailableError);
}

TEST_CASE("a session given back is lent again instead of a new one") {
  const auto pool = pool_of(4, 1ms);
  for (int i = 0; i < 10; ++i) auto lease = pool->acquire();
  CHECK(pool->open_sessions() == 1);
}

TEST_CASE("a session in which a call failed is closed, not lent again") {
  const auto pool = pool_of(1, 1ms);
  {
    auto lease = pool->acquire();
    CHECK_THROWS_AS(lease->encrypt({.value = 999'999}, {.iv = bytes_of("twelve bytes"), .aad = {}}, {}), TokenError);
    CHECK_FALSE(lease->usable());
  }
  CHECK(pool->open_sessions() == 0);
  CHECK(pool->acquire()->usable());
}

TEST_CASE("those who wait are served in the order they came") {
  const auto pool = pool_of(1, 60s);
  std::mutex mutex;
  std::vector<int> order;
  std::vector<std::thread> threads;
  {
    auto held = pool->acquire();
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        auto lease = pool->acquire();
        const std::scoped_lock lock{mutex};
        order.push_back(i);
      });
      while (pool->waiting() != static_cast<std::size_t>(i) + 1) std::this_thread::yield();
    }
  }
  for (auto& thread : threads) thread.join();
  CHECK(order == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("one who gave up waiting does not stand in the way of the next") {
  const auto pool = pool_of(1, 20ms);
  std::optional<SessionPool::Lease> held{pool->acquire()};
  CHECK_THROWS_AS(pool->acquire(), TokenUnavailableError);
  CHECK(pool->waiting() == 0);
  held.reset();
  CHECK(pool->acquire()->usable());
}

TEST_CASE("the pool shrinks to what the token gives") {
  const auto module = test::SoftHsm::instance().module();
  std::atomic<int> opened = 0;
  const auto pool = pool_of(5, 1ms, [&]() -> Pkcs11Session {
    if (opened == 2) throw TokenError({"C_OpenSession", kSessionCount, "CKR_SESSION_COUNT", true}, "no more");
    ++opened;
    return {module, {.label = "one"}};
  });
  auto first = pool->acquire();
  {
    auto second = pool->acquire();
    CHECK_THROWS_AS(pool->acquire(), TokenUnavailableError);
    CHECK(pool->limit() == 2);
  }
  CHECK(pool->acquire()->usable());
}

TEST_CASE("a pool whose first session cannot be opened says why, and tries again") {
  const auto module = test::SoftHsm::instance().module();
  bool broken = true;
  const auto pool = pool_of(2, 1ms, [&]() -> Pkcs11Session {
    if (broken) throw TokenError({"C_OpenSession", kSessionCount, "CKR_SESSION_COUNT", true}, "no more");
    return {module, {.label = "one"}};
  });
  CHECK_THROWS_AS(pool->acquire(), TokenError);
  CHECK(pool->open_sessions() == 0);
  broken = false;
  CHECK(pool->acquire()->usable());
}

TEST_CASE("a token's session limit leaves one for the login, and odd numbers mean no limit") {
  constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();
  CHECK(pool_limit(8, 0) == 8);
  CHECK(pool_limit(8, kMax) == 8);
  CHECK(pool_limit(8, kMax - 1) == 8);
  CHECK(pool_limit(8, 0xffffffff) == 8);
  CHECK(pool_limit(8, 0xfffffffe) == 8);
  CHECK(pool_limit(8, 1024) == 8);
  CHECK(pool_limit(8, 8) == 7);
  CHECK(pool_limit(8, 2) == 1);
  CHECK(pool_limit(8, 1) == 0);
}

TEST_CASE("a lock is not held while a session is opened") {
  // The second caller is served while the first is still inside a slow C_OpenSession.
  const auto module = test::SoftHsm::instance().module();
  std::atomic<int> entered = 0;
  std::atomic<bool> go_on = false;
  const auto pool = pool_of(2, 60s, [&]() -> Pkcs11Session {
    if (entered++ == 0) {
      while (!go_on) std::this_thread::yield();
    }
    return {module, {.label = "one"}};
  });
  std::thread slow{[&] { auto lease = pool->acquire(); }};
  while (entered == 0) std::this_thread::yield();
  CHECK(pool->acquire()->usable());
  go_on = true;
  slow.join();
}
