"""The cases of audit logs: good ones, and one thing wrong at a time. The ring is that of `ring-6`, with three keys."""

import hashlib
import json

from cases_common import OTHER_RING_ID, OTHER_RING_KEY, RING_ID, RING_KEYS, flipped
from cases_rings import BORN
from hsmseal_audit import MAX_LINE, ZEROS, AuditReader, AuditRefused, audit_key, line_mac
from hsmseal_format import canonical, hkdf_expand, seeded

SHA256_OF_NOTHING = hashlib.sha256(b"").hexdigest()


def line(event: str, key: int = 0, **changes) -> dict:
    return {"duration": 0, "event": event, "key": key, "lost": 0, "process": 4711, "reason": "", "ring": RING_ID.hex(),
            "rv": 0, "token": "hsm1", "version": 1, **changes}


def chained(lines: list[dict], keys: list[bytes] = RING_KEYS, sequence: int = 0, prev: str = ZEROS) -> list[dict]:
    """With their places and macs. What a line says of its place itself stays."""
    done = []
    for entry in lines:
        sequence += 1
        entry = {"sequence": sequence, "time": BORN + 1000 * sequence, "prev": prev, **entry}
        entry["mac"] = entry.get("mac") or line_mac(keys[entry["key"]], entry)
        done.append(entry)
        prev = entry["mac"]
    return done


def written(lines: list[dict]) -> bytes:
    return b"".join(canonical(entry) + b"\n" for entry in lines)


ADDED, ACTIVATED = line("set-added"), line("set-activated")
LOST = line("token-lost", rv=0x32, version=0, reason='C_GenerateRandom failed: "CKR_DEVICE_REMOVED"\n\u00e4\u0001/')
BACK = line("token-recovered", version=0, duration=1234)
REMOVED, LAST = line("set-removed", key=1), line("ring-changed", key=2, version=0xFFFFFFFF, token="")
BASE = chained([ADDED, ACTIVATED, LOST, BACK, REMOVED, LAST])
WHOLE = written(BASE)
LINES = WHOLE.splitlines(keepends=True)
TORN = written(chained([LOST], sequence=6, prev=BASE[-1]["mac"]))[:200]
assert TORN not in WHOLE


def end_of(lines: list[dict]) -> list:
    return [lines[-1]["sequence"], lines[-1]["mac"]] if lines else [0, ZEROS]


def shown(content: bytes) -> dict:
    try:
        return {"content": content.decode()}
    except UnicodeDecodeError:
        return {"content_hex": content.hex()}


def torn_after(lines: list[dict], torn: bytes, *behind: dict, **changes) -> bytes:
    note = line("line-torn", version=0, token="", reason=hashlib.sha256(torn).hexdigest())
    rest = chained([{**note, **changes}, *behind], sequence=lines[-1]["sequence"] if lines else 0,
                   prev=lines[-1]["mac"] if lines else ZEROS)
    return written(lines) + torn + b"\n" + written(rest)


def content_of(entry: dict) -> bytes:
    return entry["content"].encode() if "content" in entry else bytes.fromhex(entry["content_hex"])


def read_audit(entry: dict, ignore: str | None = None):
    expected = tuple(entry["expected"]) if "expected" in entry else None
    return AuditReader(RING_ID, RING_KEYS, ignore).read(content_of(entry), expected)


