"""The cases of envelopes, texts and contexts: good ones, and one thing wrong at a time."""

import hashlib
import hmac
import struct
from dataclasses import dataclass, replace

from cases_common import (
    C8, C12, C13, IV16, K1, K3, K6, K7, LATEST, OTHER_RING_KEK, RING_ID, RING_KEY, SAME_PREFIX_ID, flipped,
)
from hsmseal_format import (
    MAX_CONTEXT, MAX_ENVELOPE, MAX_TOKEN_AAD, Recipe, encode_context, payload_aad, place, proof_aad, ring_key_aad, seal,
    seeded, to_text, token_aad, wrap_aad,
)
from hsmseal_wrap import MAC_LABEL, Kek, cbc_encrypt, mac_input, wrap

CONTEXTS = {
    "one-pair": [("record", "42")],
    "several-pairs": [("tenant", "acme"), ("record", "42"), ("field", "password")],
    "the-same-in-another-order": [("field", "password"), ("tenant", "acme"), ("record", "42")],
    "empty-value": [("record", "")],
    "boundary-in-the-name": [("ab", "c")],
    "boundary-in-the-value": [("a", "bc")],
    "names-that-are-prefixes": [("ab", "2"), ("a", "1"), ("a b", "3"), ("abc", "4")],
    "bytes-sort-unsigned": [("é", "2"), ("z", "1"), ("Z", "0"), ("漢", "3")],
    "value-with-a-zero-byte": [("a", "b\0c"), ("d\0", "")],
}
INVALID_CONTEXTS = [
    {"name": "context-of-no-pairs", "pairs": [], "must": "F-29"},
    {"name": "context-empty-name", "pairs": [["a", "1"], ["", "2"]], "must": "F-29"},
    {"name": "context-name-twice", "pairs": [["a", "1"], ["b", "2"], ["a", "1"]], "must": "F-29"},
    {"name": "raw-context-empty", "suite": 1, "raw_bytes": 0, "must": "F-30"},
    {"name": "raw-context-too-long", "suite": 1, "raw_bytes": MAX_CONTEXT + 1, "must": "F-30"},
    {"name": "token-context-too-long", "suite": 2, "raw_bytes": MAX_TOKEN_AAD - 61, "must": "F-31"},
]
SEVERAL = encode_context(CONTEXTS["several-pairs"])
ONE_PAIR = encode_context(CONTEXTS["one-pair"])


def sample(name: str, **changes) -> Recipe:
    """The envelope that the invalid ones are made from by one change."""
    return Recipe(**{"name": name, "kek": K1, "secret": seeded("secret", 32), "context": SEVERAL, **changes})


KINDS = {"data-key": {"suite": 1, "kek": K1}, "token": {"suite": 2, "kek": K1}, "cbc": {"suite": 1, "kek": C8}}


def valid_recipes() -> list[Recipe]:
    recipes = [Recipe("hunter2", K1, b"hunter2", ONE_PAIR), Recipe("hunter2-cbc", C8, b"hunter2", ONE_PAIR)]
    for kind, like in KINDS.items():
        for size in (0, 1, 32, 1000):
            recipes.append(sample(f"{kind}-{size}-bytes", **like, secret=seeded("secret", size)))
        recipes.append(sample(f"{kind}-no-context", **like, context=b""))
        recipes.append(sample(f"{kind}-raw-context", **like, context=bytes(range(256))))
        for size in (0, 63, 64):
            recipes.append(sample(f"{kind}-padded-64-of-{size}", **like, secret=seeded("secret", size), bucket=64))
        recipes.append(sample(f"{kind}-padded-like-padding", **like, secret=b"\x80\0\x80\0\0", bucket=16))
        recipes.append(sample(f"{kind}-looks-padded", **like, secret=b"\x80\0\0"))
        if kind == "cbc":
            continue
        recipes.append(sample(f"{kind}-iv-16", **{**like, "kek": IV16}))
        recipes.append(sample(f"{kind}-version-3", **{**like, "kek": K3}))
        recipes.append(sample(f"{kind}-version-16909060", **{**like, "kek": LATEST}))
    recipes.append(sample("cbc-version-12", kek=C12))
    recipes.append(sample("cbc-version-13", kek=C13))
    recipes.append(sample("token-4096-bytes", suite=2, secret=seeded("secret", 4096)))
    return recipes


