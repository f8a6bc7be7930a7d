"""A C2PA manifest store that is the same each time: c2pa salts each assertion with random bytes, which are replaced here.

The store is a tree of JUMBF boxes (ISO/IEC 19566-5), each a length, a type and a payload. A superbox's payload begins with its
description, which holds its label and its salt. The claim holds the hash of each assertion, the signature that of the claim:
both follow from the salts. Source: the C2PA specification 2, "Hashing JUMBF boxes" and "Digital signatures".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

SALT_BOX = b"\0\0\0\x18c2sh"  # length and type, before the salt
SALT_BYTES, SIGNATURE_BYTES = 16, 64
COSE_SIGN1 = b"\xd2\x84"  # CBOR: tag 18, an array of four: protected and other headers, payload, signature
LAST_PARTS = b"\xf6\x58\x40"  # CBOR: null, as the claim is elsewhere; a byte string of 64, the signature
LENGTH_BYTES = {0x58: 1, 0x59: 2, 0x5A: 4}  # CBOR: of a byte string, by its first byte


@dataclass(frozen=True)
class Superbox:
    """Where a superbox's payload is, and where the box that follows its description."""

    label: str
    start: int
    content: int
    end: int


def with_fixed_salts(store: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """The manifest store with salts that follow from its own label, signed anew. sign: gives an Ed25519 signature.

    Raises ValueError if the store is not built as C2PA 2 has it.
    """
    # Salts, and the hash of each assertion before and after.
    changed, superboxes = bytearray(store), list(_superboxes(store, 0, len(store)))
    hashes = {}
    for box in superboxes:
        salt = store.find(SALT_BOX, box.start, box.content) + len(SALT_BOX)
        if salt >= len(SALT_BOX):
            changed[salt : salt + SALT_BYTES] = sha256(f"{superboxes[1].label}/{box.label}".encode()).digest()[:SALT_BYTES]
            hashes[sha256(store[box.start : box.end]).digest()] = sha256(changed[box.start : box.end]).digest()

    # The claim has each hash once; it is what is signed.
    start, end = _payload(store, superboxes, "c2pa.claim.v2")
    claim = store[start:end]
    for before, after in hashes.items():
        if claim.count(before) != 1:
            raise ValueError("an assertion's hash is not in the claim")
        claim = claim.replace(before, after)
    changed[start:end] = claim
    start, end = _payload(store, superboxes, "c2pa.signature")
    changed[end - SIGNATURE_BYTES : end] = sign(_to_be_signed(store[start:end], claim))
    return bytes(changed)


def _to_be_signed(signature: bytes, claim: bytes) -> bytes:
    """A Sig_structure of the protected headers and the claim: RFC 9052, 4.4."""
    headers, last = signature[len(COSE_SIGN1) :], signature[-SIGNATURE_BYTES - len(LAST_PARTS) : -SIGNATURE_BYTES]
    if not signature.startswith(COSE_SIGN1) or last != LAST_PARTS or headers[0] not in LENGTH_BYTES:
        raise ValueError("the signature is no COSE_Sign1 of 64 bytes")
    start = 1 + LENGTH_BYTES[headers[0]]
    protected = headers[: start + int.from_bytes(headers[1:start], "big")]
    return b"\x84\x6aSignature1" + protected + b"\x40" + _byte_string(claim)


def _byte_string(content: bytes) -> bytes:
    """CBOR's, of at least 24 and fewer than 2**32 bytes: with the shortest length."""
    first, count = next((first, count) for first, count in LENGTH_BYTES.items() if len(content) < 256**count)
    return bytes([first]) + len(content).to_bytes(count, "big") + content


def _payload(store: bytes, superboxes: list[Superbox], label: str) -> tuple[int, int]:
    """Start and end of what the only box of a superbox holds."""
    found = [box for box in superboxes if box.label == label]
    if len(found) != 1:
        raise ValueError(f"there is not one {label}")
    ((_, start, end),) = _boxes(store, found[0].content, found[0].end)
    return start, end


def _superboxes(store: bytes, start: int, end: int) -> Iterator[Superbox]:
    """All of them, each before those in it."""
    for kind, payload, stop in _boxes(store, start, end):
        if kind == b"jumb":
            _, description, content = next(_boxes(store, payload, stop))
            label = store[description + 17 : content].split(b"\0", 1)[0].decode()  # after a type and a byte of switches
            yield Superbox(label, payload, content, stop)
            yield from _superboxes(store, content, stop)


def _boxes(store: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the payload of each box from one position to another."""
    while start < end:
        length, kind = struct.unpack(">I4s", store[start : start + 8])
        if not 8 <= length <= end - start:
            raise ValueError("a box does not end where it should")
        yield kind, start + 8, start + length
        start += length
