"""The cases of hosts that remember a ring: records that follow the remembered one or do not, exports and pins."""

import json
from dataclasses import replace

from cases_common import (
    K1, K3, K5, K6, K7, LATEST, OTHER_RING_ID, OTHER_RING_KEY, RING_ID, RING_KEY, RING_KEYS, SAME_PREFIX_ID, STAGED,
    flipped,
)
from cases_rings import BORN, former_link, record, ring_body, ring_set
from hsmseal_files import Pin, export_file, pin_file
from hsmseal_format import FORMER_KEY_LABEL, former_key_aad, hkdf_expand, seeded
from hsmseal_wrap import wrap

FOLLOWED = {
    "follow-the-same": ("ring-2", "ring-2"),
    "follow-to-the-next": ("ring-1", "ring-2"),
    "follow-over-a-gap": ("ring-1", "ring-3"),
    "follow-over-a-new-key": ("ring-3", "ring-4"),
    "follow-over-two-new-keys": ("ring-1", "ring-6"),
    "follow-from-the-key-between": ("ring-4", "ring-6"),
    "follow-under-the-newest-key": ("ring-5", "ring-6"),
}


def shown_again(entry: dict, **extra) -> dict:
    return {**{name: value for name, value in entry.items() if name not in ("former_keys", "key_check")}, **extra}


def history_faults(rings: dict[str, dict]) -> list[dict]:
    """Good records that do not follow the one that the host has seen, and what is told first."""
    two = json.loads(rings["ring-2"]["body"])
    forked = {**two, "sets": [two["sets"][0], {**two["sets"][1], "description": "another"}]}
    history = {**two, "prev_mac": "1" * 64}
    other = json.loads(rings["other-ring"]["body"])
    its_set = ring_set(replace(K1, ring_id=SAME_PREFIX_ID), "active", BORN, None)
    renamed = ring_body(3, rings["ring-2"]["mac"], 2, [its_set], ring_id=SAME_PREFIX_ID.hex())
    older, newest = rings["ring-1"], json.loads(rings["ring-6"]["body"])

    def altered(entry: dict, name: str, **extra) -> dict:
        return shown_again(entry, name=name, mac=flipped(bytes.fromhex(entry["mac"]), 0).hex(), **extra)

    return [
        shown_again(older, name="ring-older", seen="ring-2", error="RingRolledBack", must="F-52"),
        record("ring-forked", forked, seen="ring-2", error="RingForked", must="F-52"),
        record("ring-other-history", history, seen="ring-1", error="RingForked", must="F-52"),
        record("ring-other-history-of-a-new-key", {**newest, "generation": 7, "prev_mac": "1" * 64},
               ring_key=RING_KEYS[2], seen="ring-6", error="RingForked", must="F-52"),
        shown_again(rings["other-ring"], name="ring-swapped", seen="ring-1", error="WrongRing", must="F-51"),
        record("ring-id-changed", renamed, seen="ring-1", error="WrongRing", must="F-51"),
        record("order-body-before-id", {**other, "next_version": 1}, ring_key=OTHER_RING_KEY, seen="ring-1",
               error="RingTampered", must="F-50"),
        altered(rings["other-ring"], "order-id-before-mac", seen="ring-1", error="WrongRing", must="F-50"),
        altered(older, "order-mac-before-generation", seen="ring-2", error="RingTampered", must="F-50"),
        shown_again(rings["ring-3"], name="order-generation-before-key", seen="ring-6", error="RingRolledBack",
                    must="F-50"),
    ]


def link_faults(rings: dict[str, dict]) -> list[dict]:
    """Generation 5, for a host that has seen generation 3: two links lead to its key, or do not."""
    sets = [ring_set(LATEST, "active", BORN, None, ring_key=RING_KEYS[2])]
    body = {**json.loads(rings["ring-5"]["body"]), "sets": sets}
    first, second = body["former_ring_keys"]
    next_key, nonce = RING_KEYS[1], seeded("nonce of a bad link", 12)

    def chain(name: str, *links: str) -> dict:
        shown = {**body, "former_ring_keys": list(links)}
        return record("chain-" + name, shown, ring_key=RING_KEYS[2], seen="ring-3", error="RingForked", must="F-53")

    def altered(link: str) -> str:
        return flipped(bytes.fromhex(link), 20).hex()

    def bound_to(aad: bytes) -> str:
        return former_link(0, RING_KEY, next_key, aad)

    def under(key: bytes) -> str:
        return wrap(replace(K1, key=key), nonce, RING_KEY, former_key_aad(RING_ID, 0)).hex()

    return [
        chain("empty"),
        chain("too-short", former_link(0, RING_KEYS[1], RING_KEYS[2])),
        chain("link-altered", altered(first), second),
        chain("newest-link-altered", first, altered(second)),
        chain("links-swapped", second, first),
        chain("link-to-another-key", former_link(0, OTHER_RING_KEY, next_key), second),
        chain("link-of-another-ring", bound_to(former_key_aad(OTHER_RING_ID, 0)), second),
        chain("link-of-another-index", bound_to(former_key_aad(RING_ID, 1)), second),
        chain("link-with-an-index-of-4-bytes", bound_to(FORMER_KEY_LABEL + RING_ID + bytes(4)), second),
        chain("link-with-another-label", bound_to(b"hsmseal/1/ring-key" + RING_ID + bytes(8)), second),
        chain("link-under-another-label", under(hkdf_expand(next_key, b"hsmseal/1/ring-mac", 32)), second),
        chain("link-under-the-ring-key", under(next_key), second),
    ]


