#!/usr/bin/python3
"""Makes, checks and explains the vectors of the envelope format, version 1.

An implementation of src/FORMAT.md of its own: it was written from the document and shares nothing with the library but
the document, so that an error has to be made twice to go unseen. It is for tests only: it wipes nothing, and its time
depends on secrets.

    make_vectors.py make OUTPUT.json              writes the vectors
    make_vectors.py check VECTORS.json            makes them again, compares, and reads every one of them
    make_vectors.py show NAME                     explains one valid envelope byte by byte
    make_vectors.py open KEKS.json                opens what another implementation sealed; - is the standard input
    make_vectors.py document FORMAT.md VECTORS.json   holds the document against the vectors
"""

import base64
import fnmatch
import hashlib
import hmac
import json
import re
import struct
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

MAX_SECRET = 64 << 20
MAX_ENVELOPE = MAX_SECRET + 4096
MAX_CONTEXT = 16 << 20
MAX_TOKEN_AAD = 64 << 10
HEADER = 18  # magic to W
TAG = 16


# ---- the format, sections 3 to 5 ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kek:
    key: bytes
    kek_id: bytes
    ring_id: bytes
    version: int
    max_plaintext: int = 4096


def len64(data: bytes) -> bytes:
    return struct.pack(">Q", len(data))


def wrap(kek: Kek, iv: bytes, plaintext: bytes, aad: bytes) -> bytes:
    return iv + AESGCM(kek.key).encrypt(iv, plaintext, aad)


def unwrap(kek: Kek, iv_bytes: int, wrapped: bytes, aad: bytes) -> bytes:
    return AESGCM(kek.key).decrypt(wrapped[:iv_bytes], wrapped[iv_bytes:], aad)


def place(kek: Kek) -> bytes:
    return kek.ring_id + struct.pack(">I", kek.version) + kek.kek_id


def wrap_aad(suite: int, algorithm: int, kek: Kek) -> bytes:
    return b"hsmseal/1/wrap" + bytes([suite, algorithm]) + place(kek)


def ring_key_aad(kek: Kek) -> bytes:
    return b"hsmseal/1/ring-key" + place(kek)


def proof_aad(kek: Kek) -> bytes:
    return b"hsmseal/1/proof" + kek.kek_id


def payload_aad(suite: int, flags: int, ring_id: bytes, context: bytes) -> bytes:
    return b"hsmseal/1/payload" + bytes([suite, flags]) + ring_id + len64(context) + context


def token_aad(suite: int, algorithm: int, flags: int, kek: Kek, context: bytes) -> bytes:
    return b"hsmseal/1/token" + bytes([suite, algorithm, flags]) + place(kek) + len64(context) + context


def hkdf_expand(key: bytes, info: bytes, size: int) -> bytes:
    return HKDFExpand(SHA256(), size, info).derive(key)


def payload_info(suite: int, ring_id: bytes) -> bytes:
    return b"hsmseal/1/payload" + bytes([suite]) + ring_id


def payload_keys(data_key: bytes, suite: int, ring_id: bytes) -> tuple[bytes, bytes]:
    """The AES-256-GCM key and the commitment."""
    out = hkdf_expand(data_key, payload_info(suite, ring_id), 64)
    return out[:32], out[32:]


def pad(secret: bytes, bucket: int) -> bytes:
    return secret + b"\x80" + bytes(-(len(secret) + 1) % bucket)


def unpad(plaintext: bytes) -> bytes | None:
    stripped = plaintext.rstrip(b"\0")
    return stripped[:-1] if stripped.endswith(b"\x80") else None


def to_text(sealed: bytes) -> str:
    return "hse1." + base64.urlsafe_b64encode(sealed).decode().rstrip("=")


class ContextError(Exception):
    """Refused before anything is sealed or opened; holds the rule."""


def encode_context(pairs: list[tuple[str, str]]) -> bytes:
    encoded = sorted((name.encode(), value.encode()) for name, value in pairs)
    names = [name for name, _ in encoded]
    if not pairs or b"" in names or len(set(names)) != len(names):
        raise ContextError("F-28")
    return b"".join(len64(name) + name + len64(value) + value for name, value in encoded)


def check_raw_context(size: int, suite: int, kek: Kek) -> None:
    if not 1 <= size <= MAX_CONTEXT:
        raise ContextError("F-29")
    if suite == 2 and len(token_aad(2, 1, 0, kek, b"")) + size > MAX_TOKEN_AAD:
        raise ContextError("F-30")


# ---- sealing ---------------------------------------------------------------------------------------------------------


