#include "support/postgres.hpp"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <pwd.h>
#include <soci/postgresql/soci-postgresql.h>
#include <soci/soci.h>
#include <unistd.h>

namespace hsmseal::test {
namespace {

namespace fs = std::filesystem;

/// Where the newest PostgreSQL has its programs; distributions keep them out of the path.
fs::path programs() {
  fs::path found;
  std::error_code ignored;
  for (const auto& version : fs::directory_iterator("/usr/lib/postgresql", ignored)) {
    const auto folder = version.path() / "bin";
    if (fs::exists(folder / "initdb", ignored) && folder > found) found = folder;
  }
  if (found.empty()) throw std::runtime_error("PostgreSQL is not installed: no initdb below /usr/lib/postgresql");
  return found;
}

std::string as_server_user() {
  if (::geteuid() != 0) return {};
  return "setpriv --reuid postgres --regid postgres --clear-groups ";
}

}  // namespace

PostgresServer& PostgresServer::shared() {
  static const auto server = []() -> std::unique_ptr<PostgresServer> {
    const char* file = std::getenv("HSMSEAL_TEST_POSTGRES");
    if (file == nullptr) return std::make_unique<PostgresServer>();
    std::string folder;
    if (!std::getline(std::ifstream{file}, folder))
      throw std::runtime_error("no server is noted in " + std::string{file});
    return std::make_unique<PostgresServer>(folder);
  }();
  return *server;
}

PostgresServer::PostgresServer() : own_(std::make_unique<ScratchDirectory>()), folder_(own_->path()) {
  const auto bin = programs();
  if (::geteuid() == 0) {
    const passwd* user = ::getpwnam("postgres");
    if (user == nullptr || ::chown(folder_.c_str(), user->pw_uid, user->pw_gid) != 0) {
      throw std::runtime_error("PostgreSQL does not run as root, and there is no user postgres");
    }
  }
  hsmseal::test::run(fmt::format("cd / && {}{} -D {} -A trust -U postgres -E UTF8 --locale=C --no-sync > /dev/null",
                                 as_server_user(), (bin / "initdb").string(), (folder_ / "data").string()));
  std::ofstream{folder_ / "data" / "pg_hba.conf"} << "local all keeper scram-sha-256\nlocal all all trust\n";
  start();
  run("postgres", fmt::format("create role keeper superuser login password '{}'", kPassword));
}

PostgresServer::~PostgresServer() {
  if (!own_) return;
  if (::getpid() == maker_) {
    control("-m immediate -w stop 2> /dev/null || true");
  } else {
    static_cast<void>(own_.release());  // the parent's folder, with its server
  }
}

fs::path PostgresServer::leave_running() {
  fs::permissions(folder_, fs::perms::owner_all);
  const auto own = std::move(own_);  // or this object's end would be the server's
  return own->leave();
}

void PostgresServer::end() const {
  control("-m immediate -w stop 2> /dev/null || true");
  fs::remove_all(folder_);
}

void PostgresServer::control(const std::string& arguments) const {
  hsmseal::test::run(fmt::format("cd / && {}{} -s -D {} -l {} {} > /dev/null", as_server_user(),
                                 (programs() / "pg_ctl").string(), (folder_ / "data").string(),
                                 (folder_ / "log").string(), arguments));
}

void PostgresServer::start() const {
  control(
      fmt::format("-o \"-c listen_addresses='' -c unix_socket_directories={} -c fsync=off -c shared_buffers=16MB "
                  "-c max_connections=200\" -w start",
                  folder_.string()));
}

void PostgresServer::become_standby() const { std::ofstream{folder_ / "data" / "standby.signal"}; }

void PostgresServer::freeze() const { signal_all(SIGSTOP); }
void PostgresServer::thaw() const { signal_all(SIGCONT); }

/// To the first process first, which makes no others then.
void PostgresServer::signal_all(int signal) const {
  pid_t server = 0;
  if (!(std::ifstream{folder_ / "data" / "postmaster.pid"} >> server)) throw std::runtime_error("no server runs");
  ::kill(server, signal);
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file{entry.path() / "stat"};
    const std::string text{std::istreambuf_iterator<char>{file}, {}};
    pid_t parent = 0;
    const auto name_end = text.rfind(')');
    if (name_end == std::string::npos || !(std::istringstream{text.substr(name_end + 4)} >> parent)) continue;
    if (parent == server) ::kill(std::stoi(name), signal);
  }
}

std::string PostgresServer::conninfo(const std::string& database, int port) const {
  return fmt::format("host={} port={} user=postgres dbname={}", folder_.string(), port, database);
}

std::string PostgresServer::odbc_connection_string(const std::string& database, int port) const {
  return fmt::format("Driver={{PostgreSQL Unicode}};Servername={};Port={};Database={};Uid=postgres", folder_.string(),
                     port, database);
}

std::string PostgresServer::new_database() const {
  static std::atomic<int> count = 0;
  const auto name = fmt::format("test_{}_{}", ::getpid(), ++count);
  run("postgres", "create database " + name + " template template0");
  return name;
}

void PostgresServer::run(const std::string& database, const std::string& statements) const {
  soci::session session{soci::postgresql, conninfo(database)};
  session << statements;
}

std::string PostgresServer::value(const std::string& database, const std::string& query) const {
  soci::session session{soci::postgresql, conninfo(database)};
  std::string text;
  session << query, soci::into(text);
  return text;
}

fs::path PostgresServer::socket(int port) const { return folder_ / fmt::format(".s.PGSQL.{}", port); }

}  // namespace hsmseal::test
