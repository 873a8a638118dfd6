"""The audit log, section 6.7 of src/FORMAT.md, from that document alone."""

import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field

from hsmseal_format import Refused, canonical, hex_of, hkdf_expand, number, text

MAX_LINE, MAX_TORN = 32768, 1 << 20
ZEROS = "0" * 64


def event_name(value):
    if type(value) is not str or not re.fullmatch("[a-z-]{1,64}", value):
        raise ValueError
    return value


LINE_FIELDS = {
    "duration": number(63), "event": event_name, "key": number(64), "lost": number(64), "mac": hex_of(32),
    "prev": hex_of(32), "process": number(64), "reason": text, "ring": hex_of(16), "rv": number(64),
    "sequence": number(64), "time": number(63), "token": text, "version": number(32),
}


def audit_key(ring_key: bytes) -> bytes:
    return hkdf_expand(ring_key, b"hsmseal/1/audit-log", 32)


def line_mac(ring_key: bytes, line: dict) -> str:
    authenticated = {name: value for name, value in line.items() if name != "mac"}
    return hmac.digest(audit_key(ring_key), canonical(authenticated), "sha256").hex()


class AuditRefused(Refused):
    def __init__(self, error: str, rule: str, line: int):
        super().__init__(error, rule)
        self.line = line


@dataclass
class Verdict:
    lines: int = 0
    sequence: int = 0
    mac: str = ZEROS
    torn: int = 0
    events_lost: int = 0
    under_former: int = 0
    ends: set = field(default_factory=lambda: {(0, ZEROS)})  # all that were there on the way


class AuditReader:
    """Reads a log with the ring's keys, the oldest first."""

    def __init__(self, ring_id: bytes, ring_keys: list[bytes], ignore: str | None = None):
        self.ring, self.keys, self.ignore = ring_id.hex(), ring_keys, ignore

    def read(self, content: bytes, expected: tuple[int, str] | None = None) -> Verdict:
        pieces = content.split(b"\n")
        last_open = pieces[-1] != b""
        pieces = pieces if last_open else pieces[:-1]
        self.pieces, verdict, unreadable, highest = [(p, self.parse(p)) for p in pieces], Verdict(), None, 0
        for at, (piece, line) in enumerate(self.pieces, 1):
            if line is None:
                self.refuse("F-60", unreadable is not None, "Altered", at - 1)
                unreadable = piece
                continue
            before = at - (unreadable is not None)
            wrong = self.wrong_key(line)
            self.refuse("F-60", wrong is not None and unreadable is not None, "Altered", before)
            self.refuse("F-61", wrong is not None, wrong, at)
            follows = line["sequence"] == verdict.sequence + 1 and line["prev"] == verdict.mac
            if unreadable is not None:
                told = follows and line["event"] == "line-torn" and len(unreadable) <= MAX_TORN
                told = told and line["reason"] == hashlib.sha256(unreadable).hexdigest()
                rule = "F-63" if follows or line["event"] == "line-torn" else "F-60"
                self.refuse(rule, not told, "Altered", before)
                unreadable, verdict.torn = None, verdict.torn + 1
            else:
                if not follows:
                    self.refuse("F-62", True, self.misplaced(at, line, verdict), at)
                self.refuse("F-63", line["event"] in ("line-torn", "line-damaged", "log-cut"), "Removed", at)
            verdict.lines, verdict.sequence, verdict.mac = verdict.lines + 1, line["sequence"], line["mac"]
            verdict.events_lost += line["lost"] if line["event"] == "events-lost" else 0
            verdict.under_former += line["key"] < highest
            highest = max(highest, line["key"])
            verdict.ends.add((verdict.sequence, verdict.mac))
        if unreadable is not None:
            self.refuse("F-60", not last_open or len(unreadable) > MAX_TORN, "Altered", len(pieces))
            verdict.torn += 1
        self.refuse("F-64", expected is not None and expected not in verdict.ends, "Cut", len(pieces))
        return verdict

    def refuse(self, rule: str, condition: bool, error: str, line: int) -> None:
        if condition and rule != self.ignore:
            raise AuditRefused(error, rule, line)

    def parse(self, piece: bytes) -> dict | None:
        try:
            read = json.loads(piece.decode())
            line = {name: LINE_FIELDS[name](value) for name, value in read.items()}
        except (ValueError, KeyError, AttributeError, RecursionError):
            return None
        good = line.keys() == LINE_FIELDS.keys() and len(piece) <= MAX_LINE
        return line if good and (canonical(line) == piece or self.ignore == "F-60") else None

    def wrong_key(self, line: dict) -> str | None:
        if line["ring"] != self.ring:
            return "OtherRing"
        if line["key"] >= len(self.keys):
            return "UnknownKey"
        return None if line_mac(self.keys[line["key"]], line) == line["mac"] else "Altered"

    def misplaced(self, at: int, line: dict, verdict: Verdict) -> str:
        behind = [other for _, other in self.pieces[at:] if other is not None and self.wrong_key(other) is None]
        following = any(o["prev"] == verdict.mac and o["sequence"] == verdict.sequence + 1 for o in behind)
        preceding = any(o["mac"] == line["prev"] for o in behind)
        if line["sequence"] <= verdict.sequence + 1 or (following and not preceding):
            return "Inserted"
        return "Reordered" if following else "Removed"
