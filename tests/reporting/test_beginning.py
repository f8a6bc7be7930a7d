"""What the page begins with: a contact sheet, all methods on one axis, the finding, and what must be known with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from html_tree import Tree
from tenth.reporting.html.gallery import contact_names, mosaic_columns, sheets
from tenth.reporting.html.overview import overview
from tenth.reporting.html.page import page
from tenth.reporting.results_reader import read_results

Record = dict[str, Any]


@pytest.fixture(autouse=True)
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of a page's time, and what the page begins with is none of matplotlib's."""
    monkeypatch.setattr("tenth.reporting.html.page.can_plot", lambda: False)


def tree(record: Record, folder: Path) -> Tree:
    return Tree(page(record, folder))


def test_what_was_not_measured_is_said_once_before_the_tables(record: Record, tmp_path: Path) -> None:
    header = page(record, tmp_path).split("</header>")[0]
    assert header.count("FID, FID∞, KID, Inception Score: needs the Inception file.") == 1


def test_a_reason_stands_once_whichever_tables_it_is_of(record: Record, tmp_path: Path) -> None:
    for score in record["results"]["scores"]:
        if score["metric"] == "copy-paste-index" or (score["metric"], score["prompt_set"]) == ("precision", "attributes"):
            score |= {"value": None, "low": None, "high": None, "unavailable": "needs the Inception file."}
    header = page(record, tmp_path).split("</header>")[0]
    assert header.count("needs the Inception file") == 1
    for name in ("copy-paste index", "precision", "FID", "KID"):
        assert name in header.split("needs the Inception file")[0].rpartition("<dd>")[2]


def test_figures_without_meaning_are_called_so_first(record: Record, tmp_path: Path) -> None:
    assert "means nothing" not in page(record, tmp_path)
    record["results"]["disclaimer"] = "By random weights: it means nothing."
    text = page(record, tmp_path)
    assert text.index("it means nothing") < text.index("<h1>")


def test_the_finding_is_in_two_sentences(record: Record, tmp_path: Path) -> None:
    text = re.sub(r" ([,.:;])", r"\1", tree(record, tmp_path).text)
    said = (
        "dreambooth has the highest mean ID similarity, 0.200 [0.180, 0.220] (real photos have 0.600 and images without an"
        " identity 0.031): all other methods are lower (at a level of 0.05 after Holm's correction). Against the ID similarity"
        " of ip-adapter, 0.130: dreambooth and ip-adapter-avg have a higher one; ip-adapter-max has a lower one;"
        " <script>alert('a')</script> does not differ significantly from it."
    )
    assert "ID similarity with 9 photos of each of 53 people, prompt set portrait, by recognizer, on pocket." in text
    assert said in text


def test_nothing_is_said_to_be_better_without_a_correction(record: Record, tmp_path: Path) -> None:
    for difference in record["results"]["differences"]:
        difference["p_holm"] = None
    text = tree(record, tmp_path).text
    assert "no method is called better" in text
    assert not re.search("a higher one|are lower|the highest mean", text)


def test_a_recognizer_that_a_method_reads_is_no_judge(record: Record, tmp_path: Path) -> None:
    record["results"]["recognizers"][0]["selection_only"] = True
    assert "For model selection only: a method is conditioned on this recognizer." in tree(record, tmp_path).text


def test_better_than_real_is_a_warning(record: Record, tmp_path: Path) -> None:
    assert "is a warning" not in tree(record, tmp_path).text
    for score in record["results"]["scores"]:
        if score["method"] == "dreambooth" and score["metric"] == "identity-similarity":
            score["value"] = 0.9
    assert "than that of real photos is a warning" in tree(record, tmp_path).text


def test_no_other_papers_table_is_in_a_users_page(record: Record, tmp_path: Path) -> None:
    assert "ublished" not in tree(record, tmp_path).text


def test_rows_say_what_they_were_measured_on(record: Record, tmp_path: Path) -> None:
    """Once where it is the same of all; in each row where it differs."""
    systems = [{"method": name, "model": "pocket@0123", "width": 128, "height": 128} for name in record["settings"]["methods"]]
    record["results"]["systems"] = systems
    assert "all rows were measured on pocket, 128 x 128 pixels." in tree(record, tmp_path).text
    systems[3] |= {"model": "FLUX", "width": 1024, "height": 768}
    text = page(record, tmp_path)
    assert "all rows were measured on" not in text
    assert text.count('<th scope="row">dreambooth<small>FLUX, 1024 x 768 pixels</small></th>') > 5
    assert text.count('<th scope="row">ip-adapter-avg<small>pocket, 128 x 128 pixels</small></th>') > 5


