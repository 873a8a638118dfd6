"""How keys wrap, section 3.2 of src/FORMAT.md: AES-256-GCM, or AES-256-CBC and HMAC-SHA-256."""

import hmac
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

GCM, CBC_HMAC = 1, 2  # as envelopes and rings number them
CBC_IV, BLOCK, MAC, MAX_CBC = 16, 16, 32, 4096
MAC_LABEL = b"hsmseal/1/cbc-hmac"


@dataclass(frozen=True)
class Kek:
    key: bytes
    kek_id: bytes
    ring_id: bytes
    version: int
    max_plaintext: int = 4096
    algorithm: int = GCM
    mac_key: bytes = b""  # of CBC_HMAC
    iv: str = "caller"  # this and the next three are of GCM
    iv_bytes: int = 12
    mechanism: int = 0x1087
    parameters: str = "with-iv-bits"


def mac_input(aad: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    return MAC_LABEL + bytes([CBC_HMAC]) + struct.pack(">I", len(aad)) + aad + iv + ciphertext


def cbc_encrypt(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    return encryptor.update(plaintext) + encryptor.finalize()


def wrap(kek: Kek, iv: bytes, plaintext: bytes, aad: bytes, algorithm: int | None = None) -> bytes:
    if (algorithm or kek.algorithm) != CBC_HMAC:
        return iv + AESGCM(kek.key).encrypt(iv, plaintext, aad)
    assert 0 < len(plaintext) <= MAX_CBC and len(plaintext) % BLOCK == 0
    ciphertext = cbc_encrypt(kek.key, iv, plaintext)
    return iv + ciphertext + hmac.digest(kek.mac_key, mac_input(aad, iv, ciphertext), "sha256")


def unwrap_gcm(kek: Kek, iv_bytes: int, wrapped: bytes, aad: bytes) -> bytes:
    return AESGCM(kek.key).decrypt(wrapped[:iv_bytes], wrapped[iv_bytes:], aad)


def unwrap_cbc(kek: Kek, wrapped: bytes, aad: bytes, mac_is_checked: bool = True) -> bytes:
    iv, ciphertext, mac = wrapped[:CBC_IV], wrapped[CBC_IV:-MAC], wrapped[-MAC:]
    if not 0 < len(ciphertext) <= MAX_CBC or len(ciphertext) % BLOCK != 0:
        raise InvalidTag
    right = hmac.compare_digest(mac, hmac.digest(kek.mac_key, mac_input(aad, iv, ciphertext), "sha256"))
    if mac_is_checked and not right:
        raise InvalidTag
    decryptor = Cipher(AES(kek.key), CBC(iv)).decryptor()
    return decryptor.update(ciphertext) + decryptor.finalize()


def unwrap_key(kek: Kek, wrapped: bytes, aad: bytes) -> bytes:
    """What has 32 bytes: a ring key or a proof."""
    if kek.algorithm == CBC_HMAC:
        return unwrap_cbc(kek, wrapped, aad)
    return unwrap_gcm(kek, len(wrapped) - 48, wrapped, aad)


def iv_size(kek: Kek) -> int:
    return CBC_IV if kek.algorithm == CBC_HMAC else kek.iv_bytes


def wrapped_key_size(kek: Kek) -> int:
    return iv_size(kek) + 32 + (MAC if kek.algorithm == CBC_HMAC else 16)


def profile_of(kek: Kek) -> dict:
    """The field `wrap` of a set."""
    if kek.algorithm == CBC_HMAC:
        return {"algorithm": CBC_HMAC, "max_plaintext": kek.max_plaintext}
    return {"algorithm": GCM, "iv": kek.iv, "iv_bytes": kek.iv_bytes, "max_plaintext": kek.max_plaintext,
            "mechanism": kek.mechanism, "parameters": kek.parameters}
