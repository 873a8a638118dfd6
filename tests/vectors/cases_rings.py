"""The cases of ring records: a chain of good ones, and one thing wrong at a time; and the proofs of keys."""

import hashlib
import hmac
import json
from dataclasses import replace

from cases_common import (
    K1, K3, K5, K6, KEKS, LATEST, OTHER_RING_ID, OTHER_RING_KEK, OTHER_RING_KEY, RING_ID, RING_KEY, SAME_PREFIX_ID,
    STAGED, flipped,
)
from hsmseal_format import Kek, canonical, proof_aad, ring_key_aad, ring_mac, seeded, wrap, wrap_aad

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


def ring_faults(rings: dict[str, dict]) -> list[dict]:
    """The bad records; `rings` are the good ones by name."""
    return ring_writing_faults(rings) + ring_field_faults() + ring_rule_faults() + ring_history_faults(rings)


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
