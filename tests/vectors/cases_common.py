"""The rings and keys that the cases are made with."""

from dataclasses import replace

from hsmseal_format import seeded
from hsmseal_wrap import CBC_HMAC, Kek

RING_ID, OTHER_RING_ID = seeded("ring", 16), seeded("other ring", 16)
SAME_PREFIX_ID = RING_ID[:4] + seeded("ring of the same prefix", 12)
RING_KEY, OTHER_RING_KEY = seeded("ring key", 32), seeded("other ring key", 32)
RING_KEYS = [RING_KEY, seeded("ring key 1", 32), seeded("ring key 2", 32)]  # the first, and after each removal


def make_kek(label: str, version: int, ring_id: bytes = RING_ID, **profile) -> Kek:
    return Kek(seeded(f"kek {label}", 32), seeded(f"kek id {label}", 16), ring_id, version, **profile)


def make_cbc_kek(label: str, version: int) -> Kek:
    return make_kek(label, version, algorithm=CBC_HMAC, mac_key=seeded(f"mac key {label}", 32))


# Version 2 is a gap; version 0x01020304 is the key of version 1, adopted again. 6 and 7 are deleted in the end.
K1, K3, K5, K6, K7 = (make_kek(*key) for key in (("a", 1), ("b", 3), ("c", 5), ("d", 6), ("g", 7)))
LATEST, STAGED = make_kek("a", 0x01020304), make_kek("e", 0x01020305)
# With AES-CBC and HMAC, 13 with the keys of 8, adopted again.
C8, C12, C13 = make_cbc_kek("h", 8), make_cbc_kek("l", 12), make_cbc_kek("h", 13)
IV16 = make_kek("i", 9, iv="token-writes", iv_bytes=16, parameters="without-iv-bits")
# The other ways in which a token makes IVs; no envelope is sealed under these.
VENDOR_MECHANISM, LAST_MECHANISM = 0x80001087, (1 << 32) - 1
OTHER_PROFILES = [
    make_kek("j", 14, iv="token-appends", iv_bytes=16),
    make_kek("k", 15, iv="token-prepends", iv_bytes=16, mechanism=VENDOR_MECHANISM, max_plaintext=32),
    make_kek("m", 16, iv="token-writes", mechanism=LAST_MECHANISM, max_plaintext=(1 << 32) - 1),
    make_kek("n", 17, iv="token-appends", mechanism=0, parameters="without-iv-bits"),
    make_kek("o", 18, iv="token-prepends", mechanism=VENDOR_MECHANISM, parameters="without-iv-bits"),
    make_kek("p", 19, parameters="without-iv-bits"),
]
KEKS = [K1, K3, K5, K6, LATEST, STAGED, K7, C8, IV16, C12, C13, *OTHER_PROFILES, make_kek("f", 1, OTHER_RING_ID)]
DELETED = frozenset({K6.version, K7.version})
OTHER_RING_KEK = KEKS[-1]


def find_envelope_kek(version: int) -> Kek | None:
    envelope_keks = (kek for kek in KEKS if kek.ring_id == RING_ID and kek not in OTHER_PROFILES)
    return next((kek for kek in envelope_keks if kek.version == version), None)


def find_ring_kek(kek_id: bytes, ring_id: bytes, version: int) -> Kek:
    return replace({kek.kek_id: kek for kek in KEKS}[kek_id], ring_id=ring_id, version=version)


def flipped(sealed: bytes, at: int) -> bytes:
    at %= len(sealed)
    return sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
