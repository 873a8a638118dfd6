"""The cases of ring records: a chain of good ones, and one thing wrong at a time; and the proofs of keys.

What a host says that remembers another record is in cases_following.py.
"""

import hashlib
import hmac
import json
from dataclasses import replace

from cases_common import (
    C8, C12, C13, IV16, K1, K3, K5, K6, K7, KEKS, LATEST, OTHER_PROFILES, OTHER_RING_ID, OTHER_RING_KEK, OTHER_RING_KEY,
    RING_ID, RING_KEY, RING_KEYS, SAME_PREFIX_ID, STAGED, flipped,
)
from hsmseal_format import (
    CENTURY, HOUR, canonical, former_key_aad, key_check, proof_aad, ring_key_aad, ring_mac, seeded, wrap_aad,
    wrap_former_key,
)
from hsmseal_wrap import CBC_HMAC, Kek, iv_size, profile_of, wrap

BORN = 1735689600000  # 2025-01-01 00:00:00 UTC
SETTINGS = {"max_staleness": 5000, "quarantine": 7 * 24 * HOUR, "removal_grace": 60000, "usage_hard_limit": 1 << 32,
            "usage_soft_limit": 1 << 31}


def proof_of(kek: Kek) -> dict:
    proof = seeded(f"proof {kek.kek_id.hex()}", 32)
    wrapped = wrap(kek, seeded(f"proof iv {kek.kek_id.hex()}", iv_size(kek)), proof, proof_aad(kek))
    return {"digest": hashlib.sha256(proof).hexdigest(), "wrapped": wrapped.hex()}


def ring_set(kek: Kek, standing: str, activated: int | None, archived: int | None, aad: bytes = b"",
             ring_key: bytes = b"", **changes) -> dict:
    ring_key = ring_key or (RING_KEY if kek.ring_id != OTHER_RING_ID else OTHER_RING_KEY)
    iv = seeded(f"ring key iv {kek.kek_id.hex()} {kek.version} {ring_key.hex()}", iv_size(kek))
    wrapped = wrap(kek, iv, ring_key, aad or ring_key_aad(kek)).hex()
    mac_key_id = seeded(f"mac key id {kek.mac_key.hex()}", 16).hex() if kek.algorithm == CBC_HMAC else None
    return {
        "activated_at": activated, "archived_at": archived, "created_at": BORN + kek.version % 1000 * 1000,
        "deleted_at": None, "description": f"set {kek.version}", "kek_id": kek.kek_id.hex(), "key_destroyed_at": None,
        "key_id": kek.kek_id.hex(), "key_label": f"hsmseal-{kek.ring_id.hex()}-v{kek.version}",
        "mac_key_id": mac_key_id, "proof": proof_of(kek), "state": standing,
        "token": {"alias": "hsm1", "label": "hsm1", "serial": "0123456789abcdef"},
        "version": kek.version, "wrap": profile_of(kek),
        "wrapped_ring_key": None if standing == "deleted" else wrapped, **changes,
    }


def ring_body(generation: int, prev_mac: str, next_version: int, sets: list[dict], **changes) -> dict:
    return {"format": 1, "former_ring_keys": [], "generation": generation, "next_version": next_version,
            "prev_mac": prev_mac, "ring_id": RING_ID.hex(), "sets": sets, "settings": SETTINGS, **changes}


def record(name: str, body: dict | bytes, generation: int | None = None, ring_key: bytes = RING_KEY, **extra) -> dict:
    data = body if isinstance(body, bytes) else canonical(body)
    generation = body["generation"] if generation is None else generation
    try:
        shown = {"body": data.decode()}
    except UnicodeDecodeError:
        shown = {"body_hex": data.hex()}
    mac = extra.pop("mac", ring_mac(ring_key, data).hex())
    return {"name": name, "generation": generation, "ring_key": ring_key.hex(), **shown, "mac": mac, **extra}


