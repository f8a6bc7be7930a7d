"""Marked PNGs: the same pixels and texts, both marks, equal bytes, and nothing in them that says whose they are."""

from __future__ import annotations

import getpass
import json
import os
import platform
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree as ET

import c2pa
import numpy as np
import pytest
from cryptography import x509
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fresh import Fresh
from tenth import save_sample
from tenth.core.errors import DataError, RecipeError
from tenth.core.files.png_metadata import read_sample
from tenth.core.marks.jumbf import with_fixed_salts
from tenth.core.marks.key import own_key
from tenth.core.marks.manifest import SETTINGS
from tenth.core.marks.png import MANIFEST_CHUNK, encode_png, find_chunk, mark_png, write_png
from tenth.core.marks.verify import MarkState, verify
from tenth.core.marks.xmp import DIGITAL_SOURCE_TYPE
from tenth.core.types import Sample
from toy_marks import assert_marked, marked, noise, p256_signer, pixels_of, service_key

SAMPLE = Sample(
    noise(), "a secret prompt", 3, "ip-adapter", "toy", {"negative_prompt": "", "steps": 1, "guidance_scale": 1.0}, 0.0
)
COUNT = 60  # of pictures; benchmarks/marks.py has a thousand


def manifest_of(content: bytes) -> bytes:
    place = find_chunk(content, MANIFEST_CHUNK)
    assert place
    return content[place[0] : place[1]]


def test_pictures_of_any_size_keep_their_pixels_and_verify(tmp_path: Path) -> None:
    chance, paths = random.Random(0), []
    for number in range(COUNT):
        channels = chance.choice(((), (3,), (4,)))
        pixels = noise(number, (chance.randint(1, 70), chance.randint(1, 70), *channels))
        info = PngInfo()
        info.add_text("tenth", json.dumps({"prompt": "é" * chance.randint(0, 90)}))
        path = tmp_path / f"{number}.png"
        write_png(path, Image.fromarray(pixels), chance.choice((None, info)))
        assert (pixels_of(path.read_bytes()) == pixels).all()  # their PSNR is infinite
        paths.append(path)
    assert_marked(*paths)


def test_what_a_library_user_saves_is_marked_and_reads_back(tmp_path: Path) -> None:
    save_sample(SAMPLE, tmp_path / "a.png")
    assert_marked(tmp_path / "a.png")
    assert read_sample(tmp_path / "a.png")["prompt"] == "a secret prompt"


def test_equal_pictures_have_equal_bytes_in_every_process(tmp_path: Path, fresh: Fresh) -> None:
    content = marked(noise())
    assert content == marked(noise())
    assert content != marked(noise(1))
    program = "from PIL import Image; from toy_marks import noise; from tenth.core.marks.png import write_png"
    done = fresh.python(f"{program}; write_png('other.png', Image.fromarray(noise()))", tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "other.png").read_bytes() == content


def test_a_second_mark_changes_nothing(tmp_path: Path) -> None:
    content = marked(noise())
    assert mark_png(content) == content
    assert mark_png(content, service_key()) == content


def test_others_read_it_as_valid_and_made_by_a_model() -> None:
    """By c2pa's own settings, and by no settings of ours; the signer is not one whom they know."""
    with c2pa.Reader("image/png", BytesIO(marked(noise()))) as reader:
        assert reader.get_validation_state() == "Valid"
        report = json.loads(reader.json())
    (manifest,) = report["manifests"].values()
    assert [each["label"] for each in manifest["assertions"]] == ["c2pa.actions.v2"]
    action = {"action": "c2pa.created", "digitalSourceType": DIGITAL_SOURCE_TYPE}
    assert manifest["assertions"][0]["data"]["actions"] == [action]
    assert [each["code"] for each in report["validation_status"]] == ["signingCredential.untrusted"]
    assert "thumbnail" not in manifest


def test_xmp_is_where_readers_of_metadata_look() -> None:
    with Image.open(BytesIO(marked(noise()))) as image:
        root = ET.fromstring(image.info["xmp"].decode().partition("?>")[2].rpartition("<?")[0])
    ((description,),) = root
    assert description.attrib["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"] == DIGITAL_SOURCE_TYPE


