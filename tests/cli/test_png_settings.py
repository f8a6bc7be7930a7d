"""`tenth generate --settings-from`: a picture's own settings again, and no picture that can do harm."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from tenth.cli.main import main
from tenth.core.errors import DataError
from tenth.core.files.png_metadata import read_sample, save_sample
from tenth.core.types import Identity, Sample
from tenth.experiments.generation.png_settings import read_png_settings
from tenth.experiments.generation.request import inherit
from tenth.methods.identity_file import save_identity
from tenth.models.registry import load_model
from tenth.sampling.bounds import MAX_PROMPT_CHARS
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.hires import HiresConfig
from toy_models import write_stable

Output = pytest.CaptureFixture[str]
Draw = Callable[..., int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and an identity of it beside it."""
    folder = tmp_path_factory.mktemp("like")
    model = load_model(str(write_stable("sd15", folder / "model")))
    made = Identity(
        "ip-adapter", model.name, model.encoder.name, model.adapter_name, torch.ones(1, model.encoder.embedding_dim)
    )
    save_identity(made, folder / "me.safetensors")
    return folder


@pytest.fixture
def draw(folder: Path) -> Draw:
    """`tenth generate` of one picture, with more arguments."""

    def run(output: Path, *more: str) -> int:
        given = ["generate", str(folder / "me.safetensors"), "--model", str(folder / "model"), "-n", "1", "-o", str(output)]
        return main([*given, *more])

    return run


def picture(path: Path, said: str, key: str = "tenth") -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, said)
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    return path


def says(path: Path, **said: Any) -> Path:
    return picture(path, json.dumps({"prompt": "a man", "seed": 3} | said))


def test_a_image_is_generated_again_from_what_it_says(draw: Draw, tmp_path: Path, capsys: Output) -> None:
    asked = [
        "--prompt",
        "a photo of a man",
        "--negative-prompt",
        "a hat",
        "--seed",
        "7",
        "--steps",
        "2",
        "--guidance-scale",
        "2.5",
    ]
    more = ["--adapter-scale", '{"up": 0.5}', "--scheduler", "euler", "--guidance-interval", "0.1", "0.9"]
    assert draw(tmp_path / "one", *asked, *more) == 0
    one = tmp_path / "one/0000.png"
    capsys.readouterr()
    assert draw(tmp_path / "again", "--settings-from", str(one)) == 0
    assert (tmp_path / "again/0000.png").read_bytes() == one.read_bytes()
    said = capsys.readouterr().err
    for text in (
        "from 0000.png:",
        "prompt 'a photo of a man'",
        "seed 7",
        "negative prompt 'a hat'",
        "steps 2",
        "guidance scale 2.5",
    ):
        assert text in said
    for text in ("scheduler 'euler'", "guidance interval (0.1, 0.9)", "ip adapter scale {'up': 0.5}"):
        assert text in said
    assert "will be others" not in said


def test_what_is_given_wins_and_is_not_said_to_be_taken(draw: Draw, tmp_path: Path, capsys: Output) -> None:
    like = says(
        tmp_path / "old.png", steps=2, guidance_scale=2.5, negative_prompt="a hat", scheduler="euler", method="ip-adapter"
    )
    given = ["--prompt", "a woman", "--seed", "0", "--negative-prompt", "", "--scheduler", "own"]
    assert draw(tmp_path / "out", "--settings-from", str(like), *given) == 0
    said = read_sample(tmp_path / "out/0000.png")
    assert [said[name] for name in ("prompt", "seed", "negative_prompt", "steps", "guidance_scale")] == [
        "a woman",
        0,
        "",
        2,
        2.5,
    ]
    assert said["scheduler"] == ""
    told = capsys.readouterr().err
    assert "from old.png: steps 2, guidance scale 2.5\n" in told
    assert "a hat" not in told
    assert "euler" not in told


