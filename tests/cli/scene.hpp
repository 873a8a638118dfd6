#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "support/softhsm.hpp"

namespace hsmseal::test {

/// What a command did.
struct Ran {
  int exit_code = -1;
  std::string output, errors;
};

/// A private folder in which the operator's tool is run as a person would, and the record of what it did there.
///
/// The record is compared with a transcript in tests/cli/transcripts; HSMSEAL_WRITE_TRANSCRIPTS=1 writes it anew. What
/// differs from run to run stands there as <ring-1>, <time> and the like. After each command the files that came and went are
/// told, so that none is left half written; and no PIN may be in what was said.
class Scene {
 public:
  /// @param labels  of the SoftHSM tokens; each one's PIN is in LABEL.pin.
  explicit Scene(const std::vector<std::string>& labels = {"hsm1"});
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  ~Scene() = default;

  /// Makes a file, and says nothing of it in the record.
  void write(const std::string& name, const std::string& content, const std::string& mode = "600");
  [[nodiscard]] std::string content_of(const std::string& name) const;
  [[nodiscard]] bool exists(const std::string& name) const { return std::filesystem::exists(folder() / name); }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_.path(); }
  [[nodiscard]] const SoftHsm& tokens() const { return tokens_; }

  /// A host file that binds these tokens under their labels and keeps a ring in ring.db.
  /// @param more  further fields, behind a comma.
  void write_host_file(const std::vector<std::string>& labels = {"hsm1"}, const std::string& more = "");
  /// The host file's text with one token, of which these fields are said.
  [[nodiscard]] static std::string host_file_of(const std::string& token_fields, const std::string& more = "");

  /// Sets a variable of the environment for the commands that follow.
  void set(const std::string& name, const std::string& value) { environment_[name] = value; }
  /// A text that must not be shown, besides the PINs.
  void keep_secret(const std::string& text) { secrets_.insert(text); }
  /// A value that differs from run to run, and what stands for it.
  void replace(const std::string& value, const std::string& placeholder) { replaced_.emplace_back(value, placeholder); }

  /// Runs a shell command without a terminal and records it.
  Ran run(const std::string& command);
  /// Runs one that must succeed and whose words do not matter.
  void prepare(const std::string& command);

  /// Compares the record with the transcript NAME.txt.
  void matches(const std::string& name);

 private:
  Ran execute(const std::string& command);
  [[nodiscard]] std::set<std::string> files() const;
  [[nodiscard]] std::string stable(std::string text);
  void number(std::string& text, const std::string& pattern, const std::string& what);

  SoftHsm tokens_;
  ScratchDirectory folder_;
  std::map<std::string, std::string> environment_;
  std::set<std::string> secrets_, files_;
  std::vector<std::pair<std::string, std::string>> replaced_;
  std::map<std::string, std::map<std::string, int>> numbered_;
  std::string record_;
  int commands_ = 0;
};

}  // namespace hsmseal::test
