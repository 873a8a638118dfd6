#include "patience.hpp"

#include <algorithm>
#include <atomic>

#include <fmt/format.h>

#include "words.hpp"

namespace tool {
namespace {

std::atomic<bool> some_left = false;

}  // namespace

void Patience::add_to(CLI::App& command) {
  command.add_option("--deadline", given_,
                     "how long the driver may take for each step: start, search, login, probe; 2m by default");
}

void Patience::check() const {
  if (!given_.empty()) static_cast<void>(duration_from(given_));
}

void Patience::begin(std::chrono::milliseconds typed) {
  each_ = given_.empty() ? std::max(typed, std::chrono::milliseconds{std::chrono::minutes{2}}) : duration_from(given_);
}

void Patience::leave(std::thread thread, const std::string& what) const {
  some_left = true;
  thread.detach();
  throw HangError(
      fmt::format("its driver does not return from {} within {}; look whether the HSM can be reached from "
                  "here; for one that is slow give a longer --deadline",
                  what, to_text(each_)));
}

bool Patience::left_some() noexcept { return some_left; }

}  // namespace tool
