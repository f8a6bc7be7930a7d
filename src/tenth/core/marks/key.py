"""The key by which a user's pictures are signed: made at first use, in the data folder, for its owner alone to read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenth.core.errors import CheckpointError, DataError
from tenth.core.files.reading import UnreadableError, read_bytes, reason
from tenth.core.files.writing import PRIVATE_FILE_MODE, make_private_folder, write_bytes
from tenth.core.places import data_dir

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_KEY_BYTES = 1 << 16
# The same for every user: a certificate that said when it was made would say when somebody began.
NOT_BEFORE, NOT_AFTER = datetime(2025, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280: no end


@dataclass(frozen=True)
class OwnKey:
    """A user's key. certificates: its own, then that of the issuer, whose key was thrown away, as PEM."""

    key: Ed25519PrivateKey
    certificates: bytes
    algorithm: str = "ed25519"

    def sign(self, data: bytes) -> bytes:
        """64 bytes, the same for the same data."""
        return self.key.sign(data)


def key_path() -> Path:
    """Where the user's key is, or will be."""
    return data_dir() / "marks" / "key.pem"


def own_key() -> OwnKey:
    """The user's key, made now if there is none. Raises DataError if it cannot be read or written, or is no key of ours."""
    return _read_or_make(key_path())


def own_certificates() -> bytes:
    """The certificates of the user's key as PEM; b"" if there is no key yet, or none that can be read. Nothing is made."""
    try:
        return _read(key_path()).certificates
    except (FileNotFoundError, DataError):
        return b""


@cache
def _read_or_make(path: Path) -> OwnKey:
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    needed = "a folder for the key that signs pictures is needed"
    try:
        make_private_folder(path.parent)
        write_bytes(path, new_key(), PRIVATE_FILE_MODE, no_overwrite=True)
    except CheckpointError:  # another process was quicker; its key is ours
        pass
    except DataError as problem:
        raise DataError(problem.found, needed, "Set TENTH_DATA_DIR to a folder where this user may write") from problem
    return _read(path)


def _read(path: Path) -> OwnKey:
    """Raises FileNotFoundError where nothing is, else DataError."""
    needed, action = "the key that signs pictures is needed", "Remove it: a new one is made"
    try:
        return read_key(read_bytes(path, MAX_KEY_BYTES))
    except (FileNotFoundError, NotADirectoryError) as problem:
        raise FileNotFoundError(path) from problem
    except (OSError, UnreadableError) as problem:
        raise DataError(f"{path} {reason(problem)}", needed, action) from problem
    except ValueError as problem:
        raise DataError(f"{path} is no key of tenth's", needed, action) from problem


def read_key(pem: bytes) -> OwnKey:
    """A private key and its certificates, in one text. Raises ValueError for anything else."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates

    key = load_pem_private_key(pem, None)
    if not isinstance(key, Ed25519PrivateKey) or load_pem_x509_certificates(pem)[0].public_key() != key.public_key():
        raise ValueError("no Ed25519 key with its certificate first")
    return OwnKey(key, pem[pem.index(b"-----BEGIN CERTIFICATE-----") :])


def new_key() -> bytes:
    """A key with its certificates as PEM. They name the program: no person, host or time."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, issuer = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    chain = (_certificate(key, issuer, issued=True), _certificate(issuer, issuer, issued=False))
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + b"".join(certificate.public_bytes(pem) for certificate in chain)


def _certificate(key: Ed25519PrivateKey, issuer: Ed25519PrivateKey, *, issued: bool) -> Any:
    """As the C2PA specification asks for. issued: a certificate to sign pictures with, else the issuer's own."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(text: str) -> x509.Name:
        organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tenth")
        return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, text)])

    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")
    usage = dict.fromkeys(others, False) | {"digital_signature": issued, "key_cert_sign": not issued, "crl_sign": not issued}
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("tenth" if issued else "tenth issuer"))
        .issuer_name(name("tenth issuer"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=not issued, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    )
    if issued:  # one of the purposes that C2PA's own list of trust allows
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer, None)
