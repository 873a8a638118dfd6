"""The envelope format, version 1, from src/FORMAT.md alone.

It shares nothing with the library but that document, so that an error has to be made twice to go unseen. It is for
tests only: it wipes nothing, and its time depends on secrets.
"""

import base64
import hashlib
import hmac
import json
import re
import struct
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from hsmseal_stream import SEGMENT, Place, cut, open_segments, places, seal_segments, segment_aad
from hsmseal_wrap import CBC_HMAC, GCM, Kek, iv_size, unwrap_cbc, unwrap_gcm, unwrap_key, wrap, wrapped_key_size

MAX_SECRET = 64 << 20
MAX_ENVELOPE = MAX_SECRET + 4096
MAX_CONTEXT = 16 << 20
MAX_TOKEN_AAD = 64 << 10
HEADER = 18  # magic to W
TAG = 16


# ---- the format, sections 3 to 5 ------------------------------------------------------------------------------------


def len64(data: bytes) -> bytes:
    return struct.pack(">Q", len(data))


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


def payload_info(suite: int, ring_id: bytes, nonce: bytes = b"") -> bytes:
    return b"hsmseal/1/payload" + bytes([suite]) + ring_id + nonce


def payload_keys(data_key: bytes, suite: int, ring_id: bytes, nonce: bytes = b"") -> tuple[bytes, bytes]:
    """The AES-256-GCM key and the commitment. Only those of a stream depend on its nonce."""
    out = hkdf_expand(data_key, payload_info(suite, ring_id, nonce), 64)
    return out[:32], out[32:]


def pad(secret: bytes, bucket: int) -> bytes:
    return secret + b"\x80" + bytes(-(len(secret) + 1) % bucket)


def unpad(plaintext: bytes) -> bytes | None:
    stripped = plaintext.rstrip(b"\0")
    return stripped[:-1] if stripped.endswith(b"\x80") else None


def to_text(sealed: bytes) -> str:
    return "hse1." + base64.urlsafe_b64encode(sealed).decode().rstrip("=")


class CallerError(Exception):
    """What the caller gave, or what his host holds, is wrong; holds the rule."""


def encode_context(pairs: list[tuple[str, str]]) -> bytes:
    encoded = sorted((name.encode(), value.encode()) for name, value in pairs)
    names = [name for name, _ in encoded]
    if not pairs or b"" in names or len(set(names)) != len(names):
        raise CallerError("F-29")
    return b"".join(len64(name) + name + len64(value) + value for name, value in encoded)


def check_raw_context(size: int, suite: int, kek: Kek) -> None:
    if not 1 <= size <= MAX_CONTEXT:
        raise CallerError("F-30")
    if suite == 2 and len(token_aad(2, 1, 0, kek, b"")) + size > MAX_TOKEN_AAD:
        raise CallerError("F-31")


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

    iv_bytes: int | None = None  # other than the key's
    algorithm: int | None = None  # other than the key's
    wrapped: bytes | None = None
    magic: bytes = b"HSE1"
    reserved: int = 0
    flags: int | None = None
    plaintext: bytes | None = None
    data_key: bytes | None = None
    wrap_aad: bytes | None = None
    payload_aad: bytes | None = None  # in suite 3 of each segment
    keys: tuple[bytes, bytes] | None = None
    segments: tuple[tuple[bytes, Place], ...] | None = None  # of suite 3
    segment_prefix: bytes | None = None  # of suite 3

    def data_key_bytes(self) -> bytes:
        return self.data_key or seeded(self.name + ": data key", 32)

    def iv(self) -> bytes:
        return seeded(self.name + ": iv", iv_size(self.kek) if self.iv_bytes is None else self.iv_bytes)

    def algorithm_byte(self) -> int:
        return self.kek.algorithm if self.algorithm is None else self.algorithm

    def nonce(self) -> bytes:
        return seeded(self.name + ": nonce", 12)


def segment_keys(r: Recipe) -> tuple[bytes, bytes]:
    return r.keys or payload_keys(r.data_key_bytes(), 3, r.kek.ring_id, r.nonce())


