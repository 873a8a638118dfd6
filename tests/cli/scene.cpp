#include "cli/scene.hpp"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <regex>
#include <stdexcept>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "support/catch.hpp"

namespace hsmseal::test {
namespace {

namespace fs = std::filesystem;

const fs::path kTranscripts = fs::path{HSMSEAL_SOURCE_DIR} / "tests" / "cli" / "transcripts";

std::string whole(const fs::path& path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

/// Each line behind a mark, so that streams can be told apart.
std::string marked(const std::string& text, const std::string& mark) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    result += mark + text.substr(at, end - at) + (end == text.size() ? "<no line feed>\n" : "\n");
    at = end + 1;
  }
  return result;
}

}  // namespace

Scene::Scene(const std::vector<std::string>& labels) : tokens_(labels) {
  for (const std::string& label : labels) {
    secrets_.insert(tokens_.pin(label));
    write(label + ".pin", tokens_.pin(label) + "\n");
  }
  set("SOFTHSM2_CONF", tokens_.conf().string());
  set("PATH", fs::path{HSMSEAL_TOOL}.parent_path().string() + ":" + std::getenv("PATH"));
  set("LC_ALL", "C");
  replace(SoftHsm::library().string(), "<softhsm2>");
  replace(tokens_.directory().string(), "<tokens>");
  replace(folder().string(), "<folder>");
}

void Scene::write(const std::string& name, const std::string& content, const std::string& mode) {
  const fs::path path = folder() / name;
  std::ofstream{path, std::ios::binary} << content;
  fs::permissions(path, static_cast<fs::perms>(std::stoi(mode, nullptr, 8)));
  files_ = files();
}

std::string Scene::content_of(const std::string& name) const { return whole(folder() / name); }

std::string Scene::host_file_of(const std::string& token_fields, const std::string& more) {
  return fmt::format("{{\n  \"tokens\": {{\n    \"hsm1\": {{{}}}\n  }}{}\n}}\n", token_fields, more);
}

void Scene::write_host_file(const std::vector<std::string>& labels, const std::string& more) {
  std::string tokens;
  for (const std::string& label : labels) {
    tokens += fmt::format(R"({0}
    "{1}": {{"driver": "softhsm2", "select": {{"label": "{1}"}}, "pin": {{"file": "{1}.pin"}}}})",
                          tokens.empty() ? "" : ",", label);
  }
  write("hsmseal.json", fmt::format(R"({{
  "tokens": {{{}
  }},
  "store": "sqlite:ring.db",
  "ring_pin": "ring.pin"{}
}}
)",
                                    tokens, more));
}

std::set<std::string> Scene::files() const {
  std::set<std::string> found;
  for (const auto& entry : fs::directory_iterator{folder()}) found.insert(entry.path().filename().string());
  return found;
}

Ran Scene::execute(const std::string& command) {
  const ScratchDirectory said;
  const fs::path output = said.path() / "output", errors = said.path() / "errors";
  const pid_t child = ::fork();
  if (child == 0) {
    ::setsid();  // without a terminal to ask on
    for (const auto& [name, value] : environment_) ::setenv(name.c_str(), value.c_str(), 1);
    const auto onto = [](const fs::path& path, int flags, int number) {
      ::dup2(::open(path.c_str(), flags, 0600), number);
    };
    onto("/dev/null", O_RDONLY, STDIN_FILENO);
    onto(output, O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
    onto(errors, O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
    ::umask(022);
    if (::chdir(folder().c_str()) == 0) ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  Ran ran{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), whole(output), whole(errors)};
  INFO(command);
  for (const std::string& secret : secrets_) {
    CHECK(ran.output.find(secret) == std::string::npos);
    CHECK(ran.errors.find(secret) == std::string::npos);
  }
  return ran;
}

Ran Scene::run(const std::string& command) {
  Ran ran = execute(command);
  ++commands_;
  record_ += stable(fmt::format("$ {}\n{}{}", command, marked(ran.output, ""), marked(ran.errors, "2> ")));
  record_ += fmt::format("exit {}\n", ran.exit_code);
  const std::set<std::string> now = files();
  std::string changed;
  for (const auto& name : now) changed += files_.contains(name) ? "" : " +" + name;
  for (const auto& name : files_) changed += now.contains(name) ? "" : " -" + name;
  if (!changed.empty()) record_ += stable("files" + changed + "\n");
  record_ += "\n";
  files_ = now;
  return ran;
}

void Scene::prepare(const std::string& command) {
  const Ran ran = execute(command);
  INFO(command << "\n" << ran.output << ran.errors);
  REQUIRE(ran.exit_code == 0);
  files_ = files();
}

void Scene::number(std::string& text, const std::string& pattern, const std::string& what) {
  const std::regex regex{pattern};
  std::string result;
  auto from = text.cbegin();
  for (std::sregex_iterator at{text.begin(), text.end(), regex}, end; at != end; ++at) {
    result.append(from, text.cbegin() + at->position());
    auto& known = numbered_[what];
    const int next = static_cast<int>(known.size()) + 1;
    result += fmt::format("<{}-{}>", what, known.try_emplace(at->str(), next).first->second);
    from = text.cbegin() + at->position() + at->length();
  }
  text = result.append(from, text.cend());
}

std::string Scene::stable(std::string text) {
  for (const auto& [value, placeholder] : replaced_) {
    for (auto at = text.find(value); at != std::string::npos; at = text.find(value, at + placeholder.size())) {
      text.replace(at, value.size(), placeholder);
    }
  }
  number(text, R"(hse1\.[A-Za-z0-9_-]{8,})", "envelope");
  number(text, R"(\b[0-9a-f]{64}\b)", "mac");
  number(text, R"(\b[0-9a-f]{32}\b)", "id");
  number(text, R"(\b[0-9a-f]{16}\b)", "serial");
  text = std::regex_replace(text, std::regex{R"(ring: [0-9a-f]{8}\.\.\.)"}, "ring: <prefix>...");
  text = std::regex_replace(text, std::regex{R"("ring_prefix": "[0-9a-f]{8}")"}, R"("ring_prefix": "<prefix>")");
  text = std::regex_replace(text, std::regex{R"(\d{4}-\d\d-\d\dT[0-9:.]+Z)"}, "<time>");
  text = std::regex_replace(text, std::regex{R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC)"}, "<time>");
  text = std::regex_replace(text, std::regex{R"(\b\d+\.\d+ (us|ms|s)\b)"}, "<duration>");
  // Which there are depends on what SoftHSM was built with.
  text = std::regex_replace(text, std::regex{R"(mechanisms: \d+\n(  .*\n)*)"}, "mechanisms: <all>\n");
  text = std::regex_replace(text, std::regex{R"(lists \d+ mechanisms)"}, "lists <n> mechanisms");
  return text;
}

void Scene::matches(const std::string& name) {
  REQUIRE(commands_ > 0);
  const fs::path path = kTranscripts / (name + ".txt");
  const char* anew = std::getenv("HSMSEAL_WRITE_TRANSCRIPTS");
  if (anew != nullptr && std::string_view{anew} == "1") std::ofstream{path} << record_;
  INFO("transcript " << path.string() << "; HSMSEAL_WRITE_TRANSCRIPTS=1 writes it anew");
  const std::string expected = whole(path);
  REQUIRE_FALSE(expected.empty());
  CHECK(record_ == expected);
}

}  // namespace hsmseal::test