def audit_vectors() -> list[dict]:
    lost = line("events-lost", lost=3, version=0, token="", reason="file '/x' cannot be written: File too large")
    logs = {
        "empty": (b"", None), "one-line": (LINES[0], None), "three-keys": (WHOLE, None),
        "as-it-was": (WHOLE, end_of(BASE)), "longer-than-it-was": (WHOLE, end_of(BASE[:3])),
        "as-empty-as-it-was": (b"", end_of([])),
        "events-lost": (written(chained([ADDED, lost, {**lost, "lost": 4}])), None),
        "under-a-former-key": (written(chained([ADDED, REMOVED, LOST, BACK, LAST, REMOVED])), None),
        "torn-at-its-end": (WHOLE[:-20], None), "torn-to-one-byte": (WHOLE + b"{", None),
        "torn-to-zeros": (WHOLE + bytes(100), None), "torn-at-once": (LINES[0][:100], None),
        "without-its-last-line-feed": (WHOLE[:-1], end_of(BASE)),
        "torn-and-gone-on": (torn_after(BASE, TORN, LAST), None),
        "torn-at-once-and-gone-on": (torn_after([], b"{"), None),
        "torn-twice": (torn_after(BASE, b"{") + b'{"duration"', None),
        "limits": (written(chained([line("a" * 64, process=(1 << 64) - 1, rv=(1 << 64) - 1, duration=(1 << 63) - 1,
                                         lost=(1 << 64) - 1, time=(1 << 63) - 1)])), None),
    }
    entries = []
    for name, (content, expected) in logs.items():
        entry = {"name": f"audit-log-{name}", **shown(content), **({"expected": expected} if expected else {})}
        verdict = read_audit(entry)
        entries.append({**entry, "lines": verdict.lines, "end": [verdict.sequence, verdict.mac], "torn": verdict.torn,
                        "events_lost": verdict.events_lost, "under_former": verdict.under_former})
    return entries


def with_line(index: int, content: bytes) -> bytes:
    return b"".join([*LINES[:index], content, *LINES[index + 1 :]])