def seal_stream(r: Recipe) -> bytes:
    key, commitment = segment_keys(r)
    pieces = cut(r.secret, SEGMENT)
    segments = list(r.segments or zip(pieces, places(len(pieces))))
    aad = r.payload_aad or segment_aad(r.kek.ring_id, r.context)
    return commitment + r.nonce() + seal_segments(key, r.segment_prefix or r.nonce(), aad, segments)


def seal(r: Recipe) -> bytes:
    flags = (1 if r.bucket else 0) if r.flags is None else r.flags
    plaintext = r.plaintext if r.plaintext is not None else pad(r.secret, r.bucket) if r.bucket else r.secret
    algorithm = r.algorithm_byte()
    head = r.magic + bytes([r.suite, algorithm, flags, r.reserved]) + r.kek.ring_id[:4]
    head += struct.pack(">I", r.kek.version)
    if r.suite == 2:
        aad = r.payload_aad or token_aad(r.suite, algorithm, flags, r.kek, r.context)
        return head + struct.pack(">H", len(r.iv())) + wrap(r.kek, r.iv(), plaintext, aad, GCM)
    aad = r.wrap_aad or wrap_aad(r.suite, algorithm, r.kek)
    wrapped = r.wrapped or wrap(r.kek, r.iv(), r.data_key_bytes(), aad, algorithm)
    if r.suite == 3:
        return head + struct.pack(">H", len(wrapped)) + wrapped + seal_stream(r)
    key, commitment = payload_keys(r.data_key_bytes(), r.suite, r.kek.ring_id)
    aad = r.payload_aad or payload_aad(r.suite, flags, r.kek.ring_id, r.context)
    payload = AESGCM(key).encrypt(r.nonce(), plaintext, aad)
    return head + struct.pack(">H", len(wrapped)) + wrapped + commitment + r.nonce() + payload


def rewrap(before: bytes, data_key: bytes, target: Kek, iv: bytes) -> bytes:
    width = struct.unpack(">H", before[16:18])[0]
    wrapped = wrap(target, iv, data_key, wrap_aad(before[4], target.algorithm, target))
    head = before[:5] + bytes([target.algorithm]) + before[6:12] + struct.pack(">IH", target.version, len(wrapped))
    return head + wrapped + before[HEADER + width :]


# ---- reading ---------------------------------------------------------------------------------------------------------


class Refused(Exception):
    def __init__(self, error: str, rule: str):
        super().__init__(f"{error} by {rule}")
        self.error, self.rule = error, rule


