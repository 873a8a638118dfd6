"""Suite 3, section 3.5 of src/FORMAT.md: a value in segments of 64 KiB."""

import hashlib
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

SEGMENT, TAG = 64 << 10, 16
MAX_SEGMENTS = 1 << 32


@dataclass(frozen=True)
class Place:
    """What a segment is sealed as: right is its own index, and that it is the last if it is."""

    index: int
    is_last: bool


def segment_aad(ring_id: bytes, context: bytes) -> bytes:
    return b"hsmseal/1/payload" + bytes([3, 0]) + ring_id + hashlib.sha256(context).digest()


def segment_nonce(nonce: bytes, place: Place) -> bytes:
    return nonce[:7] + struct.pack(">I", place.index) + bytes([place.is_last])


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)] or [b""]


def places(count: int) -> list[Place]:
    return [Place(index, index == count - 1) for index in range(count)]


def seal_segments(key: bytes, nonce: bytes, aad: bytes, segments: list[tuple[bytes, Place]]) -> bytes:
    gcm = AESGCM(key)
    return b"".join(gcm.encrypt(segment_nonce(nonce, place), text, aad) for text, place in segments)


def text_of_zeros(key: bytes, nonce: bytes, place: Place, size: int) -> bytes:
    """The plaintext of a segment whose ciphertext is nothing but zeros, so that a file can leave it out."""
    encryptor = Cipher(AES(key), CTR(segment_nonce(nonce, place) + b"\0\0\0\2")).encryptor()
    return encryptor.update(bytes(size)) + encryptor.finalize()


def open_segment(key: bytes, nonce: bytes, aad: bytes, sealed: bytes, place: Place) -> bytes | None:
    try:
        return AESGCM(key).decrypt(segment_nonce(nonce, place), sealed, aad)
    except InvalidTag:
        return None


def open_segments(key: bytes, nonce: bytes, aad: bytes, sealed: bytes, refuse) -> bytes:
    """`refuse` is Reader.refuse, which returns if it is to forget the rule."""
    segments = cut(sealed, SEGMENT + TAG)
    text = b""
    for place, segment in zip(places(len(segments)), segments):
        refuse("F-72", "Open", place.index >= MAX_SEGMENTS)
        refuse("F-71", "Open", place.is_last and place.index > 0 and len(segment) == TAG)
        opened = open_segment(key, nonce, aad, segment, place)
        if opened is None:
            opened = open_segment(key, nonce, aad, segment, Place(place.index, not place.is_last))
            refuse("F-69" if opened is None else "F-70", "Open", True)
            if opened is None:
                raise InvalidTag
        text += opened
    return text
