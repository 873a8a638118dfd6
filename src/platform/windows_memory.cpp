// See windows.cpp.
#include "platform/platform.hpp"

#include <bitset>
#include <cstddef>
#include <mutex>
#include <new>

#include <windows.h>

namespace hsmseal::platform {
namespace {

/// The address space that all secrets share.
///
/// A process may exclude WER_MAX_REGISTERED_ENTRIES (512) blocks, for all its code, from the dumps of Windows Error
/// Reporting. One for each allocation would soon use them up, so the whole range is excluded, once, and memory put into
/// it as it is needed. Dumps made by other tools hold it, and all do on a Windows that lacks the function.
class Arena {
 public:
  Arena() : start_(static_cast<std::byte*>(::VirtualAlloc(nullptr, kSize, MEM_RESERVE, PAGE_READWRITE))) {
    if (start_ == nullptr) throw std::bad_alloc();
    using Exclude = HRESULT(WINAPI*)(const void*, DWORD);
    const auto exclude = reinterpret_cast<Exclude>(
        library_symbol(::GetModuleHandleW(L"kernel32.dll"), "WerRegisterExcludedMemoryBlock"));
    if (exclude == nullptr || SUCCEEDED(exclude(start_, DWORD{kSize}))) return;
    ::VirtualFree(start_, 0, MEM_RELEASE);
    throw std::bad_alloc();
  }

  [[nodiscard]] void* take(std::size_t size) {
    const std::scoped_lock lock{mutex_};
    std::size_t run = 0;
    for (std::size_t end = 1; end <= taken_.size(); ++end) {
      run = taken_[end - 1] ? 0 : run + 1;
      if (run * kPage < size) continue;
      void* const address = start_ + (end - run) * kPage;
      if (::VirtualAlloc(address, size, MEM_COMMIT, PAGE_READWRITE) == nullptr) break;
      mark(address, size, true);
      return address;
    }
    throw std::bad_alloc();
  }

  void give_back(void* address, std::size_t size) noexcept {
    const std::scoped_lock lock{mutex_};
    ::VirtualUnlock(address, size);
    ::VirtualFree(address, size, MEM_DECOMMIT);  // it comes back zeroed
    mark(address, size, false);
  }

 private:
  static constexpr std::size_t kPage = 4096;  // wherever Windows 10 runs
  static constexpr std::size_t kSize = std::size_t{1} << (sizeof(void*) == 8 ? 31 : 27);

  void mark(void* address, std::size_t size, bool taken) noexcept {
    const auto first = static_cast<std::size_t>(static_cast<std::byte*>(address) - start_) / kPage;
    for (std::size_t page = first; page < first + size / kPage; ++page) taken_[page] = taken;
  }

  std::mutex mutex_;
  std::byte* start_;
  std::bitset<kSize / kPage> taken_;
};

/// Never destroyed: secrets in static objects may outlive any order of destruction.
Arena& arena() {
  static auto* const instance = new Arena;
  return *instance;
}

}  // namespace

void wipe(void* memory, std::size_t size) noexcept {
  if (size != 0) ::SecureZeroMemory(memory, size);
}

std::size_t page_size() noexcept {
  SYSTEM_INFO info{};
  ::GetSystemInfo(&info);
  return info.dwPageSize;
}

Pages allocate_pages(std::size_t size) {
  void* const address = arena().take(size);
  // Fails beyond the process's minimum working set (about 30 pages), until SetProcessWorkingSetSize() raises that.
  return {address, ::VirtualLock(address, size) != 0};
}

void release_pages(void* address, std::size_t size) noexcept { arena().give_back(address, size); }

bool wipe_on_fork(std::span<std::byte>) noexcept { return true; }  // there is no fork

}  // namespace hsmseal::platform