def seeded(label: str, size: int) -> bytes:
    """Stands for random bytes: the same in every run."""
    blocks = (hashlib.sha256(f"hsmseal vectors: {label} {i}".encode()).digest() for i in range(size // 32 + 1))
    return b"".join(blocks)[:size]


@dataclass(frozen=True)
class Recipe:
    """What one envelope is made of. The second half is for envelopes that must be refused."""

    name: str
    kek: Kek
    secret: bytes = b""
    context: bytes = b""
    bucket: int = 0
    suite: int = 1
    iv_bytes: int = 12

    magic: bytes = b"HSE1"
    algorithm: int = 1
    reserved: int = 0
    flags: int | None = None
    plaintext: bytes | None = None
    data_key: bytes | None = None
    wrap_aad: bytes | None = None
    payload_aad: bytes | None = None

    def data_key_bytes(self) -> bytes:
        return self.data_key or seeded(self.name + ": data key", 32)

    def iv(self) -> bytes:
        return seeded(self.name + ": iv", self.iv_bytes)

    def nonce(self) -> bytes:
        return seeded(self.name + ": nonce", 12)


def seal(r: Recipe) -> bytes:
    flags = (1 if r.bucket else 0) if r.flags is None else r.flags
    plaintext = r.plaintext if r.plaintext is not None else pad(r.secret, r.bucket) if r.bucket else r.secret
    head = r.magic + bytes([r.suite, r.algorithm, flags, r.reserved]) + r.kek.ring_id[:4]
    head += struct.pack(">I", r.kek.version)
    if r.suite == 2:
        aad = r.payload_aad or token_aad(r.suite, r.algorithm, flags, r.kek, r.context)
        return head + struct.pack(">H", r.iv_bytes) + wrap(r.kek, r.iv(), plaintext, aad)
    wrapped = wrap(r.kek, r.iv(), r.data_key_bytes(), r.wrap_aad or wrap_aad(r.suite, r.algorithm, r.kek))
    key, commitment = payload_keys(r.data_key_bytes(), r.suite, r.kek.ring_id)
    aad = r.payload_aad or payload_aad(r.suite, flags, r.kek.ring_id, r.context)
    payload = AESGCM(key).encrypt(r.nonce(), plaintext, aad)
    return head + struct.pack(">H", len(wrapped)) + wrapped + commitment + r.nonce() + payload


def rewrap(before: bytes, data_key: bytes, target: Kek, iv: bytes) -> bytes:
    width = struct.unpack(">H", before[16:18])[0]
    wrapped = wrap(target, iv, data_key, wrap_aad(before[4], before[5], target))
    head = before[:12] + struct.pack(">IH", target.version, len(wrapped))
    return head + wrapped + before[HEADER + width :]


# ---- reading ---------------------------------------------------------------------------------------------------------


class Refused(Exception):
    def __init__(self, error: str, rule: str):
        super().__init__(f"{error} by {rule}")
        self.error, self.rule = error, rule


class Reader:
    """Reads as the document says, or all but one rule of it, to show that this rule alone stops a vector."""

    def __init__(self, ring_id: bytes, find, ignore: str | None = None):
        self.ring_id, self.find, self.ignore = ring_id, find, ignore

    def refuse(self, rule: str, error: str, condition: bool) -> None:
        if condition and rule != self.ignore:
            raise Refused(error, rule)

    def decode_text(self, text: str) -> bytes:
        self.refuse("F-31", "Format", not text.startswith("hse1."))
        body = text.split(".", 1)[-1]
        self.refuse("F-32", "Format", re.fullmatch(r"[A-Za-z0-9_-]*", body) is None)
        body = re.sub(r"[^A-Za-z0-9_-]", "", body.replace("+", "-").replace("/", "_"))
        self.refuse("F-33", "Format", len(body) % 4 == 1)
        body = body[: len(body) - (len(body) % 4 == 1)]
        sealed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        self.refuse("F-34", "Format", to_text(sealed) != "hse1." + body)
        return sealed

    def open(self, sealed: bytes, context: bytes) -> bytes:
        self.refuse("F-9", "Format", len(sealed) < HEADER)
        self.refuse("F-10", "Format", len(sealed) > MAX_ENVELOPE)
        self.refuse("F-1", "Format", sealed[:4] != b"HSE1")
        suite, algorithm, flags, reserved = sealed[4:8]
        prefix, version, width = struct.unpack(">4sIH", sealed[8:HEADER])
        self.refuse("F-2", "Format", suite not in (1, 2))
        self.refuse("F-3", "Format", algorithm != 1)
        self.refuse("F-4", "Format", flags & 0xFE != 0)
        self.refuse("F-5", "Format", reserved != 0)
        self.refuse("F-6", "Format", version == 0)
        self.refuse("F-7", "Format", suite != 2 and width not in (60, 64))
        self.refuse("F-8", "Format", suite == 2 and width not in (12, 16))
        self.refuse("F-9", "Format", len(sealed) < HEADER + width + (TAG if suite == 2 else 32 + 12 + TAG))
        self.refuse("F-11", "WrongRing", prefix != self.ring_id[:4])
        kek = self.find(version)
        self.refuse("F-12", "UnknownVersion", kek is None)
        kek = kek or replace(self.find(1), version=version)
        if suite == 2:
            self.refuse("F-15", "Open", len(sealed) - HEADER - width - TAG > kek.max_plaintext)
            plaintext = self.decrypt("F-21", lambda: unwrap(kek, width, sealed[HEADER:], token_aad(
                suite, algorithm, flags, kek, context)))
        else:
            plaintext = self.open_payload(kek, sealed[HEADER : HEADER + width], sealed, context)
        if not flags & 1:
            return plaintext
        secret = unpad(plaintext)
        self.refuse("F-26", "Open", secret is None)
        return plaintext if secret is None else secret

    def open_payload(self, kek: Kek, wrapped: bytes, sealed: bytes, context: bytes) -> bytes:
        suite, algorithm, flags = sealed[4:7]
        data_key = self.decrypt("F-17", lambda: unwrap(kek, len(wrapped) - 48, wrapped, wrap_aad(
            suite, algorithm, kek)))
        key, commitment = payload_keys(data_key, suite, self.ring_id)
        payload = sealed[HEADER + len(wrapped) :]
        self.refuse("F-19", "Open", not hmac.compare_digest(commitment, payload[:32]))
        aad = payload_aad(suite, flags, self.ring_id, context)
        return self.decrypt("F-20", lambda: AESGCM(key).decrypt(payload[32:44], payload[44:], aad))

    @staticmethod
    def decrypt(rule: str, call) -> bytes:
        try:
            return call()
        except InvalidTag:
            raise Refused("Open", rule) from None


# ---- the ring record, section 6 --------------------------------------------------------------------------------------


def canonical(body: dict) -> bytes:
    return json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def ring_mac(ring_key: bytes, body: bytes) -> bytes:
    return hmac.digest(hkdf_expand(ring_key, b"hsmseal/1/ring-mac", 32), body, "sha256")


def hex_of(*sizes: int):
    def read(value):
        if type(value) is not str or not re.fullmatch("([0-9a-fA-F]{2})*", value) or len(value) // 2 not in sizes:
            raise ValueError
        return value.lower()

    return read


def number(bits: int):
    def read(value):
        if type(value) is not int or not 0 <= value < 1 << bits:
            raise ValueError
        return value

    return read


def one_of(*values):
    def read(value):
        if not any(type(value) is type(v) and value == v for v in values):
            raise ValueError
        return value

    return read


def or_null(read):
    return lambda value: None if value is None else read(value)


def text(value):
    if type(value) is not str:
        raise ValueError
    return value


WRAPPED_32 = hex_of(60, 64)
SET_FIELDS = {
    "activated_at": or_null(number(63)), "archived_at": or_null(number(63)), "created_at": number(63),
    "description": text, "kek_id": hex_of(16), "key_id": hex_of(*range(1, 256)), "key_label": text,
    "proof": {"digest": hex_of(32), "wrapped": WRAPPED_32}, "state": one_of("staged", "active", "archived"),
    "token": {"alias": text, "label": text, "serial": text}, "version": number(32),
    "wrap": {"algorithm": one_of(1), "iv": one_of("caller"), "max_plaintext": number(32)},
    "wrapped_ring_key": WRAPPED_32,
}
RING_FIELDS = {
    "format": one_of(1), "generation": number(63), "next_version": number(32), "prev_mac": hex_of(32),
    "ring_id": hex_of(16), "sets": [SET_FIELDS],
}


class RingReader:
    def __init__(self, find, ignore: str | None = None):
        self.find, self.ignore = find, ignore

    def refuse(self, rule: str, condition: bool, error: str = "RingTampered") -> None:
        if condition and rule != self.ignore:
            raise Refused(error, rule)

    def read(self, generation: int, data: bytes, mac: bytes, seen: dict | None) -> bytes:
        """Returns the ring key. `seen` is the record that the host has read before."""
        body = self.parse(data)
        self.refuse("F-37", body["generation"] < 1 or body["generation"] != generation)
        self.refuse("F-38", body["generation"] == 1 and body["prev_mac"] != "0" * 64)
        self.check_sets(body)
        ring_key = self.ring_key(body)
        self.refuse("F-43", not hmac.compare_digest(mac, ring_mac(ring_key, data)))
        if seen is not None:
            self.check_seen(body, mac, seen)
        return ring_key

    def parse(self, data: bytes) -> dict:
        def no_fraction(literal: str) -> int:
            self.refuse("F-35", True)
            return int(float(literal))

        lenient = self.ignore == "F-35"
        try:
            decoded = data.decode("utf-8-sig", "replace") if lenient else data.decode()
            read = json.loads(decoded, parse_float=no_fraction, strict=not lenient)
        except ValueError:
            raise Refused("RingTampered", "F-35") from None
        self.refuse("F-36", isinstance(read, dict) and read.get("format", 1) != 1, "Store")
        body = self.fields(RING_FIELDS, read)
        self.refuse("F-35", canonical({**body, "sets": sorted(body["sets"], key=lambda s: s["version"])}) != data)
        return body

    def fields(self, schema, value):
        if isinstance(schema, dict):
            self.refuse("F-36", type(value) is not dict or value.keys() != schema.keys())
            return {name: self.fields(schema.get(name, lambda v: v), v) for name, v in value.items()}
        if isinstance(schema, list):
            self.refuse("F-36", type(value) is not list)
            return [self.fields(schema[0], item) for item in value]
        try:
            return schema(value)
        except ValueError:
            self.refuse("F-36", True)
            return value

    def check_sets(self, body: dict) -> None:
        versions = [s["version"] for s in body["sets"]]
        self.refuse("F-39", len(set(versions)) != len(versions) or 0 in versions)
        self.refuse("F-39", any(version >= body["next_version"] for version in versions))
        self.refuse("F-40", [s["state"] for s in body["sets"]].count("active") != 1)
        for s in body["sets"]:
            activated, archived = s["activated_at"] is not None, s["archived_at"] is not None
            self.refuse("F-41", s["state"] == "staged" and (activated or archived))
            self.refuse("F-41", s["state"] == "active" and (not activated or archived))
            self.refuse("F-41", s["state"] == "archived" and not archived)

    def ring_key(self, body: dict) -> bytes:
        keys = set()
        for s in body["sets"]:
            kek = self.find(bytes.fromhex(s["kek_id"]), bytes.fromhex(body["ring_id"]), s["version"])
            wrapped = bytes.fromhex(s["wrapped_ring_key"])
            try:
                keys.add(unwrap(kek, len(wrapped) - 48, wrapped, ring_key_aad(kek)))
            except InvalidTag:
                raise Refused("RingTampered", "F-42") from None
            check_proof(kek, bytes.fromhex(s["proof"]["wrapped"]), bytes.fromhex(s["proof"]["digest"]))
        return keys.pop()

    def check_seen(self, body: dict, mac: bytes, seen: dict) -> None:
        before = json.loads(seen["body"])
        self.refuse("F-46", body["ring_id"] != before["ring_id"], "WrongRing")
        self.refuse("F-45", body["generation"] < before["generation"], "RingRolledBack")
        same, next_one = body["generation"] == before["generation"], body["generation"] == before["generation"] + 1
        self.refuse("F-45", same and mac.hex() != seen["mac"], "RingForked")
        self.refuse("F-45", next_one and body["prev_mac"] != seen["mac"], "RingForked")


def check_proof(kek: Kek, wrapped: bytes, digest: bytes) -> None:
    try:
        proof = unwrap(kek, len(wrapped) - 48, wrapped, proof_aad(kek))
    except InvalidTag:
        raise Refused("WrongKey", "F-44") from None
    if hashlib.sha256(proof).digest() != digest:
        raise Refused("WrongKey", "F-44")


# ---- what the vectors are made of ------------------------------------------------------------------------------------

RING_ID, OTHER_RING_ID = seeded("ring", 16), seeded("other ring", 16)
SAME_PREFIX_ID = RING_ID[:4] + seeded("ring of the same prefix", 12)


def make_kek(label: str, version: int, ring_id: bytes = RING_ID) -> Kek:
    return Kek(seeded(f"kek {label}", 32), seeded(f"kek id {label}", 16), ring_id, version)


# Version 2 is a gap; version 0x01020304 is the key of version 1, adopted again.
K1, K3, K5, K6 = make_kek("a", 1), make_kek("b", 3), make_kek("c", 5), make_kek("d", 6)
LATEST, STAGED = make_kek("a", 0x01020304), make_kek("e", 0x01020305)
KEKS = [K1, K3, K5, K6, LATEST, STAGED, make_kek("f", 1, OTHER_RING_ID)]
OTHER_RING_KEK = KEKS[-1]

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


@dataclass(frozen=True)
class Fault:
    """One thing that must be refused: an envelope, or a text."""

    must: str
    error: str
    name: str
    sealed: bytes | str
    context: bytes = SEVERAL
    zeros: int = 0  # bytes that the file leaves out

    def whole(self) -> bytes | str:
        return self.sealed if isinstance(self.sealed, str) else self.sealed + bytes(self.zeros)


def flipped(sealed: bytes, at: int) -> bytes:
    at %= len(sealed)
    return sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]


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
    faults.append(Fault("F-20", "Open", "length-at-the-limit", head, zeros=at_limit))
    faults.append(Fault("F-10", "Format", "length-over-the-limit", head, zeros=at_limit + 1))
    return faults


def place_faults() -> list[Fault]:
    """Wrong ring and unknown version, and what is told first."""
    prefix = seal(sample("prefix"))
    other = replace(OTHER_RING_KEK, version=2)
    unknown = seal(sample("version-2", kek=replace(K1, version=2)))
    faults = [
        Fault("F-11", "WrongRing", "ring-other", seal(sample("ring-other", kek=OTHER_RING_KEK))),
        Fault("F-11", "WrongRing", "ring-prefix-altered", flipped(prefix, 11)),
        Fault("F-12", "UnknownVersion", "version-2", unknown),
        Fault("F-13", "WrongRing", "ring-before-version", seal(sample("ring-before-version", kek=other))),
        Fault("F-13", "Format", "format-before-ring", seal(sample("format-before-ring", kek=other, reserved=1))),
        Fault("F-13", "UnknownVersion", "version-before-data", flipped(unknown, -1)),
    ]
    for kind, suite in (("data-key", 1), ("token", 2)):
        moved = seal(sample(f"{kind}-moved", suite=suite))
        moved = moved[:12] + struct.pack(">I", LATEST.version) + moved[16:]
        same_prefix = sample(f"{kind}-prefix", suite=suite, kek=replace(K1, ring_id=SAME_PREFIX_ID))
        must = "F-17" if suite == 1 else "F-21"
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
    places = [("F-17", "wrap-iv", 18), ("F-17", "wrap-ciphertext", 30), ("F-17", "wrap-tag", 77)]
    places += [("F-19", "commitment", 78), ("F-20", "nonce", 110), ("F-20", "ciphertext", 122), ("F-20", "tag", -1)]
    faults = [Fault(must, "Open", f"{name}-altered", flipped(sealed, at)) for must, name, at in places]
    faults += [
        wrong("F-17", "wrap-aad-suite-2", wrap_aad=wrap_aad(2, 1, K1)),
        wrong("F-17", "wrap-aad-algorithm-2", wrap_aad=wrap_aad(1, 2, K1)),
        wrong("F-17", "wrap-aad-empty", wrap_aad=b"\0"),
        wrong("F-17", "ring-key-as-data-key", data_key=RING_KEY, wrap_aad=ring_key_aad(K1)),
        wrong("F-17", "proof-as-data-key", wrap_aad=proof_aad(K1)),
        Fault("F-17", "Open", "token-secret-as-data-key", from_token),
        Fault("F-19", "Open", "payload-of-another-data-key", sealed[:78] + other[78:]),
        Fault("F-19", "Open", "commitment-of-another-data-key", sealed[:78] + other[78:110] + sealed[110:]),
        wrong("F-20", "payload-aad-other-ring", payload_aad=payload_aad(1, 0, SAME_PREFIX_ID, SEVERAL)),
        wrong("F-20", "payload-aad-suite-2", payload_aad=payload_aad(2, 0, RING_ID, SEVERAL)),
        wrong("F-20", "payload-aad-with-version", payload_aad=payload_aad(1, 0, K1.ring_id + b"\0\0\0\1", SEVERAL)),
        wrong("F-20", "payload-aad-without-length", payload_aad=b"hsmseal/1/payload\1\0" + RING_ID + SEVERAL),
        Fault("F-20", "Open", "payload-cut", sealed[:-1]),
        Fault("F-20", "Open", "payload-longer", sealed + b"\0"),
        Fault("F-20", "Open", "context-other", sealed, ONE_PAIR),
        Fault("F-20", "Open", "context-none", sealed, b""),
        Fault("F-20", "Open", "context-instead-of-none", seal(sample("free", context=b"")), ONE_PAIR),
        Fault("F-20", "Open", "padded-flag-set", flipped(sealed, 6)),
        Fault("F-20", "Open", "padded-flag-cleared", flipped(padded, 6)),
    ]
    return faults


def token_faults() -> list[Fault]:
    sealed, padded = seal(sample("altered", suite=2)), seal(sample("altered padded", suite=2, bucket=64))
    as_wrap = sample("as wrap", suite=2, payload_aad=wrap_aad(1, 1, K1))
    no_length = b"hsmseal/1/token\2\1\0" + place(K1) + SEVERAL
    too_long = sample("token-over-the-ceiling", suite=2, secret=seeded("secret", 4097))
    padded_too_long = sample("token-padded-over", suite=2, secret=seeded("secret", 4096), bucket=64)
    return [
        Fault("F-15", "Open", "token-over-the-ceiling", seal(too_long)),
        Fault("F-15", "Open", "token-padded-over-the-ceiling", seal(padded_too_long)),
        Fault("F-21", "Open", "token-iv-altered", flipped(sealed, 18)),
        Fault("F-21", "Open", "token-ciphertext-altered", flipped(sealed, 30)),
        Fault("F-21", "Open", "token-tag-altered", flipped(sealed, -1)),
        Fault("F-21", "Open", "token-cut", sealed[:-1]),
        Fault("F-21", "Open", "token-longer", sealed + b"\0"),
        Fault("F-21", "Open", "token-context-other", sealed, ONE_PAIR),
        Fault("F-21", "Open", "token-context-none", sealed, b""),
        Fault("F-21", "Open", "token-padded-flag-set", flipped(sealed, 6)),
        Fault("F-21", "Open", "token-padded-flag-cleared", flipped(padded, 6)),
        Fault("F-21", "Open", "token-aad-without-length", seal(sample("short", suite=2, payload_aad=no_length))),
        Fault("F-21", "Open", "data-key-wrap-as-token-secret", seal(as_wrap)),
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
            faults.append(Fault("F-26", "Open", prefix + name, sealed))
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
        "text-empty": ("F-31", ""),
        "text-prefix-missing": ("F-31", body),
        "text-prefix-upper-case": ("F-31", "HSE1." + body),
        "text-prefix-2": ("F-31", "hse2." + body),
        "text-leading-space": ("F-31", " " + good),
        "text-standard-alphabet": ("F-32", good.replace("-", "+").replace("_", "/")),
        "text-padding": ("F-32", good + "="),
        "text-trailing-newline": ("F-32", good + "\n"),
        "text-trailing-zero": ("F-32", good + "\0"),
        "text-space-inside": ("F-32", good[:40] + " " + good[40:]),
        "text-line-break-inside": ("F-32", good[:76] + "\r\n" + good[76:]),
        "text-second-dot": ("F-32", good[:40] + "." + good[40:]),
        "text-non-ascii": ("F-32", good + "é"),
        "text-one-digit-more": ("F-33", none + "A"),
        "text-trailing-bits-2": ("F-34", next_digit(two_bits)),
        "text-trailing-bits-4": ("F-34", next_digit(four_bits)),
        "text-prefix-only": ("F-9", "hse1."),
        "text-of-a-bad-envelope": ("F-5", to_text(seal(sample("bad", reserved=1)))),
    }
    return [Fault(must, "Format", name, text) for name, (must, text) in faults.items()]


# ---- rings -----------------------------------------------------------------------------------------------------------

RING_KEY, OTHER_RING_KEY = seeded("ring key", 32), seeded("other ring key", 32)
BORN = 1735689600000  # 2025-01-01 00:00:00 UTC


def proof_of(kek: Kek, iv_bytes: int = 12) -> dict:
    proof = seeded(f"proof {kek.kek_id.hex()}", 32)
    wrapped = wrap(kek, seeded(f"proof iv {kek.kek_id.hex()}", iv_bytes), proof, proof_aad(kek))
    return {"digest": hashlib.sha256(proof).hexdigest(), "wrapped": wrapped.hex()}


def ring_set(kek: Kek, standing: str, activated: int | None, archived: int | None, aad: bytes = b"", **changes) -> dict:
    ring_key = RING_KEY if kek.ring_id != OTHER_RING_ID else OTHER_RING_KEY
    wrapped = wrap(kek, seeded(f"ring key iv {kek}", 12), ring_key, aad or ring_key_aad(kek))
    return {
        "activated_at": activated, "archived_at": archived, "created_at": BORN + kek.version % 1000 * 1000,
        "description": f"set {kek.version}", "kek_id": kek.kek_id.hex(), "key_id": kek.kek_id.hex(),
        "key_label": f"hsmseal-{kek.ring_id.hex()}-v{kek.version}", "proof": proof_of(kek), "state": standing,
        "token": {"alias": "hsm1", "label": "hsm1", "serial": "0123456789abcdef"}, "version": kek.version,
        "wrap": {"algorithm": 1, "iv": "caller", "max_plaintext": kek.max_plaintext},
        "wrapped_ring_key": wrapped.hex(), **changes,
    }


def ring_body(generation: int, prev_mac: str, next_version: int, sets: list[dict], **changes) -> dict:
    return {"format": 1, "generation": generation, "next_version": next_version, "prev_mac": prev_mac,
            "ring_id": RING_ID.hex(), "sets": sets, **changes}


def record(name: str, body: dict | bytes, generation: int | None = None, ring_key: bytes = RING_KEY, **extra) -> dict:
    data = body if isinstance(body, bytes) else canonical(body)
    generation = body["generation"] if generation is None else generation
    try:
        shown = {"body": data.decode()}
    except UnicodeDecodeError:
        shown = {"body_hex": data.hex()}
    mac = extra.pop("mac", ring_mac(ring_key, data).hex())
    return {"name": name, "generation": generation, "ring_key": ring_key.hex(), **shown, "mac": mac, **extra}


def first_body(**changes) -> dict:
    return ring_body(1, "0" * 64, 2, [ring_set(K1, "active", BORN + 1000, None, **changes)])


EVERY_ESCAPE = 'quotes " and \\, / as it is, controls \b\f\n\r\t\0\x01\x1f, literal \x7f é 漢 😀 \u2028'


def ring_chain() -> list[dict]:
    one = record("ring-1", first_body())
    archived = ring_set(K1, "archived", BORN + 1000, BORN + 3000)
    two = record("ring-2", ring_body(2, one["mac"], 4, [archived, ring_set(K3, "active", BORN + 3000, None)]))
    third = [
        archived,
        ring_set(K3, "archived", BORN + 3000, BORN + 60000, proof=proof_of(K3, 16), key_id="01"),
        ring_set(K5, "archived", None, BORN + 60000, description="overtaken: never active"),
        ring_set(K6, "staged", None, None, description=""),
        ring_set(LATEST, "active", BORN + 60000, None, description=EVERY_ESCAPE, key_id="ff" * 255),
        ring_set(STAGED, "staged", None, None),
    ]
    three = record("ring-3", ring_body(3, two["mac"], STAGED.version + 1, third))
    other = [ring_set(OTHER_RING_KEK, "active", BORN + 1000, None)]
    other_body = ring_body(1, "0" * 64, 2, other, ring_id=OTHER_RING_ID.hex())
    return [one, two, three, record("other-ring", other_body, ring_key=OTHER_RING_KEY)]


def ring_writing_faults(rings: dict[str, dict]) -> list[dict]:
    """Bodies that say the right thing in the wrong bytes."""
    plain, rich = rings["ring-1"], rings["ring-3"]

    def edited(name: str, old: str, new: str, source: dict = plain) -> dict:
        assert old in source["body"], (name, old)
        return record(name, source["body"].replace(old, new, 1).encode(), source["generation"])

    body = json.loads(rich["body"])
    proof = json.loads(plain["body"])["sets"][0]["proof"]["digest"]
    faults = [
        edited("body-white-space", '"format":1', '"format": 1'),
        record("body-trailing-newline", plain["body"].encode() + b"\n", 1),
        record("body-byte-order-mark", b"\xef\xbb\xbf" + plain["body"].encode(), 1),
        edited("body-keys-not-sorted", '"format":1,"generation":1', '"generation":1,"format":1'),
        record("body-sets-not-sorted", canonical({**body, "sets": body["sets"][::-1]}), 3),
        edited("body-key-twice", '{"format":1', '{"format":1,"format":1'),
        edited("body-number-leading-zero", '"next_version":2', '"next_version":02'),
        edited("body-number-fraction", '"max_plaintext":4096', '"max_plaintext":4096.0'),
        edited("body-number-exponent", '"max_plaintext":4096', '"max_plaintext":4096e0'),
        edited("body-number-minus-zero", f'"created_at":{BORN + 1000}', '"created_at":-0'),
        edited("body-hex-upper-case", proof, proof.upper()),
        edited("body-escaped-letter", "é", "\\u00e9", rich),
        edited("body-escaped-surrogates", "😀", "\\ud83d\\ude00", rich),
        edited("body-lone-surrogate", "😀", "\\ud83d", rich),
        edited("body-escaped-slash", "/", "\\/", rich),
        edited("body-escape-upper-case", "\\u001f", "\\u001F", rich),
        edited("body-long-escape", "\\n", "\\u000a", rich),
        edited("body-escaped-delete", "\x7f", "\\u007f", rich),
        edited("body-control-not-escaped", "\\t", "\t", rich),
        record("body-not-utf-8", plain["body"].encode().replace(b"set 1", b"set \xff"), 1),
        record("body-overlong-utf-8", plain["body"].encode().replace(b"set 1", b"set \xc0\xaf"), 1),
        record("body-surrogate-in-utf-8", plain["body"].encode().replace(b"set 1", b"set \xed\xa0\xbd"), 1),
        record("body-not-json", plain["body"].encode()[:-1], 1),
        record("body-empty", b"", 1),
    ]
    return [{**fault, "error": "RingTampered", "must": "F-35"} for fault in faults]


def ring_field_faults() -> list[dict]:
    def top(name: str, **changes) -> dict:
        return record("ring-" + name, {**first_body(), **changes}, 1)

    def one(name: str, **changes) -> dict:
        return record("set-" + name, first_body(**changes))

    wrap_profile = {"algorithm": 1, "iv": "caller", "max_plaintext": 4096}
    token = {"alias": "hsm1", "label": "hsm1", "serial": "0123456789abcdef"}
    proof, short = proof_of(K1), proof_of(K1)["digest"][2:]
    kek_59 = wrap(K1, seeded("iv 11", 11), RING_KEY, ring_key_aad(K1)).hex()
    no_next = first_body()
    del no_next["next_version"]
    no_state = first_body()
    del no_state["sets"][0]["state"]
    deleted = ring_set(K3, "deleted", BORN, BORN)
    faults = [
        top("field-unknown", comment=""), one("field-unknown", comment=""),
        record("ring-field-missing", no_next), record("set-field-missing", no_state),
        top("format-2", format=2),
        record("ring-generation-2-63", ring_body(1 << 63, "1" * 64, 2, first_body()["sets"])),
        top("next-version-2-32", next_version=1 << 32), top("next-version-text", next_version="2"),
        record("ring-prev-mac-short", ring_body(2, "1" * 62, 2, first_body()["sets"])),
        record("set-state-deleted", ring_body(2, "1" * 64, 4, [*first_body()["sets"], deleted])),
        top("id-short", ring_id=RING_ID.hex()[2:]), top("sets-null", sets=None),
        one("time-negative", created_at=-1), one("time-null", created_at=None),
        one("time-2-63", activated_at=1 << 63), one("description-null", description=None),
        one("version-text", version="1"), one("kek-id-short", kek_id=K1.kek_id.hex()[2:]),
        one("key-id-empty", key_id=""), one("key-id-256", key_id="ff" * 256), one("key-id-half-byte", key_id="fff"),
        one("key-id-not-hex", key_id="0g"), one("proof-digest-short", proof={**proof, "digest": short}),
        one("proof-wrapped-61", proof={**proof, "wrapped": proof["wrapped"] + "00"}),
        one("ring-key-iv-11", wrapped_ring_key=kek_59), one("wrap-algorithm-2", wrap={**wrap_profile, "algorithm": 2}),
        one("wrap-iv-appended", wrap={**wrap_profile, "iv": "appended"}),
        one("wrap-max-2-32", wrap={**wrap_profile, "max_plaintext": 1 << 32}),
        one("token-serial-number", token={**token, "serial": 12}), one("token-pin", token={**token, "pin": "1234"}),
    ]
    errors = {"ring-format-2": "Store"}
    return [{**fault, "error": errors.get(fault["name"], "RingTampered"), "must": "F-36"} for fault in faults]


def ring_rule_faults() -> list[dict]:
    def ring(must: str, name: str, *sets: dict, next_version: int = 4) -> dict:
        return record("ring-" + name, ring_body(2, "1" * 64, next_version, list(sets)), must=must)

    def one(must: str, name: str, state: str, activated: int | None, archived: int | None) -> dict:
        other = ring_set(K3, "archived" if state == "active" else "active", BORN, BORN if state == "active" else None)
        return ring(must, name, ring_set(K1, state, activated, archived), other)

    def wrapped(name: str, aad: bytes) -> dict:
        return record("ring-key-" + name, first_body(aad=aad), must="F-42")

    active, archived = ring_set(K1, "active", BORN, None), ring_set(K1, "archived", BORN, BORN)
    again, zero = ring_set(K1, "archived", BORN, BORN), ring_set(replace(K1, version=0), "archived", BORN, BORN)
    body, second = canonical(first_body()), ring_set(K3, "active", BORN, None)
    unkeyed = hmac.digest(RING_KEY, body, "sha256").hex()
    faults = [
        record("ring-generation-0", ring_body(0, "0" * 64, 2, [active]), must="F-37"),
        record("ring-generation-not-the-records", first_body(), 2, must="F-37"),
        record("ring-first-with-prev-mac", {**first_body(), "prev_mac": "1" * 64}, must="F-38"),
        ring("F-39", "version-0", zero, second), ring("F-39", "version-twice", again, active),
        ring("F-39", "version-not-below-next", archived, second, next_version=3),
        ring("F-40", "no-sets"), ring("F-40", "none-active", archived), ring("F-40", "two-active", active, second),
        one("F-41", "staged-activated", "staged", BORN, None), one("F-41", "staged-archived", "staged", None, BORN),
        one("F-41", "active-never-activated", "active", None, None),
        one("F-41", "active-archived", "active", BORN, BORN),
        one("F-41", "archived-without-time", "archived", BORN, None),
        wrapped("of-another-version", ring_key_aad(replace(K1, version=2))),
        wrapped("of-another-ring", ring_key_aad(replace(K1, ring_id=SAME_PREFIX_ID))),
        wrapped("of-another-kek-id", ring_key_aad(replace(K1, kek_id=K3.kek_id))),
        wrapped("wrapped-as-data-key", wrap_aad(1, 1, K1)), wrapped("wrapped-as-proof", proof_aad(K1)),
        record("ring-mac-altered", body, 1, mac=flipped(ring_mac(RING_KEY, body), 0).hex(), must="F-43"),
        record("ring-body-altered", first_body(description="set 2"), mac=ring_mac(RING_KEY, body).hex(), must="F-43"),
        record("ring-mac-under-the-ring-key", body, 1, mac=unkeyed, must="F-43"),
        record("ring-mac-of-another-ring-key", body, 1, mac=ring_mac(OTHER_RING_KEY, body).hex(), must="F-43"),
    ]
    return [{**fault, "error": "RingTampered"} for fault in faults]


def ring_history_faults(rings: dict[str, dict]) -> list[dict]:
    """Good records that do not follow the one that the host has seen."""
    two = json.loads(rings["ring-2"]["body"])
    forked = {**two, "sets": [two["sets"][0], {**two["sets"][1], "description": "another"}]}
    history = {**two, "prev_mac": "1" * 64}
    return [
        {**rings["ring-1"], "name": "ring-older", "seen": "ring-2", "error": "RingRolledBack", "must": "F-45"},
        record("ring-forked", forked, seen="ring-2", error="RingForked", must="F-45"),
        record("ring-other-history", history, seen="ring-1", error="RingForked", must="F-45"),
        {**rings["other-ring"], "name": "ring-swapped", "seen": "ring-1", "error": "WrongRing", "must": "F-46"},
    ]


def proof_vectors() -> list[dict]:
    def proof(name: str, wrapped: str, digest: str, kek: Kek = K1, error: str | None = None) -> dict:
        entry = {"name": name, "kek": KEKS.index(kek), "wrapped": wrapped, "digest": digest}
        return {**entry, "error": error, "must": "F-44"}

    good, other = proof_of(K1), proof_of(K3)
    ring_key = wrap(K1, seeded("proof iv", 12), RING_KEY, ring_key_aad(K1)).hex()
    other_id = replace(K1, kek_id=K3.kek_id)
    wrapped = wrap(K1, seeded("proof iv", 12), seeded("proof", 32), proof_aad(other_id)).hex()
    return [
        proof("proof", good["wrapped"], good["digest"]),
        proof("proof-iv-16", proof_of(K1, 16)["wrapped"], good["digest"]),
        proof("proof-of-a-key-added-again", good["wrapped"], good["digest"], LATEST),
        proof("proof-digest-altered", good["wrapped"], other["digest"], error="WrongKey"),
        proof("proof-altered", flipped(bytes.fromhex(good["wrapped"]), 20).hex(), good["digest"], error="WrongKey"),
        proof("proof-of-another-key", other["wrapped"], other["digest"], error="WrongKey"),
        proof("proof-of-another-kek-id", wrapped, hashlib.sha256(seeded("proof", 32)).hexdigest(), error="WrongKey"),
        proof("proof-is-the-ring-key", ring_key, hashlib.sha256(RING_KEY).hexdigest(), error="WrongKey"),
    ]


# ---- the file --------------------------------------------------------------------------------------------------------


def find_envelope_kek(version: int) -> Kek | None:
    return next((kek for kek in KEKS if kek.ring_id == RING_ID and kek.version == version), None)


def find_ring_kek(kek_id: bytes, ring_id: bytes, version: int) -> Kek:
    return replace({kek.kek_id: kek for kek in KEKS}[kek_id], ring_id=ring_id, version=version)


def read_fault(entry: dict, ignore: str | None = None) -> bytes:
    reader = Reader(RING_ID, find_envelope_kek, ignore)
    context = bytes.fromhex(entry["context"])
    if "text" in entry:
        return reader.open(reader.decode_text(entry["text"]), context)
    return reader.open(bytes.fromhex(entry["sealed"]) + bytes(entry.get("append_zeros", 0)), context)


def read_ring(entry: dict, rings: dict[str, dict], ignore: str | None = None) -> bytes:
    data = entry["body"].encode() if "body" in entry else bytes.fromhex(entry["body_hex"])
    seen = rings[entry["seen"]] if "seen" in entry else None
    return RingReader(find_ring_kek, ignore).read(entry["generation"], data, bytes.fromhex(entry["mac"]), seen)


def is_sole(entry: dict, read, *args) -> bool:
    """Whether a reader that forgets the rule named, and only that, takes the entry."""
    try:
        read(entry, *args, entry["must"])
        return True
    except (Refused, KeyError, TypeError, ValueError, struct.error):
        return False


def valid_entry(r: Recipe) -> dict:
    sealed, of_data_key = seal(r), r.suite == 1
    return {
        "name": r.name, "suite": r.suite, "kek": KEKS.index(r.kek), "context": r.context.hex(),
        "secret": r.secret.hex(), "padding": r.bucket, "data_key": r.data_key_bytes().hex() if of_data_key else None,
        "wrap_iv": r.iv().hex(), "nonce": r.nonce().hex() if of_data_key else None,
        "sealed": sealed.hex(), "text": to_text(sealed),
    }


def invalid_entry(fault: Fault) -> dict:
    shown = {"text": fault.sealed} if isinstance(fault.sealed, str) else {"sealed": fault.sealed.hex()}
    if fault.zeros:
        shown["append_zeros"] = fault.zeros
    entry = {"name": fault.name, **shown, "context": fault.context.hex(), "error": fault.error, "must": fault.must}
    return {**entry, "sole": is_sole(entry, read_fault)}


def rewrapped_entry(name: str, before: Recipe, target: Kek, iv_bytes: int) -> dict:
    iv = seeded(name + ": new iv", iv_bytes)
    sealed = seal(before)
    return {
        "name": name, "before_kek": KEKS.index(before.kek), "after_kek": KEKS.index(target),
        "context": before.context.hex(), "secret": before.secret.hex(), "data_key": before.data_key_bytes().hex(),
        "wrap_iv": iv.hex(), "before": sealed.hex(), "after": rewrap(sealed, before.data_key_bytes(), target, iv).hex(),
    }


def make() -> dict:
    faults = header_faults() + place_faults() + data_key_faults() + token_faults() + padding_faults() + text_faults()
    chain = ring_chain()
    rings = {entry["name"]: entry for entry in chain}
    bad_rings = ring_writing_faults(rings) + ring_field_faults() + ring_rule_faults() + ring_history_faults(rings)
    rewrapped = [
        rewrapped_entry("rewrap-to-another-key", sample("rewrap 1"), K3, 12),
        rewrapped_entry("rewrap-to-a-longer-iv", sample("rewrap 2", context=b""), LATEST, 16),
        rewrapped_entry("rewrap-to-a-shorter-iv", sample("rewrap 3", kek=K3, iv_bytes=16, bucket=64), LATEST, 12),
        rewrapped_entry("rewrap-to-the-same-set", sample("rewrap 4", secret=b""), K1, 12),
    ]
    return {
        "keks": [{"kek": k.key.hex(), "kek_id": k.kek_id.hex(), "ring_id": k.ring_id.hex(), "version": k.version,
                  "max_plaintext": k.max_plaintext} for k in KEKS],
        "valid": [valid_entry(r) for r in valid_recipes()],
        "invalid": [invalid_entry(fault) for fault in faults],
        "rewrapped": rewrapped,
        "contexts": [{"name": name, "pairs": pairs, "encoded": encode_context(pairs).hex()}
                     for name, pairs in CONTEXTS.items()],
        "invalid_contexts": [
            {"name": "context-of-no-pairs", "pairs": [], "must": "F-28"},
            {"name": "context-empty-name", "pairs": [["a", "1"], ["", "2"]], "must": "F-28"},
            {"name": "context-name-twice", "pairs": [["a", "1"], ["b", "2"], ["a", "1"]], "must": "F-28"},
            {"name": "raw-context-empty", "suite": 1, "raw_bytes": 0, "must": "F-29"},
            {"name": "raw-context-too-long", "suite": 1, "raw_bytes": MAX_CONTEXT + 1, "must": "F-29"},
            {"name": "token-context-too-long", "suite": 2, "raw_bytes": MAX_TOKEN_AAD - 61, "must": "F-30"},
        ],
        "rings": chain,
        "invalid_rings": [{**entry, "sole": is_sole(entry, read_ring, rings)} for entry in bad_rings],
        "proofs": proof_vectors(),
    }


def dump(vectors: dict) -> bytes:
    return (json.dumps(vectors, indent=2) + "\n").encode()


# ---- checking --------------------------------------------------------------------------------------------------------


def expect_refusal(entry: dict, call) -> None:
    try:
        call()
    except (Refused, ContextError) as refused:
        error, rule = getattr(refused, "error", None), getattr(refused, "rule", str(refused))
        assert error == entry.get("error"), f"{error}, not {entry.get('error')}"
        assert rule == entry["must"] or entry["must"] == "F-13", f"refused by {rule}, not {entry['must']}"
    else:
        raise AssertionError("was accepted")


def read_valid(entry: dict) -> None:
    reader = Reader(RING_ID, find_envelope_kek)
    assert reader.decode_text(entry["text"]).hex() == entry["sealed"], "the text is not the envelope's"
    assert reader.open(bytes.fromhex(entry["sealed"]), bytes.fromhex(entry["context"])).hex() == entry["secret"]


def read_rewrapped(entry: dict) -> None:
    before, after = bytes.fromhex(entry["before"]), bytes.fromhex(entry["after"])
    cut = [HEADER + struct.unpack(">H", sealed[16:18])[0] for sealed in (before, after)]
    assert before[cut[0] :] == after[cut[1] :], "the payload changed"
    for sealed in (before, after):
        secret = Reader(RING_ID, find_envelope_kek).open(sealed, bytes.fromhex(entry["context"]))
        assert secret.hex() == entry["secret"]


def read_context(entry: dict) -> None:
    if "pairs" not in entry:
        check_raw_context(entry["raw_bytes"], entry["suite"], K1)
    elif encode_context([tuple(pair) for pair in entry["pairs"]]).hex() != entry.get("encoded"):
        raise AssertionError("encodes otherwise")


def read_proof(entry: dict) -> None:
    kek = KEKS[entry["kek"]]
    check_proof(kek, bytes.fromhex(entry["wrapped"]), bytes.fromhex(entry["digest"]))


def read_good_ring(entry: dict, rings: dict[str, dict]) -> None:
    assert read_ring(entry, rings).hex() == entry["ring_key"], "another ring key"


def check_entry(section: str, entry: dict, rings: dict[str, dict]) -> None:
    readers = {
        "valid": lambda: read_valid(entry), "invalid": lambda: read_fault(entry),
        "rewrapped": lambda: read_rewrapped(entry), "contexts": lambda: read_context(entry),
        "invalid_contexts": lambda: read_context(entry), "rings": lambda: read_good_ring(entry, rings),
        "invalid_rings": lambda: read_ring(entry, rings), "proofs": lambda: read_proof(entry), "keks": lambda: None,
    }
    if section.startswith("invalid") or entry.get("error"):
        expect_refusal(entry, readers[section])
    else:
        readers[section]()


def check(path: str) -> int:
    """Fails if a byte differs from what make() makes, or if an entry is not read as it says."""
    stored, fresh = Path(path).read_bytes(), make()
    try:
        vectors = json.loads(stored)
    except ValueError as error:
        sys.exit(f"{path}: not JSON: {error}")
    rings = {entry["name"]: entry for entry in fresh["rings"]}
    names = [entry["name"] for entries in fresh.values() for entry in entries if "name" in entry]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    faults = [f"{path}: not byte for byte what make writes"] if stored != dump(fresh) else []
    for section, entries in fresh.items():
        found = vectors.get(section, []) if isinstance(vectors, dict) else []
        if len(found) != len(entries) or not found:
            faults.append(f"{section}: {len(found)} entries, not {len(entries)}")
        for entry, expected in zip(found, entries):
            name = f"{section} {expected.get('name', expected.get('kek_id'))}"
            if entry != json.loads(json.dumps(expected)):
                faults.append(f"{name}: differs from what make writes")
                continue
            try:
                check_entry(section, entry, rings)
            except (AssertionError, Refused, ContextError) as error:
                faults.append(f"{name}: {error}")
    for fault in faults:
        print(fault, file=sys.stderr)
    print(", ".join(f"{len(entries)} {section}" for section, entries in fresh.items()))
    return 1 if faults else 0


def open_sealed(path: str) -> int:
    """Opens what another implementation sealed under one software key, whatever version its headers name."""
    given = json.loads(sys.stdin.read() if path == "-" else Path(path).read_text())
    kek, kek_id, ring_id = (bytes.fromhex(given[name]) for name in ("kek", "kek_id", "ring_id"))
    faults = 0 if given["envelopes"] else 1
    for entry in given["envelopes"]:
        reader = Reader(ring_id, lambda version: Kek(kek, kek_id, ring_id, version, MAX_SECRET))
        try:
            secret = reader.open(bytes.fromhex(entry["sealed"]), bytes.fromhex(entry["context"]))
            fault = "" if secret == bytes.fromhex(entry["secret"]) else "another secret"
        except Refused as refused:
            fault = str(refused)
        if fault:
            faults += 1
            print(f"{entry['name']}: {fault}", file=sys.stderr)
    print(f"{len(given['envelopes'])} envelopes, {faults} faults" if faults else f"{len(given['envelopes'])} opened")
    return 1 if faults else 0


# ---- explaining ------------------------------------------------------------------------------------------------------


def explain(r: Recipe) -> str:
    sealed, lines = seal(r), []

    def line(label: str, data: bytes, note: str = "") -> None:
        shown = data.hex() or "(empty)"
        for at in range(0, len(shown), 64):
            lines.append(f"{'' if at else label:<17}{shown[at : at + 64]:<24}  {'' if at else note}".rstrip())

    line("KEK", r.kek.key)
    line("kek_id", r.kek.kek_id)
    line("ring_id", r.kek.ring_id)
    line("context", r.context)
    line("secret", r.secret, repr(r.secret.decode("ascii", "backslashreplace")))
    flags = sealed[6]
    if r.suite == 1:
        line("data key", r.data_key_bytes())
        line("wrap AAD", wrap_aad(1, 1, r.kek))
        line("HKDF info", payload_info(1, r.kek.ring_id))
        line("payload key", payload_keys(r.data_key_bytes(), 1, r.kek.ring_id)[0])
        line("payload AAD", payload_aad(1, flags, r.kek.ring_id, r.context))
    else:
        line("AAD", token_aad(2, 1, flags, r.kek, r.context))
    lines += ["", "the envelope"]
    width = struct.unpack(">H", sealed[16:18])[0]
    fields = [(4, "magic"), (1, "suite"), (1, "algorithm"), (1, "flags"), (1, "zero"), (4, "ring_id"), (4, "version")]
    fields += [(2, "W"), (len(r.iv()), "IV")]
    if r.suite == 1:
        fields += [(32, "wrapped key"), (16, "tag"), (32, "commitment"), (12, "nonce")]
    at = 0
    for size, label in [*fields, (len(sealed) - sum(s for s, _ in fields) - TAG, "ciphertext"), (TAG, "tag")]:
        notes = {"ring_id": "its first 4 bytes", "W": f"{width} bytes follow as wrapped bytes"}
        line(f"{at:>4} {label}", sealed[at : at + size], notes.get(label, ""))
        at += size
    shown = to_text(sealed)
    lines += ["", f"as text, {len(shown)} characters", *(shown[i : i + 100] for i in range(0, len(shown), 100))]
    return "\n".join(lines)


def show(name: str) -> int:
    recipes = {r.name: r for r in valid_recipes()}
    if name not in recipes:
        sys.exit(f"no valid envelope {name!r}; there are: {' '.join(recipes)}")
    print(explain(recipes[name]))
    return 0


def document(path: str, vectors_path: str) -> int:
    """Every MUST has a number and names vectors that exist, or a test; every vector is named by the rule it shows."""
    text, vectors = Path(path).read_text(), json.loads(Path(vectors_path).read_bytes())
    names = {e["name"]: e for entries in vectors.values() for e in entries if "name" in e}
    rules = re.findall(r"^\* \*\*(F-\d+)\*\* (.*?)\n  Shown by (.*?)\.$", text, re.M | re.S)
    faults = [] if rules else ["no rules"]
    if [number for number, _, _ in rules] != [f"F-{i + 1}" for i in range(len(rules))]:
        faults.append("the rules are not numbered 1, 2, 3 ...")
    unnamed = {(e["must"], name) for name, e in names.items() if "must" in e}
    for rule, words, shown in rules:
        if words.count("MUST") != 1:
            faults.append(f"{rule} has {words.count('MUST')} MUSTs")
        patterns = re.findall(r"`([^`]+)`", shown)
        if not patterns and '"' not in shown:
            faults.append(f"{rule} is shown by nothing")
        for pattern in patterns:
            matching = set(fnmatch.filter(names, pattern))
            faults += [] if matching else [f"{rule} names {pattern}, which does not exist"]
            unnamed -= {(rule, name) for name in matching}
    faults += [f"{rule} does not name its vector {name}" for rule, name in sorted(unnamed)]
    musts = re.sub(r'"[A-Z ]*"', "", text).count("MUST")
    if musts != len(rules):
        faults.append(f"{musts} MUSTs and {len(rules)} rules")
    example = re.search(r"^```console\n\$ [^\n]* show (\S+)\n(.*?)\n```$", text, re.M | re.S)
    recipe = next((r for r in valid_recipes() if example and r.name == example[1]), None)
    if recipe is None or example[2] != explain(recipe):
        faults.append("section 7 is not what show prints")
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(rules)} rules, {len(names)} vectors")
    return 1 if faults else 0


def main(arguments: list[str]) -> int:
    def write(path: str) -> int:
        Path(path).write_bytes(dump(make()))
        return 0

    commands = {"make": write, "check": check, "show": show, "open": open_sealed, "document": document}
    if not arguments or arguments[0] not in commands or len(arguments) != (3 if arguments[0] == "document" else 2):
        sys.exit(__doc__)
    return commands[arguments[0]](*arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