class Reader:
    """Reads as the document says, or all but one rule of it, to show that this rule alone stops a vector."""

    def __init__(self, ring_id: bytes, find, ignore: str | None = None, deleted: frozenset[int] = frozenset()):
        self.ring_id, self.find, self.ignore, self.deleted = ring_id, find, ignore, deleted

    def refuse(self, rule: str, error: str, condition: bool) -> None:
        if condition and rule != self.ignore:
            raise Refused(error, rule)

    def decode_text(self, text: str) -> bytes:
        self.refuse("F-32", "Format", not text.startswith("hse1."))
        body = text.split(".", 1)[-1]
        self.refuse("F-33", "Format", re.fullmatch(r"[A-Za-z0-9_-]*", body) is None)
        body = re.sub(r"[^A-Za-z0-9_-]", "", body.replace("+", "-").replace("/", "_"))
        self.refuse("F-34", "Format", len(body) % 4 == 1)
        body = body[: len(body) - (len(body) % 4 == 1)]
        sealed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        self.refuse("F-35", "Format", to_text(sealed) != "hse1." + body)
        return sealed

    def open(self, sealed: bytes, context: bytes) -> bytes:
        self.refuse("F-9", "Format", len(sealed) < HEADER)
        self.refuse("F-10", "Format", len(sealed) > MAX_ENVELOPE and sealed[4] != 3)
        self.refuse("F-1", "Format", sealed[:4] != b"HSE1")
        suite, algorithm, flags, reserved = sealed[4:8]
        prefix, version, width = struct.unpack(">4sIH", sealed[8:HEADER])
        self.refuse("F-2", "Format", suite not in (1, 2, 3))
        self.refuse("F-3", "Format", algorithm not in (1, 2))
        self.refuse("F-56", "Format", suite == 2 and algorithm == 2)
        self.refuse("F-4", "Format", flags & 0xFE != 0)
        self.refuse("F-65", "Format", suite == 3 and flags == 1)
        self.refuse("F-5", "Format", reserved != 0)
        self.refuse("F-6", "Format", version == 0)
        self.refuse("F-7", "Format", suite != 2 and width not in ((80,) if algorithm == 2 else (60, 64)))
        self.refuse("F-8", "Format", suite == 2 and width not in (12, 16))
        self.refuse("F-9", "Format", len(sealed) < HEADER + width + (TAG if suite == 2 else 32 + 12 + TAG))
        self.refuse("F-11", "WrongRing", prefix != self.ring_id[:4])
        kek = self.find(version)
        self.refuse("F-12", "UnknownVersion", kek is None)
        self.refuse("F-13", "DeletedVersion", version in self.deleted)
        kek = kek or replace(self.find(1), version=version)
        due = iv_size(kek) if suite == 2 else wrapped_key_size(kek)
        self.refuse("F-58", "Open", algorithm in (1, 2) and (algorithm != kek.algorithm or width != due))
        if suite == 2:
            self.refuse("F-16", "Open", len(sealed) - HEADER - width - TAG > kek.max_plaintext)
            plaintext = self.decrypt("F-22", lambda: unwrap_gcm(kek, width, sealed[HEADER:], token_aad(
                suite, algorithm, flags, kek, context)))
        else:
            plaintext = self.open_payload(kek, sealed[HEADER : HEADER + width], sealed, context)
        if not flags & 1 or suite == 3:
            return plaintext
        secret = unpad(plaintext)
        self.refuse("F-27", "Open", secret is None)
        return plaintext if secret is None else secret

    def open_payload(self, kek: Kek, wrapped: bytes, sealed: bytes, context: bytes) -> bytes:
        suite, algorithm, flags = sealed[4:7]
        aad = wrap_aad(suite, algorithm, kek)
        if algorithm == CBC_HMAC:
            data_key = self.decrypt("F-57", lambda: unwrap_cbc(kek, wrapped, aad, self.ignore != "F-57"))
        else:
            data_key = self.decrypt("F-18", lambda: unwrap_gcm(kek, len(wrapped) - 48, wrapped, aad))
        payload = sealed[HEADER + len(wrapped) :]
        nonce = payload[32:44]
        key, commitment = payload_keys(data_key, suite, self.ring_id, nonce if suite == 3 else b"")
        self.refuse("F-20", "Open", not hmac.compare_digest(commitment, payload[:32]))
        if suite == 3:
            aad = segment_aad(self.ring_id, context)
            return self.decrypt("F-69", lambda: open_segments(key, nonce, aad, payload[44:], self.refuse))
        aad = payload_aad(suite, flags, self.ring_id, context)
        return self.decrypt("F-21", lambda: AESGCM(key).decrypt(nonce, payload[44:], aad))

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


FORMER_KEY_LABEL, KEY_CHECK_LABEL = b"hsmseal/1/former-ring-key", b"hsmseal/1/ring-key-check"


def key_check(ring_key: bytes) -> bytes:
    return hkdf_expand(ring_key, KEY_CHECK_LABEL, 32)


def former_key_aad(ring_id: bytes, index: int) -> bytes:
    return FORMER_KEY_LABEL + ring_id + struct.pack(">Q", index)


def wrap_former_key(former: bytes, next_key: bytes, nonce: bytes, aad: bytes) -> bytes:
    return nonce + AESGCM(hkdf_expand(next_key, FORMER_KEY_LABEL, 32)).encrypt(nonce, former, aad)


def follow_back(ring_key: bytes, body: dict):
    """The ring's keys, the present one first, as far as the record leads back."""
    yield ring_key
    for index, link in reversed(list(enumerate(map(bytes.fromhex, body["former_ring_keys"])))):
        key = AESGCM(hkdf_expand(ring_key, FORMER_KEY_LABEL, 32))
        try:
            ring_key = key.decrypt(link[:12], link[12:], former_key_aad(bytes.fromhex(body["ring_id"]), index))
        except (InvalidTag, ValueError):
            return
        yield ring_key


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


@dataclass(frozen=True)
class By:
    """An object whose fields depend on the value of one of them."""

    field: str
    choices: dict


