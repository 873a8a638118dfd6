"""The cases of streams: good ones at the borders of segments, and one thing wrong at a time."""

import hashlib
import struct
from dataclasses import replace

from cases_common import C8, IV16, K1, K3, KEKS, LATEST, flipped
from cases_envelopes import ONE_PAIR, SEVERAL, Fault, sample
from hsmseal_format import Recipe, payload_aad, payload_keys, rewrap, seal, seeded, segment_keys, wrap_aad
from hsmseal_stream import SEGMENT, TAG, Place, places, segment_aad, text_of_zeros
from hsmseal_wrap import iv_size

SEALED_SEGMENT = SEGMENT + TAG
HEAD = 122  # before the segments, with algorithm 1 and an IV of 12 bytes


def stream(name: str, **changes) -> Recipe:
    return sample(name, **{"suite": 3, **changes})


def of_zeros(name: str, sizes: list[int], as_places: list[Place] | None = None, **changes) -> Recipe:
    """A stream whose ciphertext is zeros; its segments have these sizes and are sealed as if at these places."""
    recipe = stream(name, **changes)
    key, _ = segment_keys(recipe)
    at = as_places or places(len(sizes))
    segments = tuple((text_of_zeros(key, recipe.nonce(), place, size), place) for size, place in zip(sizes, at))
    return replace(recipe, segments=segments, secret=b"".join(text for text, _ in segments))


