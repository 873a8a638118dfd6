#!/usr/bin/python3
"""Makes, checks and explains the vectors of the envelope format, version 1.

    make_vectors.py make OUTPUT.json              writes the vectors
    make_vectors.py check VECTORS.json            makes them again, compares, and reads every one of them
    make_vectors.py show NAME                     explains one valid envelope byte by byte
    make_vectors.py open KEKS.json                opens what another implementation sealed; - is the standard input
    make_vectors.py document FORMAT.md VECTORS.json   holds the document against the vectors
"""

import fnmatch
import hashlib
import json
import re
import struct
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # the source tree stays as it is

from cases_audit import audit_faults, audit_vectors, check_audit_fault, check_audit_log, read_audit
from cases_common import DELETED, K1, KEKS, RING_ID, find_envelope_kek, find_ring_kek
from cases_envelopes import CONTEXTS, INVALID_CONTEXTS, Fault, envelope_faults, rewrap_cases, valid_recipes
from cases_following import FOLLOWED, export_faults, export_vectors, following_faults, pin_faults, pin_vectors
from cases_rings import proof_vectors, ring_chain, ring_faults
from cases_streams import large_streams, pieces, small_streams, stream_entry, stream_faults, stream_rewraps
from hsmseal_files import Pin, export_file, pin_file, read_export, read_pin
from hsmseal_format import (
    HEADER, MAX_SECRET, TAG, CallerError, Reader, Recipe, Refused, RingReader, check_proof, check_raw_context,
    encode_context, key_check, payload_aad, payload_info, payload_keys, rewrap, seal, seeded, to_text, token_aad,
    wrap_aad,
)
from hsmseal_stream import Place, segment_aad, segment_nonce
from hsmseal_wrap import CBC_HMAC, Kek, iv_size, mac_input


# ---- making ----------------------------------------------------------------------------------------------------------


def shown_recipes() -> list[Recipe]:
    return valid_recipes() + small_streams()


def whole(sealed: str | list) -> bytes:
    return bytes.fromhex(sealed) if isinstance(sealed, str) else b"".join(
        bytes(piece) if isinstance(piece, int) else bytes.fromhex(piece) for piece in sealed)


def read_fault(entry: dict, ignore: str | None = None) -> bytes:
    reader = Reader(RING_ID, find_envelope_kek, ignore, DELETED)
    context = bytes.fromhex(entry["context"])
    if "text" in entry:
        return reader.open(reader.decode_text(entry["text"]), context)
    return reader.open(whole(entry["sealed"]) + bytes(entry.get("append_zeros", 0)), context)


def read_ring(entry: dict, rings: dict[str, dict], ignore: str | None = None) -> list[bytes]:
    data = entry["body"].encode() if "body" in entry else bytes.fromhex(entry["body_hex"])
    seen = rings[entry["seen"]] if "seen" in entry else None
    return RingReader(find_ring_kek, ignore).read(entry["generation"], data, bytes.fromhex(entry["mac"]), seen)


def is_sole(entry: dict, read, *args) -> bool:
    """Whether a reader that forgets the rule named, and only that, takes the entry."""
    try:
        read(entry, *args, entry["must"])
        return True
    except (Refused, AttributeError, LookupError, TypeError, ValueError, struct.error):
        return False


def valid_entry(r: Recipe) -> dict:
    sealed, of_data_key = seal(r), r.suite != 2
    return {
        "name": r.name, "suite": r.suite, "kek": KEKS.index(r.kek), "context": r.context.hex(),
        "secret": r.secret.hex(), "padding": r.bucket, "data_key": r.data_key_bytes().hex() if of_data_key else None,
        "wrap_iv": r.iv().hex(), "nonce": r.nonce().hex() if of_data_key else None,
        "sealed": sealed.hex(), "text": to_text(sealed),
    }


def invalid_entry(fault: Fault) -> dict:
    if isinstance(fault.sealed, str):
        shown = {"text": fault.sealed}
    else:
        shown = {"sealed": fault.sealed.hex() if len(fault.sealed) < 1 << 16 else pieces(fault.sealed)}
    if fault.zeros:
        shown["append_zeros"] = fault.zeros
    entry = {"name": fault.name, **shown, "context": fault.context.hex(), "error": fault.error, "must": fault.must}
    return {**entry, "sole": is_sole(entry, read_fault)}


def rewrapped_entry(name: str, before: Recipe, target: Kek) -> dict:
    iv = seeded(name + ": new iv", iv_size(target))
    sealed = seal(before)
    return {
        "name": name, "before_kek": KEKS.index(before.kek), "after_kek": KEKS.index(target),
        "context": before.context.hex(), "secret": before.secret.hex(), "data_key": before.data_key_bytes().hex(),
        "wrap_iv": iv.hex(), "before": sealed.hex(), "after": rewrap(sealed, before.data_key_bytes(), target, iv).hex(),
    }


