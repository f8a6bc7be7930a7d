"""`verify` and `tenth verify`: marked, changed, stripped, foreign, and files that are none of these."""

from __future__ import annotations

import json
import os
from functools import partial
from io import BytesIO
from pathlib import Path

import c2pa
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from PIL import Image, PngImagePlugin

from mutations import mutations
from tally import SEED, TIMES, tally_inputs
from tenth.cli.main import main
from tenth.core.marks import manifest
from tenth.core.marks.key import own_key
from tenth.core.marks.manifest import SETTINGS, sign_image
from tenth.core.marks.png import MANIFEST_CHUNK, encode_png, find_chunk
from tenth.core.marks.verify import MarkState, verify
from tenth.core.marks.xmp import XMP
from toy_marks import STRENGTH, marked, noise, pixels_of, service_key

Output = pytest.CaptureFixture[str]


def state(content: bytes, tmp_path: Path) -> MarkState:
    path = tmp_path / "picture"
    path.write_bytes(content)
    return verify(path).state


def saved(content: bytes, image_format: str, **more: object) -> bytes:
    again = BytesIO()
    with Image.open(BytesIO(content)) as image:
        image.save(again, image_format, **more)
    return again.getvalue()


def without_manifest(content: bytes) -> bytes:
    place = find_chunk(content, MANIFEST_CHUNK)
    assert place
    return content[: place[0] - 8] + content[place[1] + 4 :]


def with_settings() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("tenth", "{}")
    return marked(noise(), info=info)


def test_a_change_anywhere_outside_of_the_manifest_is_seen(tmp_path: Path) -> None:
    content = marked(noise())
    place = find_chunk(content, MANIFEST_CHUNK)
    assert place
    for position in [*range(8, place[0] - 8, 5), *range(place[1] + 4, len(content), 211)]:
        changed = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        assert state(changed, tmp_path) == MarkState.CHANGED, position
    assert state(content + b"more", tmp_path) == MarkState.CHANGED


def test_a_change_of_what_is_signed_is_seen(tmp_path: Path) -> None:
    content = marked(noise())
    for what in (b"c2pa.created", b"trainedAlgorithmicMedia", b"xmp:iid:", b"hash.data"):
        position = content.index(what) + len(what) - 1
        changed = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        assert state(changed, tmp_path) == MarkState.CHANGED, what


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_a_picture_cut_off_is_never_marked(keep: float, tmp_path: Path) -> None:
    content = marked(noise())
    assert state(content[: int(len(content) * keep)], tmp_path) in (MarkState.CHANGED, MarkState.FOREIGN, MarkState.STRIPPED)


def test_what_is_left_of_our_marks_is_found(tmp_path: Path) -> None:
    content = with_settings()
    assert state(without_manifest(content), tmp_path) == MarkState.STRIPPED
    assert state(without_manifest(content).replace(XMP, XMP.replace(b"tenth", b"gimp!")), tmp_path) == MarkState.STRIPPED
    for image_format in ("PNG", "JPEG", "WEBP"):
        assert state(saved(content, image_format), tmp_path) == MarkState.FOREIGN  # a program that keeps no metadata
        if image_format != "PNG":
            assert state(saved(content, image_format, xmp=XMP), tmp_path) == MarkState.STRIPPED
    elements = b"<xmp:CreatorTool>tenth</xmp:CreatorTool>"  # as exiftool writes it
    assert state(saved(content, "JPEG", xmp=elements), tmp_path) == MarkState.STRIPPED
    assert state(saved(content, "JPEG", xmp=b'<a xmp:CreatorTool="tenth of a kind"/>'), tmp_path) == MarkState.FOREIGN


def test_another_programs_manifest_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = encode_png(Image.fromarray(noise()), photo=True)
    monkeypatch.setattr(manifest, "GENERATOR", "another")
    foreign = sign_image(plain, own_key())
    monkeypatch.undo()
    assert state(foreign, tmp_path) == MarkState.FOREIGN


