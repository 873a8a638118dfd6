#include <memory>

#include <fmt/format.h>

#include "bench/floor_cipher.hpp"
#include "bench/rows.hpp"

namespace bench {
namespace {

using namespace hsmseal;

Side encrypting(std::size_t threads) {
  return {"Botan AES-256-GCM, 64 B + 32 B, keyed", threads, [](std::size_t) -> Operation {
            const auto floor = std::make_shared<FloorCipher>(kSecretBytes, kContextBytes);
            return [floor] { floor->encrypt(); };
          }};
}

Side decrypting(std::size_t threads) {
  return {"Botan AES-256-GCM, 64 B + 32 B, keyed", threads, [](std::size_t) -> Operation {
            const auto floor = std::make_shared<FloorCipher>(kSecretBytes, kContextBytes);
            return [floor] { floor->decrypt(); };
          }};
}

}  // namespace

void data_key_rows(Table& table) {
  const KeyRing ring = ring_on({.library = softhsm()}, HangPolicy::Direct, 8);
  const EnvelopeEncryptor vault{ring, {.data_keys = DataKeyPolicy::reuse(std::uint64_t{1} << 32)}};
  for (std::size_t threads = 1; threads <= 2; ++threads) {
    table.compare({"seal, reused data key, 64 B + 32 B context", threads, sealing(vault)}, encrypting(threads), 0.55);
    table.compare({"open, kept data key, 64 B + 32 B context", threads, opening(vault)}, decrypting(threads), 0.70);
  }
  // How the machine itself scales stands beside it: two cores that share a cache, or one that is taken by others.
  table.compare({"seal, reused data key, 2 threads against 1", 2, sealing(vault)},
                {"the same with 1 thread", 1, sealing(vault)}, 1.8);
  table.compare({"open, kept data key, 2 threads against 1", 2, opening(vault)},
                {"the same with 1 thread", 1, opening(vault)}, 1.8);
  Side two = encrypting(2), one = encrypting(1);
  two.name += ", 2 threads against 1";
  one.name = "the same with 1 thread";
  table.compare(two, one);
}

}  // namespace bench