def test_a_size_is_taken_too_and_another_wins(draw: Draw, tmp_path: Path, capsys: Output) -> None:
    asked = ["--prompt", "a man", "--steps", "2", "--size", "32x24", "--strength", "0.5", "--no-face-detailer"]
    assert draw(tmp_path / "one", *asked) == 0
    one = tmp_path / "one/0000.png"
    assert draw(tmp_path / "again", "--settings-from", str(one)) == 0
    assert (tmp_path / "again/0000.png").read_bytes() == one.read_bytes()
    assert draw(tmp_path / "weaker", "--settings-from", str(one), "--strength", "0") == 0
    assert read_sample(tmp_path / "weaker/0000.png")["strength"] == 0
    assert draw(tmp_path / "other", "--settings-from", str(one), "--size", "24") == 0
    assert Image.open(tmp_path / "other/0000.png").size == (24, 24)
    capsys.readouterr()
    plain = str(says(tmp_path / "plain.png"))
    assert draw(tmp_path / "none", "--settings-from", plain, "--strength", "0.5") == 1
    assert "Give a size too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"strength": 0.5, "face_strength": 0.5, "face_detailed": False}, HiresConfig(32, 24, 0.5)),
        (
            {"strength": 0.0, "face_strength": 0.3, "face_detailed": True},
            HiresConfig(32, 24, None, True),
        ),  # of the pocket model
        ({"strength": 0.0, "face_strength": 0.0, "face_detailed": False}, HiresConfig(32, 24, 0.0, False)),
    ],
)
def test_how_a_size_was_come_to_is_read(said: dict[str, Any], wanted: HiresConfig, tmp_path: Path) -> None:
    assert read_png_settings(says(tmp_path / "x.png", size="32x24", **said)).hires == wanted