def make() -> dict:
    chain = ring_chain()
    rings = {entry["name"]: entry for entry in chain}
    return {
        "keks": [{"kek": k.key.hex(), "kek_id": k.kek_id.hex(), "ring_id": k.ring_id.hex(), "version": k.version,
                  "max_plaintext": k.max_plaintext, "algorithm": k.algorithm, "iv_bytes": iv_size(k),
                  "mac_key": k.mac_key.hex()} for k in KEKS],
        "valid": [valid_entry(r) for r in shown_recipes()],
        "invalid": [invalid_entry(fault) for fault in envelope_faults() + stream_faults()],
        "streams": [stream_entry(r) for r in large_streams()],
        "rewrapped": [rewrapped_entry(*case) for case in rewrap_cases() + stream_rewraps()],
        "contexts": [{"name": name, "pairs": pairs, "encoded": encode_context(pairs).hex()}
                     for name, pairs in CONTEXTS.items()],
        "invalid_contexts": INVALID_CONTEXTS,
        "rings": chain,
        "invalid_rings": [{**entry, "sole": is_sole(entry, read_ring, rings)}
                          for entry in ring_faults(rings) + following_faults(rings)],
        "followed": [{"name": name, "seen": seen, "shown": shown} for name, (seen, shown) in FOLLOWED.items()],
        "proofs": proof_vectors(),
        "exports": export_vectors(rings),
        "invalid_exports": export_faults(rings),
        "pins": pin_vectors(rings),
        "invalid_pins": pin_faults(rings),
        "audit_logs": audit_vectors(),
        "invalid_audit_logs": [{**entry, "sole": is_sole(entry, read_audit)} for entry in audit_faults()],
    }


def dump(vectors: dict) -> bytes:
    return (json.dumps(vectors, indent=2) + "\n").encode()


# ---- checking --------------------------------------------------------------------------------------------------------


def expect_refusal(entry: dict, call) -> None:
    try:
        call()
    except (Refused, CallerError) as refused:
        error, rule = getattr(refused, "error", None), getattr(refused, "rule", str(refused))
        assert error == entry.get("error"), f"{error}, not {entry.get('error')}"
        assert rule == entry["must"] or entry["must"] in ("F-14", "F-50"), f"refused by {rule}, not {entry['must']}"
    else:
        raise AssertionError("was accepted")


def read_valid(entry: dict) -> None:
    reader = Reader(RING_ID, find_envelope_kek, deleted=DELETED)
    assert reader.decode_text(entry["text"]).hex() == entry["sealed"], "the text is not the envelope's"
    assert reader.open(bytes.fromhex(entry["sealed"]), bytes.fromhex(entry["context"])).hex() == entry["secret"]


def read_stream(entry: dict) -> None:
    reader = Reader(RING_ID, find_envelope_kek, deleted=DELETED)
    secret = reader.open(whole(entry["sealed"]), bytes.fromhex(entry["context"]))
    assert len(secret) == entry["secret_bytes"] and hashlib.sha256(secret).hexdigest() == entry["secret_sha256"]


def read_rewrapped(entry: dict) -> None:
    before, after = bytes.fromhex(entry["before"]), bytes.fromhex(entry["after"])
    cut = [HEADER + struct.unpack(">H", sealed[16:18])[0] for sealed in (before, after)]
    assert before[cut[0] :] == after[cut[1] :], "the payload changed"
    for sealed in (before, after):
        secret = Reader(RING_ID, find_envelope_kek, deleted=DELETED).open(sealed, bytes.fromhex(entry["context"]))
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
    keys = [key.hex() for key in read_ring(entry, rings)]
    assert keys == [entry["ring_key"], *reversed(entry["former_keys"])], "other ring keys"
    assert key_check(bytes.fromhex(entry["ring_key"])).hex() == entry["key_check"], "another key check"


def read_followed(entry: dict, rings: dict[str, dict]) -> None:
    read_ring({**rings[entry["shown"]], "seen": entry["seen"]}, rings)


def read_exported(entry: dict, rings: dict[str, dict]) -> None:
    generation, mac, body = read_export(entry["content"])
    ring = rings[entry["ring"]]
    assert (generation, mac.hex(), body) == (ring["generation"], ring["mac"], ring["body"]), "another record"
    assert export_file(generation, mac, body) == entry["content"], "is written otherwise"


def read_pinned(entry: dict) -> None:
    pin = read_pin(entry["content"])
    expected = Pin(bytes.fromhex(entry["ring_id"]), entry["generation"], bytes.fromhex(entry["mac"]),
                   bytes.fromhex(entry["key_check"]))
    assert pin == expected and pin_file(pin) == entry["content"], "another pin"