def test_nothing_signed_says_whose_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "of-anna"
    save_sample(replace(SAMPLE, settings={**SAMPLE.settings, "note": "of-anna"}), folder / "a.png")
    manifest = manifest_of((folder / "a.png").read_bytes())
    for secret in ("secret prompt", "anna", str(tmp_path), str(Path.home()), platform.node(), getpass.getuser()):
        if len(secret) > 3:  # a shorter name of a machine is in any signature by chance
            assert secret.encode() not in manifest
    for certificate in x509.load_pem_x509_certificates(own_key().certificates):
        names = {attribute.value for name in (certificate.subject, certificate.issuer) for attribute in name}
        assert names <= {"tenth", "tenth issuer"}
        assert certificate.not_valid_before_utc.isoformat() == "2025-01-01T00:00:00+00:00"  # not when the key was made


def test_a_photo_is_not_called_a_models(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", Image.fromarray(noise()), photo=True)
    assert verify(tmp_path / "a.png").state == MarkState.FOREIGN
    assert DIGITAL_SOURCE_TYPE.encode() not in (tmp_path / "a.png").read_bytes()


def test_marks_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_MARKS", "off")
    plain = marked(noise())
    monkeypatch.setenv("TENTH_MARKS", "on")
    assert len(marked(noise())) - len(plain) in range(3000, 4000)
    monkeypatch.setenv("TENTH_MARKS", "no")
    with pytest.raises(RecipeError, match="TENTH_MARKS is 'no'"):
        marked(noise())


@pytest.mark.parametrize("name", ["service_key", "p256_signer"])
def test_a_service_gives_its_own_signer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_SIGNER", f"toy_marks:{name}")
    (tmp_path / "a.png").write_bytes(marked(noise()))
    mark = verify(tmp_path / "a.png")
    assert (mark.state, mark.own_key) == (MarkState.MARKED, False)
    assert "another's key" in mark.text
    assert (marked(noise()) == marked(noise())) == (name == "service_key")  # ECDSA is random
    assert (pixels_of(marked(noise())) == noise()).all()


@pytest.mark.parametrize("value", ["toy_marks", "toy_marks:nothing", "no_module:name", ":", "toy_marks:NAME:x"])
def test_a_signer_that_is_none_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_SIGNER", value)
    with pytest.raises(RecipeError, match="TENTH_SIGNER is"):
        marked(noise())


def test_a_signer_that_c2pa_refuses_is_told_so() -> None:
    plain = encode_png(Image.fromarray(noise()), photo=True)
    with pytest.raises(DataError, match="pictures cannot be signed"):
        mark_png(plain, replace(p256_signer(), certificates=b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
    with pytest.raises(RecipeError, match="'rot13' is no algorithm of C2PA"):
        mark_png(plain, replace(p256_signer(), algorithm="rot13"))


def test_a_store_of_another_build_is_refused() -> None:
    store = manifest_of(marked(noise()))
    for damaged in (
        store[:-1],
        store[:40],
        store.replace(b"c2pa.claim.v2", b"c2pa.claim.v3"),
        store.replace(b"\xd2\x84", b"\xd2\x85"),
    ):
        with pytest.raises(ValueError, match=r"box|claim|COSE"):
            with_fixed_salts(damaged, own_key().sign)
    with pytest.raises(ValueError, match="no PNG"):
        mark_png(b"GIF89a")


def test_no_network_is_used(tmp_path: Path) -> None:
    """In a namespace without a route, and no setting that would ask for one."""
    assert not any(SETTINGS["verify"].values())
    assert SETTINGS["core"] == {"allowed_network_hosts": []}
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], check=False).returncode:
        pytest.skip("this system lets no user make a network namespace")
    program = (
        "import socket; from pathlib import Path; from toy_marks import *\n"
        "assert [name for _, name in socket.if_nameindex()] == ['lo']\n"
        "Path('a.png').write_bytes(marked(noise())); assert_marked(Path('a.png'))"
    )
    paths = ":".join(path for path in sys.path if path)
    done = subprocess.run(
        ["unshare", "-rn", "env", f"PYTHONPATH={paths}", sys.executable, "-c", program],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_what_is_shown_to_everybody_loads_no_library_for_marks(tmp_path: Path) -> None:
    program = "import sys; from tenth.cli.app import help_page; import tenth.core.marks.png; help_page()"
    program += "; print({'c2pa', 'cryptography'} & set(sys.modules))"
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}  # no fork: these have the libraries from their server
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=os.environ | paths, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


def test_alpha_and_grey_survive() -> None:
    for shape in ((5, 7), (5, 7, 4)):
        assert np.array_equal(pixels_of(marked(noise(0, shape))), noise(0, shape))
