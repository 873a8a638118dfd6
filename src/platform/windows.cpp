// Compiled with MinGW-w64 and tried under Wine 8, which keeps no access lists of its own; never yet run on Windows. What
// writes and locks was only compiled.
#include "platform/platform.hpp"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <ratio>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <windows.h>  // before those that need it

#include <aclapi.h>
#include <sddl.h>

#include <hsmseal/error.hpp>

#include "platform/windows_text.hpp"

namespace hsmseal::platform {
namespace {

struct Close {
  void operator()(HANDLE handle) const noexcept { ::CloseHandle(handle); }
};
using Handle = std::unique_ptr<void, Close>;

struct Release {
  void operator()(void* memory) const noexcept { ::LocalFree(memory); }
};
using Local = std::unique_ptr<void, Release>;

InvalidArgumentError failure(std::string_view what, const std::filesystem::path& path, DWORD error) {
  return refusal("{} '{}': {}", what, shown(path), reason(error));
}

constexpr std::string_view kEveryone = "S-1-1-0", kCreatorOwner = "S-1-3-0", kOwnerRights = "S-1-3-4",
                           kSystem = "S-1-5-18", kAdministrators = "S-1-5-32-544",
                           kTrustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";

/// To make a file a link to another, FILE_WRITE_ATTRIBUTES suffices.
constexpr ACCESS_MASK kChange =
    FILE_WRITE_DATA | FILE_APPEND_DATA | FILE_WRITE_EA | FILE_WRITE_ATTRIBUTES | DELETE | WRITE_DAC | WRITE_OWNER;
/// What may be executed may be mapped into memory, and read there.
constexpr ACCESS_MASK kReadOrChange = kChange | FILE_READ_DATA | FILE_EXECUTE;
/// What lets somebody replace an entry of a folder, or the folder. To add entries is not enough: all users may make
/// folders in C:\, and cannot replace those of others by that.
constexpr ACCESS_MASK kReplaceEntry = FILE_DELETE_CHILD | DELETE | WRITE_DAC | WRITE_OWNER;
/// In the driver's own folder a new entry is enough: the libraries that the driver needs are looked for there first.
constexpr ACCESS_MASK kPlantLibrary = kReplaceEntry | FILE_ADD_FILE | FILE_ADD_SUBDIRECTORY;

/// @returns nothing, and leaves the error to GetLastError(), if it cannot be opened.
Handle try_open(const std::filesystem::path& path, DWORD access, DWORD flags) {
  // Backup semantics open folders too, so that they are told apart below; anonymous, should it be somebody's pipe.
  flags |= FILE_FLAG_BACKUP_SEMANTICS | SECURITY_SQOS_PRESENT | SECURITY_ANONYMOUS;
  const HANDLE handle =
      ::CreateFileW(path.c_str(), access | READ_CONTROL | FILE_READ_ATTRIBUTES,
                    FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr, OPEN_EXISTING, flags, nullptr);
  return Handle{handle != INVALID_HANDLE_VALUE ? handle : nullptr};
}

Handle open_file(const std::filesystem::path& path, std::string_view what, DWORD access, DWORD flags = 0) {
  if (Handle file = try_open(path, access, flags)) return file;
  const std::string why = reason(::GetLastError());
  throw refusal("{} '{}': {}; correct the path, or let the process's user read it", what, shown(path), why);
}

/// All bits set if it has no attributes: it is then neither a regular file nor a plain folder.
DWORD attributes_of(const Handle& file) noexcept {
  FILE_BASIC_INFO info{};
  if (::GetFileType(file.get()) != FILE_TYPE_DISK) return INVALID_FILE_ATTRIBUTES;
  if (!::GetFileInformationByHandleEx(file.get(), FileBasicInfo, &info, sizeof(info))) return INVALID_FILE_ATTRIBUTES;
  return info.FileAttributes;
}

std::string text_of(PSID sid) {
  LPWSTR text = nullptr;
  if (!::ConvertSidToStringSidW(sid, &text)) throw std::bad_alloc();  // the SID is the system's, so it is well-formed
  const Local owned{text};
  return utf8(text);
}

/// "'BUILTIN\Users' (S-1-5-32-545)"
std::string account(const std::string& sid_text) {
  PSID sid = nullptr;
  if (!::ConvertStringSidToSidW(utf16(sid_text).c_str(), &sid)) return sid_text;
  const Local owned{sid};
  wchar_t name[256] = L"", domain[256] = L"";
  DWORD name_size = 256, domain_size = 256;
  SID_NAME_USE use{};
  if (!::LookupAccountSidW(nullptr, sid, name, &name_size, domain, &domain_size, &use)) return sid_text;
  return fmt::format("'{}{}{}' ({})", utf8(domain), *domain != L'\0' ? "\\" : "", utf8(name), sid_text);
}

const std::string& process_user() {
  static const std::string user = [] {
    HANDLE token = nullptr;
    alignas(TOKEN_USER) std::byte buffer[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
    DWORD size = 0;
    const bool told = ::OpenProcessToken(::GetCurrentProcess(), TOKEN_QUERY, &token) &&
                      ::GetTokenInformation(token, TokenUser, buffer, sizeof(buffer), &size);
    const Handle owned{token};
    if (!told) throw refusal("the process's user cannot be told: {}", reason(::GetLastError()));
    return text_of(reinterpret_cast<const TOKEN_USER*>(buffer)->User.Sid);
  }();
  return user;
}

/// Who rules the host anyway, the process itself, and what stands for an object's owner in access lists.
bool trusted(std::string_view sid) {
  return sid == kSystem || sid == kAdministrators || sid == process_user() || sid == kCreatorOwner ||
         sid == kOwnerRights;
}

struct Security {
  Local descriptor;  ///< holds the others
  PSID owner = nullptr;
  PACL list = nullptr;
};

Security security_of(const Handle& file, const std::filesystem::path& path) {
  Security security;
  PSECURITY_DESCRIPTOR descriptor = nullptr;
  const DWORD error =
      ::GetSecurityInfo(file.get(), SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
                        &security.owner, nullptr, &security.list, nullptr, &descriptor);
  security.descriptor.reset(descriptor);
  if (error == ERROR_SUCCESS && security.owner != nullptr) return security;
  throw failure("the owner of", path, error);
}

/// The first account, other than the owner, the trusted() and `besides`, that the access list grants any of the rights.
/// What the list denies is not subtracted, which would take everybody's groups; conditions are taken as met.
std::optional<std::string> stranger(const Security& security, ACCESS_MASK rights, std::string_view besides = {}) {
  if (security.list == nullptr) return std::string{kEveryone};
  GENERIC_MAPPING mapping{FILE_GENERIC_READ, FILE_GENERIC_WRITE, FILE_GENERIC_EXECUTE, FILE_ALL_ACCESS};
  for (DWORD index = 0; index < security.list->AceCount; ++index) {
    void* entry = nullptr;
    if (!::GetAce(security.list, index, &entry)) return std::string{kEveryone};
    auto& [header, granted, sid_start] = *static_cast<ACCESS_ALLOWED_ACE*>(entry);
    const BYTE type = header.AceType;
    if (type == ACCESS_DENIED_ACE_TYPE || type == ACCESS_DENIED_CALLBACK_ACE_TYPE) continue;
    if ((header.AceFlags & INHERIT_ONLY_ACE) != 0) continue;  // for what lies in the folder, not for the folder
    ::MapGenericMask(&granted, &mapping);
    if ((granted & rights) == 0) continue;
    // Files have no other kinds of entries; should one turn up, it is nobody's whom we know.
    if (type != ACCESS_ALLOWED_ACE_TYPE && type != ACCESS_ALLOWED_CALLBACK_ACE_TYPE) return std::string{kEveryone};
    if (::EqualSid(&sid_start, security.owner)) continue;
    if (std::string sid = text_of(&sid_start); sid != besides && !trusted(sid)) return sid;
  }
  return std::nullopt;
}

FileIdentity identity_of(const Handle& file, const std::filesystem::path& path) {
  FILE_ID_INFO id{};
  if (!::GetFileInformationByHandleEx(file.get(), FileIdInfo, &id, sizeof(id))) {
    throw failure("the identity of", path, ::GetLastError());
  }
  // NTFS numbers files with 64 bits, which stay as they are. ReFS does with 128: two small counters, which the golden
  // ratio keeps from making up for each other.
  std::uint64_t halves[2];
  static_assert(sizeof(halves) == sizeof(id.FileId.Identifier));
  std::memcpy(halves, id.FileId.Identifier, sizeof(halves));
  return {id.VolumeSerialNumber, halves[0] + halves[1] * 0x9E3779B97F4A7C15u};
}

/// On a drive of this host, with all links resolved.
std::filesystem::path resolved_path(const Handle& file, const std::filesystem::path& path) {
  std::wstring text(32768, L'\0');
  const DWORD length = ::GetFinalPathNameByHandleW(file.get(), text.data(), static_cast<DWORD>(text.size()),
                                                   FILE_NAME_NORMALIZED | VOLUME_NAME_DOS);
  if (length == 0 || length >= text.size()) throw failure("driver", path, ::GetLastError());
  text.resize(length);
  constexpr std::wstring_view prefix = LR"(\\?\)";
  if (!text.starts_with(prefix) || text.find(L':') != prefix.size() + 1) {
    throw refusal("driver '{}' is not on a drive of this host; install it on one", shown(path));
  }
  return text.substr(prefix.size());
}

void check_rights(const std::filesystem::path& driver, const Handle& handle, const std::filesystem::path& path,
                  ACCESS_MASK rights) {
  const Security security = security_of(handle, path);
  if (const std::string owner = text_of(security.owner); owner != kTrustedInstaller && !trusted(owner)) {
    throw refusal("driver '{0}' could be replaced, since '{1}' belongs to {2}; run: icacls \"{1}\" /setowner *{3}",
                  shown(driver), shown(path), account(owner), kAdministrators);
  }
  if (const auto who = stranger(security, rights, kTrustedInstaller)) {
    throw refusal(
        "driver '{0}' could be replaced, since {1} may change '{2}'; run: icacls \"{2}\" /inheritance:d, then: icacls "
        "\"{2}\" /grant:r *{3}:{4}RX",
        shown(driver), account(*who), shown(path), *who, path == driver ? "" : "(OI)(CI)");
  }
}

void check_folders(const std::filesystem::path& driver) {
  ACCESS_MASK rights = kPlantLibrary;
  for (auto folder = driver.parent_path();; folder = folder.parent_path()) {
    const bool root = folder == folder.root_path();
    const Handle handle = open_file(folder, "driver's folder", 0, FILE_FLAG_OPEN_REPARSE_POINT);
    if ((attributes_of(handle) & FILE_ATTRIBUTE_REPARSE_POINT) != 0) {
      throw refusal("driver '{}' lies on a volume mounted at '{}'; give it a letter", shown(driver), shown(folder));
    }
    if (root) rights &= ~static_cast<ACCESS_MASK>(DELETE);  // a drive's root can be neither renamed nor removed
    check_rights(driver, handle, root ? folder / "." : folder, rights);  // "C:\" would end in an escaped quote
    if (root) return;
    rights = kReplaceEntry;
  }
}

void check_regular(const Handle& file, const std::filesystem::path& path) {
  const DWORD attributes = attributes_of(file);
  if ((attributes & FILE_ATTRIBUTE_DIRECTORY) != 0) throw refusal("file '{}' is not a regular file", shown(path));
  if ((attributes & FILE_ATTRIBUTE_REPARSE_POINT) == 0) return;
  throw refusal("file '{}' is a link; give the path of the file that it leads to", shown(path));
}

/// @param into  holds one byte more than the file may have.
/// @returns the file's size.
DWORD read_into(std::span<std::byte> into, const Handle& file, const std::filesystem::path& path) {
  DWORD filled = 0;  // one call: the read of a file on a disk is short at its end alone
  if (!::ReadFile(file.get(), into.data(), static_cast<DWORD>(into.size()), &filled, nullptr)) {
    throw failure("file", path, ::GetLastError());
  }
  if (filled == into.size()) throw refusal("file '{}' is larger than {} bytes", shown(path), into.size() - 1);
  return filled;
}

void check_owner(const Security& security, const std::filesystem::path& path) {
  const std::string owner = text_of(security.owner);
  if (trusted(owner)) return;
  throw refusal("file '{0}' belongs to {1}; run: icacls \"{0}\" /setowner *{2}", shown(path), account(owner),
                process_user());
}

/// That nobody but its owner may change it.
void check_trusted(const Handle& file, const std::filesystem::path& path) {
  check_regular(file, path);
  const Security security = security_of(file, path);
  check_owner(security, path);
  if (const auto who = stranger(security, kChange)) {
    throw refusal("file '{0}' may be changed by {1}; run: icacls \"{0}\" /inheritance:r /grant:r *{2}:F *{3}:R",
                  shown(path), account(*who), process_user(), *who);
  }
}

/// CreateFileW() for a file of its owner, the system and administrators. @returns nothing, as try_open().
Handle make_file(const std::filesystem::path& path, DWORD access, DWORD share, DWORD disposition) {
  PSECURITY_DESCRIPTOR descriptor = nullptr;
  if (!::ConvertStringSecurityDescriptorToSecurityDescriptorW(L"D:P(A;;FA;;;OW)(A;;FA;;;SY)(A;;FA;;;BA)",
                                                              SDDL_REVISION_1, &descriptor, nullptr)) {
    throw std::bad_alloc();
  }
  const Local owned{descriptor};
  SECURITY_ATTRIBUTES attributes{sizeof(attributes), descriptor, FALSE};
  const HANDLE handle = ::CreateFileW(path.c_str(), access, share, &attributes, disposition,
                                      FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OPEN_REPARSE_POINT, nullptr);
  return Handle{handle != INVALID_HANDLE_VALUE ? handle : nullptr};
}

/// A file for its owner, the system and administrators, which is removed again unless it is finished.
class NewFile {
 public:
  NewFile(std::filesystem::path name, const std::filesystem::path& path) : name_(std::move(name)), path_(path) {
    file_ = make_file(name_, GENERIC_WRITE, 0, CREATE_NEW);
    if (file_) return;
    const DWORD error = ::GetLastError();
    if (error != ERROR_FILE_EXISTS) throw failure("cannot write file", path_, error);
    throw refusal("cannot write file '{}': {}; it is not overwritten: name a new file", shown(path_), reason(error));
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() {
    file_.reset();
    if (made_) ::DeleteFileW(name_.c_str());
  }

  [[nodiscard]] static NewFile beside(const std::filesystem::path& path) {
    if (const Handle old = try_open(path, 0, FILE_FLAG_OPEN_REPARSE_POINT)) check_regular(old, path);
    std::random_device random;
    return {path.parent_path() / fmt::format(".hsmseal-{:08x}{:08x}", random(), random()), path};
  }

  void fill(std::string_view content) {
    DWORD written = 0;
    if (!::WriteFile(file_.get(), content.data(), static_cast<DWORD>(content.size()), &written, nullptr) ||
        !::FlushFileBuffers(file_.get())) {
      throw failure("cannot write file", path_, ::GetLastError());
    }
    if (written != content.size()) throw failure("cannot write file", path_, ERROR_DISK_FULL);
    file_.reset();
  }

  void keep() noexcept { made_ = false; }

  void take_place() {
    // A file that somebody has open, if only to read it, is not replaced; our own readers are done at once.
    for (int tries = 1;
         !::MoveFileExW(name_.c_str(), path_.c_str(), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH); ++tries) {
      const DWORD error = ::GetLastError();
      const bool in_use = error == ERROR_ACCESS_DENIED || error == ERROR_SHARING_VIOLATION;
      if (!in_use || tries == 100) throw failure("cannot replace file", path_, error);
      ::Sleep(1);
    }
    keep();
  }

 private:
  std::filesystem::path name_, path_;
  Handle file_;
  bool made_ = true;
};

}  // namespace

std::string shown(const std::filesystem::path& path) { return utf8(path.native()); }

std::chrono::steady_clock::time_point time_since_boot() noexcept {
  ULONGLONG since_boot = 0;
  ::QueryInterruptTimePrecise(&since_boot);
  using Tick = std::chrono::duration<std::int64_t, std::ratio<1, 10'000'000>>;
  return std::chrono::steady_clock::time_point{Tick{static_cast<std::int64_t>(since_boot)}};
}

TrustedLibrary trusted_library(const std::filesystem::path& path) {
  if (!path.is_absolute()) {
    throw refusal("driver path '{}' is relative; give its absolute path, so that no search path decides what is loaded",
                  shown(path));
  }
  const Handle file = open_file(path, "driver", 0);
  if ((attributes_of(file) & FILE_ATTRIBUTE_DIRECTORY) != 0) {
    throw refusal("driver '{}' is not a regular file", shown(path));
  }
  const auto resolved = resolved_path(file, path);
  check_rights(resolved, file, resolved, kChange);
  check_folders(resolved);
  return {resolved, identity_of(file, resolved)};
}

void* open_library(const std::filesystem::path& path) {
  DWORD mode = 0;
  ::SetThreadErrorMode(SEM_FAILCRITICALERRORS, &mode);  // an error, not a box on a screen that a service does not have
  void* const library =
      ::LoadLibraryExW(path.c_str(), nullptr, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_SYSTEM32);
  const DWORD error = ::GetLastError();
  ::SetThreadErrorMode(mode, nullptr);
  if (library != nullptr) return library;
  throw refusal("driver '{}' cannot be loaded: {}{}", shown(path), reason(error),
                error == ERROR_MOD_NOT_FOUND ? "; what it needs must lie in its folder or in System32" : "");
}

void* library_symbol(void* library, const char* name) noexcept {
  return reinterpret_cast<void*>(::GetProcAddress(static_cast<HMODULE>(library), name));
}

SecretBytes read_private_file(const std::filesystem::path& path, std::size_t most) {
  const Handle file = open_file(path, "file", FILE_READ_DATA);
  if ((attributes_of(file) & FILE_ATTRIBUTE_DIRECTORY) != 0) {
    throw refusal("file '{}' is not a regular file", shown(path));
  }
  const Security security = security_of(file, path);
  check_owner(security, path);
  if (const auto who = stranger(security, kReadOrChange)) {
    throw refusal("file '{0}' is open to {1}; run: icacls \"{0}\" /inheritance:r /grant:r *{2}:R /remove:g *{3}",
                  shown(path), account(*who), process_user(), *who);
  }
  SecretBytes content{most + 1};
  content.truncate(read_into(content.writable(), file, path));
  return content;
}

std::optional<std::string> read_trusted_file(const std::filesystem::path& path, std::size_t most) {
  const Handle file = try_open(path, FILE_READ_DATA, FILE_FLAG_OPEN_REPARSE_POINT);
  if (!file) {
    const DWORD error = ::GetLastError();
    if (error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND) return std::nullopt;
    throw failure("cannot open file", path, error);
  }
  check_trusted(file, path);
  std::string content(most + 1, '\0');
  content.resize(read_into(std::as_writable_bytes(std::span{content}), file, path));
  return content;
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  NewFile file = NewFile::beside(path);
  file.fill(content);
  file.take_place();
}

void check_can_replace(const std::filesystem::path& path) { static_cast<void>(NewFile::beside(path)); }

void write_new_file(const std::filesystem::path& path, std::string_view content) {
  NewFile file{path, path};
  file.fill(content);
  file.keep();
}

/// A mutex named after the folder: a folder itself cannot be locked.
PathLock::PathLock(const std::filesystem::path& folder, std::chrono::milliseconds patience) {
  const FileIdentity id = identity_of(open_file(folder, "folder", 0), folder);
  const std::wstring name = utf16(fmt::format("Global\\hsmseal-{:016x}-{:016x}", id.device, id.inode));
  Handle mutex{::CreateMutexW(nullptr, FALSE, name.c_str())};
  if (!mutex) throw failure("cannot lock folder", folder, ::GetLastError());
  switch (::WaitForSingleObject(mutex.get(), static_cast<DWORD>(patience.count()))) {
    case WAIT_OBJECT_0:
    case WAIT_ABANDONED:  // its last owner died; files are replaced as a whole
      handle_ = reinterpret_cast<std::intptr_t>(mutex.release());
      return;
    case WAIT_TIMEOUT:
      throw failure("others hold the lock of folder", folder, ERROR_TIMEOUT);
    default:
      throw failure("cannot lock folder", folder, ::GetLastError());
  }
}

PathLock::~PathLock() {
  const Handle mutex{reinterpret_cast<HANDLE>(handle_)};
  ::ReleaseMutex(mutex.get());
}

AppendFile::AppendFile(const std::filesystem::path& path, std::chrono::milliseconds patience) : path_(path) {
  Handle file = make_file(path, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, OPEN_ALWAYS);
  if (!file) throw failure("cannot write file", path, ::GetLastError());
  check_trusted(file, path);
  lock_.emplace(path, patience);
  LARGE_INTEGER size{};
  if (!::GetFileSizeEx(file.get(), &size)) throw failure("cannot read file", path, ::GetLastError());
  size_ = static_cast<std::uint64_t>(size.QuadPart);
  handle_ = reinterpret_cast<std::intptr_t>(file.release());
}

AppendFile::~AppendFile() { ::CloseHandle(reinterpret_cast<HANDLE>(handle_)); }

std::string AppendFile::tail(std::size_t most) const {
  const auto file = reinterpret_cast<HANDLE>(handle_);
  std::string content(most < size_ ? most : static_cast<std::size_t>(size_), '\0');
  LARGE_INTEGER at{};
  at.QuadPart = static_cast<LONGLONG>(size_ - content.size());
  DWORD got = 0;
  if (!::SetFilePointerEx(file, at, nullptr, FILE_BEGIN) ||
      !::ReadFile(file, content.data(), static_cast<DWORD>(content.size()), &got, nullptr)) {
    throw failure("cannot read file", path_, ::GetLastError());
  }
  if (got != content.size()) throw failure("cannot read file", path_, ERROR_HANDLE_EOF);
  return content;
}

void AppendFile::append(std::string_view content) {
  const auto file = reinterpret_cast<HANDLE>(handle_);
  LARGE_INTEGER end{};
  end.QuadPart = static_cast<LONGLONG>(size_);
  DWORD written = 0;
  const bool whole = ::SetFilePointerEx(file, end, nullptr, FILE_BEGIN) &&
                     ::WriteFile(file, content.data(), static_cast<DWORD>(content.size()), &written, nullptr) &&
                     written == content.size();
  if (!whole) {
    const DWORD error = written != 0 ? ERROR_DISK_FULL : ::GetLastError();
    if (::SetFilePointerEx(file, end, nullptr, FILE_BEGIN)) ::SetEndOfFile(file);
    throw failure("cannot write file", path_, error);
  }
  size_ += content.size();
  if (!::FlushFileBuffers(file))
    throw failure("cannot force to the disk what was written to file", path_, ::GetLastError());
}

std::uint64_t process_id() noexcept { return ::GetCurrentProcessId(); }

}  // namespace hsmseal::platform