def rewrap_cases() -> list[tuple[str, Recipe, Kek]]:
    """The name, the envelope before and the key it is rewrapped to."""
    return [
        ("rewrap-to-another-key", sample("rewrap 1"), K3),
        ("rewrap-to-a-longer-iv", sample("rewrap 2", context=b""), IV16),
        ("rewrap-to-a-shorter-iv", sample("rewrap 3", kek=IV16, bucket=64), LATEST),
        ("rewrap-to-the-same-set", sample("rewrap 4", secret=b""), K1),
        ("rewrap-from-gcm-to-cbc", sample("rewrap 5"), C8),
        ("rewrap-from-cbc-to-gcm", sample("rewrap 6", kek=C8), LATEST),
        ("rewrap-from-iv-16-to-cbc", sample("rewrap 7", kek=IV16, context=b""), C12),
        ("rewrap-from-cbc-to-iv-16", sample("rewrap 8", kek=C12, bucket=64), IV16),
        ("rewrap-from-cbc-to-cbc", sample("rewrap 9", kek=C8), C12),
        ("rewrap-from-cbc-to-the-same-set", sample("rewrap 10", kek=C8, secret=b""), C8),
    ]


@dataclass(frozen=True)
class Fault:
    """One thing that must be refused: an envelope, or a text."""

    must: str
    error: str
    name: str
    sealed: bytes | str
    context: bytes = SEVERAL
    zeros: int = 0  # bytes that the file leaves out


def header_faults() -> list[Fault]:
    def wrong(must: str, name: str, **changes) -> Fault:
        return Fault(must, "Format", name, seal(sample(name, **changes)))

    token = seal(sample("token-algorithm", suite=2, kek=IV16))
    faults = [
        wrong("F-1", "magic-2", magic=b"HSE2"),
        wrong("F-1", "magic-lower-case", magic=b"hse1"),
        wrong("F-2", "suite-0", suite=0),
        wrong("F-2", "suite-4", suite=4),
        wrong("F-2", "suite-255", suite=255),
        wrong("F-3", "algorithm-0", algorithm=0),
        wrong("F-3", "algorithm-3", algorithm=3),
        wrong("F-3", "algorithm-255", algorithm=255),
        wrong("F-3", "token-algorithm-0", suite=2, algorithm=0),
        wrong("F-3", "token-algorithm-3", suite=2, algorithm=3),
        wrong("F-56", "token-algorithm-2", suite=2, kek=C8),
        Fault("F-56", "Format", "token-algorithm-set-to-2", token[:5] + b"\2" + token[6:]),
        wrong("F-4", "flags-02", flags=0x02),
        wrong("F-4", "flags-80", flags=0x80),
        wrong("F-4", "flags-81", flags=0x81, bucket=64),
        wrong("F-4", "token-flags-02", suite=2, flags=0x02),
        wrong("F-5", "reserved-01", reserved=0x01),
        wrong("F-5", "reserved-80", reserved=0x80),
        wrong("F-5", "token-reserved-01", suite=2, reserved=0x01),
        wrong("F-6", "version-0", kek=replace(K1, version=0)),
        wrong("F-6", "token-version-0", suite=2, kek=replace(K1, version=0)),
    ]
    faults += [wrong("F-7", f"data-key-iv-{n}", iv_bytes=n) for n in (8, 11, 13, 15, 17, 32)]
    faults += width_faults()
    faults += [wrong("F-8", f"token-iv-{n}", suite=2, iv_bytes=n) for n in (8, 13, 15, 17, 60, 64)]
    for kind, ends in (("data-key", (0, 3, 17, 18, 77, 109, 121, 137)), ("token", (17, 18, 29, 45)),
                       ("cbc", (18, 34, 66, 97, 129, 141, 157))):
        sealed = seal(sample(f"{kind}-cut", **KINDS[kind]))
        faults += [Fault("F-9", "Format", f"{kind}-cut-to-{end}", sealed[:end]) for end in ends]
    empty = seal(sample("cut", secret=b""))
    faults.append(Fault("F-9", "Format", "empty-secret-cut-by-1", empty[:-1]))
    head = seal(sample("too-long"))
    at_limit = MAX_ENVELOPE - len(head)
    faults.append(Fault("F-21", "Open", "length-at-the-limit", head, zeros=at_limit))
    faults.append(Fault("F-10", "Format", "length-over-the-limit", head, zeros=at_limit + 1))
    return faults