def sizes_of(total: int) -> list[int]:
    return [SEGMENT] * ((total - 1) // SEGMENT) + [(total - 1) % SEGMENT + 1]


def small_streams() -> list[Recipe]:
    """Those of one segment that are written out in full, in the list of all envelopes."""
    return [
        Recipe("hunter2-stream", K1, b"hunter2", ONE_PAIR, suite=3),
        *(stream(f"stream-{size}-bytes", secret=seeded("secret", size)) for size in (0, 1, 32, 1000)),
        stream("stream-no-context", context=b""), stream("stream-raw-context", context=bytes(range(256))),
        stream("stream-looks-padded", secret=b"\x80\0\0"), stream("stream-iv-16", kek=IV16),
        stream("stream-version-3", kek=K3), stream("stream-cbc", kek=C8),
    ]


def large_streams() -> list[Recipe]:
    sizes = (SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT - 1, 2 * SEGMENT, 2 * SEGMENT + 1, 5 * SEGMENT + 100)
    recipes = [of_zeros(f"stream-{size}-bytes", sizes_of(size)) for size in sizes]
    return [*recipes, of_zeros("stream-cbc-65537-bytes", sizes_of(SEGMENT + 1), kek=C8),
            of_zeros("stream-iv-16-131072-bytes", sizes_of(2 * SEGMENT), kek=IV16, context=b"")]


def stream_rewraps() -> list[tuple]:
    return [
        ("rewrap-stream-to-another-key", stream("rewrap 11"), K3),
        ("rewrap-stream-to-a-longer-iv", stream("rewrap 12", context=b""), IV16),
        ("rewrap-stream-from-gcm-to-cbc", stream("rewrap 13"), C8),
        ("rewrap-stream-from-cbc-to-gcm", stream("rewrap 14", kek=C8, secret=b""), LATEST),
    ]


def pieces(data: bytes) -> list:
    """Hexadecimal, and how many zeros stand in between."""
    found, at, start = [], 0, 0
    while at < len(data):
        end = at
        while end < len(data) and data[end] == 0:
            end += 1
        if end - at >= 64:
            found += [data[start:at].hex()] if at > start else []
            found.append(end - at)
            start = end
        at = end + 1 if end > at else at + 1
    return found + ([data[start:].hex()] if start < len(data) else [])


def stream_entry(r: Recipe) -> dict:
    sealed = seal(r)
    return {
        "name": r.name, "kek": KEKS.index(r.kek), "context": r.context.hex(), "data_key": r.data_key_bytes().hex(),
        "wrap_iv": r.iv().hex(), "nonce": r.nonce().hex(), "secret_bytes": len(r.secret),
        "secret_sha256": hashlib.sha256(r.secret).hexdigest(), "sealed": pieces(sealed),
    }


def header_faults() -> list[Fault]:
    def wrong(must: str, name: str, **changes) -> Fault:
        return Fault(must, "Format", name, seal(stream(name, **changes)))

    gcm, cbc = seal(stream("stream-algorithm")), seal(stream("stream-cut cbc", kek=C8))
    faults = [
        wrong("F-65", "stream-flags-01", flags=0x01), wrong("F-4", "stream-flags-02", flags=0x02),
        wrong("F-3", "stream-algorithm-3", algorithm=3), wrong("F-5", "stream-reserved-01", reserved=1),
        wrong("F-6", "stream-version-0", kek=replace(K1, version=0)),
        wrong("F-7", "stream-iv-13", iv_bytes=13),
        Fault("F-7", "Format", "stream-algorithm-set-to-2", gcm[:5] + b"\2" + gcm[6:]),
        Fault("F-7", "Format", "stream-cbc-algorithm-set-to-1", cbc[:5] + b"\1" + cbc[6:]),
    ]
    faults += [Fault("F-9", "Format", f"stream-cut-to-{end}", gcm[:end]) for end in (5, 17, 18, 77, 109, 121, 122, 137)]
    return faults + [Fault("F-9", "Format", "stream-cbc-cut-to-157", cbc[:157])]


def key_faults() -> list[Fault]:
    def wrong(must: str, name: str, **changes) -> Fault:
        return Fault(must, "Open", name, seal(stream(name, **changes)))

    sealed, other, data_key = seal(stream("stream 1")), seal(stream("stream 2")), seal(sample("as stream"))
    key = seeded("keys of a stream", 32)
    return [
        *(Fault(must, "Open", f"stream-{name}-altered", flipped(sealed, at)) for must, name, at in (
            ("F-18", "wrap-iv", 18), ("F-18", "wrap-tag", 77), ("F-20", "commitment", 78),
            ("F-20", "nonce-prefix", 110), ("F-20", "nonce-end", 121), ("F-69", "ciphertext", 122), ("F-69", "tag", -1))),
        Fault("F-57", "Open", "stream-cbc-mac-altered", flipped(seal(stream("stream cbc", kek=C8)), 97)),
        Fault("F-18", "Open", "stream-suite-set-to-1", sealed[:4] + b"\1" + sealed[5:]),
        Fault("F-18", "Open", "data-key-suite-set-to-3", data_key[:4] + b"\3" + data_key[5:]),
        Fault("F-20", "Open", "stream-payload-of-another", sealed[:78] + other[78:]),
        Fault("F-58", "Open", "form-stream-longer-iv", seal(stream("stream-longer-iv", iv_bytes=16))),
        wrong("F-18", "stream-wrap-aad-of-suite-1", wrap_aad=wrap_aad(1, 1, K1)),
        *(wrong("F-20", f"stream-keys-{name}", data_key=key, keys=payload_keys(key, *of)) for name, of in (
            ("without-the-nonce", (3, K1.ring_id)), ("of-another-nonce", (3, K1.ring_id, bytes(12))),
            ("of-suite-1", (1, K1.ring_id)))),
    ]


def segment_faults() -> list[Fault]:
    three = of_zeros("stream of three", [SEGMENT, SEGMENT, 100])
    good, other = seal(three), seal(of_zeros("stream of another three", [SEGMENT, SEGMENT, 100]))
    head, segments = good[:HEAD], [good[HEAD + i * SEALED_SEGMENT :][:SEALED_SEGMENT] for i in range(3)]
    first, second, last = segments
    foreign = other[HEAD : HEAD + SEALED_SEGMENT]
    empty_last = of_zeros("empty last", [SEGMENT, 0])
    longer = of_zeros("longer", [SEGMENT, 200], [Place(0, False), Place(1, False)])

    def wrong(must: str, name: str, *parts: bytes) -> Fault:
        return Fault(must, "Open", "stream-" + name, head + b"".join(parts))

    def sealed_as(must: str, name: str, sizes: list[int], at: list[Place], **changes) -> Fault:
        return Fault(must, "Open", "stream-" + name, seal(of_zeros("stream-" + name, sizes, at, **changes)))

    nonce = three.nonce()
    little_endian = Place(struct.unpack("<I", struct.pack(">I", 1))[0], True)
    aad = segment_aad(K1.ring_id, SEVERAL)
    return [
        wrong("F-69", "segments-swapped", second, first, last), wrong("F-69", "first-segment-missing", second, last),
        wrong("F-69", "segment-missing", first, last), wrong("F-69", "segment-twice", first, first, second, last),
        wrong("F-69", "segment-of-another", foreign, second, last),
        wrong("F-69", "second-segment-altered", first, flipped(second, 5), last),
        wrong("F-69", "byte-missing-inside", first[:-1], second, last),
        wrong("F-69", "byte-more-inside", first + b"\0", second, last),
        wrong("F-69", "cut-by-1", first, second, last[:-1]), wrong("F-69", "longer-by-1", first, second, last + b"\0"),
        wrong("F-69", "cut-in-a-segment", first, second[:-1]), wrong("F-69", "cut-to-15-bytes", first, second[:15]),
        wrong("F-69", "last-segment-twice", first, second, last, last),
        wrong("F-70", "cut-at-a-border", first, second), wrong("F-70", "cut-after-the-first", first),
        Fault("F-70", "Open", "stream-without-an-end", seal(longer)),
        sealed_as("F-70", "last-too-early", [SEGMENT, 10], [Place(0, True), Place(1, True)]),
        Fault("F-71", "Open", "stream-empty-last-segment", seal(empty_last)),
        sealed_as("F-69", "counter-from-1", [50], [Place(1, True)]),
        sealed_as("F-69", "counter-little-endian", [SEGMENT, 10], [Place(0, False), little_endian]),
        sealed_as("F-69", "short-segment-inside", [SEGMENT - 1, 10], places(2)),
        sealed_as("F-69", "nonce-of-the-header", [10], [Place(0, True)], segment_prefix=nonce[5:]),
        *(sealed_as("F-69", f"aad-{name}", [10], places(1), payload_aad=wrong_aad) for name, wrong_aad in (
            ("of-suite-1", payload_aad(3, 0, K1.ring_id, SEVERAL)), ("without-the-context", aad[:-32]),
            ("with-the-context-itself", aad[:-32] + SEVERAL), ("of-another-suite", aad[:17] + b"\1" + aad[18:]))),
        Fault("F-69", "Open", "stream-context-other", good, ONE_PAIR),
        Fault("F-69", "Open", "stream-context-none", good, b""),
        Fault("F-69", "Open", "stream-context-instead-of-none", seal(stream("stream free", context=b"")), ONE_PAIR),
    ]


def stream_faults() -> list[Fault]:
    return header_faults() + key_faults() + segment_faults()
