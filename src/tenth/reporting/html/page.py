"""run.json -> one HTML file that needs nothing else: no script, no network, no other file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from tenth.core.errors import CheckpointError
from tenth.core.files.reading import UnreadableError, open_regular
from tenth.core.files.writing import write_text
from tenth.core.run_record import read_record
from tenth.core.wording import pluralize
from tenth.reporting.html.elements import Content, Markup, element, joined, series
from tenth.reporting.html.gallery import gallery, sheets
from tenth.reporting.html.identity_curves import panels
from tenth.reporting.html.reproduce import repeat
from tenth.reporting.html.scatter_plot import scatter
from tenth.reporting.html.summary import finding, scale_of_it
from tenth.reporting.html.tables import (
    conditions_table,
    costs_table,
    definitions,
    failed_table,
    pairs_table,
    published_table,
    score_tables,
)
from tenth.reporting.metric_columns import condition_text, unmeasured
from tenth.reporting.results_reader import Results, read_results

Part = Callable[[Results, str], Markup | None]  # of one track

PAGE = "report.html"
HERE = Path(__file__).parent
SIGN = '<meta name="generator" content="tenth">'  # by which a page is known as ours, and may be replaced


def write_page(record: Path, output: Path | None = None) -> Path:
    """Write the page of a record, a run.json or its folder, to `output`, else beside it. Returns where.

    Raises DataError if it is no record of an experiment, CheckpointError if `output` is there and no page of tenth's.
    """
    folder = record if record.is_dir() else record.parent
    text = page(read_record(record, command="experiment"), folder)
    target = output or folder / PAGE
    if target.exists() and not _is_ours(target):
        raise CheckpointError(f"{target} exists and is no page of tenth's", "a new file is needed", "Choose another -o")
    write_text(target, text)
    return target


def _is_ours(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return SIGN.encode() in file.read(2000)
    except (OSError, UnreadableError):
        return False


def page(record: Mapping[str, Any], folder: Path) -> str:
    """The page of a record. folder: where its images are, if they are there. Raises DataError as `read_results` does."""
    results = read_results(record)
    sections = {title: body for title, body in _sections(results, folder) if body}
    anchors = {title: title.lower().replace(" ", "-").replace(",", "") for title in sections}
    links = [element("a", title, href=f"#{anchors[title]}") for title in sections]
    main = [element("section", element("h2", title), body, id=anchors[title]) for title, body in sections.items()]
    title = f"{pluralize(len(results.methods), 'method')}, {pluralize(len(results.people), 'person')}"
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=f"tenth: {title}",
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        banner=_banner(results, folder),
        header=joined([element("h1", title), _lead(results), element("nav", links, aria_label="Sections")]),
        main=joined(main),
    )


def _banner(results: Results, folder: Path) -> Markup:
    """What must be known before any number is read, or the page is handed on."""
    said: list[Content] = [results.meaningless] if results.meaningless else []
    if shown := sum(bool(sheet.references) for sheet in sheets(results, folder)):
        said.append(f"{REAL_FACES} {shown} {'people' if shown > 1 else 'person'}. {HAND_ON}")
    for reason, names in unmeasured(results).items():
        said.append(joined(["Not measured: ", series(names), f". {reason[:1].upper()}{reason[1:]}."]))
    return element("div", [element("p", text) for text in said], class_="banner", role="note") if said else Markup("")


def _lead(results: Results) -> Markup:
    """The finding, for each track; then what the numbers were measured on."""
    said: dict[Markup, list[str]] = {}
    for track in results.scored:
        said.setdefault(finding(results, track), []).append(track)
    found = [element("p", _tracks(tracks, results), text, class_="finding") for text, tracks in said.items()]
    notes = [element("p", _tracks([track], results), scale_of_it(results, track), class_="note") for track in results.scored]
    settings = results.settings
    facts = {
        "people": f"{len(results.people)}" + (f" of the split {settings['split']}" if "split" in settings else ""),
        "photos given": ", ".join(f"{photos}" + f" ({wrong} wrong)" * (wrong > 0) for photos, wrong in results.conditions),
        "model": settings.get("model_weights") or settings.get("model"),
        "judge": results.judge.name,
        "written": results.written[:10],
    }
    rows = ((element("dt", name), element("dd", str(value))) for name, value in facts.items() if value)
    return joined([*found, *notes, element("dl", joined(rows), class_="facts")])


def _tracks(tracks: Sequence[str], results: Results) -> Markup | None:
    """Which tracks a sentence is about, where there are several."""
    words = ["Track", "s " if len(tracks) > 1 else " ", series(tracks), ": "]
    return element("span", words, class_="track") if len(results.scored) > 1 else None


def _sections(results: Results, folder: Path) -> Iterator[tuple[str, Markup]]:
    """Title and content, in the order of the page; what there is nothing to say of is empty."""
    yield "Scores", _scores(results)
    yield "The published table", joined([element("p", NOT_COMPARABLE), published_table(results)])
    yield "More photos", _each(results, _more_photos, MORE_PHOTOS)
    yield "Likeness or copy", _each(results, scatter, LIKENESS)
    yield "Differences, pair by pair", _each(results, pairs_table, PAIRS)
    yield "Images", gallery(results, folder) or element("p", NO_IMAGES)
    yield "Cost", costs_table(results) if results.costs else Markup("")
    yield "What failed", failed_table(results) if results.failed else Markup("")
    yield "How to repeat it", repeat(results)


def _each(results: Results, part: Part, text: str) -> Markup:
    """The text, then the part for each track that has it; empty if none has."""
    made = {track: body for track in results.scored if (body := part(results, track)) is not None}
    return (
        joined([element("p", text), *(joined([_track(track, results), body]) for track, body in made.items())])
        if made
        else Markup("")
    )


def _more_photos(results: Results, track: str) -> Markup | None:
    """The panels, and the same in figures."""
    drawn = panels(results, track)
    inside = element("details", element("summary", "The same in figures"), conditions_table(results, track))
    return joined([drawn, inside]) if drawn else None


def _track(track: str, results: Results) -> Markup | None:
    return element("h3", f"Track {track}") if len(results.scored) > 1 else None


def _scores(results: Results) -> Markup:
    parts: list[Markup | None] = [element("p", f"Each method was given {condition_text(results.main)} of each person.")]
    for track in results.scored:
        parts += [_track(track, results), _prompts(results, track), *score_tables(results, track, results.judge.name)]
        for judge in results.judges:
            if judge != results.judge and (others := score_tables(results, track, judge.name, alone=True)):
                note = element("p", judge.note) if judge.note else None
                parts.append(element("details", element("summary", f"Judged by {judge.name}"), note, others))
    return joined([*parts, element("details", element("summary", "What the columns are"), definitions(results))])


def _prompts(results: Results, track: str) -> Markup | None:
    """The images of a track, and the words they were drawn from."""
    of = results.tracks.get(track)
    if of is None or not of.prompts:
        return None
    images = f"{pluralize(of.images, 'image')} by each method of each person"
    if len(of.prompts) == 1:
        return element("p", f"{images}, from “{of.prompts[0]}”.", class_="note")
    words = element("ul", [element("li", prompt) for prompt in of.prompts])
    return element("details", element("summary", f"{images}, from {len(of.prompts)} prompts"), words)


NOT_COMPARABLE = """
The project starts from a published table of three rows on LFW, of which only these ranges are known: Inception score 14 to
17, FID 9 to 10. The cells measured here stand beside it and are not comparable with it. It states no protocol, and FID
depends on how many images and photos there are, on the resize and on the codec. Real faces score 2 to 5 on the Inception
score, so 14 to 17 cannot be the same measurement. What can be compared are rows that were measured here, on the same
people, prompts and seeds.
"""
MORE_PHOTOS = """
Identity over the number of photos given: each method in blue with its 95 % interval, the others in grey, the baseline
dashed, the floor (a face that is nobody's) dotted. A hollow point is the largest number with photos of somebody else among
them.
"""
LIKENESS = """
Identity against the copy index; thin bars are 95 % intervals over people. Good is high and near a copy index of 0: like the
person, in a new picture. High and far to the right is a copied photo.
"""
PAIRS = """
Read along a row: a positive number says that its method is more like the person than the column's. Where the record has
it, p is corrected for the number of comparisons by Holm's method, and wins is the share of people for whom the row's method
is the higher. run.json holds what was compared besides.
"""
NO_IMAGES = """
The images are not in this folder. They lie beside the record on the machine that drew them; made there, this page shows
them.
"""
REAL_FACES = "In this file are crops of real photos of"
HAND_ON = "Hand it on only to those to whom you would hand the photos."