def forgeries(rings: dict[str, dict]) -> list[dict]:
    """Who has the key of the removed set 7 knows the first ring key, and writes what he likes into the database."""
    old, links = json.loads(rings["ring-3"]["body"]), json.loads(rings["ring-5"]["body"])["former_ring_keys"]
    his, branch = seeded("the forger's ring key", 32), seeded("ring key of another branch", 32)
    gone = {"deleted_at": BORN + 60000}
    only_his = [
        *(ring_set(kek, "deleted", BORN, BORN, **gone) for kek in (K1, K3, K5, K6)),
        ring_set(K7, "active", BORN, None, ring_key=his),
        *(ring_set(kek, "deleted", BORN, BORN, **gone) for kek in (LATEST, STAGED)),
    ]
    another = [ring_set(kek, "archived", BORN, BORN, ring_key=branch) for kek in (K1, K3, K5)]
    another.append(ring_set(LATEST, "active", BORN, None, ring_key=branch))

    def forged(name: str, ring_key: bytes, body: dict, *new_links: str) -> dict:
        shown = {**body, "generation": 9, "former_ring_keys": list(new_links)}
        return record("chain-" + name, shown, ring_key=ring_key, seen="ring-5", error="RingForked", must="F-53")

    return [
        forged("forger-with-a-former-key", RING_KEY, old),
        forged("forger-with-copied-links", RING_KEY, old, *links),
        forged("forger-with-a-new-key", his, {**old, "sets": only_his}, *links, former_link(2, RING_KEY, his)),
        forged("of-another-branch", branch, {**old, "sets": another}, links[0],
               former_link(1, RING_KEYS[1], branch)),
    ]


def following_faults(rings: dict[str, dict]) -> list[dict]:
    return history_faults(rings) + link_faults(rings) + forgeries(rings)


def exported(entry: dict) -> str:
    return export_file(entry["generation"], bytes.fromhex(entry["mac"]), entry["body"])


def export_vectors(rings: dict[str, dict]) -> list[dict]:
    return [{"name": f"export-of-{name}", "ring": name, "content": exported(rings[name])}
            for name in ("ring-1", "ring-6")]


def export_faults(rings: dict[str, dict]) -> list[dict]:
    entry = rings["ring-1"]
    good, body, mac = exported(entry), entry["body"], entry["mac"]
    line = f"hsmseal-ring 1 1 {mac}\n"
    assert good == line + body
    wrong = {
        "empty": "", "line-missing": body, "line-alone": line, "line-alone-without-its-end": line[:-1],
        "of-a-pin": pin_content(rings["ring-1"]), "label-upper-case": good.replace("hsmseal-ring", "HSMSEAL-RING", 1),
        "label-other": good.replace("hsmseal-ring", "hsmseal-rings", 1),
        "version-2": good.replace("hsmseal-ring 1", "hsmseal-ring 2", 1),
        "version-01": good.replace("hsmseal-ring 1", "hsmseal-ring 01", 1),
        "generation-0": good.replace(" 1 1 ", " 1 0 ", 1), "generation-01": good.replace(" 1 1 ", " 1 01 ", 1),
        "generation-with-sign": good.replace(" 1 1 ", " 1 +1 ", 1),
        "generation-hex": good.replace(" 1 1 ", " 1 0x1 ", 1),
        "generation-missing": good.replace(" 1 1 ", " 1 ", 1),
        "generation-2-63": good.replace(" 1 1 ", f" 1 {1 << 63} ", 1),
        "generation-2-64-and-1": good.replace(" 1 1 ", f" 1 {(1 << 64) + 1} ", 1),
        "mac-upper-case": good.replace(mac, mac.upper(), 1), "mac-63-digits": good.replace(mac, mac[:-1], 1),
        "mac-65-digits": good.replace(mac, mac + "0", 1), "mac-not-hex": good.replace(mac, mac[:-1] + "g", 1),
        "two-spaces": good.replace(" 1 1 ", " 1  1 ", 1), "tab": good.replace(" 1 1 ", " 1\t1 ", 1),
        "space-before": " " + good, "space-after": good.replace("\n", " \n", 1),
        "field-more": good.replace("\n", " 1\n", 1),
        "cr-lf": good.replace("\n", "\r\n", 1), "cr": good.replace("\n", "\r", 1),
        "two-line-ends": good.replace("\n", "\n\n", 1), "byte-order-mark": "\ufeff" + good,
        "body-cut": good[:-2], "body-with-a-line-end": good + "\n", "body-with-a-zero": good + "\0",
    }
    return [{"name": "export-" + name, "content": content, "error": "Format", "must": "F-54"}
            for name, content in wrong.items()]