def test_the_contact_sheet_shows_a_few_people_by_all_methods(record: Record, run_folder: Path) -> None:
    text = page(record, run_folder).split('aria-label="Contact sheet"')[1].split("</table>")[0]
    heads = re.findall(r'<th scope="col">(.*?)</th>', text)
    assert heads == ["dreambooth", "&lt;script&gt;alert(&#39;a&#39;)&lt;/script&gt;", "ip-adapter", "no identity"]
    rows = text.split("<tbody>")[1].split("</tr>")[:-1]
    assert len(rows) == 2
    for person, row in zip(("000", "001"), rows, strict=True):
        words = re.findall(r'alt="(.*?)"', row)
        assert words[:2] == [f"person {person}, photo 1 given", f"person {person}, photo 2 given"]
        assert words[2] == f"dreambooth, person {person}, the first image"
        assert len(words) == 2 + 4


def test_without_images_there_is_no_contact_sheet(record: Record, tmp_path: Path) -> None:
    assert "Contact sheet" not in page(record, tmp_path)


def test_photos_given_stand_in_their_order(record: Record, run_folder: Path) -> None:
    """The tenth is not the second, also where numbers are not filled up with zeros."""
    folder = run_folder / "references" / "000"
    for number in range(2, 12):
        (folder / f"{number}.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "002.png").write_bytes((folder / "0.png").read_bytes())
    found = sheets(read_results(record), run_folder)[0]
    assert [path.name for path in found.references][:4] == ["0.png", "1.png", "2.png", "3.png"]
    assert [int(path.stem) for path in found.references] == list(range(12))


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (12, 4)])
def test_a_mosaic_is_about_a_square(count: int, columns: int) -> None:
    assert mosaic_columns(count) == columns


def test_methods_without_images_have_no_column(record: Record, run_folder: Path) -> None:
    results = read_results(record)
    names = contact_names(results, sheets(results, run_folder))
    assert "ip-adapter-avg" not in names
    assert names[-1] == "no identity"


def test_the_plot_has_every_row_on_one_axis(record: Record) -> None:
    found = overview(read_results(record), "portrait")
    assert found is not None
    assert [mark.name for mark in found.methods][:2] == ["dreambooth", "ip-adapter-avg"]
    assert [mark.name for mark in found.controls][-2:] == ["no identity", "another person"]
    assert [mark.name for mark in found.bands] == ["real photos", "no identity"]
    # Percent of an axis from 0 to 0.8, of which 0.2 is a quarter.
    assert [words for words, _ in found.ticks] == ["0", "0.2", "0.4", "0.6", "0.8"]
    first = found.methods[0]
    assert (first.at, first.start, first.width) == pytest.approx((25, 22.5, 5))
    for mark in (*found.methods, *found.controls):
        assert 0 <= mark.start <= mark.at <= mark.start + mark.width + 0.01 <= 100.02


@pytest.mark.parametrize("low", [-0.9, -0.01])
def test_an_axis_reaches_to_what_is_below_zero(low: float, record: Record) -> None:
    for score in record["results"]["scores"]:
        if score["method"] == "no identity":
            score |= {"value": low, "low": low, "high": low}
    found = overview(read_results(record), "portrait")
    assert found is not None
    assert float(found.ticks[0][0].replace("\N{MINUS SIGN}", "-")) <= low
    assert min(mark.start for mark in found.controls) >= 0
    assert found.bands[1].width == 0


def test_without_a_similarity_there_is_no_plot_and_no_finding(record: Record, tmp_path: Path) -> None:
    for score in record["results"]["scores"]:
        if score["metric"] == "identity-similarity":
            score |= {"value": None, "low": None, "high": None, "unavailable": "no face"}
    record["results"]["differences"] = []
    text = page(record, tmp_path)
    assert '<table class="dots' not in text
    assert 'class="finding"' not in text
    assert "ID similarity" in text
