"""The page: all of a record is on it, nothing in a record becomes code, and it asks for nothing from elsewhere."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from html_tree import Tree
from tenth.core.config import from_table
from tenth.core.errors import DataError
from tenth.experiments.recipe import ExperimentRecipe
from tenth.reporting.html.gallery import PEOPLE
from tenth.reporting.html.page import page
from tenth.reporting.html.reproduce import recipe_toml

RESULTS = Path(__file__).parents[2] / "results"
Record = dict[str, Any]
PLOTTED = (  # the others need no plots, which take most of a page's time
    "test_nothing_in_a_record_becomes_code",
    "test_nothing_is_asked_from_elsewhere",
    "test_tables_and_images_have_words",
)


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.name not in PLOTTED:
        monkeypatch.setattr("tenth.reporting.html.page.can_plot", lambda: False)


def tree(record: Record, folder: Path) -> Tree:
    found = Tree(page(record, folder))
    assert found.open == []
    return found


def test_every_part_is_there_in_its_order(record: Record, run_folder: Path) -> None:
    text = page(record, run_folder)
    titles = re.findall(r"<h2>(.+?)</h2>", text)
    assert titles == [
        *("Scores", "Similarity by number of photos", "Similarity against copying", "Pairwise differences", "Images"),
        *("Cost", "Failures", "Reproduce"),
    ]
    anchors = re.findall(r'<a href="#([^"]+)"', text)
    assert len(anchors) == len(titles)
    assert all(f'id="{anchor}"' in text for anchor in anchors)
    begins = ['role="note"', "<h1>", 'aria-label="Contact sheet"', '<table class="dots', '<p class="finding">', "<dl", "<h2>"]
    assert [text.index(each) for each in begins] == sorted(text.index(each) for each in begins)


def test_methods_and_controls_with_value_and_interval(record: Record, tmp_path: Path) -> None:
    text = tree(record, tmp_path).text
    for said in ("0.130 [0.110, 0.150]", "as generated 0.123", "real photos", "average of the references", "n = 53 people"):
        assert said in text
    for head in ("ID similarity ↑", "copy-paste index ↓", "face Fréchet distance ↓", "coverage ↑"):
        assert head in text


def test_the_highest_similarity_stands_first(record: Record, tmp_path: Path) -> None:
    table = page(record, tmp_path).split("<h3>Prompt set portrait</h3>")[1].split("</table>")[0]
    names = re.findall(r'<th scope="row">(.+?)</th>', table)
    assert names[:2] == ["dreambooth", "ip-adapter-avg"]
    assert names[4:6] == ["ip-adapter-max", "real photos"]


def test_columns_without_any_value_are_left_out_and_said_in_a_line(record: Record, tmp_path: Path) -> None:
    text = page(record, tmp_path)
    line = '<p class="note">Not measured: FID, FID∞, KID, Inception Score: needs the Inception file.</p>'
    assert text.count(line) == 2  # of each prompt set
    scores = text.split("<h2>Scores</h2>")[1].split("</section>")[0]
    assert ">FID" not in scores.split("What the columns are")[0]
    assert ">precision" in scores


def test_a_row_without_a_value_has_a_dash_and_the_reason_stands_below(record: Record, tmp_path: Path) -> None:
    for score in record["results"]["scores"]:
        if score["method"] in ("dreambooth", "real photos") and score["metric"] == "precision":
            score |= {"value": None, "low": None, "high": None, "unavailable": "has too few images for a radius"}
    text = page(record, tmp_path)
    assert text.count("has too few images for a radius") == 2 + 1  # below the table of each prompt set, and at the top
    line = "Not measured: precision of dreambooth, real photos: has too few images for a radius."
    assert f'<p class="note">{line}</p>' in text
    row = text.split("<caption><span>Image quality and diversity")[1].split('<th scope="row">dreambooth</th>')[1]
    assert row.startswith('<td class="none">-</td>')


def test_a_group_without_any_value_has_no_table(record: Record, tmp_path: Path) -> None:
    for score in record["results"]["scores"]:
        if not score["recognizer"]:
            score |= {"value": None, "low": None, "high": None, "unavailable": "needs the Inception file"}
    text = page(record, tmp_path)
    assert "Image quality and diversity" not in text
    assert text.count("precision, recall, density, coverage, FID, FID∞, KID, Inception Score: needs the Inception file.") == 3


def test_a_difference_is_read_in_both_directions(record: Record, tmp_path: Path) -> None:
    text = page(record, tmp_path)
    assert '<td class="less"><b>\N{MINUS SIGN}0.070</b><small>p &lt; 0.001</small><small>wins 25 %</small></td>' in text
    assert '<td class="more"><b>+0.070</b><small>p &lt; 0.001</small><small>wins 75 %</small></td>' in text


def test_nothing_in_a_record_becomes_code(record: Record, run_folder: Path) -> None:
    evil = '"><img src=x onerror=alert(1)><script>'
    results = record["results"]
    results["disclaimer"] = record["written"] = results["recognizers"][0]["licence"] = evil
    results["prompt_sets"] = {evil: {"prompts": [evil], "images": 1}}
    for score in results["scores"]:
        score["prompt_set"] = evil
        score["unavailable"] = score["unavailable"] and evil
    record["settings"] |= {"split": evil, evil: evil}
    record["environment"] = {evil: evil}
    found = tree(record, run_folder)
    assert found.all("script") == [{}]  # ours, which the browser runs for its hash alone
    assert all(str(image["src"]).startswith("data:image/webp;base64,") for image in found.all("img"))
    assert not [key for _, attributes in found.found for key in attributes if key.startswith("on")]
    assert "<script>alert('a')</script>" in found.text


def test_only_the_script_that_sorts_may_run(record: Record, tmp_path: Path) -> None:
    text = page(record, tmp_path)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert not re.search(r"fetch|XMLHttp|import|eval|Function|innerHTML|localStorage|cookie", script)


def test_nothing_is_asked_from_elsewhere(record: Record, run_folder: Path) -> None:
    text = page(record, run_folder)
    links = [str(each.get("href") or each.get("src")) for name, each in Tree(text).found if name in ("a", "link", "img")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"https?://|@import|url\((?!#)", text)  # a clip of a plot is in the plot


def test_tables_and_images_have_words(record: Record, run_folder: Path) -> None:
    found = tree(record, run_folder)
    tables = [attributes for attributes in found.all("table") if attributes.get("class") != "images"]
    assert len(found.all("caption")) == len(tables) > 5
    assert all("scope" in attributes for attributes in found.all("th"))
    assert all(attributes.get("alt") for attributes in found.all("img"))
    assert all(attributes.get("aria-label") for attributes in found.all("svg"))
    assert len(found.all("svg")) == 2 * (5 + 2)  # with each prompt set a plot for each method, and two scatters
    ids = [attributes["id"] for _, attributes in found.found if "id" in attributes]
    assert len(ids) == len(set(ids)) > 2 * (5 + 2)  # markers and clips of one plot are not another's


def test_a_method_that_a_prompt_set_leaves_out_has_no_row(record: Record, tmp_path: Path) -> None:
    results = record["results"]
    kept = ("ip-adapter", "dreambooth")
    results["scores"] = [each for each in results["scores"] if each["prompt_set"] == "portrait" or each["method"] in kept]
    second = page(record, tmp_path).split("<h3>Prompt set attributes</h3>")[1].split("</table>")[0]
    assert re.findall(r'<th scope="row">(.+?)</th>', second) == list(reversed(kept))


def test_images_are_shown_by_number_and_seed(record: Record, run_folder: Path) -> None:
    found = tree(record, run_folder)
    texts = [str(attributes["alt"]) for attributes in found.all("img")]
    assert texts[:2] == ["person 000, photo 1 given", "person 000, photo 2 given"]
    seeds = [text for text in texts if text.startswith("ip-adapter, person 000, seed")]
    assert seeds == [f"ip-adapter, person 000, seed {seed}" for seed in (0, 1, 10)]
    assert "<script>alert('a')</script>, person 001, seed 10" in texts
    assert "dreambooth, person 001, seed 10" not in texts
    assert "no image" in found.text
    assert f"Of 3 people the first 2 with images, at most {PEOPLE}" in found.text


def test_without_images_the_page_says_so(record: Record, tmp_path: Path) -> None:
    found = tree(record, tmp_path)
    assert found.all("img") == []
    assert "The images are not in this folder." in found.text


def test_a_benchmark_compares_systems_of_everybody_and_has_no_section_of_images(record: Record, tmp_path: Path) -> None:
    record["kind"], record["settings"] = "benchmark", record["settings"] | {"benchmark": "0123", "split": "all"}
    for score in record["results"]["scores"]:
        if score["metric"] == "fid":
            score["unavailable"] = "2 people. Add people."
    found = tree(record, tmp_path)
    assert "5 systems, 3 people" in found.text
    assert "images are not in this folder" not in found.text
    assert "all split" not in found.text
    assert "2 people. Add people." in found.text
    assert ".." not in found.text


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
        ({"results": {"format": 3}}, "format 3 and this version reads 4"),
        ({"results": {"identity": {"recognizer": [{}]}}}, "of format None"),
        ({"results": {"format": 4}}, "no score of a method"),
        ({"results": {"format": 4, "scores": [{"prompt_set": "portrait"}]}}, "'scores.0.num_photos' is missing"),
        ({"results": {"format": 4, "scores": ["portrait"]}}, "scores.0 is 'portrait', needed: an object"),
        (
            {
                "results": {
                    "format": 4,
                    "scores": [{"prompt_set": "", "num_photos": 9, "method": "a", "metric": "b", "value": float("nan")}],
                }
            },
            "value is nan, needed: a finite number",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_record_is_refused(change: Record, said: str, record: Record, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        page(record | change, tmp_path)


def test_the_recipe_of_a_record_is_one() -> None:
    record = json.loads((RESULTS / "curve-test" / "run.json").read_text())
    recipe = from_table(ExperimentRecipe, tomllib.loads(recipe_toml(record["settings"])))
    assert recipe.photo_counts == (1, 3, 5, 7, 9)
    assert recipe.sampling.steps == record["settings"]["sampling"]["steps"] == 4


def test_text_in_a_recipe_survives(record: Record) -> None:
    assert tomllib.loads(recipe_toml(record["settings"]))["prompt"] == 'a "b" \\ c'


def test_without_matplotlib_the_page_says_what_is_missing(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = tree(record, tmp_path)
    assert found.all("svg") == []
    assert found.text.count("The plot needs matplotlib: pip install 'tenth[report]'") == 3  # two curves, one for the scatters
    assert "0.130 [0.110, 0.150]" in found.text
    assert "ID similarity, prompt set portrait by the photos given" in found.text
