#include <string>

#include <fmt/format.h>
#include <soci/postgresql/soci-postgresql.h>
#include <soci/soci.h>
#include <soci/sqlite3/soci-sqlite3.h>

#include "cli/terminal.hpp"
#include "support/postgres.hpp"

namespace hsmseal::test {
namespace {

namespace fs = std::filesystem;

/// A folder with two tokens, and a database of its own for a vault.
class VaultScene : public Scene {
 public:
  explicit VaultScene(const std::string& kind) : Scene({"hsm1", "hsm2"}), kind_(kind) {
    if (kind_ == "postgresql") {
      connect_ = PostgresServer::shared().conninfo(PostgresServer::shared().new_database());
      set("VAULT_DATABASE", url());
    }
  }

  [[nodiscard]] std::string url() const { return kind_ == "sqlite" ? "sqlite:vault.db" : "postgresql:" + connect_; }

  /// Changes the database behind the vault's back.
  void damage(const std::string& statement) const {
    if (kind_ == "sqlite") {
      soci::session{soci::sqlite3, (folder() / "vault.db").string()} << statement;
    } else {
      soci::session{soci::postgresql, connect_} << statement;
    }
  }
  [[nodiscard]] std::string stored(const std::string& query) const {
    std::string text;
    if (kind_ == "sqlite") {
      soci::session{soci::sqlite3, (folder() / "vault.db").string()} << query, soci::into(text);
    } else {
      soci::session{soci::postgresql, connect_} << query, soci::into(text);
    }
    return text;
  }