def pin_entry(name: str, pin: Pin) -> dict:
    return {"name": name, "ring_id": pin.ring_id.hex(), "generation": pin.generation, "mac": pin.mac.hex(),
            "key_check": pin.key_check.hex(), "content": pin_file(pin)}


def pin_of(entry: dict) -> Pin:
    ring_id = json.loads(entry["body"])["ring_id"]
    return Pin(bytes.fromhex(ring_id), entry["generation"], bytes.fromhex(entry["mac"]),
               bytes.fromhex(entry["key_check"]))


def pin_content(entry: dict) -> str:
    return pin_file(pin_of(entry))


def pin_vectors(rings: dict[str, dict]) -> list[dict]:
    pins = [pin_entry(f"pin-of-{name}", pin_of(rings[name])) for name in ("ring-1", "ring-6", "other-ring")]
    last = Pin(RING_ID, (1 << 63) - 1, bytes(32), b"\xff" * 32)
    return [*pins, pin_entry("pin-of-the-last-generation", last)]


def pin_faults(rings: dict[str, dict]) -> list[dict]:
    entry = rings["ring-6"]
    pin = pin_of(entry)
    good, ring_id, mac, check = pin_content(entry), pin.ring_id.hex(), pin.mac.hex(), pin.key_check.hex()
    lines = good.splitlines(keepends=True)
    wrong = {
        "empty": "", "first-line-alone": lines[0], "without-its-first-line": "".join(lines[1:]),
        "without-its-last-line": "".join(lines[:-1]), "last-line-not-ended": good[:-1], "line-more": good + lines[-1],
        "empty-line-more": good + "\n", "empty-line-before": "\n" + good, "zero-at-the-end": good + "\0",
        "lines-in-another-order": "".join([lines[0], lines[2], lines[1], *lines[3:]]),
        "line-twice": "".join([*lines[:3], lines[3], lines[3]]), "comment": good + "# comment\n",
        "of-an-export": exported(rings["ring-1"]), "label-upper-case": good.replace("hsmseal-pin", "HSMSEAL-PIN"),
        "version-2": good.replace("hsmseal-pin 1", "hsmseal-pin 2"), "cr-lf": good.replace("\n", "\r\n"),
        "byte-order-mark": "\ufeff" + good, "name-upper-case": good.replace("ring ", "Ring ", 1),
        "colon": good.replace("generation ", "generation: "), "two-spaces": good.replace("mac ", "mac  "),
        "tab": good.replace("mac ", "mac\t"), "space-at-the-end": good.replace("\n", " \n", 2),
        "ring-upper-case": good.replace(ring_id, ring_id.upper()), "ring-31-digits": good.replace(ring_id, ring_id[1:]),
        "ring-33-digits": good.replace(ring_id, ring_id + "0"), "mac-upper-case": good.replace(mac, mac.upper()),
        "mac-63-digits": good.replace(mac, mac[1:]), "mac-not-hex": good.replace(mac, "g" + mac[1:]),
        "mac-missing": good.replace(mac, ""), "key-upper-case": good.replace(check, check.upper()),
        "key-62-digits": good.replace(check, check[2:]), "key-66-digits": good.replace(check, check + "00"),
        "generation-0": good.replace("generation 6", "generation 0"),
        "generation-06": good.replace("generation 6", "generation 06"),
        "generation-with-sign": good.replace("generation 6", "generation +6"),
        "generation-negative": good.replace("generation 6", "generation -6"),
        "generation-missing": good.replace("generation 6", "generation "),
        "generation-2-63": good.replace("generation 6", f"generation {1 << 63}"),
        "generation-2-64-and-6": good.replace("generation 6", f"generation {(1 << 64) + 6}"),
    }
    assert good not in wrong.values()
    return [{"name": "pin-" + name, "content": content, "must": "F-55"} for name, content in wrong.items()]