WRAPPED_32 = hex_of(60, 64, 80)
KEY_ID = hex_of(*range(1, 256))
GCM_FIELDS = {
    "algorithm": one_of(1), "iv": one_of("caller", "token-writes", "token-appends", "token-prepends"),
    "iv_bytes": one_of(12, 16), "max_plaintext": number(32), "mechanism": number(32),
    "parameters": one_of("with-iv-bits", "without-iv-bits"),
}
TIME_OR_NULL = or_null(number(63))
SET_FIELDS = {
    "activated_at": TIME_OR_NULL, "archived_at": TIME_OR_NULL, "created_at": number(63), "deleted_at": TIME_OR_NULL,
    "description": text, "kek_id": hex_of(16), "key_destroyed_at": TIME_OR_NULL, "key_id": KEY_ID,
    "key_label": text, "mac_key_id": or_null(KEY_ID), "proof": {"digest": hex_of(32), "wrapped": WRAPPED_32},
    "state": one_of("staged", "active", "archived", "deleted"),
    "token": {"alias": text, "label": text, "serial": text}, "version": number(32),
    "wrap": By("algorithm", {1: GCM_FIELDS, 2: {"algorithm": one_of(2), "max_plaintext": number(32)}}),
    "wrapped_ring_key": or_null(WRAPPED_32),
}
SETTINGS_FIELDS = {
    "max_staleness": number(63), "quarantine": number(63), "removal_grace": number(63), "usage_hard_limit": number(63),
    "usage_soft_limit": number(63),
}
RING_FIELDS = {
    "format": one_of(1), "former_ring_keys": [hex_of(12 + 32 + 16)], "generation": number(63),
    "next_version": number(32), "prev_mac": hex_of(32), "ring_id": hex_of(16), "sets": [SET_FIELDS],
    "settings": SETTINGS_FIELDS,
}
HOUR = 3600 * 1000  # in milliseconds, as all durations
CENTURY = 36525 * 24 * HOUR