def test_a_picture_that_was_edited_elsewhere_is_changed(tmp_path: Path) -> None:
    """An editor that signs what it writes keeps our manifest below its own."""
    key = service_key()
    private = key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    edit = {"claim_version": 2, "claim_generator_info": [{"name": "an editor"}]}
    edited = BytesIO()
    with c2pa.Context.from_dict(SETTINGS) as context:
        builder = c2pa.Builder(edit, context)
        builder.add_ingredient({"title": "a", "relationship": "parentOf"}, "image/png", BytesIO(marked(noise())))
        signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo("ed25519", key.certificates, private, None))
        builder.sign(signer, "image/png", BytesIO(encode_png(Image.fromarray(noise(1)), photo=True)), edited)
    (tmp_path / "a.png").write_bytes(edited.getvalue())
    mark = verify(tmp_path / "a.png")
    assert mark.state == MarkState.CHANGED
    assert "an editor wrote it anew" in mark.text


def test_a_watermark_outlives_jpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = noise(shape=(256, 256, 3)) // 2 + 64
    plain = saved(marked(picture), "JPEG", quality=80)
    monkeypatch.setenv("TENTH_WATERMARK", "toy_marks:watermark")
    content = marked(picture)
    assert abs(pixels_of(content).astype(int) - picture).max() <= STRENGTH
    assert content == marked(picture)
    assert state(content, tmp_path) == MarkState.MARKED
    assert state(saved(content, "JPEG", quality=80), tmp_path) == MarkState.STRIPPED
    assert state(plain, tmp_path) == MarkState.FOREIGN
    assert state(content[:4000], tmp_path) == MarkState.CHANGED
    assert (pixels_of(marked(picture, photo=True)) == picture).all()


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_mutated_files_get_an_answer(image_format: str, tmp_path: Path) -> None:
    own_key()
    content = marked(noise(shape=(12, 16, 3)))
    if image_format != "PNG":
        content = saved(content, image_format, xmp=XMP)
    path = tmp_path / "picture"

    def read(changed: bytes) -> MarkState:
        path.write_bytes(changed)
        return verify(path).state

    with tally_inputs(f"verify {image_format}") as tally:
        for number, changed in enumerate(mutations(content, SEED, 150 * TIMES)):
            tally.attempt(f"mutation {number}", partial(read, changed))


# The command


def test_each_file_has_a_line_and_the_worst_is_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    content = marked(noise())
    for name, each in {
        "marked.png": content,
        "changed.png": content + b"x",
        "stripped.png": without_manifest(content),
        "foreign.jpg": saved(content, "JPEG"),
        "empty.png": b"",
        "text.png": b"no picture",
    }.items():
        Path(name).write_bytes(each)
    assert main(["verify", "marked.png"]) == 0
    assert capsys.readouterr().out == "marked.png  marked: tenth made it, and it is unchanged; signed by this user's key\n"
    for words, code in {
        ("changed.png", "marked.png"): 3,
        ("stripped.png", "changed.png"): 3,
        ("stripped.png", "marked.png"): 4,
        ("foreign.jpg", "stripped.png"): 4,
        ("foreign.jpg",): 5,
        ("foreign.jpg", "no-such.png"): 1,
        ("empty.png",): 1,
    }.items():
        assert main(["verify", *words]) == code
        said = capsys.readouterr()
        bad = [word for word in words if word in ("no-such.png", "empty.png")]
        assert [line.split()[0] for line in said.out.splitlines()] == [word for word in words if word not in bad]
        assert [line.split()[:2] for line in said.err.splitlines()] == [["tenth:", word] for word in bad]


def test_what_is_no_picture_is_said(tmp_path: Path, capsys: Output) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge.png").touch()
    os.truncate(tmp_path / "huge.png", 1 << 30)
    (tmp_path / "text.png").write_text("no picture")
    names = ["pipe", "huge.png", "text.png", "missing.png", "."]
    assert main(["verify", *(str(tmp_path / name) for name in names), "--json"]) == 1
    files = json.loads(capsys.readouterr().out)["files"]
    assert {each["mark"] for each in files} == {"unreadable"}
    for each, said in zip(
        files, ("a pipe or a device", "more than", "is no PNG, JPEG or WebP", "does not exist", "is a folder"), strict=True
    ):
        assert said in each["text"]
        assert "Choose another file" in each["text"]


def test_json_says_the_same(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "a.png").write_bytes(marked(noise()))
    assert main(["verify", str(tmp_path / "a.png"), "--json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert (file["name"], file["mark"], file["own_key"]) == (str(tmp_path / "a.png"), "marked", True)
