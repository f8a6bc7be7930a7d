"""C2PA manifests: one that says that a model made a picture, and what a file's manifest says. No network is ever asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from io import BytesIO
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tenth.core.errors import DataError, RecipeError
from tenth.core.marks.signer import Signer
from tenth.core.marks.xmp import DIGITAL_SOURCE_TYPE, GENERATOR

if TYPE_CHECKING:
    import c2pa

ED25519 = "ed25519"
# No thumbnail, no time stamp, no question to any host; trust is asked about alone where `read_manifest` is given a certificate.
SETTINGS: dict[str, Any] = {
    "version": 1,
    "core": {"allowed_network_hosts": []},
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {
        "verify_after_sign": False,
        "verify_trust": False,
        "verify_timestamp_trust": False,
        "ocsp_fetch": False,
        "remote_manifest_fetch": False,
    },
}


@dataclass(frozen=True)
class ManifestReport:
    """What the manifests of a picture say.

    generators: the programs of all manifests, that of the active one first. sound: its signature and all of its hashes fit.
    made_by_model: it says so. own: signed by the given issuer's key.
    """

    generators: tuple[str, ...]
    sound: bool
    made_by_model: bool
    own: bool


def sign_image(content: bytes, signer: Signer, media_type: str = "image/png") -> bytes:
    """A picture with a manifest store, in a PNG after its header: a model made it, by this program. Pixels and texts stay.

    For an Ed25519 signer the signature is one to be replaced: `with_fixed_salts` has the signer sign what stays. Raises
    RecipeError for another algorithm than C2PA's, DataError if c2pa refuses the signer's certificates or it fails to sign.
    """
    import c2pa

    # Both ids follow from the content: no time, and nothing random.
    digest = sha256(content).digest()
    definition = {
        "claim_version": 2,
        "label": f"urn:c2pa:{UUID(bytes=digest[:16], version=4)}",
        "instance_id": f"xmp:iid:{UUID(bytes=digest[16:], version=4)}",
        "claim_generator_info": [{"name": GENERATOR, "version": version("tenth")}],
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "created": True,
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": DIGITAL_SOURCE_TYPE}]},
            }
        ],
    }
    signed = BytesIO()
    try:
        with _native_signer(signer) as native, c2pa.Context.from_dict(SETTINGS) as context:
            c2pa.Builder(definition, context).sign(native, media_type, BytesIO(content), signed)
    except c2pa.C2paError as problem:
        needed = "a key with certificates that C2PA takes is needed"
        raise DataError(
            f"pictures cannot be signed ({problem})", needed, "Correct the signer and its certificates"
        ) from problem
    return signed.getvalue()


def _native_signer(signer: Signer) -> c2pa.Signer:
    """As c2pa has it. Only where c2pa holds the key does it leave no more room than a signature needs, a fourth of the other.

    So for Ed25519 it gets a key that has signed nothing in the end.
    """
    import c2pa

    if signer.algorithm == ED25519:
        return c2pa.Signer.from_info(c2pa.C2paSignerInfo(ED25519, signer.certificates, _passing_key(), None))
    algorithms = {each.name.lower(): each for each in c2pa.C2paSigningAlg}
    if signer.algorithm not in algorithms:
        known = f"choose one of: {', '.join(sorted(algorithms))}"
        raise RecipeError(f"{signer.algorithm!r} is no algorithm of C2PA", known, "Correct the signer")
    return c2pa.Signer.from_callback(signer.sign, algorithms[signer.algorithm], signer.certificates.decode())


@cache
def _passing_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, plain)


def read_manifest(content: bytes, media_type: str, own_certificates: bytes = b"") -> ManifestReport | None:
    """What the manifests in a picture say; None if it has none that can be read. own_certificates: PEM, of the user's key."""
    import c2pa

    settings = SETTINGS | {"verify": SETTINGS["verify"] | {"verify_trust": bool(own_certificates)}}
    if own_certificates:
        settings["trust"] = {"user_anchors": own_certificates.decode()}
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader(media_type, BytesIO(content), context=context) as reader,
        ):
            store, state = json.loads(reader.json()), reader.get_validation_state()
    except c2pa.C2paError:
        return None
    active = store["manifests"][store["active_manifest"]]
    others = [manifest for manifest in store["manifests"].values() if manifest is not active]
    generators = tuple(_generator(manifest) for manifest in (active, *others))
    return ManifestReport(generators, state in ("Valid", "Trusted"), _made_by_model(active), state == "Trusted")


def _generator(manifest: Mapping[str, Any]) -> str:
    entries = manifest.get("claim_generator_info") or [{}]
    return str(entries[0].get("name") or manifest.get("claim_generator") or "")


def _made_by_model(manifest: Mapping[str, Any]) -> bool:
    assertions = [each["data"] for each in manifest.get("assertions", []) if each["label"].startswith("c2pa.actions")]
    actions = [action for data in assertions for action in data.get("actions", [])]
    return any(action.get("digitalSourceType") == DIGITAL_SOURCE_TYPE for action in actions)
