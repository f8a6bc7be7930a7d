"""What tests say of marks, and what stands for a service: signers of its own, and a watermark."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from PIL import Image

from tenth.core.marks.key import OwnKey, new_key, read_key
from tenth.core.marks.png import encode_png
from tenth.core.marks.verify import MarkState, verify
from tenth.core.types import Pixels

STRENGTH = 6.0  # of the watermark, in 1/255


def assert_marked(*paths: Path) -> None:
    """Each is a picture of tenth's, as it was written."""
    assert paths
    found = {path: verify(path) for path in paths}
    assert not {path: mark for path, mark in found.items() if mark.state != MarkState.MARKED or not mark.own_key}


def noise(seed: int = 0, shape: tuple[int, ...] = (48, 64, 3)) -> Pixels:
    """A picture that no filter makes smaller."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def marked(pixels: Pixels, **more: Any) -> bytes:
    return encode_png(Image.fromarray(pixels), **more)


def pixels_of(content: bytes) -> Pixels:
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image)


@cache
def service_key() -> OwnKey:
    """A service's own key of the same kind."""
    return read_key(new_key())


@dataclass(frozen=True)
class P256Signer:
    """A service's key of another kind, such as a certificate authority signs."""

    key: ec.EllipticCurvePrivateKey
    certificates: bytes
    algorithm: str = "es256"

    def sign(self, data: bytes) -> bytes:
        parts = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return b"".join(part.to_bytes(32, "big") for part in parts)


@cache
def p256_signer() -> P256Signer:
    key, issuer = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    template = x509.load_pem_x509_certificates(service_key().certificates)[0]
    builder = (
        x509.CertificateBuilder(template.issuer, template.subject, key.public_key(), 7)
        .not_valid_before(dt.datetime(2025, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2100, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    )
    for extension in template.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier | x509.SubjectKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    return P256Signer(key, builder.sign(issuer, hashes.SHA256()).public_bytes(Encoding.PEM))


class ToyWatermark:
    """A pattern of low frequency, found again by its correlation with the pixels: it outlives JPEG."""

    def _pattern(self, height: int, width: int) -> np.ndarray[Any, Any]:
        small = np.random.default_rng(10).choice([-1.0, 1.0], (height // 8 + 1, width // 8 + 1))
        return np.kron(small, np.ones((8, 8)))[:height, :width, None]

    def embed(self, pixels: Pixels) -> Pixels:
        return np.clip(np.rint(pixels + STRENGTH * self._pattern(*pixels.shape[:2])), 0, 255).astype(np.uint8)

    def detect(self, pixels: Pixels) -> bool:
        pattern = self._pattern(*pixels.shape[:2])
        return bool(((pixels - pixels.mean()) * pattern).mean() > STRENGTH / 2)


def watermark() -> ToyWatermark:
    return ToyWatermark()