def form_faults() -> dict[str, bytes]:
    """The third line, spelled otherwise or with other fields, and with a mac that is right for what it says."""
    good, spelled = BASE[2], LINES[2]
    changed = {
        "number-as-text": {"rv": "50"}, "text-as-number": {"token": 1}, "null": {"reason": None},
        "negative": {"duration": -1}, "duration-2-63": {"duration": 1 << 63}, "time-2-63": {"time": 1 << 63},
        "version-2-32": {"version": 1 << 32}, "rv-2-64": {"rv": 1 << 64}, "truth": {"lost": False},
        "prev-31-bytes": {"prev": good["prev"][2:]}, "ring-15-bytes": {"ring": good["ring"][2:]},
        "event-empty": {"event": ""}, "event-65-letters": {"event": "a" * 65}, "event-upper-case": {"event": "Token"},
        "event-with-a-space": {"event": "token lost"}, "field-more": {"zone": "UTC"},
        "prev-upper-case": {"prev": good["prev"].upper()}, "too-long": {"reason": "x" * MAX_LINE},
    }
    faults = {}
    for name, fields in changed.items():
        entry = {**good, **fields}
        faults[name] = with_line(2, written([{**entry, "mac": line_mac(RING_KEYS[0], entry)}]))
    for name in good:
        less = {field: value for field, value in good.items() if field != name}
        less = less if name == "mac" else {**less, "mac": line_mac(RING_KEYS[0], less)}
        faults[f"without-{name}"] = with_line(2, written([less]))
    unsorted = json.dumps(dict(reversed(good.items())), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    respelled = {
        "unsorted": unsorted, "space": spelled.replace(b'"lost":0', b'"lost": 0'), "space-before": b" " + spelled,
        "space-after": spelled[:-1] + b" \n", "cr-lf": spelled[:-1] + b"\r\n",
        "escaped": spelled.replace(b"hsm1", b"\\u0068sm1"),
        "escaped-slash": spelled.replace(b"/", b"\\/"), "upper-case-escape": spelled.replace(b"\\u0001", b"\\U0001"),
        "mac-upper-case": spelled.replace(good["mac"].encode(), good["mac"].upper().encode()),
        "number-with-fraction": spelled.replace(b'"rv":50', b'"rv":50.0'),
        "number-with-zero": spelled.replace(b'"rv":50', b'"rv":050'),
        "not-utf-8": spelled.replace(b"\xc3\xa4", b"\xe4"),
        "field-twice": spelled.replace(b'"lost":0', b'"lost":0,"lost":0'), "empty-line": b"\n", "array": b"[]\n",
        "byte-order-mark": b"\xef\xbb\xbf" + spelled, "zero": spelled[:-1] + b"\0\n",
        "two-objects": spelled[:-1] + b"{}\n",
    }
    assert spelled not in respelled.values()
    return {**faults, **{name: with_line(2, content) for name, content in respelled.items()}}


def key_faults() -> list[tuple]:
    def third(ring_key: bytes, **fields) -> bytes:
        entry = {**BASE[2], **fields}
        return with_line(2, written([{**entry, "mac": line_mac(ring_key, entry)}]))

    def altered(name: str, value) -> bytes:
        return with_line(2, written([{**BASE[2], name: value}]))

    other = {"ring": OTHER_RING_ID.hex()}
    under_label = hkdf_expand(RING_KEYS[0], b"hsmseal/1/ring-mac", 32)
    assert audit_key(RING_KEYS[0]) != under_label
    return [
        ("mac-altered", altered("mac", flipped(bytes.fromhex(BASE[2]["mac"]), 0).hex()), 3, "Altered"),
        *((f"{name}-altered", altered(name, value), 3, "Altered") for name, value in {
            "duration": 1, "event": "token-found", "lost": 1, "process": 1, "reason": "none", "rv": 1, "sequence": 4,
            "time": BORN, "token": "hsm2", "version": 1, "prev": ZEROS, "key": 1}.items()),
        ("other-ring", third(OTHER_RING_KEY, **other), 3, "OtherRing"),
        ("other-ring-in-name", altered("ring", OTHER_RING_ID.hex()), 3, "OtherRing"),
        ("other-ring-under-this-rings-key", third(RING_KEYS[0], **other), 3, "OtherRing"),
        ("other-rings-log", written(chained([{**ADDED, **other}], [OTHER_RING_KEY])), 1, "OtherRing"),
        ("key-not-had-yet", third(RING_KEYS[2], key=3), 3, "UnknownKey"),
        ("key-2-64", third(RING_KEYS[2], key=(1 << 64) - 1), 3, "UnknownKey"),
        ("under-the-key-before", third(RING_KEYS[0], key=1), 3, "Altered"),
        ("under-no-ring-key", third(seeded("nobody's key", 32)), 3, "Altered"),
        ("under-another-label", altered("mac", line_mac(under_label, BASE[2])), 3, "Altered"),
    ]


def place_faults() -> list[tuple]:
    """Good lines that do not stand where they were written."""
    def joined(*numbers: int) -> bytes:
        return b"".join(LINES[number - 1] for number in numbers)

    beside = written(chained([LOST] * 6)).splitlines(keepends=True)
    jump = chained([LOST], sequence=7, prev=BASE[-1]["mac"])
    zero = {**BASE[0], "sequence": 0}
    return [
        ("first-removed", joined(2, 3, 4, 5, 6), 1, "Removed"), ("removed", joined(1, 2, 4, 5, 6), 3, "Removed"),
        ("two-removed", joined(1, 2, 5, 6), 3, "Removed"), ("all-but-the-last-removed", joined(6), 1, "Removed"),
        ("swapped", joined(1, 3, 2, 4, 5, 6), 2, "Reordered"),
        ("first-swapped", joined(2, 1, 3, 4, 5, 6), 1, "Reordered"),
        ("moved-to-the-front", joined(1, 5, 2, 3, 4, 6), 2, "Reordered"),
        ("moved-to-the-end", joined(1, 3, 4, 5, 6, 2), 2, "Reordered"),
        ("twice", joined(1, 2, 2, 3, 4, 5, 6), 3, "Inserted"),
        ("again-at-the-end", joined(1, 2, 3, 4, 5, 6, 1), 7, "Inserted"),
        ("of-another-log", joined(1, 2) + beside[2] + joined(3, 4, 5, 6), 3, "Inserted"),
        ("of-another-log-further-on", joined(1, 2) + beside[4] + joined(3, 4, 5, 6), 3, "Inserted"),
        ("of-another-log-in-its-place", joined(1, 2) + beside[2] + joined(4, 5, 6), 3, "Inserted"),
        ("begun-with-another-log", beside[0] + joined(2, 3, 4, 5, 6), 2, "Inserted"),
        ("sequence-skipped", WHOLE + written(jump), 7, "Removed"),
        ("sequence-0", written([{**zero, "mac": line_mac(RING_KEYS[0], zero)}]), 1, "Inserted"),
        ("first-with-prev", written(chained([{**ADDED, "prev": "1" * 64}])), 1, "Inserted"),
    ]


def torn_faults() -> list[tuple]:
    good = torn_after(BASE, TORN, LAST)
    note = {"sequence": 7, "prev": BASE[-1]["mac"]}
    damaged, cut = line("line-damaged", reason=SHA256_OF_NOTHING), line("log-cut", lost=2)
    return [
        ("altered", torn_after(BASE, TORN).replace(TORN, TORN[:-1] + b"!"), 7, "Altered"),
        ("nothing-told", WHOLE + TORN + b"\n" + written(chained([{**LAST, **note}])), 7, "Altered"),
        ("told-of-another", torn_after(BASE, TORN, reason=SHA256_OF_NOTHING), 7, "Altered"),
        ("told-of-a-damage", torn_after(BASE, TORN, event="line-damaged"), 7, "Altered"),
        ("told-out-of-place", torn_after(BASE, TORN, sequence=8), 7, "Altered"),
        ("remains-missing", good.replace(TORN + b"\n", b""), 7, "Removed"),
        ("damage-missing", WHOLE + written(chained([{**damaged, **note}])), 7, "Removed"),
        ("cut", WHOLE + written(chained([{**cut, **note}])), 7, "Removed"),
    ]


def not_torn() -> list[tuple]:
    """What is no line, and not the file's end either."""
    good = torn_after(BASE, TORN, LAST)
    return [
        ("ended-by-a-line-feed", WHOLE + TORN + b"\n", 7, "Altered"),
        ("with-a-line-more", good.replace(TORN, TORN + b"\n{"), 7, "Altered"),
        ("told-without-the-key", torn_after(BASE, TORN, mac="1" * 64), 7, "Altered"),
        ("two-torn", WHOLE + b"{\n{", 7, "Altered"),
    ]


def cut_faults() -> list[tuple]:
    beside = chained([LOST] * 6)
    return [
        ("by-one-line", b"".join(LINES[:-1]), 5, "Cut", end_of(BASE)), ("wholly", b"", 0, "Cut", end_of(BASE)),
        ("and-written-again", written(beside), 6, "Cut", end_of(BASE)),
        ("and-longer-again", written(chained([LOST] * 8)), 8, "Cut", end_of(BASE)),
        ("in-the-last-line", WHOLE[:-20], 6, "Cut", end_of(BASE)),
    ]


def audit_faults() -> list[dict]:
    rules = [
        ("form", "F-60", [(name, content, 3, "Altered") for name, content in form_faults().items()] + not_torn()),
        ("mac", "F-61", key_faults()), ("place", "F-62", place_faults()), ("torn", "F-63", torn_faults()),
        ("cut", "F-64", cut_faults()),
    ]
    return [{"name": f"audit-{kind}-{name}", **shown(content), **({"expected": more[0]} if more else {}),
             "line": number, "error": error, "must": rule}
            for kind, rule, cases in rules for name, content, number, error, *more in cases]


def check_audit_fault(entry: dict) -> None:
    try:
        read_audit(entry)
    except AuditRefused as refused:
        assert refused.line == entry["line"], f"refused at line {refused.line}, not {entry['line']}"
        raise


def check_audit_log(entry: dict) -> None:
    verdict = read_audit(entry)
    found = {"lines": verdict.lines, "end": [verdict.sequence, verdict.mac], "torn": verdict.torn,
             "events_lost": verdict.events_lost, "under_former": verdict.under_former}
    assert found == {name: entry[name] for name in found}, f"is read as {found}"
