"""The files with a ring in them, sections 6.5 and 6.6 of src/FORMAT.md: exports and pins."""

import re
from dataclasses import dataclass

from hsmseal_format import CallerError, Refused


def export_file(generation: int, mac: bytes, body: str) -> str:
    return f"hsmseal-ring 1 {generation} {mac.hex()}\n{body}"


def read_export(content: str) -> tuple[int, bytes, str]:
    """The generation, the mac and the body, which is not read yet."""
    line = re.fullmatch(r"hsmseal-ring 1 ([1-9][0-9]*) ([0-9a-f]{64})\n(\{.*\})", content, re.S)
    if line is None or int(line[1]) >= 1 << 63:
        raise Refused("Format", "F-54")
    return int(line[1]), bytes.fromhex(line[2]), line[3]


@dataclass(frozen=True)
class Pin:
    ring_id: bytes
    generation: int
    mac: bytes
    key_check: bytes


def pin_file(pin: Pin) -> str:
    return (f"hsmseal-pin 1\nring {pin.ring_id.hex()}\ngeneration {pin.generation}\nmac {pin.mac.hex()}\n"
            f"key {pin.key_check.hex()}\n")


def read_pin(content: str) -> Pin:
    lines = re.fullmatch(
        r"hsmseal-pin 1\nring ([0-9a-f]{32})\ngeneration ([1-9][0-9]*)\nmac ([0-9a-f]{64})\nkey ([0-9a-f]{64})\n",
        content)
    if lines is None or int(lines[2]) >= 1 << 63:
        raise CallerError("F-55")
    return Pin(bytes.fromhex(lines[1]), int(lines[2]), bytes.fromhex(lines[3]), bytes.fromhex(lines[4]))