def width_faults() -> list[Fault]:
    """W of one algorithm in an envelope of the other, and what other ways to use CBC would give."""
    gcm, cbc = seal(sample("W of gcm")), seal(sample("W of cbc", kek=C8))
    wrapped, mac = cbc[18:66], cbc[66:98]
    with_padding = seeded("W with padding", 32) + b"\x10" * 16
    padded = wrap(C8, seeded("W with padding: iv", 16), with_padding, wrap_aad(1, 2, C8))

    def cbc_of(name: str, data: bytes) -> Fault:
        return Fault("F-7", "Format", "cbc-" + name, seal(sample(name, kek=C8, wrapped=data)))

    return [
        Fault("F-7", "Format", "data-key-algorithm-set-to-2", gcm[:5] + b"\2" + gcm[6:]),
        Fault("F-7", "Format", "cbc-algorithm-set-to-1", cbc[:5] + b"\1" + cbc[6:]),
        Fault("F-7", "Format", "data-key-with-W-of-cbc", seal(sample("W 80", wrapped=wrapped + mac))),
        cbc_of("with-W-of-gcm", gcm[18:78]), cbc_of("with-W-of-gcm-iv-16", wrapped + mac[:16]),
        cbc_of("without-iv", wrapped[16:] + mac), cbc_of("with-iv-12", wrapped[4:] + mac),
        cbc_of("mac-cut", wrapped + mac[:-1]), cbc_of("mac-longer", wrapped + mac + b"\0"),
        cbc_of("without-mac", wrapped), cbc_of("with-padding", padded),
        cbc_of("one-block", wrapped[:32] + mac),
    ]


def place_faults() -> list[Fault]:
    """Wrong ring, unknown and deleted version, and what is told first."""
    prefix = seal(sample("prefix"))
    other = replace(OTHER_RING_KEK, version=2)
    unknown = seal(sample("version-2", kek=replace(K1, version=2)))
    deleted = seal(sample("deleted-version", kek=K7))
    deleted_elsewhere = seal(sample("ring-before-deleted", kek=replace(OTHER_RING_KEK, version=7)))
    faults = [
        Fault("F-11", "WrongRing", "ring-other", seal(sample("ring-other", kek=OTHER_RING_KEK))),
        Fault("F-11", "WrongRing", "ring-prefix-altered", flipped(prefix, 11)),
        Fault("F-12", "UnknownVersion", "version-2", unknown),
        Fault("F-14", "WrongRing", "ring-before-version", seal(sample("ring-before-version", kek=other))),
        Fault("F-14", "Format", "format-before-ring", seal(sample("format-before-ring", kek=other, reserved=1))),
        Fault("F-14", "UnknownVersion", "version-before-data", flipped(unknown, -1)),
        Fault("F-13", "DeletedVersion", "deleted-version", deleted),
        Fault("F-13", "DeletedVersion", "deleted-version-never-active", seal(sample("deleted-staged", kek=K6))),
        Fault("F-13", "DeletedVersion", "token-deleted-version", seal(sample("token-deleted", suite=2, kek=K7))),
        Fault("F-14", "WrongRing", "ring-before-deleted-version", deleted_elsewhere),
        Fault("F-14", "DeletedVersion", "deleted-version-before-data", flipped(deleted, -1)),
    ]
    for kind, must in (("data-key", "F-18"), ("token", "F-22"), ("cbc", "F-57")):
        suite, kek = KINDS[kind]["suite"], KINDS[kind]["kek"]
        moved = seal(sample(f"{kind}-moved", suite=suite, kek=kek))
        moved = moved[:12] + struct.pack(">I", (C13 if kind == "cbc" else LATEST).version) + moved[16:]
        same_prefix = sample(f"{kind}-prefix", suite=suite, kek=replace(kek, ring_id=SAME_PREFIX_ID))
        faults.append(Fault(must, "Open", f"{kind}-version-of-the-same-key", moved))
        faults.append(Fault(must, "Open", f"{kind}-ring-of-the-same-prefix", seal(same_prefix)))
        wrong_key = sample(f"{kind}-wrong-key", suite=suite, kek=replace(kek, key=K3.key))
        faults.append(Fault("F-20" if kind == "cbc" else must, "Open", f"{kind}-other-kek", seal(wrong_key)))
        wrong_id = sample(f"{kind}-wrong-id", suite=suite, kek=replace(kek, kek_id=K3.kek_id))
        faults.append(Fault(must, "Open", f"{kind}-other-kek-id", seal(wrong_id)))
    return faults + form_faults()


