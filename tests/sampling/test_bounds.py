"""One set of bounds for how pictures are drawn: the library, a recipe, the command line and a picture refuse the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image, PngImagePlugin

from parsed_commands import every_command, parse
from tenth.cli.main import main
from tenth.core.config import from_table
from tenth.core.errors import InputError, RecipeError
from tenth.experiments.generation.png_settings import read_png_settings
from tenth.experiments.generation.request import inherit
from tenth.experiments.recipe import ExperimentRecipe
from tenth.sampling.bounds import MAX_PROMPT_CHARS, SETTING_RANGES
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request

GENERATE = ["generate", "me", "--prompt", "a", "-o", "out"]
WRONG: dict[str, tuple[Any, ...]] = {
    "steps": (0, -1, 1e12, 1001, 2.5, True, float("nan"), "2"),
    "guidance_scale": (0.9, -1, 51, 1e300, float("nan"), float("inf"), True, "2"),
    "guidance_rescale": (-0.1, 1.1, float("nan"), "0"),
    "text_guidance_scale": (-0.1, 51, float("nan"), float("inf")),
    "ip_adapter_scale": (-0.1, 2.1, float("nan"), "1", [1.0], {"left": 1.0}),
    "guidance_interval": ([0.5], [0.5, 0.2], [-0.1, 1.0], [0.0, float("nan")], 0.5, ["0", "1"]),
    "scheduler": ("heun", 3, ["ddim"]),
    "precision": ("int8", 16),
    "negative_prompt": ("a" * (MAX_PROMPT_CHARS + 1), "half a character: \ud800", "a\0b", 3),
}
RIGHT: dict[str, tuple[Any, ...]] = {
    "steps": (1, 1000),
    "guidance_scale": (1, 1.0, 50.0),
    "guidance_rescale": (0.0, 1),
    "text_guidance_scale": (0.0, 50),
    "ip_adapter_scale": (0, 2.0, {"up": {"block_0": [0, 1, 0]}}),
    "guidance_interval": ((0.0, 1.0), (0.5, 0.5)),
    "scheduler": ("", "ddim"),
    "precision": ("fp32", "bf16"),
    "negative_prompt": ("", "a hat", "a" * MAX_PROMPT_CHARS),
}
CASES = [(name, value) for name, values in WRONG.items() for value in values]


def of_a_recipe(name: str, value: Any) -> object:
    table = {"split": "test", "data": {"people": "people.jsonl", "photos": "photos"}, "sampling": {name: value}}
    return from_table(ExperimentRecipe, table)


def of_a_picture(name: str, value: Any, path: Path) -> object:
    info = PngImagePlugin.PngInfo()
    info.add_text("tenth", json.dumps({"prompt": "a", "seed": 0, name: value}))
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    return read_png_settings(path)


def test_every_setting_is_tried() -> None:
    assert set(WRONG) == set(RIGHT) == set(SamplingConfig.__dataclass_fields__)


@pytest.mark.parametrize(("name", "value"), CASES, ids=lambda value: str(value)[:20].encode("ascii", "replace").decode())
def test_what_cannot_be_is_refused_wherever_it_is_said(name: str, value: Any, tmp_path: Path) -> None:
    asking: tuple[Callable[[], object], ...] = (
        lambda: SamplingConfig(**{name: value}),
        lambda: of_a_recipe(name, value),
        lambda: of_a_picture(name, value, tmp_path / "a.png"),
    )
    for ask in asking:
        with pytest.raises(InputError) as told:
            ask()
        assert len(str(told.value)) < 700 + len(str(tmp_path))


@pytest.mark.parametrize("name", RIGHT)
def test_what_can_be_is_taken_wherever_it_is_said(name: str, tmp_path: Path) -> None:
    for value in RIGHT[name]:
        assert getattr(SamplingConfig(**{name: value}), name) == value
        assert of_a_recipe(name, json.loads(json.dumps(value)))
        assert of_a_picture(name, value, tmp_path / "a.png")


# Settings whose option has another name.
OPTIONS = {"ip_adapter_scale": "adapter_scale", "text_guidance_scale": "text_guidance"}


def typed(name: str, value: Any) -> list[str]:
    """As the command line has it."""
    values = value if isinstance(value, list | tuple) and name == "guidance_interval" else [value]
    return [
        f"--{OPTIONS.get(name, name).replace('_', '-')}",
        *(json.dumps(each) if isinstance(each, dict) else str(each) for each in values),
    ]


TYPED = [
    (name, value)
    for name, value in CASES
    if name not in ("guidance_rescale", "negative_prompt")  # no option sets the one; whatever is typed is a text
    and (isinstance(value, float | list) or type(value) is int)
    and value != ["0", "1"]  # what is typed is read as numbers
]


@pytest.mark.parametrize(("name", "value"), TYPED)
def test_the_command_line_has_the_same_bounds(
    name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("me").mkdir()
    code = main([*GENERATE, *typed(name, value)])
    said = capsys.readouterr()
    assert (code, said.out) in ((1, ""), (2, ""))
    assert OPTIONS.get(name, name).replace("_", "-") in said.err.replace("_", "-")


@pytest.mark.parametrize("name", [name for name in RIGHT if name not in ("guidance_rescale", "negative_prompt")])
def test_the_command_line_takes_what_can_be(name: str) -> None:
    for value in RIGHT[name]:
        if value != "":
            _, given = parse([*GENERATE, *typed(name, value)])
            request, _ = inherit({"prompts": ("a",), "sampling": {name: given[OPTIONS.get(name, name)]}}, None)
            assert request.sampling == SamplingConfig(**{name: value})


def test_the_options_read_their_bounds_from_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow one, and both the setting and its option refuse more."""
    monkeypatch.setitem(SETTING_RANGES, "steps", type(SETTING_RANGES["steps"])(1, 7, integer=True))  # type: ignore[index]
    with pytest.raises(RecipeError, match="a whole number from 1 to 7"):
        SamplingConfig(steps=8)
    with pytest.raises(typer.BadParameter, match="a whole number from 1 to 7"):
        parse([*GENERATE, "--steps", "8"])


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, None])
def test_a_seed_that_is_none_is_refused(seed: Any) -> None:
    with pytest.raises(RecipeError, match="a whole number from 0 to 9223372036854775807 is needed"):
        Request(None, "a", seed)


