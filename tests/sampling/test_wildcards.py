"""Wildcards and styles: what a seed chooses, what is recorded, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tenth.core.errors import DataError, InputError, RecipeError
from tenth.models.pocket.loader import load_pocket
from tenth.models.prompt_weights import plain_text
from tenth.sampling.prompts.completion import PromptCompletion
from tenth.sampling.prompts.rows import PromptRow
from tenth.sampling.prompts.styles import Style, read_style, read_styles
from tenth.sampling.prompts.vocabulary import prompt_warnings
from tenth.sampling.prompts.wildcards import Wildcards, open_wildcards, resolve_wildcards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "hair.txt": "# colors\ngray hair\n\n{black|brown} hair\r\n",
        "looks/all.txt": "a hat, __hair__\n",
        "loop.txt": "__loop__ __loop__\n",
        "wide.txt": f"{'{a|b}' * 2_000}\n",
        "none.txt": "# nothing\n",
        "open.txt": "{a|b\n",
    }.items():
        (tmp_path / "wildcards" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "wildcards" / name).write_text(text)
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "wildcards/link.txt").symlink_to(tmp_path / "secret.txt")
    return tmp_path / "wildcards"


def test_the_seed_alone_chooses_and_every_choice_comes() -> None:
    template = "a {smiling|serious|} {man|{old|young} woman}, {hat|glasses}"
    found = [resolve_wildcards(template, seed) for seed in range(400)]
    assert found == [resolve_wildcards(template, seed) for seed in range(400)]
    assert len(set(found)) == 3 * 3 * 2
    heads = Counter(prompt.split(" ")[1] for prompt in found)
    assert all(90 < heads[word] < 180 for word in ("smiling", "serious", ""))
    # Two choices of the same words are made apart, and a fixed seed is the same on every machine.
    assert len({resolve_wildcards("{a|b}{a|b}", seed) for seed in range(40)}) == 4
    assert [resolve_wildcards("{a|b|c}", seed) for seed in range(8)] == ["c", "b", "b", "c", "a", "b", "a", "a"]


def test_a_file_s_lines_are_choices_and_may_hold_choices(folder: Path) -> None:
    found = {resolve_wildcards("a man with __looks/all__", seed, Wildcards(folder)) for seed in range(60)}
    assert found == {f"a man with a hat, {color} hair" for color in ("gray", "black", "brown")}


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("a man", "a man"),
        ("a {man}", "a man"),
        ("a | b } c", "a | b } c"),
        ("snake_case and __ and _a_", "snake_case and __ and _a_"),
        (r"\{a\|b\} \_\_hair\_\_ \(c\)", "{a|b} __hair__ (c)"),
        (r"{a\|b}", "a|b"),
        ("a ({man:1.3})", "a man"),
    ],
)
def test_what_is_no_wildcard_stays(template: str, prompt: str) -> None:
    assert plain_text(resolve_wildcards(template, 0)).replace(":1.3", "") == prompt


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("__hare__", "hare.txt is not in .*Did you mean hair"),
        ("__../secret__", "is no file in .*a name such as"),
        ("__looks/../../secret__", "is no file in"),
        ("__/etc/passwd__", "is no file in"),
        ("__link__", "is no file in"),
        ("__looks__", "looks.txt is not in"),
        ("__none__", "has no line to choose"),
        ("__loop__", "at most 10 within each other"),
        ("__wide__", "at most 1,000 are possible"),
        ("__open__", "has no end"),
        ("a {man", r"a brace in 'a \{man' has no end"),
        ("{" * 30 + "}" * 30, "at most 10 within each other"),
    ],
)
def test_what_cannot_be_chosen_is_refused(template: str, said: str, folder: Path) -> None:
    with pytest.raises(InputError, match=said):
        resolve_wildcards(template, 0, Wildcards(folder))


def test_a_folder_is_read_where_it_is_or_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match="a folder of wildcards is needed"):
        resolve_wildcards("__hair__", 0, open_wildcards())
    monkeypatch.chdir(folder.parent)
    assert resolve_wildcards("__hair__", 0, open_wildcards()).endswith(" hair")
    with pytest.raises(DataError, match="is no folder"):
        open_wildcards(folder / "hair.txt")


def test_a_style_is_around_the_prompt_and_what_was_asked_is_recorded() -> None:
    style = Style(prompt="a {color|black and white} photo, {prompt}", negative_prompt="blurred")
    complete, row = PromptCompletion("mine", {"mine": style}), PromptRow("a {man|woman}", "a hat")
    made = complete(row, 1, "not read")
    assert made.prompt in {f"a {color} photo, a {who}" for color in ("color", "black and white") for who in ("man", "woman")}
    assert made.negative_prompt == "a hat, blurred"
    recorded = {"prompt_template": "a {man|woman}", "negative_prompt_template": "a hat"}
    assert made.metadata == {"style": "mine", **recorded}
    plain = PromptCompletion()(PromptRow("a man"), 1, "a hat")
    assert (plain.prompt, plain.negative_prompt, plain.metadata) == ("a man", "a hat", {})


def test_the_shipped_styles_are_in_words_that_the_pocket_model_knows() -> None:
    model, styles = load_pocket(), read_styles()
    assert len(styles) == 8
    for name, style in styles.items():
        for prompt in style.applied("a photo of a person", ""):
            assert prompt_warnings(model, prompt) == [], name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mine]\nprompt = 'a photo'\n", r"style mine: prompt is 'a photo'; needed: a text with \{prompt\} in it"),
        ("[mine]\nprompt = '{prompt}'\nnegative = 'a'\n", "'negative' is not a key"),
        ("[mine]\nnegative_prompt = 'a'\n", "'prompt' is missing"),
        ("mine = 'a {prompt}'\n", "mine is no table"),
        ("[mine]\nprompt = '(a:99) {prompt}'\n", "the weight 99"),
        ("[mine\n", "is not TOML"),
        ("[yours]\nprompt = '{prompt}'\n", "'mine' is not a style; choose one of: yours"),
    ],
)
def test_a_wrong_style_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "styles.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_style("mine", tmp_path / "styles.toml")


def test_a_misspelt_style_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean outdoors"):
        read_style("outdoor")
    with pytest.raises(RecipeError, match="does not exist"):
        read_style("smiling", Path("none.toml"))


def test_a_file_s_lines_end_where_an_editor_ends_them(tmp_path: Path) -> None:
    (tmp_path / "hair.txt").write_text("black\u2028hair\r\nred\x0bhair\n", newline="", encoding="utf-8")
    assert Wildcards(tmp_path).choices("hair") == ["black\u2028hair", "red\x0bhair"]