def form_faults() -> list[Fault]:
    """Envelopes that are right in themselves, but not of the form that their set makes."""
    def other(name: str, **changes) -> Fault:
        return Fault("F-58", "Open", "form-" + name, seal(sample("form-" + name, **changes)))

    return [
        other("cbc-under-a-set-of-gcm", kek=replace(K1, algorithm=2)),
        other("gcm-under-a-set-of-cbc", kek=replace(C8, algorithm=1)),
        other("gcm-iv-16-under-a-set-of-cbc", kek=replace(C8, algorithm=1, iv_bytes=16)),
        other("token-under-a-set-of-cbc", suite=2, kek=replace(C8, algorithm=1)),
        other("token-iv-16-under-a-set-of-cbc", suite=2, kek=replace(C8, algorithm=1, iv_bytes=16)),
        other("longer-iv", iv_bytes=16), other("shorter-iv", kek=IV16, iv_bytes=12),
        other("token-longer-iv", suite=2, iv_bytes=16), other("token-shorter-iv", suite=2, kek=IV16, iv_bytes=12),
    ]


def data_key_faults() -> list[Fault]:
    def wrong(must: str, name: str, **changes) -> Fault:
        return Fault(must, "Open", name, seal(sample(name, **changes)))

    sealed, other = seal(sample("altered")), seal(sample("another"))
    padded = seal(sample("altered padded", bucket=64))
    token = sample("token oracle", suite=2, secret=seeded("oracle: data key", 32))
    from_token = seal(sample("oracle", data_key=token.secret, wrap_aad=token_aad(2, 1, 0, K1, SEVERAL)))
    places = [("F-18", "wrap-iv", 18), ("F-18", "wrap-ciphertext", 30), ("F-18", "wrap-tag", 77)]
    places += [("F-20", "commitment", 78), ("F-21", "nonce", 110), ("F-21", "ciphertext", 122), ("F-21", "tag", -1)]
    faults = [Fault(must, "Open", f"{name}-altered", flipped(sealed, at)) for must, name, at in places]
    faults += [
        wrong("F-18", "wrap-aad-suite-2", wrap_aad=wrap_aad(2, 1, K1)),
        wrong("F-18", "wrap-aad-algorithm-2", wrap_aad=wrap_aad(1, 2, K1)),
        wrong("F-18", "wrap-aad-empty", wrap_aad=b"\0"),
        wrong("F-18", "ring-key-as-data-key", data_key=RING_KEY, wrap_aad=ring_key_aad(K1)),
        wrong("F-18", "proof-as-data-key", wrap_aad=proof_aad(K1)),
        Fault("F-18", "Open", "token-secret-as-data-key", from_token),
        Fault("F-20", "Open", "payload-of-another-data-key", sealed[:78] + other[78:]),
        Fault("F-20", "Open", "commitment-of-another-data-key", sealed[:78] + other[78:110] + sealed[110:]),
        wrong("F-21", "payload-aad-other-ring", payload_aad=payload_aad(1, 0, SAME_PREFIX_ID, SEVERAL)),
        wrong("F-21", "payload-aad-suite-2", payload_aad=payload_aad(2, 0, RING_ID, SEVERAL)),
        wrong("F-21", "payload-aad-with-version", payload_aad=payload_aad(1, 0, K1.ring_id + b"\0\0\0\1", SEVERAL)),
        wrong("F-21", "payload-aad-without-length", payload_aad=b"hsmseal/1/payload\1\0" + RING_ID + SEVERAL),
        Fault("F-21", "Open", "payload-cut", sealed[:-1]),
        Fault("F-21", "Open", "payload-longer", sealed + b"\0"),
        Fault("F-21", "Open", "context-other", sealed, ONE_PAIR),
        Fault("F-21", "Open", "context-none", sealed, b""),
        Fault("F-21", "Open", "context-instead-of-none", seal(sample("free", context=b"")), ONE_PAIR),
        Fault("F-21", "Open", "padded-flag-set", flipped(sealed, 6)),
        Fault("F-21", "Open", "padded-flag-cleared", flipped(padded, 6)),
    ]
    return faults