def check_entry(section: str, entry: dict, rings: dict[str, dict]) -> None:
    readers = {
        "valid": lambda: read_valid(entry), "streams": lambda: read_stream(entry), "invalid": lambda: read_fault(entry),
        "rewrapped": lambda: read_rewrapped(entry), "contexts": lambda: read_context(entry),
        "invalid_contexts": lambda: read_context(entry), "rings": lambda: read_good_ring(entry, rings),
        "invalid_rings": lambda: read_ring(entry, rings), "followed": lambda: read_followed(entry, rings),
        "proofs": lambda: read_proof(entry), "exports": lambda: read_exported(entry, rings),
        "invalid_exports": lambda: read_export(entry["content"]), "pins": lambda: read_pinned(entry),
        "invalid_pins": lambda: read_pin(entry["content"]), "audit_logs": lambda: check_audit_log(entry),
        "invalid_audit_logs": lambda: check_audit_fault(entry), "keks": lambda: None,
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
            except (AssertionError, Refused, CallerError) as error:
                faults.append(f"{name}: {error}")
    for fault in faults:
        print(fault, file=sys.stderr)
    print(", ".join(f"{len(entries)} {section}" for section, entries in fresh.items()))
    return 1 if faults else 0


def open_sealed(path: str) -> int:
    """Opens what another implementation sealed under one software key, whatever version its headers name."""
    given = json.loads(sys.stdin.read() if path == "-" else Path(path).read_text())
    kek, kek_id, ring_id, mac_key = (bytes.fromhex(given[name]) for name in ("kek", "kek_id", "ring_id", "mac_key"))
    profile = {"algorithm": given["algorithm"], "iv_bytes": given["iv_bytes"], "mac_key": mac_key}
    faults = 0 if given["envelopes"] else 1
    for entry in given["envelopes"]:
        reader = Reader(ring_id, lambda version: Kek(kek, kek_id, ring_id, version, MAX_SECRET, **profile))
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
    cbc = r.kek.algorithm == CBC_HMAC
    if cbc:
        line("MAC key", r.kek.mac_key)
    line("kek_id", r.kek.kek_id)
    line("ring_id", r.kek.ring_id)
    line("context", r.context)
    line("secret", r.secret, repr(r.secret.decode("ascii", "backslashreplace")))
    flags = sealed[6]
    if r.suite != 2:
        line("data key", r.data_key_bytes())
        line("wrap AAD", wrap_aad(r.suite, r.kek.algorithm, r.kek))
        if cbc:
            line("MAC input", mac_input(wrap_aad(1, CBC_HMAC, r.kek), sealed[HEADER : HEADER + 16],
                                        sealed[HEADER + 16 : HEADER + 48]))
        nonce = r.nonce() if r.suite == 3 else b""
        line("HKDF info", payload_info(r.suite, r.kek.ring_id, nonce))
        line("payload key", payload_keys(r.data_key_bytes(), r.suite, r.kek.ring_id, nonce)[0])
    if r.suite == 3:
        line("segment nonce", segment_nonce(r.nonce(), Place(0, True)))
        line("segment AAD", segment_aad(r.kek.ring_id, r.context))
    elif r.suite == 1:
        line("payload AAD", payload_aad(1, flags, r.kek.ring_id, r.context))
    else:
        line("AAD", token_aad(2, 1, flags, r.kek, r.context))
    lines += ["", "the envelope"]
    width = struct.unpack(">H", sealed[16:18])[0]
    fields = [(4, "magic"), (1, "suite"), (1, "algorithm"), (1, "flags"), (1, "zero"), (4, "ring_id"), (4, "version")]
    fields += [(2, "W"), (len(r.iv()), "IV")]
    if r.suite != 2:
        fields += [(32, "wrapped key"), (32, "MAC") if cbc else (16, "tag"), (32, "commitment"), (12, "nonce")]
    at = 0
    for size, label in [*fields, (len(sealed) - sum(s for s, _ in fields) - TAG, "ciphertext"), (TAG, "tag")]:
        notes = {"ring_id": "its first 4 bytes", "W": f"{width} bytes follow as wrapped bytes"}
        line(f"{at:>4} {label}", sealed[at : at + size], notes.get(label, ""))
        at += size
    shown = to_text(sealed)
    lines += ["", f"as text, {len(shown)} characters", *(shown[i : i + 100] for i in range(0, len(shown), 100))]
    return "\n".join(lines)


def show(name: str) -> int:
    recipes = {r.name: r for r in shown_recipes()}
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
    if sorted(int(number[2:]) for number, _, _ in rules) != list(range(1, len(rules) + 1)):
        faults.append("the rules are not numbered 1, 2, 3 ..., each number once")
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
    examples = re.findall(r"^```console\n\$ [^\n]* show (\S+)\n(.*?)\n```$", text, re.M | re.S)
    recipes = {r.name: r for r in shown_recipes()}
    if not examples or any(name not in recipes or shown != explain(recipes[name]) for name, shown in examples):
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