@pytest.mark.parametrize(
    "said",
    [{"size": "33x24", "strength": 0.5}, {"size": [32], "strength": 0.5}, {"size": "32"}, {"size": "32", "strength": "0.5"},
     {"size": "32", "strength": 2.0}, {"size": "32", "strength": 0.5, "face_strength": True}],
)  # fmt: skip
def test_a_size_that_nobody_asked_for_is_refused(said: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a PNG as tenth wrote it is needed"):
        read_png_settings(says(tmp_path / "x.png", **said))


def test_strength_and_face_are_changed_together(tmp_path: Path) -> None:
    """Each alone would not go with what the image says of the other."""
    old = read_png_settings(says(tmp_path / "x.png", size="32x24", strength=0.5, face_strength=0.5, face_detailed=True))
    request, _ = inherit({"strength": 0.0, "face_detailer": False}, old)
    assert (request.size, request.strength, request.face_detailer) == ("32x24", 0.0, False)


def test_another_model_or_method_is_said(draw: Draw, tmp_path: Path, capsys: Output) -> None:
    like = says(tmp_path / "old.png", steps=1, model="pocket@0", method="dreambooth")
    assert draw(tmp_path / "out", "--settings-from", str(like)) == 0
    told = capsys.readouterr().err
    assert "old.png was made with model pocket@0, this is model@" in told
    assert "old.png was made with method dreambooth, this is ip-adapter: the images will be others" in told


@pytest.mark.slow
def test_from_photos_the_image_s_method_is_taken(
    face_photos: list[Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    photos = tmp_path / "photos"
    photos.mkdir()
    for photo in face_photos[:2]:
        (photos / photo.name).write_bytes(photo.read_bytes())
    given = ["generate", str(photos), "--model", str(folder / "model"), "-n", "1"]
    for name, method in (("ip-adapter-max", "ip-adapter-max"), ("dreambooth", "ip-adapter-consensus"), ("/a/b.toml", None)):
        like = says(tmp_path / "old.png", steps=1, method=name)
        out = tmp_path / name.replace("/", "")
        assert main([*given, "--settings-from", str(like), "-o", str(out)]) == 0
        assert read_sample(out / "0000.png")["method"] == (method or "ip-adapter-consensus")


def test_a_image_of_an_older_version_has_today_s_defaults_for_the_rest(tmp_path: Path) -> None:
    found = read_png_settings(picture(tmp_path / "old.png", '{"prompt": "a man"}'))
    assert (found.prompt, found.seed, found.sampling, found.model) == ("a man", 0, SamplingConfig(), "")
    newer = read_png_settings(says(tmp_path / "new.png", unheard_of=1, steps=3))
    assert newer.sampling == SamplingConfig(steps=3)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("{", "carries damaged settings"),
        ("[]", "carries damaged settings"),
        ("[" * 40_000, "carries damaged settings"),
        ('{"prompt": "%s"}' % ("a" * 1_100_000), "carries damaged settings"),
        ('{"kind": "demo"}', "prompt is None"),
        (json.dumps({"prompt": "a" * (MAX_PROMPT_CHARS + 1)}), "prompt is 'aaa"),
        (json.dumps({"prompt": ["a"]}), "prompt is ['a']"),
        (json.dumps({"prompt": "\ud800"}), "half a character"),
        *(
            (json.dumps({"prompt": "a"} | odd), text)
            for odd, text in (
                ({"seed": -1}, "seed is -1"),
                ({"seed": 2**63}, "a whole number of more than 64 bits"),
                ({"seed": True}, "seed is True"),
                ({"seed": 1.5}, "seed is 1.5"),
                ({"steps": 0}, "steps is 0"),
                ({"steps": 10**9}, "steps is 1000000000"),
                ({"steps": "2"}, "steps is '2'"),
                ({"guidance_scale": float("nan")}, "holds NaN, which is no number"),
                ({"guidance_scale": 1e9}, "guidance_scale is 1000000000.0"),
                ({"guidance_rescale": -1}, "guidance_rescale is -1"),
                ({"ip_adapter_scale": [1]}, "scale is"),
                ({"ip_adapter_scale": 9}, "scale is 9"),
                ({"ip_adapter_scale": {"up": {"block_0": ["x"]}}}, "scale of up.block_0"),
                ({"negative_prompt": 5}, "negative_prompt is 5"),
                ({"negative_prompt": "a" * (MAX_PROMPT_CHARS + 1)}, "negative_prompt is "),
                ({"scheduler": "/etc"}, "'/etc' is not a scheduler"),
                ({"scheduler": "lcm", "steps": 100}, "100 steps of lcm"),
                ({"guidance_interval": [0.5]}, "guidance_interval is"),
                ({"guidance_interval": 3}, "guidance_interval is 3"),
                ({"text_guidance_scale": -1.0}, "text_guidance_scale is -1.0"),
                ({"text_guidance_scale": 1e9}, "text_guidance_scale is 1000000000.0"),
            )
        ),
    ],
    ids=lambda value: value[:40],
)
def test_what_nobody_could_have_asked_for_is_said_in_one_line(said: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"; a PNG as tenth wrote it is needed\. ") as problem:
        read_png_settings(picture(tmp_path / "odd.png", said))
    assert found in str(problem.value)
    assert len(str(problem.value)) < 400 + len(str(tmp_path))


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def test_files_that_are_no_image_of_ours(draw: Draw, tmp_path: Path, capsys: Output) -> None:
    plain = (tmp_path / "plain.png", b"")
    Image.new("RGB", (4, 4)).save(plain[0])
    whole = plain[0].read_bytes()
    head, rest = whole[:33], whole[33:]
    bomb = chunk(b"zTXt", b"tenth\0\0" + zlib.compress(b" " * 50_000_000))
    large = whole[:16] + (200_000).to_bytes(4, "big") * 2 + whole[24:29]
    large = whole[:8] + chunk(b"IHDR", large[16:29]) + rest
    files = {
        "text.png": (b"not a picture", "is not a PNG"),
        "cut.png": (whole[:20], "PNG"),
        "bomb.png": (head + bomb + rest, "carries a text that is too long"),
        "large.png": (large, "is not a PNG"),
        "plain.png": (whole, "carries no settings of tenth"),
    }
    for name, (content, found) in files.items():
        (tmp_path / name).write_bytes(content)
        assert draw(tmp_path / "out", "--settings-from", str(tmp_path / name)) == 1, name
        told = capsys.readouterr().err
        assert found in told, told
        assert told.count("\n") == 1
    for place, found in ((tmp_path / "nowhere.png", "does not exist"), (tmp_path, "is a folder")):
        assert draw(tmp_path / "out", "--settings-from", str(place)) == 1
        assert found in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_prompt_or_a_image_is_needed(draw: Draw, tmp_path: Path, capsys: Output) -> None:
    assert draw(tmp_path / "out") == 2
    assert "--prompt: it is needed, or --settings-from" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more",
    ["--adapter-scale {", '--adapter-scale {"left":1}', "--scheduler heun", "--guidance-interval 0 2", "--guidance-interval 0"],
)
def test_options_that_are_none_are_wrong_usage(more: str, draw: Draw, tmp_path: Path) -> None:
    assert draw(tmp_path / "out", "--prompt", "a man", *more.split()) == 2


def test_the_longest_prompts_of_any_script_are_read_back(tmp_path: Path) -> None:
    longest = "\U0001f600" * MAX_PROMPT_CHARS  # each character is two escapes of JSON
    templates = {"prompt_template": longest, "negative_prompt_template": longest}
    settings = asdict(SamplingConfig(negative_prompt=longest)) | templates
    save_sample(Sample(np.zeros((8, 8, 3), np.uint8), longest, 0, "ip-adapter", "toy@0", settings, 0.0), tmp_path / "a.png")
    read = read_png_settings(tmp_path / "a.png")
    assert (read.prompt, read.sampling.negative_prompt) == (longest, longest)
