// A small password vault, as an application that uses hsmseal: passwords in a database, their keys in HSMs.
//
//   sh examples/vault/demo.sh build/examples/vault    shows all of it beside two new SoftHSM tokens
//
// vault.cpp is where hsmseal is used. password_table.cpp has the application's own table, terminal.cpp prompts and the
// progress bar, and here are the commands.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "terminal.hpp"
#include "vault.hpp"

namespace {

using vault::Vault;

/// What was said on the command line.
struct Words {
  vault::Settings settings;
  std::string name, token, description;
  hsmseal::Version version = 0;
  std::size_t workers = 2;
  bool quick = false;
};

hsmseal::Version active_set(const Vault& vault) {
  const auto sets = vault.sets();
  const auto active =
      std::ranges::find_if(sets, [](const auto& set) { return set.state == hsmseal::SetState::Active; });
  return active == sets.end() ? 0 : active->version;
}

int add(Vault vault, const std::string& name) {
  vault.add(name, vault::ask_password());
  fmt::print("'{}' is stored, under set {}\n", name, active_set(vault));
  return 0;
}

int edit(Vault vault, const std::string& name) {
  vault.edit(name, vault::ask_password());
  fmt::print("'{}' is changed, and under set {} now\n", name, active_set(vault));
  return 0;
}

/// The standard input has a name and a password on each line.
int import(Vault vault) {
  std::size_t count = 0;
  while (const auto line = vault::read_line()) {
    const std::string_view text = line->text();
    const auto blank = text.find(' ');
    if (blank == 0 || blank == std::string_view::npos) {
      throw std::runtime_error(fmt::format("line {} is not a name, a blank and a password", count + 1));
    }
    vault.add(std::string{text.substr(0, blank)}, hsmseal::SecretBytes{hsmseal::bytes_of(text.substr(blank + 1))});
    ++count;
  }
  fmt::print("{} passwords are stored, under set {}\n", count, active_set(vault));
  return 0;
}

int get(const Vault& vault, const std::string& name) {
  const hsmseal::SecretBytes password = vault.get(name);
  std::fwrite(password.view().data(), 1, password.size(), stdout);
  std::fputs("\n", stdout);
  return 0;
}

/// @param name  the only one that is shown; empty: all.
int list(const Vault& vault, const std::string& name) {
  for (const Vault::Entry& entry : vault.list()) {
    if (name.empty() || entry.name == name) {
      fmt::print("{:20} {}\n", entry.name, entry.set == 0 ? "damaged" : fmt::format("set {}", entry.set));
    }
  }
  return 0;
}

int sets(const Vault& vault) {
  for (const hsmseal::CredentialSet& set : vault.sets()) {
    fmt::print("set {}  {:8}  token '{}', {}\n", set.version, hsmseal::to_string(set.state), set.key.token,
               set.description);
  }
  return 0;
}

int census(const Vault& vault) {
  const hsmseal::RowCensus census = vault.census();
  for (const hsmseal::CredentialSet& set : vault.sets()) {
    const auto found = census.sealed.find(set.version);
    fmt::print("set {}  {:8}  {} passwords\n", set.version, hsmseal::to_string(set.state),
               found == census.sealed.end() ? 0 : found->second);
  }
  if (census.plain + census.foreign + census.unreadable > 0) {
    fmt::print("not sealed: {}, of another vault: {}, damaged: {}\n", census.plain, census.foreign, census.unreadable);
  }
  return 0;
}

void show_errors(const hsmseal::RewrapReport& report) {
  constexpr std::size_t kShown = 20;
  for (std::size_t i = 0; i < std::min(kShown, report.errors.size()); ++i) {
    fmt::print(stderr, "vault: '{}' is as it was: {}\n", report.errors[i].key, report.errors[i].message);
  }
  if (report.failed > kShown) fmt::print(stderr, "vault: and {} more\n", report.failed - kShown);
}

int rewrap(Vault vault, std::size_t workers) {
  hsmseal::RewrapReport report;
  {
    vault::ProgressBar bar;
    report = vault.rewrap(workers, [&](const auto& progress) { bar.show(progress.moved, progress.to_move); });
  }
  show_errors(report);
  fmt::print("{} passwords moved to set {}, {} changed meanwhile, {} failed\n", report.moved, report.active,
             report.edited, report.failed);
  switch (report.verdict) {
    case hsmseal::RewrapVerdict::Done:
      fmt::print("done: no password is left under an older set\n");
      return 0;
    case hsmseal::RewrapVerdict::Failing:
      throw std::runtime_error(report.reason + "; run it again later");
    default:
      throw std::runtime_error("not done: older sets are still needed");
  }
}

CLI::App* command(CLI::App& app, const std::string& name, const std::string& description, std::function<int()>& chosen,
                  std::function<int()> work) {
  CLI::App* const added = app.add_subcommand(name, description);
  added->callback([&chosen, work = std::move(work)] { chosen = work; });
  return added;
}

void add_password_commands(CLI::App& app, Words& words, std::function<int()>& chosen) {
  const auto opened = [&] { return Vault::open(words.settings); };
  const auto with_name = [&](CLI::App* added) { added->add_option("NAME", words.name)->required(); };
  with_name(command(app, "add", "store a password, which is typed or comes from the standard input", chosen,
                    [&words, opened] { return add(opened(), words.name); }));
  with_name(command(app, "edit", "change a password", chosen, [&words, opened] { return edit(opened(), words.name); }));
  with_name(command(app, "get", "show a password", chosen, [&words, opened] { return get(opened(), words.name); }));
  with_name(command(app, "delete", "delete a password", chosen, [&words, opened] {
    opened().remove(words.name);
    return 0;
  }));
  command(app, "list", "show the names, and the credential set of each password", chosen, [&words, opened] {
    return list(opened(), words.name);
  })->add_option("NAME", words.name, "of one password");
  command(app, "import", "store passwords: NAME PASSWORD on each line of the standard input", chosen,
          [opened] { return import(opened()); });
}

void add_set_commands(CLI::App& app, Words& words, std::function<int()>& chosen) {
  const auto opened = [&] { return Vault::open(words.settings); };
  const auto with_token = [&](CLI::App* added) {
    added->add_option("--token", words.token, "the label of the token that makes the key")->required();
  };
  const auto with_version = [&](CLI::App* added) { added->add_option("SET", words.version)->required(); };
  CLI::App* const create = command(app, "create", "make an empty vault", chosen, [&words] {
    const auto removal = words.quick ? vault::Removal::AtOnce : vault::Removal::AfterAMinute;
    return sets(Vault::create(words.settings, words.token, removal));
  });
  with_token(create);
  create->add_flag("--quick", words.quick, "sets may be removed at once, not a minute after they were archived");
  CLI::App* const rotate =
      command(app, "rotate", "add a credential set, which encrypts from now on", chosen, [=, &words] {
        Vault vault = opened();
        vault.rotate(words.token, words.description);
        return sets(vault);
      });
  with_token(rotate);
  rotate->add_option("--description", words.description, "for people");
  command(app, "sets", "show the credential sets", chosen, [opened] { return sets(opened()); });
  command(app, "census", "count the passwords of each set", chosen, [opened] { return census(opened()); });
  command(app, "rewrap", "move all passwords to the set that encrypts now", chosen, [&words, opened] {
    return rewrap(opened(), words.workers);
  })->add_option("--workers", words.workers, "how many threads do it");
  with_version(command(app, "remove-set", "remove a set that no password needs any more", chosen, [&words, opened] {
    Vault vault = opened();
    vault.remove_set(words.version);
    return sets(vault);
  }));
  with_version(command(app, "restore-set", "bring a removed set back", chosen, [&words, opened] {
    Vault vault = opened();
    vault.restore_set(words.version);
    return sets(vault);
  }));
}

}  // namespace

int main(int argc, char** argv) try {
  Words words;
  std::function<int()> chosen;
  CLI::App app{"Keeps passwords in a database, sealed under keys in HSMs.", "vault"};
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--database", words.settings.database, "sqlite:FILE, or postgresql: as libpq has it")
      ->envname("VAULT_DATABASE")
      ->capture_default_str();
  app.add_option("--driver", words.settings.driver, "the HSM's: an alias or a path")->capture_default_str();
  app.footer("The tokens of this host are those with a file LABEL.pin in the current folder.");
  add_password_commands(app, words, chosen);
  add_set_commands(app, words, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "vault: {}\n", error.what());
    return 2;
  }
  return chosen();
} catch (const std::exception& error) {
  fmt::print(stderr, "vault: {}\n", error.what());
  return 1;
}
