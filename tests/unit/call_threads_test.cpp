#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include <hsmseal/error.hpp>

#include "keywrap/call_threads.hpp"
#include "support/catch.hpp"
#include "support/expect_error.hpp"

using hsmseal::Deadline;
using hsmseal::TokenUnavailableError;
using hsmseal::keywrap::Call;
using hsmseal::keywrap::CallThreads;
using namespace std::chrono_literals;

namespace {

/// Calls that do not return until they are let go.
class Hang {
 public:
  [[nodiscard]] auto call() const {
    return [until = until_] {
      until.wait();
      return 0;
    };
  }
  void let_go() { gate_.set_value(); }

 private:
  std::promise<void> gate_;
  const std::shared_future<void> until_ = gate_.get_future().share();
};

void wait_until(const std::function<bool()>& condition) {
  for (int i = 0; i < 5000 && !condition(); ++i) std::this_thread::sleep_for(1ms);
  REQUIRE(condition());
}

}  // namespace

TEST_CASE("work runs in another thread, with its result, its error and its caller's deadline") {
  CallThreads threads{"prod", 2};
  const auto here = std::this_thread::get_id();
  CHECK(threads.run([] { return std::this_thread::get_id(); }) != here);
  const auto deadline = std::chrono::steady_clock::now() + 1h;
  const Deadline scope{deadline};
  CHECK(threads.run([] { return Deadline::current(); }) == deadline);
  CHECK_THROWS_AS(threads.run([]() -> int { throw std::out_of_range("x"); }), std::out_of_range);
  CHECK(Call::current() == nullptr);
  CHECK(threads.run([&] {
    const auto outer = std::this_thread::get_id();
    return threads.run([] { return std::this_thread::get_id(); }) == outer;  // no second thread is waited for
  }));
}

TEST_CASE("a caller leaves a call that hangs, and others go on in threads that take its place") {
  CallThreads threads{"prod", 2};
  Hang hang;
  for (std::size_t stuck = 1; stuck <= 4; ++stuck) {
    {
      const Deadline soon{20ms};
      CHECK_THROWS_AS(threads.run(hang.call()), TokenUnavailableError);
    }
    CHECK(threads.stuck() == stuck);
    if (stuck < 4) CHECK(threads.run([] { return 7; }) == 7);
  }
  {
    // Now all that there may be hang.
    const Deadline soon{20ms};
    const auto message =
        hsmseal::test::message_of<TokenUnavailableError>([&] { static_cast<void>(threads.run([] { return 7; })); });
    CHECK(message.find("all 4 threads") != std::string::npos);
    CHECK(threads.stuck() == 4);
  }
  hang.let_go();
  wait_until([&] { return threads.stuck() == 0; });
  CHECK(threads.run([] { return 7; }) == 7);
}

TEST_CASE("what a left call owns lives until it ends, also beyond its threads") {
  Hang hang;
  const auto owned = std::make_shared<int>(1);
  const std::weak_ptr<int> seen = owned;
  {
    CallThreads threads{"prod", 1};
    const Deadline soon{20ms};
    CHECK_THROWS_AS(threads.run([wait = hang.call(), owned] { return wait() + *owned; }), TokenUnavailableError);
    CHECK(seen.use_count() == 2);
  }
  CHECK(seen.use_count() == 2);
  hang.let_go();
  wait_until([&] { return seen.use_count() == 1; });
}

TEST_CASE("many callers share a few threads, and none is forgotten") {
  CallThreads threads{"prod", 3};
  std::atomic<int> inside = 0, most = 0, done = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 16; ++i) {
    callers.emplace_back([&] {
      for (int n = 0; n < 50; ++n) {
        threads.run([&] {
          const int now = ++inside;
          int before = most;
          while (before < now && !most.compare_exchange_weak(before, now)) continue;
          std::this_thread::yield();
          --inside;
          return ++done;
        });
      }
    });
  }
  for (auto& caller : callers) caller.join();
  CHECK(done == 800);
  CHECK(most <= 3);
}
