"""Several prompts, and files of prompts: what is generated of each row, and what is refused before anything is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tenth.cli.main import main
from tenth.core.errors import DataError
from tenth.core.files.png_metadata import read_sample
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.prompts.rows import PromptRow, read_prompt_rows

Output = pytest.CaptureFixture[str]
ROWS = [
    {"prompt": "a man", "negative_prompt": "a hat", "seed": 7, "size": "64x128", "num_images": 2},
    {"prompt": "a woman, smiling"},
]


@pytest.fixture
def draw(identity_file: Path, toy_folder: Path) -> Callable[..., int]:
    """`tenth generate` of the toy identity in one step."""
    return lambda output, *more: main(
        ["generate", str(identity_file), "--model", str(toy_folder), "--steps", "1", "-o", str(output), *map(str, more)]
    )


def said_by(folder: Path) -> list[tuple[Any, ...]]:
    """Prompt, seed, negative prompt and size of each image, in order."""
    found = []
    for path in sorted(folder.glob("[0-9]*.png")):
        said = read_sample(path)
        with Image.open(path) as image:
            found.append((said["prompt"], said["seed"], said["negative_prompt"], image.size))
    return found


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_a_row_of_a_file_has_what_it_says_and_the_rest_of_the_command(
    name: str, draw: Callable[..., int], tmp_path: Path
) -> None:
    table = 'prompt,negative_prompt,seed,size,num_images\na man,a hat,7,64x128,2\n,,,,\n"a woman, smiling",,,,\n'
    text = table if name.endswith(".csv") else "\n\n".join(map(json.dumps, ROWS))
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert read_prompt_rows(tmp_path / name)[0] == PromptRow(
        "a man", "a hat", 7, Size(64, 128), None, 2, f"{tmp_path / name}, row {2 if name.endswith('.csv') else 1}"
    )
    assert draw(tmp_path / "out", "--prompts", tmp_path / name, "--seed", "3", "--negative-prompt", "a beard") == 0
    man = ("a man", 7, "a hat", (64, 128)), ("a man", 8, "a hat", (64, 128))
    assert said_by(tmp_path / "out") == [*man, ("a woman, smiling", 3, "a beard", (128, 128))]
    record = json.loads((tmp_path / "out/run.json").read_text())["settings"]
    assert [each["prompt"] for each in record["requests"]] == ["a man", "a man", "a woman, smiling"]
    assert [each.get("hires", {}).get("size") for each in record["requests"]] == ["64x128", "64x128", None]


@pytest.mark.parametrize("character", "\u2028\x85\x0b\x1c")
def test_a_row_ends_where_an_editor_ends_it(character: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f'prompt,seed\r\na{character}man,1\r\n"two\nlines",2\r\n', newline="", encoding="utf-8")
    prompts = [(row.prompt, row.source[-5:]) for row in read_prompt_rows(tmp_path / "rows.csv")]
    assert prompts == [(f"a{character}man", "row 2"), ("two\nlines", "row 3")]


def test_a_line_of_text_is_a_prompt_and_comments_are_none(draw: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("# people\n\n  a man  \r\na woman # smiling\n")
    assert [row.source[-5:] for row in read_prompt_rows(tmp_path / "rows.txt")] == ["row 3", "row 4"]
    assert draw(tmp_path / "out", "--prompts", tmp_path / "rows.txt", "-n", "2") == 0
    assert [said[:2] for said in said_by(tmp_path / "out")] == [
        ("a man", 0), ("a man", 1), ("a woman # smiling", 0), ("a woman # smiling", 1)
    ]  # fmt: skip


def test_of_several_prompts_each_has_the_images_it_has_alone(draw: Callable[..., int], tmp_path: Path, capsys: Output) -> None:
    prompts = ("a man", "a smiling woman")
    assert draw(tmp_path / "both", "--prompt", prompts[0], "--prompt", prompts[1], "-n", "4", "--seed", "2") == 0
    assert [said[:2] for said in said_by(tmp_path / "both")] == [(prompt, seed) for prompt in prompts for seed in range(2, 6)]
    for number, prompt in enumerate(prompts):
        assert draw(tmp_path / prompt, "--prompt", prompt, "--seed", "2") == 0
        for index in range(4):
            alone, beside = tmp_path / prompt / f"{index:04d}.png", tmp_path / "both" / f"{4 * number + index:04d}.png"
            assert alone.read_bytes() == beside.read_bytes()
    assert "requests" not in json.loads((tmp_path / "a man/run.json").read_text())["settings"]
    capsys.readouterr()
    assert draw(tmp_path / "both", "--prompt", prompts[1], "--prompt", prompts[0], "-n", "4", "--seed", "2") == 1
    assert "holds the images of another run" in capsys.readouterr().err


def test_rows_of_one_method_share_an_identity(
    face_photos: list[Path], toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenth.methods.ip_adapter import IPAdapter

    made, make = [], IPAdapter.__call__
    monkeypatch.setattr(IPAdapter, "__call__", lambda self, *given: made.append(self) or make(self, *given))
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    methods = ["ip-adapter", None, "ip-adapter-avg", "ip-adapter", "ip-adapter-avg", None]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps({'prompt': 'a man', 'method': name})}\n" for name in methods))
    photos = tmp_path / "photos"
    photos.mkdir()
    for photo in face_photos[:2]:
        (photos / photo.name).write_bytes(photo.read_bytes())
    given = ["--model", str(toy_folder), "--steps", "1", "--method", "ip-adapter-max", "-o", str(tmp_path / "out")]
    assert main(["generate", str(photos), "--prompts", str(tmp_path / "rows.jsonl"), *given]) == 0
    assert len(made) == 3
    found = [read_sample(path)["method"] for path in sorted((tmp_path / "out").glob("[0-9]*.png"))]
    assert found == [name or "ip-adapter-max" for name in methods]


# Bad files: what is in one, and what is said of it.
BAD_FILES = {
    "rows.csv": {
        "prompt,sed\na,1\n": "row 1: 'sed' is not a column; known columns: prompt, negative_prompt, seed, size, method,"
        " num_images. Did you mean seed?",
        "prompt,prompt\na,b\n": "row 1: it names a column twice",
        "prompt,seed\na,1\nb,x\n": "row 3: seed is 'x'; a whole number from 0",
        "prompt,seed\na,1\nb\n": "row 3: it has 1 values, and the header 2",
        'prompt,seed\na,1\n"b,1\n': "row 3: it is not CSV",
        "seed\n1\n": "row 2: it has no prompt",
        "prompt\n": "holds no prompt",
        "prompt,size\na,100\n": "row 2: the size 100x100; both sides are to be multiples of 8",
    },
    "rows.jsonl": {
        '{"prompt": "a"}\n{"prompt": 5}\n': "row 2: prompt is 5",
        '{"prompt": "a"}\n\n{"prompt": "b"\n': "row 3: it is not JSON",
        '["a"]': "row 1: it is no JSON object",
        '{"prompt": "a", "prompt": "b"}': "row 1: it has the key 'prompt' twice",
        '{"prompt": "a", "seed": true}': "row 1: seed is True",
        '{"prompt": "a", "seed": -1}': "row 1: seed is -1",
        '{"prompt": "a", "seed": 9223372036854775807, "num_images": 2}': "row 1: seed is 9223372036854775808",
        '{"prompt": "a", "size": [1]}': "row 1: size is [1]",
        '{"prompt": "a", "size": 1024}': "row 1: the size 1024x1024 is 8.0 times 128x128",
        '{"prompt": "a", "num_images": 0}': "row 1: num_images is 0",
        '{"prompt": "a"}\n{"prompt": "a", "num_images": 10000}': "10,001 images; a folder holds at most 10,000",
        '{"prompt": "a", "method": "ip-adapter"}': "row 1: the method 'ip-adapter'; an identity file has its own",
        '{"prompt": "a", "Prompt": "b"}': "row 1: 'Prompt' is not a column",
    },
    "rows.txt": {"# nothing\n\n": "holds no prompt", "\udcff": "is not UTF-8"},
    "rows.toml": {"a": "a name that ends in .txt, .csv, .jsonl is needed"},
}


@pytest.mark.parametrize(
    ("name", "text", "said"), [(name, *case) for name, cases in BAD_FILES.items() for case in cases.items()]
)
def test_a_file_is_refused_with_the_row_before_anything_is_written(
    name: str, text: str, said: str, draw: Callable[..., int], tmp_path: Path, capsys: Output
) -> None:
    (tmp_path / name).write_text(text, errors="surrogateescape")
    assert draw(tmp_path / "out", "--prompts", tmp_path / name) == 1
    found = capsys.readouterr()
    assert said in found.err
    assert (found.err.count("\n"), found.out) == (1, "")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_or_beside_a_prompt(draw: Callable[..., int], tmp_path: Path, capsys: Output) -> None:
    with pytest.raises(DataError, match="does not exist; a file of prompts is needed"):
        read_prompt_rows(tmp_path / "none.txt")
    assert draw(tmp_path / "out", "--prompts", "rows.txt", "--prompt", "a man") == 2
    assert "leave out --prompt" in capsys.readouterr().err


def test_an_unknown_method_of_a_row_is_named(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "rows.csv").write_text("prompt,method\na,ip-adapter\nb,ip-adaptor\n")
    assert main(["generate", str(tmp_path), "--prompts", str(tmp_path / "rows.csv"), "-o", str(tmp_path / "out")]) == 1
    assert "row 3: 'ip-adaptor' is not a method" in capsys.readouterr().err


def test_a_template_is_chosen_by_the_seed_and_recorded(draw: Callable[..., int], tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words/who.txt").write_text("man\nwoman\n")
    given = ["--prompt", "a photo of a {smiling|bald} __who__", "--wildcards", tmp_path / "words", "--style", "outdoors"]
    assert draw(tmp_path / "out", *given, "-n", "6", "--negative-prompt", "a hat") == 0
    said = [read_sample(path) for path in sorted((tmp_path / "out").glob("[0-9]*.png"))]
    assert len({each["prompt"] for each in said}) > 2
    assert all(each["prompt"].endswith(", outdoors, in the sun") and "{" not in each["prompt"] for each in said)
    assert {each["negative_prompt"] for each in said} == {"a hat, indoors"}
    recorded = [(each["style"], each["prompt_template"], each["negative_prompt_template"]) for each in said]
    assert set(recorded) == {("outdoors", given[1], "a hat")}

    # The prompt that a PNG says gives that image again, whatever its template was.
    again = ["--settings-from", tmp_path / "out/0003.png", "-n", "1"]
    assert draw(tmp_path / "again", *again) == 0
    with Image.open(tmp_path / "again/0000.png") as one, Image.open(tmp_path / "out/0003.png") as other:
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1  # it was in a batch
    capsys.readouterr()
    assert draw(tmp_path / "out", *given, "-n", "6", "--negative-prompt", "a hat") == 0
    (tmp_path / "words/who.txt").write_text("girl\n")
    assert draw(tmp_path / "out", *given, "-n", "6", "--negative-prompt", "a hat") == 1
    assert "holds the images of another run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "more", "said"),
    [
        (1, ["--prompt", "a {man"], "a brace in 'a {man' has no end"),
        (1, ["--prompt", "a __who__"], "__who__ is a wildcard; a folder of wildcards is needed"),
        (1, ["--prompt", "a (man:99)"], "the weight 99 of 'man'; a number from 0 to 10 is needed"),
        (1, ["--prompt", "a man", "--negative-prompt", "(hat:-1)"], "the weight -1 of 'hat'"),
        (1, ["--prompt", "a man", "--wildcards", "none"], "none is no folder"),
        (1, ["--prompt", "a man", "--style", "smilling"], "'smilling' is not a style"),
        (1, ["--prompt", "a man", "--style", "smiling", "--styles", "none.toml"], "none.toml does not exist"),
        (2, ["--prompt", "a man", "--styles", "none.toml"], "it is for --style"),
        (2, ["--prompt", "a man", "--style", "smiling", "--style", "serious"], "is given twice"),
        (2, ["--prompt", "a man", "-n", "0"], "'0' is not a whole number from 1 to 10000"),
        (1, ["--prompt", "a man", "--prompt", "b", "-n", "6000"], "12,000 images; a folder holds at most 10,000"),
        (2, [], "it is needed, or --settings-from or --prompts"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_written(
    code: int, more: list[str], said: str, draw: Callable[..., int], tmp_path: Path, capsys: Output
) -> None:
    assert draw(tmp_path / "out", *more) == code
    found = capsys.readouterr()
    assert said in found.err
    assert (found.err.count("\n"), found.out) == (1, "")
    assert not (tmp_path / "out").exists()