def good(name: str, body: dict, keys: list[bytes] = RING_KEYS[:1]) -> dict:
    """With all that the ring keys, the present one last, are good for."""
    former = [key.hex() for key in keys[:-1]]
    return record(name, body, ring_key=keys[-1], former_keys=former, key_check=key_check(keys[-1]).hex())


def former_link(index: int, former: bytes, next_key: bytes, aad: bytes = b"") -> str:
    nonce = seeded(f"former key nonce {index} {former.hex()} {next_key.hex()} {aad.hex()}", 12)
    return wrap_former_key(former, next_key, nonce, aad or former_key_aad(RING_ID, index)).hex()


def former_links(keys: list[bytes]) -> list[str]:
    return [former_link(i, *keys[i : i + 2]) for i in range(len(keys) - 1)]


def first_body(kek: Kek = K1, **changes) -> dict:
    return ring_body(1, "0" * 64, kek.version + 1, [ring_set(kek, "active", BORN + 1000, None, **changes)])


EVERY_ESCAPE = 'quotes " and \\, / as it is, controls \b\f\n\r\t\0\x01\x1f, literal \x7f é 漢 😀 \u2028'


def third_sets(ring_key: bytes, changed: dict[int, dict]) -> list[dict]:
    """The sets of the third generation, some of them changed, by their versions."""
    standings = [
        (K1, "archived", BORN + 1000, BORN + 3000, {}),
        (K3, "archived", BORN + 3000, BORN + 50000, {"key_id": "01"}),
        (K5, "archived", None, BORN + 60000, {"description": "overtaken: never active"}),
        (K6, "staged", None, None, {"description": ""}),
        (K7, "archived", BORN + 50000, BORN + 60000, {}),
        (C8, "archived", BORN + 50000, BORN + 60000, {}),
        (IV16, "archived", BORN + 50000, BORN + 60000, {}),
        (C12, "staged", None, None, {"mac_key_id": "00" * 255}),
        (C13, "archived", BORN + 50000, BORN + 60000, {"mac_key_id": "02"}),
        (LATEST, "active", BORN + 60000, None, {"description": EVERY_ESCAPE, "key_id": "ff" * 255}),
        (STAGED, "staged", None, None, {}),
    ]
    sets = []
    for kek, standing, activated, archived, extra in standings:
        change = changed.get(kek.version, {})
        sets.append(ring_set(kek, change.get("state", standing), activated, archived, ring_key=ring_key,
                             **{**extra, **change}))
    return sets


def ring_chain() -> list[dict]:
    one = good("ring-1", first_body())
    archived = ring_set(K1, "archived", BORN + 1000, BORN + 3000)
    two = good("ring-2", ring_body(2, one["mac"], 4, [archived, ring_set(K3, "active", BORN + 3000, None)]))
    chain = [one, two]
    no_7 = {K7.version: {"state": "deleted", "deleted_at": BORN + 200000}}
    no_6_nor_7 = {**no_7, K6.version: {"state": "deleted", "deleted_at": BORN + 300000}}
    destroyed = {**no_6_nor_7, K7.version: {**no_7[K7.version], "key_destroyed_at": BORN + 200000 + 7 * 24 * HOUR}}
    for number, keys, changed in ((3, 1, {}), (4, 2, no_7), (5, 3, no_6_nor_7), (6, 3, destroyed)):
        body = ring_body(number, chain[-1]["mac"], STAGED.version + 1, third_sets(RING_KEYS[keys - 1], changed),
                         former_ring_keys=former_links(RING_KEYS[:keys]))
        chain.append(good(f"ring-{number}", body, RING_KEYS[:keys]))
    other = [ring_set(OTHER_RING_KEK, "active", BORN + 1000, None)]
    other_body = ring_body(1, "0" * 64, 2, other, ring_id=OTHER_RING_ID.hex())
    least = {"max_staleness": 1, "quarantine": 2, "removal_grace": 2, "usage_hard_limit": 1, "usage_soft_limit": 0}
    most = {"max_staleness": HOUR, "quarantine": CENTURY, "removal_grace": CENTURY, "usage_hard_limit": 1 << 32,
            "usage_soft_limit": 1 << 32}
    profiles = [ring_set(C8, "active", BORN + 1000, None),
                *(ring_set(kek, "staged", None, None) for kek in (IV16, *OTHER_PROFILES))]
    return [
        *chain, good("other-ring", other_body, [OTHER_RING_KEY]),
        good("ring-every-profile", ring_body(1, "0" * 64, STAGED.version, profiles)),
        good("ring-least-settings", {**first_body(), "settings": least}),
        good("ring-most-settings", {**first_body(), "settings": most}),
    ]


