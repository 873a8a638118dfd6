// Never yet run on Windows, see windows.cpp.
#include "platform/windows_text.hpp"

#include <cstdint>
#include <cstdlib>

#include <windows.h>

#include "platform/platform.hpp"

namespace hsmseal::platform {

std::string utf8(std::wstring_view text) {
  const auto length = static_cast<int>(text.size());
  const int size = ::WideCharToMultiByte(CP_UTF8, 0, text.data(), length, nullptr, 0, nullptr, nullptr);
  std::string result(static_cast<std::size_t>(size), '\0');
  ::WideCharToMultiByte(CP_UTF8, 0, text.data(), length, result.data(), size, nullptr, nullptr);
  return result;
}

std::wstring utf16(std::string_view text) {
  const auto length = static_cast<int>(text.size());
  const int size = ::MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text.data(), length, nullptr, 0);
  if (size == 0 && length != 0) throw InvalidArgumentError("an environment variable's name or value is not UTF-8");
  std::wstring result(static_cast<std::size_t>(size), L'\0');
  ::MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text.data(), length, result.data(), size);
  return result;
}

std::string reason(DWORD error) {
  wchar_t text[512] = L"";
  constexpr DWORD flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS | FORMAT_MESSAGE_MAX_WIDTH_MASK;
  const DWORD length = ::FormatMessageW(flags, nullptr, error, 0, text, static_cast<DWORD>(std::size(text)), nullptr);
  const std::wstring_view sentence{text, length};
  return fmt::format("{} (error {})", utf8(sentence.substr(0, sentence.find_last_not_of(L" .") + 1)), error);
}

SecretBytes environment_variable(const std::string& name) {
  const std::wstring wide_name = utf16(name);
  SecretBytes wide;
  DWORD room = 0, length = 0;
  for (;; room = length, wide = SecretBytes{room * sizeof(wchar_t)}) {  // another thread may lengthen it meanwhile
    ::SetLastError(ERROR_SUCCESS);
    length = ::GetEnvironmentVariableW(wide_name.c_str(), reinterpret_cast<wchar_t*>(wide.writable().data()), room);
    if (length == 0 && ::GetLastError() != ERROR_SUCCESS) throw refusal("environment variable '{}' is not set", name);
    if (length == 0) return {};
    if (length < room) break;
  }
  const auto convert = [text = reinterpret_cast<const wchar_t*>(wide.view().data()), length](char* to, int size) {
    const auto units = static_cast<int>(length);
    return ::WideCharToMultiByte(CP_UTF8, WC_ERR_INVALID_CHARS, text, units, to, size, nullptr, nullptr);
  };
  SecretBytes value{static_cast<std::size_t>(convert(nullptr, 0))};
  if (value.empty()) throw refusal("environment variable '{}' is not Unicode", name);
  convert(reinterpret_cast<char*>(value.writable().data()), static_cast<int>(value.size()));
  return value;
}

void set_environment_variable(const std::string& name, const std::string& value) {
  constexpr std::size_t most = 32766;  // checked here, since the C runtime ends the process over bad arguments
  const std::wstring wide_name = utf16(name), wide_value = utf16(value);
  if (name.empty() || name.find('=') != std::string::npos || wide_name.size() > most || wide_value.size() > most) {
    throw refusal("environment variable '{}' cannot be set: not a name, or too long", name);
  }
  // Drivers read the C runtime's copy or the process's own. The former has no empty values, and removes the variable
  // from both, so the latter is set last; a driver with a C runtime of its own copies that when it is loaded.
  const bool set = ::_wputenv_s(wide_name.c_str(), wide_value.c_str()) == 0 &&
                   ::SetEnvironmentVariableW(wide_name.c_str(), wide_value.c_str()) != 0;
  if (!set) throw refusal("environment variable '{}' cannot be set: {}", name, reason(::GetLastError()));
}

}  // namespace hsmseal::platform