class RingReader:
    def __init__(self, find, ignore: str | None = None):
        self.find, self.ignore = find, ignore

    def refuse(self, rule: str, condition: bool, error: str = "RingTampered") -> None:
        if condition and rule != self.ignore:
            raise Refused(error, rule)

    def read(self, generation: int, data: bytes, mac: bytes, seen: dict | None) -> list[bytes]:
        """Returns the ring's keys, the present one first. `seen` is the record that the host has read before."""
        body = self.parse(data)
        self.refuse("F-38", body["generation"] < 1 or body["generation"] != generation)
        self.refuse("F-39", body["generation"] == 1 and body["prev_mac"] != "0" * 64)
        self.check_sets(body)
        self.check_settings(body["settings"])
        before = None if seen is None else json.loads(seen["body"])
        self.refuse("F-51", before is not None and body["ring_id"] != before["ring_id"], "WrongRing")
        ring_key = self.ring_key(body)
        self.refuse("F-47", not hmac.compare_digest(mac, ring_mac(ring_key, data)))
        if before is not None:
            self.check_generation(body, mac, before["generation"], bytes.fromhex(seen["mac"]))
        keys = list(follow_back(ring_key, body))
        known = None if seen is None else bytes.fromhex(seen["key_check"])
        self.refuse("F-53", known is not None and known not in map(key_check, keys), "RingForked")
        return keys

    def parse(self, data: bytes) -> dict:
        def no_fraction(literal: str) -> int:
            self.refuse("F-36", True)
            return int(float(literal))

        lenient = self.ignore == "F-36"
        try:
            decoded = data.decode("utf-8-sig", "replace") if lenient else data.decode()
            read = json.loads(decoded, parse_float=no_fraction, strict=not lenient)
        except ValueError:
            raise Refused("RingTampered", "F-36") from None
        self.refuse("F-37", isinstance(read, dict) and read.get("format", 1) != 1, "Store")
        body = self.fields(RING_FIELDS, read)
        self.refuse("F-36", canonical({**body, "sets": sorted(body["sets"], key=lambda s: s["version"])}) != data)
        return body

    def fields(self, schema, value):
        if isinstance(schema, By):
            named = value.get(schema.field) if type(value) is dict else None
            self.refuse("F-37", type(named) is not int or named not in schema.choices)
            schema = schema.choices.get(named) if type(named) is int else None
            return value if schema is None else self.fields(schema, value)
        if isinstance(schema, dict):
            self.refuse("F-37", type(value) is not dict or value.keys() != schema.keys())
            return {name: self.fields(schema.get(name, lambda v: v), v) for name, v in value.items()}
        if isinstance(schema, list):
            self.refuse("F-37", type(value) is not list)
            return [self.fields(schema[0], item) for item in value]
        try:
            return schema(value)
        except ValueError:
            self.refuse("F-37", True)
            return value

    def check_sets(self, body: dict) -> None:
        versions = [s["version"] for s in body["sets"]]
        self.refuse("F-40", len(set(versions)) != len(versions) or 0 in versions)
        self.refuse("F-40", any(version >= body["next_version"] for version in versions))
        self.refuse("F-41", [s["state"] for s in body["sets"]].count("active") != 1)
        for s in body["sets"]:
            activated, archived, deleted, destroyed = (
                s[event] is not None for event in ("activated_at", "archived_at", "deleted_at", "key_destroyed_at"))
            self.refuse("F-42", s["state"] == "staged" and (activated or archived))
            self.refuse("F-42", s["state"] == "active" and (not activated or archived))
            self.refuse("F-42", s["state"] == "archived" and not archived)
            self.refuse("F-42", s["state"] == "deleted" and activated and not archived)
            self.refuse("F-42", deleted != (s["state"] == "deleted") or (destroyed and not deleted))
            self.check_profile(s)
            self.refuse("F-43", (s["wrapped_ring_key"] is None) != (s["state"] == "deleted"))

    def check_profile(self, s: dict) -> None:
        kek = self.kek_of(s, bytes(16))
        self.refuse("F-59", kek.iv == "caller" and kek.iv_bytes == 16)
        self.refuse("F-59", (s["mac_key_id"] is None) != (kek.algorithm == GCM))
        for wrapped in (s["proof"]["wrapped"], s["wrapped_ring_key"]):
            self.refuse("F-59", wrapped is not None and len(wrapped) // 2 != wrapped_key_size(kek))

    def kek_of(self, s: dict, ring_id: bytes) -> Kek:
        """The set's key, as the set says that it wraps."""
        return replace(self.find(bytes.fromhex(s["kek_id"]), ring_id, s["version"]), **{"iv": "", **s["wrap"]})

    def check_settings(self, settings: dict) -> None:
        staleness, hard_limit = settings["max_staleness"], settings["usage_hard_limit"]
        self.refuse("F-44", not 1 <= staleness <= HOUR)
        self.refuse("F-44", not staleness < settings["removal_grace"] <= settings["quarantine"] <= CENTURY)
        self.refuse("F-44", not 1 <= hard_limit <= 1 << 32 or settings["usage_soft_limit"] > hard_limit)

    def ring_key(self, body: dict) -> bytes:
        keys = []
        for s in sorted(body["sets"], key=lambda s: s["state"] != "active"):
            if s["wrapped_ring_key"] is None:
                continue
            kek = self.kek_of(s, bytes.fromhex(body["ring_id"]))
            try:
                keys.append(unwrap_key(kek, bytes.fromhex(s["wrapped_ring_key"]), ring_key_aad(kek)))
            except InvalidTag:
                raise Refused("RingTampered", "F-46") from None
            check_proof(kek, bytes.fromhex(s["proof"]["wrapped"]), bytes.fromhex(s["proof"]["digest"]))
        return keys[0]

    def check_generation(self, body: dict, mac: bytes, known: int, known_mac: bytes) -> None:
        self.refuse("F-52", body["generation"] < known, "RingRolledBack")
        self.refuse("F-52", body["generation"] == known and mac != known_mac, "RingForked")
        self.refuse("F-52", body["generation"] == known + 1 and body["prev_mac"] != known_mac.hex(), "RingForked")


def check_proof(kek: Kek, wrapped: bytes, digest: bytes) -> None:
    try:
        proof = unwrap_key(kek, wrapped, proof_aad(kek))
    except (InvalidTag, ValueError):
        raise Refused("WrongKey", "F-49") from None
    if hashlib.sha256(proof).digest() != digest:
        raise Refused("WrongKey", "F-49")
