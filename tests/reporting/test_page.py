"""The page: all of a record is on it, nothing in a record becomes code, and it asks for nothing from elsewhere."""

from __future__ import annotations

import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tenth.cli.main import main
from tenth.core.config import from_table, to_table
from tenth.core.errors import CheckpointError, DataError
from tenth.experiments.recipe import ExperimentRecipe
from tenth.experiments.runner import read_experiment
from tenth.reporting.html.gallery import PEOPLE
from tenth.reporting.html.page import page, write_page
from tenth.reporting.html.reproduce import recipe_toml

EARLIER = Path(__file__).parent / "earlier"
Record = dict[str, Any]
VOID = {"meta", "link", "img", "br"}


class Tree(HTMLParser):
    """What a browser would find: elements in order, their text, and whether each was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def tree(record: Record, folder: Path) -> Tree:
    found = Tree(page(record, folder))
    assert found.open == []
    return found


def test_every_part_is_there_in_its_order(record: Record, run_folder: Path) -> None:
    text = page(record, run_folder)
    titles = re.findall(r"<h2>(.+?)</h2>", text)
    assert titles == [
        *("Scores", "The published table", "More photos", "Likeness or copy", "Differences, pair by pair"),
        *("Images", "Cost", "What failed", "How to repeat it"),
    ]
    anchors = re.findall(r'<a href="#([^"]+)"', text)
    assert len(anchors) == len(titles)
    assert all(f'id="{anchor}"' in text for anchor in anchors)


def test_methods_and_controls_with_value_interval_and_reason(record: Record, tmp_path: Path) -> None:
    text = tree(record, tmp_path).text
    for said in ("0.130 [0.110, 0.150]", "as drawn 0.123", "real photos", "average of the references", "n = 53 people"):
        assert said in text
    for head in ("identity ↑", "copy index ↓", "FID ↓", "face distance ↓", "coverage ↑"):
        assert head in text


def test_a_reason_that_a_whole_block_shares_is_said_once(record: Record, tmp_path: Path) -> None:
    text = page(record, tmp_path)
    assert (
        text.count('<td class="none" colspan="4" rowspan="5">needs the Inception file</td>') == 4
    )  # 2 tracks, 2 groups of rows


def test_what_was_not_measured_is_said_first(record: Record, tmp_path: Path) -> None:
    text = tree(record, tmp_path).text
    banner = "Not measured: FID, FID∞, KID and Inception score. Needs the Inception file."
    assert text.index(banner) < text.index("5 methods, 3 people", text.index(banner))


def test_figures_without_meaning_are_called_so_first(record: Record, tmp_path: Path) -> None:
    assert "means nothing" not in page(record, tmp_path)
    record["results"]["meaningless"] = "By random weights: it means nothing."
    text = page(record, tmp_path)
    assert text.index("it means nothing") < text.index("<h1>")


def test_the_finding_is_in_the_numbers(record: Record, tmp_path: Path) -> None:
    text = tree(record, tmp_path).text
    assert "Tracks R and P: With 9 photos of each of 53 people, judged by judge," in text
    assert "ip-adapter-avg and dreambooth are more like the person than ip-adapter ; ip-adapter-max is less like" in text
    assert "cannot be told apart from it (corrected p < 0.05)." in text


def test_nothing_is_said_to_be_better_without_a_correction(record: Record, tmp_path: Path) -> None:
    for difference in record["results"]["differences"]:
        difference["p_holm"] = None
    text = tree(record, tmp_path).text
    assert "no method is said to be better" in text
    assert "more like the person than ip-adapter" not in text


def test_levels_are_not_called_better(record: Record, tmp_path: Path) -> None:
    for difference in record["results"]["differences"]:
        difference["p_holm"] = 0.05
    assert "cannot be told apart from ip-adapter (corrected" in tree(record, tmp_path).text


def test_a_recogniser_that_a_method_reads_is_no_judge(record: Record, tmp_path: Path) -> None:
    record["results"]["judges"][0]["headline"] = False
    assert "For choosing only: a method has read this recogniser." in tree(record, tmp_path).text


def test_better_than_real_is_a_warning(record: Record, tmp_path: Path) -> None:
    for score in record["results"]["scores"]:
        if score["method"] == "dreambooth" and score["metric"] == "identity":
            score["value"] = 0.9
    assert "Above real photos is a warning" in tree(record, tmp_path).text


def test_the_published_ranges_are_given_as_ranges(record: Record, tmp_path: Path) -> None:
    text = tree(record, tmp_path).text
    assert "14 to 17 9 to 10 needs the Inception file" in text
    assert "not comparable" in text


def test_a_difference_is_read_in_both_directions(record: Record, tmp_path: Path) -> None:
    text = page(record, tmp_path)
    assert '<td class="less"><b>\N{MINUS SIGN}0.070</b><small>p &lt; 0.001</small><small>wins 25 %</small></td>' in text
    assert '<td class="more"><b>+0.070</b><small>p &lt; 0.001</small><small>wins 75 %</small></td>' in text


def test_nothing_in_a_record_becomes_code(record: Record, run_folder: Path) -> None:
    evil = '"><img src=x onerror=alert(1)><script>'
    results = record["results"]
    results["meaningless"] = record["written"] = results["judges"][0]["note"] = evil
    results["tracks"] = {evil: {"prompts": [evil], "images": 1}}
    for score in results["scores"]:
        score["track"] = evil
        score["unavailable"] = score["unavailable"] and evil
    record["settings"] |= {"split": evil, evil: evil}
    record["environment"] = {evil: evil}
    found = tree(record, run_folder)
    assert found.all("script") == []
    assert all(str(image["src"]).startswith("data:image/webp;base64,") for image in found.all("img"))
    assert not [key for _, attributes in found.found for key in attributes if key.startswith("on")]
    assert "<script>alert('a')</script>" in found.text


def test_nothing_is_asked_from_elsewhere(record: Record, run_folder: Path) -> None:
    text = page(record, run_folder)
    links = [str(each.get("href") or each.get("src")) for name, each in Tree(text).found if name in ("a", "link", "img")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"https?://|@import|url\(", text)


def test_tables_and_pictures_have_words(record: Record, run_folder: Path) -> None:
    found = tree(record, run_folder)
    tables = [attributes for attributes in found.all("table") if attributes.get("class") != "images"]
    assert len(found.all("caption")) == len(tables) > 5
    assert all("scope" in attributes for attributes in found.all("th"))
    assert all(attributes.get("alt") for attributes in found.all("img"))
    assert all(attributes.get("aria-label") for attributes in found.all("svg"))
    assert len(found.all("svg")) == 2 * (5 + 2)  # on each track a panel for each method, and two pictures


def test_images_are_shown_by_number_and_seed(record: Record, run_folder: Path) -> None:
    found = tree(record, run_folder)
    texts = [str(attributes["alt"]) for attributes in found.all("img")]
    assert texts[:2] == ["person 000, photo 1 given", "person 000, photo 2 given"]
    seeds = [text for text in texts if text.startswith("ip-adapter, person 000")]
    assert seeds == [f"ip-adapter, person 000, seed {seed}" for seed in (0, 1, 10)]
    assert "<script>alert('a')</script>, person 001, seed 10" in texts
    assert "dreambooth, person 001, seed 10" not in texts
    assert "no image" in found.text
    assert f"Of 3 people the first 2 with images, at most {PEOPLE}" in found.text


def test_without_images_the_page_says_so(record: Record, tmp_path: Path) -> None:
    found = tree(record, tmp_path)
    assert found.all("img") == []
    assert "The images are not in this folder." in found.text


def test_a_number_that_is_a_path_opens_nothing(record: Record, run_folder: Path) -> None:
    record["results"]["people"] = ["../000", "..", "a/b"]
    assert tree(record, run_folder).all("img") == []


def test_a_method_that_is_a_path_opens_nothing(record: Record, run_folder: Path) -> None:
    (run_folder / "images/9/dreambooth").rename(run_folder.parent / "private")
    for score in record["results"]["scores"]:
        score["method"] = score["method"].replace("dreambooth", "../../../private")
    assert not [image for image in tree(record, run_folder).all("img") if str(image["alt"]).startswith("../")]


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"half"], ids=["empty", "foreign", "half"])
def test_a_damaged_image_is_an_error_that_names_it(content: bytes, record: Record, run_folder: Path) -> None:
    path = run_folder / "images/9/dreambooth/000/0.png"
    path.write_bytes(path.read_bytes()[:90] if content == b"half" else content)
    with pytest.raises(DataError, match=r"0\.png is no whole PNG"):
        page(record, run_folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "generate"}, "of kind 'generate'"),
        ({"results": {"format": 3}}, "format 3"),
        ({"results": {"identity": {"judge": [{}]}}}, "earlier layout and not whole"),
        ({"results": {"format": 2}}, "no score of a method"),
        ({"results": {"format": 2, "scores": [{"track": "R"}]}}, "scores, entry 0 has no key 'photos'"),
        ({"results": {"format": 2, "scores": ["R"]}}, "'R' is no table"),
        (
            {
                "results": {
                    "format": 2,
                    "scores": [{"track": "", "photos": 9, "method": "a", "metric": "b", "value": float("nan")}],
                }
            },
            "value is not a finite number",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_record_is_refused(change: Record, said: str, record: Record, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        page(record | change, tmp_path)


@pytest.mark.parametrize("name", ["identity", "curve"])
def test_records_of_earlier_layouts_are_read(name: str, tmp_path: Path) -> None:
    """Two that were published when the layout was another, of a pocket model of that time."""
    record = json.loads((EARLIER / f"{name}.json").read_text())
    found = tree(record, tmp_path)
    conditions = next(iter(record["results"]["identity"].values()))
    for row in [row for condition in conditions for row in condition.get("rows", [condition])]:
        assert f"{row['similarity']['value']:.3f}" in found.text
    assert "no method is said to be better" in found.text
    assert ("More photos" in found.text) == (name == "curve")
    assert "real photos score 0.615" in found.text


def test_the_recipe_of_a_record_is_one() -> None:
    recipe = read_experiment(Path(__file__).parents[2] / "recipes/comparison-test.toml")
    settings = json.loads(json.dumps(to_table(recipe), default=str))
    assert from_table(ExperimentRecipe, tomllib.loads(recipe_toml(settings))) == recipe


def test_text_in_a_recipe_survives(record: Record) -> None:
    assert tomllib.loads(recipe_toml(record["settings"]))["prompt"] == 'a "b" \\ c'


# The command


def test_the_command_writes_beside_the_record(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (run_folder, run_folder / "run.json"):  # the second time the page is there already
        assert main(["report", str(given)]) == 0
        assert capsys.readouterr().out == f"{run_folder / 'report.html'}\n"
    assert (run_folder / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_the_command_writes_where_it_is_told(run_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "pages" / "a.html"
    assert main(["report", str(run_folder), "-o", str(target)]) == 0
    assert target.exists()
    assert not (run_folder / "report.html").exists()


def test_a_file_of_the_users_is_not_replaced(run_folder: Path) -> None:
    (run_folder / "mine.html").write_text("<p>mine")
    for target in (run_folder / "mine.html", run_folder / "images"):
        with pytest.raises(CheckpointError, match="no page of tenth's"):
            write_page(run_folder, target)
    assert (run_folder / "mine.html").read_text() == "<p>mine"


def test_a_run_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "run.json does not exist" in said
    assert said.count("\n") == 1