@pytest.mark.parametrize("prompt", ["a" * (MAX_PROMPT_CHARS + 1), "half a character: \ud800", "a\0b", 3, None])
def test_a_prompt_that_is_none_is_refused_before_anything_is_loaded(
    prompt: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RecipeError, match=r"prompt is .*a text of at most 20,000 characters"):
        Request(None, prompt, 0)
    if isinstance(prompt, str) and "\0" not in prompt:  # which no command line can have
        assert main(["generate", str(tmp_path / "nobody"), "--prompt", prompt, "-o", str(tmp_path / "out")]) == 1
        assert "a text of at most 20,000 characters" in capsys.readouterr().err


def test_seeds_beyond_the_last_are_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = str(2**63 - 1)
    assert main(["generate", str(tmp_path / "nobody"), "--prompt", "a", "--seed", last, "-o", str(tmp_path / "out")]) == 1
    assert "seed is 9223372036854775810" in capsys.readouterr().err


# An option that is given twice


def twice() -> list[tuple[str, str]]:
    """Every option of one value, of every command, by each of its names, and the command."""
    return [
        (path, name)
        for path, command in every_command()
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
        # `tenth` alone has options that print and leave; an option of several values is given once for each
        if name.startswith("-") and path and not getattr(parameter, "multiple", False)
    ]


@pytest.mark.parametrize(("command", "option"), twice())
def test_an_option_is_given_once(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"--guidance-interval": ["0", "1"], "--device": ["cpu"], "--precision": ["fp32"], "--layout": ["kohya"]}
    values |= {"--scheduler": ["ddim"], "--fold": ["1"], "--size": ["64"]}
    values |= {name: [] for name in ("--json", "--resume", "--summary", "--face-detailer", "--no-face-detailer")}
    given = [option, *values.get(option, ["1"])]
    assert main([*command.split(), *given, *given]) == 2
    assert "is given twice; give it once" in capsys.readouterr().err


@pytest.mark.parametrize("more", ["--steps=1 --steps=2", "--face-detailer --no-face-detailer", "-n 1 -n2", "--seed=1 --seed 1"])
def test_another_way_of_writing_it_is_twice_too(more: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GENERATE, *more.split()]) == 2
    assert "is given twice; give it once" in capsys.readouterr().err


def test_what_follows_two_hyphens_is_no_option() -> None:
    assert parse(["photos", "--", "--json"])[1] == {"sources": [Path("--json")], "json": False}


@pytest.mark.parametrize("more", ["-o --json", "--negative-prompt --steps 3", "--prompt --steps 3"])
def test_an_option_is_no_value_of_another(more: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "me", "--prompt", "a", *more.split()]) == 2
    assert "is an option, where a value belongs" in capsys.readouterr().err


def test_an_option_is_given_by_its_whole_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GENERATE, "--step", "3"]) == 2
    assert "No such option: --step" in capsys.readouterr().err