def ring_writing_faults(rings: dict[str, dict]) -> list[dict]:
    """Bodies that say the right thing in the wrong bytes."""
    plain, rich = rings["ring-1"], rings["ring-3"]
    rekeyed = json.loads(rings["ring-5"]["body"])
    upper_link = canonical({**rekeyed, "former_ring_keys": [link.upper() for link in rekeyed["former_ring_keys"]]})

    def edited(name: str, old: str, new: str, source: dict = plain) -> dict:
        assert old in source["body"], (name, old)
        return record(name, source["body"].replace(old, new, 1).encode(), source["generation"])

    body = json.loads(rich["body"])
    proof = json.loads(plain["body"])["sets"][0]["proof"]["digest"]
    faults = [
        edited("body-white-space", '"format":1', '"format": 1'),
        record("body-trailing-newline", plain["body"].encode() + b"\n", 1),
        record("body-byte-order-mark", b"\xef\xbb\xbf" + plain["body"].encode(), 1),
        edited("body-keys-not-sorted", '"format":1,"former_ring_keys":[]', '"former_ring_keys":[],"format":1'),
        record("body-sets-not-sorted", canonical({**body, "sets": body["sets"][::-1]}), 3),
        edited("body-key-twice", '{"format":1', '{"format":1,"format":1'),
        edited("body-number-leading-zero", '"next_version":2', '"next_version":02'),
        edited("body-number-fraction", '"max_plaintext":4096', '"max_plaintext":4096.0'),
        edited("body-number-exponent", '"max_plaintext":4096', '"max_plaintext":4096e0'),
        edited("body-number-minus-zero", f'"created_at":{BORN + 1000}', '"created_at":-0'),
        edited("body-hex-upper-case", proof, proof.upper()),
        record("body-former-key-upper-case", upper_link, 5, RING_KEYS[2]),
        edited("body-settings-not-sorted", '"max_staleness":5000,"quarantine":604800000',
               '"quarantine":604800000,"max_staleness":5000'),
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
    return [{**fault, "error": "RingTampered", "must": "F-36"} for fault in faults]


def ring_field_faults() -> list[dict]:
    def top(name: str, **changes) -> dict:
        return record("ring-" + name, {**first_body(), **changes}, 1)

    def one(name: str, **changes) -> dict:
        return record("set-" + name, first_body(**changes))

    def settings(name: str, value: dict | None) -> dict:
        return top("settings-" + name, settings=value)

    def former(name: str, *links: str | int) -> dict:
        return top("former-" + name, former_ring_keys=list(links))

    def profile(name: str, kek: Kek = K1, **changes) -> dict:
        changed = {**profile_of(kek), **changes}
        wrap_fields = {field: value for field, value in changed.items() if value is not ...}
        return record("set-wrap-" + name, first_body(kek=kek, wrap=wrap_fields))

    token = {"alias": "hsm1", "label": "hsm1", "serial": "0123456789abcdef"}
    proof, short = proof_of(K1), proof_of(K1)["digest"][2:]
    kek_59 = wrap(K1, seeded("iv 11", 11), RING_KEY, ring_key_aad(K1)).hex()
    no_next = first_body()
    del no_next["next_version"]
    no_state = first_body()
    del no_state["sets"][0]["state"]
    no_mac_key = first_body(kek=C8)
    del no_mac_key["sets"][0]["mac_key_id"]
    unknown = ring_set(K3, "retired", BORN, BORN)
    no_grace = {name: value for name, value in SETTINGS.items() if name != "removal_grace"}
    link = former_link(0, RING_KEYS[1], RING_KEY)
    faults = [
        top("field-unknown", comment=""), one("field-unknown", comment=""),
        record("ring-field-missing", no_next), record("set-field-missing", no_state),
        top("format-2", format=2),
        record("ring-generation-2-63", ring_body(1 << 63, "1" * 64, 2, first_body()["sets"])),
        top("next-version-2-32", next_version=1 << 32), top("next-version-text", next_version="2"),
        record("ring-prev-mac-short", ring_body(2, "1" * 62, 2, first_body()["sets"])),
        record("set-state-unknown", ring_body(2, "1" * 64, 4, [*first_body()["sets"], unknown])),
        settings("missing", no_grace), settings("null", None), settings("unknown", {**SETTINGS, "comment": ""}),
        settings("text", {**SETTINGS, "max_staleness": "5000"}),
        settings("negative", {**SETTINGS, "max_staleness": -1}),
        settings("2-64", {**SETTINGS, "usage_hard_limit": 1 << 64}), top("former-keys-null", former_ring_keys=None),
        former("key-59", link[2:]), former("key-61", link + "00"), former("key-empty", ""), former("key-number", 12),
        former("key-not-hex", link[:-1] + "g"),
        top("id-short", ring_id=RING_ID.hex()[2:]), top("sets-null", sets=None),
        one("time-negative", created_at=-1), one("time-null", created_at=None),
        one("time-2-63", activated_at=1 << 63), one("deleted-at-text", deleted_at=""),
        one("destroyed-at-false", key_destroyed_at=False), one("ring-key-empty", wrapped_ring_key=""),
        one("description-null", description=None),
        one("version-text", version="1"), one("kek-id-short", kek_id=K1.kek_id.hex()[2:]),
        one("key-id-empty", key_id=""), one("key-id-256", key_id="ff" * 256), one("key-id-half-byte", key_id="fff"),
        one("key-id-not-hex", key_id="0g"), one("proof-digest-short", proof={**proof, "digest": short}),
        one("proof-wrapped-61", proof={**proof, "wrapped": proof["wrapped"] + "00"}),
        one("ring-key-iv-11", wrapped_ring_key=kek_59), one("wrap-null", wrap=None),
        profile("algorithm-0", algorithm=0), profile("algorithm-3", algorithm=3),
        profile("algorithm-text", algorithm="1"), profile("algorithm-true", algorithm=True),
        profile("algorithm-missing", algorithm=...),
        profile("algorithm-2-with-the-fields-of-1", algorithm=2),
        profile("algorithm-1-without-its-fields", C8, algorithm=1),
        profile("iv-appended", iv="appended"), profile("iv-upper-case", iv="Caller"), profile("iv-null", iv=None),
        profile("iv-missing", iv=...), profile("iv-bytes-0", IV16, iv_bytes=0),
        profile("iv-bytes-13", IV16, iv_bytes=13),
        profile("iv-bytes-text", iv_bytes="12"), profile("iv-bytes-missing", iv_bytes=...),
        profile("max-2-32", max_plaintext=1 << 32), profile("cbc-max-2-32", C8, max_plaintext=1 << 32),
        profile("max-missing", C8, max_plaintext=...),
        profile("mechanism-2-32", mechanism=1 << 32), profile("mechanism-negative", mechanism=-1),
        profile("mechanism-text", mechanism="0x1087"), profile("mechanism-missing", mechanism=...),
        profile("parameters-unknown", parameters="with-all"), profile("parameters-null", parameters=None),
        profile("parameters-missing", parameters=...), profile("field-unknown", key="1"),
        profile("cbc-with-iv", C8, iv="caller"), profile("cbc-with-iv-bytes", C8, iv_bytes=16),
        profile("cbc-with-mechanism", C8, mechanism=0x1082),
        profile("cbc-with-parameters", C8, parameters="with-iv-bits"),
        one("mac-key-id-empty", kek=C8, mac_key_id=""), one("mac-key-id-256", kek=C8, mac_key_id="ff" * 256),
        one("mac-key-id-half-byte", kek=C8, mac_key_id="fff"), one("mac-key-id-number", kek=C8, mac_key_id=1),
        one("mac-key-id-not-hex", kek=C8, mac_key_id="0g"), record("set-mac-key-id-missing", no_mac_key),
        one("token-serial-number", token={**token, "serial": 12}), one("token-pin", token={**token, "pin": "1234"}),
    ]
    errors = {"ring-format-2": "Store"}
    return [{**fault, "error": errors.get(fault["name"], "RingTampered"), "must": "F-37"} for fault in faults]


def ring_rule_faults() -> list[dict]:
    def ring(must: str, name: str, *sets: dict, next_version: int = 4) -> dict:
        return record("ring-" + name, ring_body(2, "1" * 64, next_version, list(sets)), must=must)

    def one(must: str, name: str, state: str, activated: int | None, archived: int | None, **changes) -> dict:
        other = ring_set(K3, "archived" if state == "active" else "active", BORN, BORN if state == "active" else None)
        return ring(must, name, ring_set(K1, state, activated, archived, **changes), other)

    def settings(name: str, **changes: int) -> dict:
        return record("settings-" + name, {**first_body(), "settings": {**SETTINGS, **changes}}, must="F-44")

    def wrapped(name: str, aad: bytes) -> dict:
        return record("ring-key-" + name, first_body(aad=aad), must="F-46")

    def cbc_wrapped(name: str, **changes) -> dict:
        return record("ring-key-cbc-" + name, first_body(kek=C8, **changes), must="F-46")

    cbc, other_mac = (ring_set(kek, "active", BORN, None) for kek in (C8, replace(C8, mac_key=C12.mac_key)))
    active, archived = ring_set(K1, "active", BORN, None), ring_set(K1, "archived", BORN, BORN)
    again, zero = ring_set(K1, "archived", BORN, BORN), ring_set(replace(K1, version=0), "archived", BORN, BORN)
    body, second = canonical(first_body()), ring_set(K3, "active", BORN, None)
    unkeyed = hmac.digest(RING_KEY, body, "sha256").hex()
    faults = [
        record("ring-generation-0", ring_body(0, "0" * 64, 2, [active]), must="F-38"),
        record("ring-generation-not-the-records", first_body(), 2, must="F-38"),
        record("ring-first-with-prev-mac", {**first_body(), "prev_mac": "1" * 64}, must="F-39"),
        ring("F-40", "version-0", zero, second), ring("F-40", "version-twice", again, active),
        ring("F-40", "version-not-below-next", archived, second, next_version=3),
        ring("F-41", "no-sets"), ring("F-41", "none-active", archived), ring("F-41", "two-active", active, second),
        one("F-42", "staged-activated", "staged", BORN, None), one("F-42", "staged-archived", "staged", None, BORN),
        one("F-42", "active-never-activated", "active", None, None),
        one("F-42", "active-archived", "active", BORN, BORN),
        one("F-42", "archived-without-time", "archived", BORN, None),
        one("F-42", "deleted-without-time", "deleted", BORN, BORN),
        one("F-42", "deleted-not-archived", "deleted", BORN, None, deleted_at=BORN),
        one("F-42", "staged-deleted", "staged", None, None, deleted_at=BORN),
        one("F-42", "active-deleted", "active", BORN, None, deleted_at=BORN),
        one("F-42", "archived-deleted", "archived", BORN, BORN, deleted_at=BORN),
        one("F-42", "staged-destroyed", "staged", None, None, key_destroyed_at=BORN),
        one("F-42", "active-destroyed", "active", BORN, None, key_destroyed_at=BORN),
        one("F-42", "archived-destroyed", "archived", BORN, BORN, key_destroyed_at=BORN),
        one("F-43", "key-none-staged", "staged", None, None, wrapped_ring_key=None),
        one("F-43", "key-none-active", "active", BORN, None, wrapped_ring_key=None),
        one("F-43", "key-none-archived", "archived", BORN, BORN, wrapped_ring_key=None),
        one("F-43", "key-of-a-deleted-set", "deleted", BORN, BORN, deleted_at=BORN,
            wrapped_ring_key=archived["wrapped_ring_key"]),
        settings("staleness-0", max_staleness=0),
        settings("staleness-over-1-h", max_staleness=HOUR + 1, removal_grace=HOUR + 2),
        settings("grace-like-staleness", removal_grace=5000), settings("grace-below-staleness", removal_grace=4999),
        settings("quarantine-below-grace", quarantine=59999),
        settings("quarantine-over-100-years", quarantine=CENTURY + 1),
        settings("hard-limit-0", usage_hard_limit=0, usage_soft_limit=0),
        settings("hard-limit-over-2-32", usage_hard_limit=(1 << 32) + 1),
        settings("soft-limit-over-hard", usage_soft_limit=(1 << 32) + 1),
        wrapped("of-another-version", ring_key_aad(replace(K1, version=2))),
        wrapped("of-another-ring", ring_key_aad(replace(K1, ring_id=SAME_PREFIX_ID))),
        wrapped("of-another-kek-id", ring_key_aad(replace(K1, kek_id=K3.kek_id))),
        wrapped("wrapped-as-data-key", wrap_aad(1, 1, K1)), wrapped("wrapped-as-proof", proof_aad(K1)),
        cbc_wrapped("of-another-version", aad=ring_key_aad(replace(C8, version=2))),
        cbc_wrapped("of-another-ring", aad=ring_key_aad(replace(C8, ring_id=SAME_PREFIX_ID))),
        cbc_wrapped("of-another-kek-id", aad=ring_key_aad(replace(C8, kek_id=K3.kek_id))),
        cbc_wrapped("wrapped-as-proof", aad=proof_aad(C8)),
        *(cbc_wrapped(f"{part}-altered", wrapped_ring_key=flipped(bytes.fromhex(cbc["wrapped_ring_key"]), at).hex())
          for part, at in (("iv", 0), ("ciphertext", 16), ("mac", -1))),
        cbc_wrapped("of-another-mac-key", wrapped_ring_key=other_mac["wrapped_ring_key"]),
        record("ring-mac-altered", body, 1, mac=flipped(ring_mac(RING_KEY, body), 0).hex(), must="F-47"),
        record("ring-body-altered", first_body(description="set 2"), mac=ring_mac(RING_KEY, body).hex(), must="F-47"),
        record("ring-mac-under-the-ring-key", body, 1, mac=unkeyed, must="F-47"),
        record("ring-mac-of-another-ring-key", body, 1, mac=ring_mac(OTHER_RING_KEY, body).hex(), must="F-47"),
    ]
    return [{**fault, "error": "RingTampered"} for fault in faults]


def ring_profile_faults() -> list[dict]:
    """Sets whose fields are each as they may be, but not together."""
    def one(name: str, kek: Kek, **changes) -> dict:
        return record("profile-" + name, first_body(kek=kek, **changes), error="RingTampered", must="F-59")

    def other_form(name: str, kek: Kek, as_kek: Kek) -> list[dict]:
        """The one of the two wrapped values has the size that another profile would give it."""
        other = ring_set(as_kek, "active", BORN + 1000, None)
        return [one(f"{name}-proof", kek, proof=other["proof"]),
                one(f"{name}-ring-key", kek, wrapped_ring_key=other["wrapped_ring_key"])]

    long_k1 = replace(K1, iv_bytes=16)
    return [
        one("caller-iv-16", long_k1),
        one("mac-key-of-gcm", K1, mac_key_id="01"), one("cbc-without-a-mac-key", C8, mac_key_id=None),
        *other_form("longer-iv", K1, long_k1), *other_form("shorter-iv", IV16, replace(IV16, iv_bytes=12)),
        *other_form("cbc-for-gcm", K1, replace(K1, algorithm=CBC_HMAC, mac_key=C8.mac_key)),
        *other_form("gcm-for-cbc", C8, replace(C8, algorithm=1)),
        *other_form("long-gcm-for-cbc", C8, replace(C8, algorithm=1, iv_bytes=16)),
    ]


def ring_faults(rings: dict[str, dict]) -> list[dict]:
    """The bad records; `rings` are the good ones by name."""
    return ring_writing_faults(rings) + ring_field_faults() + ring_rule_faults() + ring_profile_faults()


def proof_vectors() -> list[dict]:
    def proof(name: str, wrapped: str, digest: str, kek: Kek = K1, error: str | None = None) -> dict:
        entry = {"name": name, "kek": KEKS.index(kek), "wrapped": wrapped, "digest": digest}
        return {**entry, "error": error, "must": "F-49"}

    good, other, long, cbc = (proof_of(kek) for kek in (K1, K3, IV16, C8))
    def cbc_fault(name: str, wrapped: bytes) -> dict:
        return proof(name, wrapped.hex(), cbc["digest"], C8, error="WrongKey")

    cbc_text = seeded(f"proof {C8.kek_id.hex()}", 32)
    ring_key = wrap(K1, seeded("proof iv", 12), RING_KEY, ring_key_aad(K1)).hex()
    other_id = replace(K1, kek_id=K3.kek_id)
    wrapped = wrap(K1, seeded("proof iv", 12), seeded("proof", 32), proof_aad(other_id)).hex()
    return [
        proof("proof", good["wrapped"], good["digest"]),
        proof("proof-iv-16", long["wrapped"], long["digest"], IV16),
        proof("proof-of-a-key-added-again", good["wrapped"], good["digest"], LATEST),
        proof("proof-cbc", cbc["wrapped"], cbc["digest"], C8),
        proof("proof-cbc-of-keys-added-again", cbc["wrapped"], cbc["digest"], C13),
        proof("proof-digest-altered", good["wrapped"], other["digest"], error="WrongKey"),
        proof("proof-altered", flipped(bytes.fromhex(good["wrapped"]), 20).hex(), good["digest"], error="WrongKey"),
        proof("proof-of-another-key", other["wrapped"], other["digest"], error="WrongKey"),
        proof("proof-of-another-kek-id", wrapped, hashlib.sha256(seeded("proof", 32)).hexdigest(), error="WrongKey"),
        proof("proof-is-the-ring-key", ring_key, hashlib.sha256(RING_KEY).hexdigest(), error="WrongKey"),
        *(cbc_fault(f"proof-cbc-{part}-altered", flipped(bytes.fromhex(cbc["wrapped"]), at))
          for part, at in (("iv", 0), ("ciphertext", 16), ("mac", -1))),
        cbc_fault("proof-cbc-cut", bytes.fromhex(cbc["wrapped"])[:-1]),
        cbc_fault("proof-cbc-longer", bytes.fromhex(cbc["wrapped"]) + b"\0"),
        cbc_fault("proof-cbc-of-another-mac-key", bytes.fromhex(proof_of(replace(C8, mac_key=C12.mac_key))["wrapped"])),
        cbc_fault("proof-cbc-of-another-key", bytes.fromhex(proof_of(replace(C8, key=C12.key))["wrapped"])),
        cbc_fault("proof-cbc-of-another-kek-id", wrap(C8, seeded("proof iv", 16), cbc_text, proof_aad(C12))),
        cbc_fault("proof-cbc-by-gcm", bytes.fromhex(proof_of(replace(C8, algorithm=1))["wrapped"])),
        proof("proof-gcm-by-cbc", proof_of(replace(K1, algorithm=CBC_HMAC))["wrapped"], good["digest"],
              error="WrongKey"),
    ]