 private:
  std::string kind_, connect_;
};

std::string many_passwords(int count) {
  return fmt::format("i=0; while [ $i -lt {} ]; do i=$((i + 1)); echo \"site-$i password of $i\"; done", count);
}

}  // namespace

TEST_CASE("a vault keeps to its four rules, whatever database it is in") {
  const std::string kind = GENERATE("sqlite", "postgresql");
  CAPTURE(kind);
  VaultScene scene{kind};
  scene.run("vault list");
  scene.run("vault create --token hsm1 --quick");
  scene.run("vault create --token hsm1 --quick");
  scene.run("echo 'correct horse' | vault add mail");
  scene.run("echo 'battery staple' | vault add bank");
  scene.run("vault add bank < hsm1.pin");
  scene.run("vault add empty");
  scene.run("vault rotate --token hsm2 --description 'the HSM we bought'");
  scene.run("echo 'a new one' | vault add shop");
  scene.run("echo 'a new one' | vault edit bank");
  scene.run("vault list");
  scene.run("vault list mail");
  scene.run("vault get mail");
  scene.run("vault get bank");
  scene.run("vault census");
  scene.run("vault remove-set 1");
  scene.run("vault remove-set 2");
  scene.run("vault rewrap");
  scene.run("vault rewrap");
  scene.run("vault sets");
  scene.run("vault remove-set 1");
  scene.run("vault get mail");
  scene.run("vault restore-set 1");
  scene.run("vault delete shop");
  scene.run("vault get shop");
  scene.run("vault edit shop < hsm1.pin");
  scene.run("vault get");
  scene.matches(kind == "sqlite" ? "vault_sqlite" : "vault_postgresql");
}

TEST_CASE("a password that was put into another's row does not open there") {
  VaultScene scene{"sqlite"};
  scene.prepare("vault create --token hsm1");
  scene.prepare("echo 'correct horse' | vault add mail");
  scene.prepare("echo 'battery staple' | vault add bank");
  scene.damage("update passwords set sealed = (select sealed from passwords where name = 'mail') where name = 'bank'");
  const Ran ran = scene.run("vault get bank");
  CHECK(ran.exit_code == 1);
  CHECK(ran.output.empty());
  CHECK_FALSE(ran.errors.empty());
  CHECK(scene.run("vault get mail").output == "correct horse\n");
}

TEST_CASE("100 damaged passwords among 400 are reported, none is changed, and the exit code says so") {
  const std::string kind = GENERATE("sqlite", "postgresql");
  CAPTURE(kind);
  VaultScene scene{kind};
  scene.prepare("vault create --token hsm1 --quick");
  scene.prepare(many_passwords(400) + " | vault import");
  // Every fourth one: cut off, of another ring, lengthened, or with another payload.
  const std::string number = "cast(substr(name, 6) as integer)";
  scene.damage("update passwords set sealed = substr(sealed, 1, 60) where " + number + " % 16 = 0");
  scene.damage("update passwords set sealed = substr(sealed, 1, 17) || 'AAAA' || substr(sealed, 22) where " + number +
               " % 16 = 4");
  scene.damage("update passwords set sealed = sealed || 'A' where " + number + " % 16 = 8");
  scene.damage("update passwords set sealed = substr(sealed, 1, 200) || 'AAAA' || substr(sealed, 205) where " + number +
               " % 16 = 12");
  const std::string damaged = "select cast(count(*) as varchar(9)) from passwords where " + number + " % 4 = 0";
  REQUIRE(scene.stored(damaged) == "100");
  const std::string all =
      kind == "sqlite"
          ? "select group_concat(sealed) from (select sealed from passwords where " + number + " % 4 = 0 order by name)"
          : "select string_agg(sealed, ',' order by name) from passwords where " + number + " % 4 = 0";
  const std::string before = scene.stored(all);
  scene.prepare("vault rotate --token hsm2");
  const Ran ran = scene.run("vault rewrap");
  CHECK(ran.exit_code == 1);
  CHECK(ran.output == "300 passwords moved to set 2, 0 changed meanwhile, 100 failed\n");
  CHECK(ran.errors.find("and 80 more") != std::string::npos);
  CHECK(ran.errors.find("'site-") != std::string::npos);
  CHECK(ran.errors.find("not done") != std::string::npos);
  CHECK(scene.stored(all) == before);
  CHECK(scene.run("vault remove-set 1").exit_code == 1);
  CHECK(scene.run("vault get site-1").output == "password of 1\n");
  CHECK(scene.run("vault get site-4").exit_code == 1);
}

TEST_CASE("a password that is typed does not show, and there is a bar for who looks at the terminal") {
  VaultScene scene{"sqlite"};
  scene.prepare("vault create --token hsm1");
  Terminal typing{scene, "vault add mail && stty -a"};
  typing.wait_for("password: ");
  typing.type("correct horse\n");
  typing.wait_for("'mail' is stored, under set 1");
  CHECK(typing.exit_code() == 0);
  CHECK(typing.all().find("correct horse") == std::string::npos);
  CHECK(typing.all().find(" echo ") != std::string::npos);  // the terminal is as it was

  Terminal interrupted{scene, "trap '' INT; (trap - INT; exec vault add bank); echo ended with $?; stty -a"};
  interrupted.wait_for("password: ");
  interrupted.type("battery\x03");
  interrupted.wait_for("ended with 1");
  CHECK(interrupted.all().find(" echo ") != std::string::npos);
  CHECK(scene.run("vault list").output == "mail                 set 1\n");

  scene.prepare(many_passwords(100) + " | vault import");
  scene.prepare("vault rotate --token hsm2");
  Terminal watched{scene, "vault rewrap"};
  watched.wait_for("[");
  watched.wait_for("] ");
  watched.wait_for(" of 101");
  watched.wait_for("101 passwords moved to set 2");
  CHECK(watched.exit_code() == 0);
  scene.prepare("vault rotate --token hsm1");
  const Ran piped = scene.run("vault rewrap");
  CHECK(piped.output.find("101 passwords moved to set 3") != std::string::npos);
  CHECK(piped.output.find('[') == std::string::npos);
  CHECK(piped.errors.empty());
}

TEST_CASE("the demonstration of the vault shows all that it says, on PostgreSQL too") {
  const std::string kind = GENERATE("sqlite", "postgresql");
  CAPTURE(kind);
  VaultScene scene{kind};
  const Ran ran =
      scene.run(fmt::format("sh {}/examples/vault/demo.sh {} '{}'", HSMSEAL_SOURCE_DIR, HSMSEAL_TOOL, scene.url()));
  INFO(ran.output << ran.errors);
  CHECK(ran.exit_code == 0);
  CHECK(ran.errors.empty());
  for (int rule = 1; rule <= 4; ++rule) CHECK(ran.output.find(fmt::format("RULE {}.", rule)) != std::string::npos);
  CHECK(ran.output.find("correct horse") != std::string::npos);
  CHECK(ran.output.find("303 passwords") != std::string::npos);
}

}  // namespace hsmseal::test
