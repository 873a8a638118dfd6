#include "store/places.hpp"
#include "support/postgres_proxy.hpp"

using namespace hsmseal;
using namespace hsmseal::test;
using Break = PostgresProxy::Break;

namespace {

constexpr auto kTimeout = std::chrono::milliseconds{500};

/// Far more than a call may take: a test that fails instead of one that hangs.
constexpr auto kFarTooLong = std::chrono::seconds{20};

/// Runs one call and checks that it came to an end.
template <typename Work>
auto in_time(const Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  const auto result = work();
  CHECK(std::chrono::steady_clock::now() - begin < kFarTooLong);
  return result;
}

/// A server all of whose processes stand still.
class Frozen {
 public:
  explicit Frozen(const PostgresServer& server) : server_(server) { server_.freeze(); }
  Frozen(const Frozen&) = delete;
  Frozen& operator=(const Frozen&) = delete;
  ~Frozen() { server_.thaw(); }

 private:
  const PostgresServer& server_;
};

std::string swap_error(RingStore& store, const RingHead& expected, const RingRecord& next) {
  return in_time([&] { return message_of<StoreError>([&] { return store.compare_and_swap(expected, next); }); });
}

}  // namespace

TEST_CASE("a server that stands still is given up, and used again when it goes on") {
  PostgresServer server;
  const auto url = "postgresql:" + server.conninfo(server.new_database());
  const auto store = sql_ring_store(url, {.timeout = kTimeout});
  fill(*store, 1);
  {
    const Frozen frozen{server};
    CHECK_NAMES(in_time([&] { return message_of<StoreError>([&] { return store->head(); }); }), "did not answer");
    CHECK_NAMES(in_time([&] { return message_of<StoreError>([&] { return store->head(); }); }), "did not answer");
  }
  CHECK(store->head() == record(1).head());
  {
    const Frozen frozen{server};
    CHECK_NAMES(swap_error(*store, record(1).head(), record(2)), "did not answer within 1000 ms");
  }
  CHECK(store->load() == record(1));
  CHECK(store->compare_and_swap(record(1).head(), record(2)));
  auto closed = sql_ring_store(url, {.timeout = kTimeout});
  CHECK(closed->load() == record(2));
  const Frozen frozen{server};
  in_time([&] { return closed.reset(), true; });
}

TEST_CASE("a commit that waits for a standby that is not there is in doubt, and settled later") {
  PostgresServer server;
  const auto name = server.new_database();
  const auto store = sql_ring_store("postgresql:" + server.conninfo(name), {.timeout = kTimeout});
  fill(*store, 1);
  const auto wait_for = [&](const std::string& standby) {
    server.run("postgres", "alter system set synchronous_standby_names = '" + standby + "'");
    server.run("postgres", "select pg_reload_conf()");
    while (server.value("postgres", "show synchronous_standby_names") != standby) {
    }
  };
  wait_for("nobody");
  CHECK_THROWS_AS(in_time([&] { return store->compare_and_swap(record(1).head(), record(2)); }), StoreInDoubtError);
  wait_for("");
  CHECK_FALSE(store->compare_and_swap(record(1).head(), record(2, "another")));
  CHECK(store->load() == record(2));
}

TEST_CASE("wherever the server falls silent during a swap, its outcome is told as it is") {
  const auto how = GENERATE(Break::SilentRequest, Break::SilentAnswer);
  const bool first = GENERATE(true, false);
  CAPTURE(how, first);
  const auto& server = PostgresServer::shared();
  const int port = 30'000 + static_cast<int>(::getpid() % 20'000);
  PostgresProxy proxy{server.socket(port), server.socket()};
  const auto url = "postgresql:" + server.conninfo(server.new_database(), port);
  int stored = 0, failed = 0;
  for (int point = 0;; ++point) {
    CAPTURE(point);
    REQUIRE(point < 50);
    const auto store = sql_ring_store(url, {.ring = std::to_string(point), .timeout = std::chrono::milliseconds{150}});
    REQUIRE(store->load() == std::nullopt);
    if (!first) fill(*store, 1);
    const auto expected = first ? std::nullopt : std::optional{record(1).head()};
    const auto before = store->load();
    proxy.break_after(point, how);
    bool told = false;
    try {
      told = in_time([&] { return store->compare_and_swap(expected, record(2)); });
      CHECK(told);
    } catch (const StoreInDoubtError&) {
      FAIL("it can be found out");
    } catch (const StoreError&) {
      ++failed;
    }
    if (!proxy.has_broken()) break;
    CHECK(store->load() == (told ? record(2) : before));
    stored += told ? 1 : 0;
  }
  // Before the commit nothing is stored; a silent commit, and the look after it, are found out about.
  CHECK(failed > 3);
  CHECK(stored == (how == Break::SilentAnswer ? 2 : 1));
}
