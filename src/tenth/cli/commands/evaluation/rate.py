"""`tenth benchmark rate`: a page on this machine on which people choose between two systems' images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from tenth.cli.parameters import Json, argument, choice, count, option, whole_number
from tenth.core.console import print_message, print_result

TASKS_HELP = "the folder of `tenth benchmark export`, whose tasks the images are of [default: images of equal names are a pair]"
REFERENCES_HELP = "of the tasks those of so many references [default: the most]"
QUESTION_HELP = "what is asked: which is more like the person, fits the prompt better, or is the better picture"
PAIRS_HELP = "how many pairs each rater sees, as many of each person as can be; to be chosen before the first"
RATER_HELP = "who chooses, where there are several: each has the same pairs in an order of their own"
OPEN_IT = "open this address in a browser of this machine; Ctrl-C ends, and the same command goes on"
OUTPUT_HELP = "where the choices are kept [default: runs/rating-A-B, of the folders' names]"


def benchmark_rate(
    first: Annotated[Path, argument("FOLDER_A", "images of one system")],
    second: Annotated[Path, argument("FOLDER_B", "images of another, of the same tasks")],
    tasks: Annotated[Path | None, option("DIR", TASKS_HELP)] = None,
    references: Annotated[int | None, option("N", REFERENCES_HELP, parser=count)] = None,
    output: Annotated[Path | None, option("DIR", OUTPUT_HELP, "--output", "-o")] = None,
    question: Annotated[
        Literal["identity", "prompt", "quality"], choice("identity", "prompt", "quality", text=QUESTION_HELP)
    ] = "identity",
    pairs: Annotated[int, option("N", PAIRS_HELP, parser=count)] = 200,
    seed: Annotated[int, option("N", "of which pairs, their order and their sides", parser=whole_number)] = 0,
    rater: Annotated[str, option("NAME", RATER_HELP, parser=str)] = "",
    no_photos: Annotated[bool, typer.Option("--no-photos", help="show no real photos of the person beside the pairs")] = False,
    port: Annotated[int, option("N", "of this machine; 0 takes a free one", parser=whole_number)] = 7320,
    result: Annotated[bool, typer.Option("--result", help="print the result of all choices so far, and serve nothing")] = False,
    json: Json = False,
) -> int:
    """Let people choose between two systems' images without knowing which is whose, on a page of this machine alone.

    Each choice is on the disk before the next pair is shown; the same command goes on where it stopped. The result, when all
    pairs are chosen: how often A was chosen over B, ties counting half, with a 95 % interval over people and a two-sided p.
    """
    from tenth.core.errors import DataError
    from tenth.experiments.rating.choices import CHOICES_FILE
    from tenth.experiments.rating.preference import format_preference, preference
    from tenth.experiments.rating.study import StudyOptions, open_study

    folder = output or Path("runs") / f"rating-{first.name}-{second.name}"
    if result and not (folder / CHOICES_FILE).is_file():
        raise DataError(f"{folder} has no choices", "one or more are needed", "Choose first, without --result, or check -o")
    options = StudyOptions(tasks, references, question, pairs, seed, rater, photos=not no_photos)
    study = open_study((first, second), folder, options)
    print_message(*study.notes)
    if not result:
        from tenth.cli.commands.serve import require_server

        require_server()
        from tenth.server.page.rating import serve_rating

        try:
            serve_rating(study, port, lambda address: print_message(address, OPEN_IT))
        except KeyboardInterrupt:
            if study.num_chosen < len(study.order):
                raise
        finally:
            goes_on = "" if study.num_chosen == len(study.order) else "; the same command goes on, or gives the --result"
            print_message(f"{study.num_chosen} of {len(study.order)} pairs are chosen, in {study.folder}{goes_on}")

    # Until all are chosen the rater is not told: who knows the score may choose by it.
    if result or study.num_chosen == len(study.order):
        found = preference(study.choices.all(), *study.systems)
        print_result(asdict(found) if json else format_preference(found))
    return 0
