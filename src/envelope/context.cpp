#include <hsmseal/context.hpp>

#include <utility>

#include <hsmseal/error.hpp>

#include "core/binding.hpp"

namespace hsmseal {
namespace {

constexpr std::size_t kMaxContextBytes = std::size_t{16} << 20;

}  // namespace

Context& Context::add(std::string_view name, std::string_view value) & {
  if (name.empty()) throw InvalidArgumentError("a context's name must not be empty");
  if (!pairs_.try_emplace(std::string{name}, value).second) {
    throw InvalidArgumentError("the context has '" + std::string{name} + "' already");
  }
  core::Binding encoded{""};
  for (const auto& [key, text] : pairs_) encoded.append_sized(bytes_of(key)).append_sized(bytes_of(text));
  encoded_ = encoded.take();
  return *this;
}

Context&& Context::add(std::string_view name, std::string_view value) && { return std::move(add(name, value)); }

ContextView::ContextView(const Context& context) : ContextView(raw(context.encoded())) {}

ContextView ContextView::raw(ByteView bytes) {
  if (bytes.empty()) throw InvalidArgumentError("an empty context binds to nothing; say kNoContext if that is meant");
  if (bytes.size() > kMaxContextBytes) throw InvalidArgumentError("a context has at most 16 MiB");
  return ContextView{bytes};
}

}  // namespace hsmseal
