"""The cases of envelopes, texts and contexts: good ones, and one thing wrong at a time."""

import struct
from dataclasses import dataclass, replace

from cases_common import K1, K3, K6, K7, LATEST, OTHER_RING_KEK, RING_ID, RING_KEY, SAME_PREFIX_ID, flipped
from hsmseal_format import (
    MAX_CONTEXT, MAX_ENVELOPE, MAX_TOKEN_AAD, Kek, Recipe, encode_context, payload_aad, place, proof_aad, ring_key_aad,
    seal, seeded, to_text, token_aad, wrap_aad,
)

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


def valid_recipes() -> list[Recipe]:
    recipes = [Recipe("hunter2", K1, b"hunter2", ONE_PAIR)]
    for suite, kind in ((1, "data-key"), (2, "token")):
        for size in (0, 1, 32, 1000):
            recipes.append(sample(f"{kind}-{size}-bytes", suite=suite, secret=seeded("secret", size)))
        recipes.append(sample(f"{kind}-no-context", suite=suite, context=b""))
        recipes.append(sample(f"{kind}-raw-context", suite=suite, context=bytes(range(256))))
        recipes.append(sample(f"{kind}-iv-16", suite=suite, iv_bytes=16))
        recipes.append(sample(f"{kind}-version-3", suite=suite, kek=K3))
        recipes.append(sample(f"{kind}-version-16909060", suite=suite, kek=LATEST))
        for size in (0, 63, 64):
            recipes.append(sample(f"{kind}-padded-64-of-{size}", suite=suite, secret=seeded("secret", size), bucket=64))
        recipes.append(sample(f"{kind}-padded-like-padding", suite=suite, secret=b"\x80\0\x80\0\0", bucket=16))
        recipes.append(sample(f"{kind}-looks-padded", suite=suite, secret=b"\x80\0\0"))
    recipes.append(sample("token-4096-bytes", suite=2, secret=seeded("secret", 4096)))
    return recipes


def rewrap_cases() -> list[tuple[str, Recipe, Kek, int]]:
    """The name, the envelope before, the key it is rewrapped to and the size of the new IV."""
    return [
        ("rewrap-to-another-key", sample("rewrap 1"), K3, 12),
        ("rewrap-to-a-longer-iv", sample("rewrap 2", context=b""), LATEST, 16),
        ("rewrap-to-a-shorter-iv", sample("rewrap 3", kek=K3, iv_bytes=16, bucket=64), LATEST, 12),
        ("rewrap-to-the-same-set", sample("rewrap 4", secret=b""), K1, 12),
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

    faults = [
        wrong("F-1", "magic-2", magic=b"HSE2"),
        wrong("F-1", "magic-lower-case", magic=b"hse1"),
        wrong("F-2", "suite-0", suite=0),
        wrong("F-2", "suite-3", suite=3),
        wrong("F-2", "suite-255", suite=255),
        wrong("F-3", "algorithm-0", algorithm=0),
        wrong("F-3", "algorithm-2", algorithm=2),
        wrong("F-3", "token-algorithm-2", suite=2, algorithm=2),
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
    faults += [wrong("F-8", f"token-iv-{n}", suite=2, iv_bytes=n) for n in (8, 13, 15, 17, 60, 64)]
    for kind, suite, ends in (("data-key", 1, (0, 3, 17, 18, 77, 109, 121, 137)), ("token", 2, (17, 18, 29, 45))):
        sealed = seal(sample(f"{kind}-cut", suite=suite))
        faults += [Fault("F-9", "Format", f"{kind}-cut-to-{end}", sealed[:end]) for end in ends]
    empty = seal(sample("cut", secret=b""))
    faults.append(Fault("F-9", "Format", "empty-secret-cut-by-1", empty[:-1]))
    head = seal(sample("too-long"))
    at_limit = MAX_ENVELOPE - len(head)
    faults.append(Fault("F-21", "Open", "length-at-the-limit", head, zeros=at_limit))
    faults.append(Fault("F-10", "Format", "length-over-the-limit", head, zeros=at_limit + 1))
    return faults


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
    for kind, suite in (("data-key", 1), ("token", 2)):
        moved = seal(sample(f"{kind}-moved", suite=suite))
        moved = moved[:12] + struct.pack(">I", LATEST.version) + moved[16:]
        same_prefix = sample(f"{kind}-prefix", suite=suite, kek=replace(K1, ring_id=SAME_PREFIX_ID))
        must = "F-18" if suite == 1 else "F-22"
        faults.append(Fault(must, "Open", f"{kind}-version-of-the-same-key", moved))
        faults.append(Fault(must, "Open", f"{kind}-ring-of-the-same-prefix", seal(same_prefix)))
        wrong_key = sample(f"{kind}-wrong-key", suite=suite, kek=replace(K1, key=K3.key))
        faults.append(Fault(must, "Open", f"{kind}-other-kek", seal(wrong_key)))
        wrong_id = sample(f"{kind}-wrong-id", suite=suite, kek=replace(K1, kek_id=K3.kek_id))
        faults.append(Fault(must, "Open", f"{kind}-other-kek-id", seal(wrong_id)))
    return faults


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
    return header_faults() + place_faults() + data_key_faults() + token_faults() + padding_faults() + text_faults()