def cbc_faults() -> list[Fault]:
    """Suite 1, algorithm 2: IV at 18, ciphertext at 34, MAC at 66, commitment at 98, nonce at 130, payload at 142."""
    sealed, other = seal(sample("cbc altered", kek=C8)), seal(sample("cbc another", kek=C8))
    data_key, iv, aad = seeded("cbc mac: data key", 32), seeded("cbc mac: iv", 16), wrap_aad(1, 2, C8)
    ciphertext = cbc_encrypt(C8.key, iv, data_key)
    behind = mac_input(aad, iv, ciphertext)[len(MAC_LABEL) :]

    def with_mac(name: str, mac: bytes) -> Fault:
        recipe = sample("cbc-mac-" + name, kek=C8, data_key=data_key, wrapped=iv + ciphertext + mac)
        return Fault("F-57", "Open", recipe.name, seal(recipe))

    def mac_of(name: str, data: bytes, key: bytes = C8.mac_key) -> Fault:
        return with_mac(name, hmac.digest(key, data, "sha256"))

    def wrong_aad(name: str, wrong: bytes, **changes) -> Fault:
        return Fault("F-57", "Open", "cbc-" + name, seal(sample("cbc-" + name, kek=C8, wrap_aad=wrong, **changes)))

    good = with_mac("right", hmac.digest(C8.mac_key, MAC_LABEL + behind, "sha256")).sealed
    assert good == seal(sample("cbc-mac-right", kek=C8, data_key=data_key, wrapped=iv + ciphertext + hmac.digest(
        C8.mac_key, mac_input(aad, iv, ciphertext), "sha256")))
    places = [("F-57", "wrap-iv", 18), ("F-57", "wrap-ciphertext", 34), ("F-57", "wrap-last-block", 65)]
    places += [("F-57", "mac-first-byte", 66), ("F-57", "mac-last-byte", 97), ("F-20", "commitment", 98)]
    places += [("F-21", "nonce", 130), ("F-21", "ciphertext", 142), ("F-21", "tag", -1)]
    return [
        *(Fault(must, "Open", f"cbc-{name}-altered", flipped(sealed, at)) for must, name, at in places),
        Fault("F-57", "Open", "cbc-blocks-swapped", sealed[:34] + sealed[50:66] + sealed[34:50] + sealed[66:]),
        Fault("F-57", "Open", "cbc-mac-of-another-envelope", sealed[:66] + other[66:98] + sealed[98:]),
        with_mac("zeros", bytes(32)),
        with_mac("by-sha-512", hmac.digest(C8.mac_key, MAC_LABEL + behind, "sha512")[:32]),
        with_mac("without-a-key", hashlib.sha256(MAC_LABEL + behind).digest()),
        mac_of("under-another-key", MAC_LABEL + behind, C12.mac_key),
        mac_of("under-the-kek", MAC_LABEL + behind, C8.key),
        mac_of("label-other", b"hsmseal/1/cbc-hmad" + behind), mac_of("label-missing", behind),
        mac_of("algorithm-1", MAC_LABEL + b"\1" + behind[1:]), mac_of("algorithm-missing", MAC_LABEL + behind[1:]),
        mac_of("length-missing", MAC_LABEL + behind[:1] + behind[5:]),
        mac_of("length-of-8-bytes", MAC_LABEL + behind[:1] + bytes(4) + behind[1:]),
        mac_of("length-little-endian", MAC_LABEL + behind[:1] + behind[1:5][::-1] + behind[5:]),
        mac_of("aad-missing", MAC_LABEL + b"\2" + bytes(4) + iv + ciphertext),
        mac_of("iv-missing", mac_input(aad, b"", ciphertext)), mac_of("of-the-plaintext", mac_input(aad, iv, data_key)),
        mac_of("aad-last", MAC_LABEL + b"\2" + struct.pack(">I", len(aad)) + iv + ciphertext + aad),
        wrong_aad("wrap-aad-suite-2", wrap_aad(2, 2, C8)), wrong_aad("wrap-aad-algorithm-1", wrap_aad(1, 1, C8)),
        wrong_aad("wrap-aad-other", b"\0"),
        wrong_aad("ring-key-as-data-key", ring_key_aad(C8), data_key=RING_KEY),
        wrong_aad("proof-as-data-key", proof_aad(C8)),
        Fault("F-20", "Open", "cbc-payload-of-another-data-key", sealed[:98] + other[98:]),
        Fault("F-21", "Open", "cbc-payload-cut", sealed[:-1]),
        Fault("F-21", "Open", "cbc-payload-longer", sealed + b"\0"),
        Fault("F-21", "Open", "cbc-context-other", sealed, ONE_PAIR),
        Fault("F-21", "Open", "cbc-padded-flag-set", flipped(sealed, 6)),
    ]


def token_faults() -> list[Fault]:
    sealed, padded = seal(sample("altered", suite=2)), seal(sample("altered padded", suite=2, bucket=64))
    as_wrap = sample("as wrap", suite=2, payload_aad=wrap_aad(1, 1, K1))
    no_length = b"hsmseal/1/token\2\1\0" + place(K1) + SEVERAL
    too_long = sample("token-over-the-ceiling", suite=2, secret=seeded("secret", 4097))
    padded_too_long = sample("token-padded-over", suite=2, secret=seeded("secret", 4096), bucket=64)
    return [
        Fault("F-16", "Open", "token-over-the-ceiling", seal(too_long)),
        Fault("F-16", "Open", "token-padded-over-the-ceiling", seal(padded_too_long)),
        Fault("F-22", "Open", "token-iv-altered", flipped(sealed, 18)),
        Fault("F-22", "Open", "token-ciphertext-altered", flipped(sealed, 30)),
        Fault("F-22", "Open", "token-tag-altered", flipped(sealed, -1)),
        Fault("F-22", "Open", "token-cut", sealed[:-1]),
        Fault("F-22", "Open", "token-longer", sealed + b"\0"),
        Fault("F-22", "Open", "token-context-other", sealed, ONE_PAIR),
        Fault("F-22", "Open", "token-context-none", sealed, b""),
        Fault("F-22", "Open", "token-padded-flag-set", flipped(sealed, 6)),
        Fault("F-22", "Open", "token-padded-flag-cleared", flipped(padded, 6)),
        Fault("F-22", "Open", "token-aad-without-length", seal(sample("short", suite=2, payload_aad=no_length))),
        Fault("F-22", "Open", "data-key-wrap-as-token-secret", seal(as_wrap)),
    ]


def padding_faults() -> list[Fault]:
    wrong = {
        "padding-empty": b"", "padding-zeros-only": bytes(64), "padding-no-marker": b"secret\0\0",
        "padding-marker-81": b"secret\x81\0", "padding-zero-missing": b"secret\x80\0\1", "padding-pkcs7": b"secret\2\2",
    }
    faults = []
    for suite, prefix in ((1, ""), (2, "token-")):
        for name, plaintext in wrong.items():
            sealed = seal(sample(prefix + name, suite=suite, flags=1, plaintext=plaintext))
            faults.append(Fault("F-27", "Open", prefix + name, sealed))
    return faults


def text_faults() -> list[Fault]:
    # Secrets of 32, 31 and 33 bytes leave 2, 1 and 0 bytes in the last group of three. The name makes both "-" and "_".
    good = to_text(seal(sample("text 2")))
    two_bits, four_bits, none = good, *(to_text(seal(sample("text", secret=bytes(n)))) for n in (31, 33))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert "-" in good and "_" in good and [len(t) % 4 for t in (two_bits, four_bits, none)] == [0, 3, 1]

    def next_digit(text: str) -> str:
        return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]

    body = good[5:]
    faults = {
        "text-empty": ("F-32", ""),
        "text-prefix-missing": ("F-32", body),
        "text-prefix-upper-case": ("F-32", "HSE1." + body),
        "text-prefix-2": ("F-32", "hse2." + body),
        "text-leading-space": ("F-32", " " + good),
        "text-standard-alphabet": ("F-33", good.replace("-", "+").replace("_", "/")),
        "text-padding": ("F-33", good + "="),
        "text-trailing-newline": ("F-33", good + "\n"),
        "text-trailing-zero": ("F-33", good + "\0"),
        "text-space-inside": ("F-33", good[:40] + " " + good[40:]),
        "text-line-break-inside": ("F-33", good[:76] + "\r\n" + good[76:]),
        "text-second-dot": ("F-33", good[:40] + "." + good[40:]),
        "text-non-ascii": ("F-33", good + "é"),
        "text-one-digit-more": ("F-34", none + "A"),
        "text-trailing-bits-2": ("F-35", next_digit(two_bits)),
        "text-trailing-bits-4": ("F-35", next_digit(four_bits)),
        "text-prefix-only": ("F-9", "hse1."),
        "text-of-a-bad-envelope": ("F-5", to_text(seal(sample("bad", reserved=1)))),
    }
    return [Fault(must, "Format", name, text) for name, (must, text) in faults.items()]


def envelope_faults() -> list[Fault]:
    return (header_faults() + place_faults() + data_key_faults() + cbc_faults() + token_faults() + padding_faults()
            + text_faults())
