"""Score a system's folder and bring the table up to date: the whole of `tenth benchmark score`, top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

from tenth.core.console import print_message
from tenth.core.errors import DataError
from tenth.core.files.claims import exclusive_folder, list_entries, remove_temporary
from tenth.experiments.benchmark.judges import Judges
from tenth.experiments.benchmark.scoring import SystemName, score_submission
from tenth.experiments.benchmark.submission import read_submission
from tenth.experiments.benchmark.table import KIND, ROWS_FOLDER, check_rows, save_row, write_tables
from tenth.experiments.benchmark.tasks import Benchmark
from tenth.experiments.output_folders import ensure_writable_path, folder_in_use, read_run_settings
from tenth.reporting.results_reader import CONTROLS

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._+-]{0,62}[A-Za-z0-9_+-])?")  # it is a file's name too
# Devices, whatever follows a dot. Source: Microsoft, "Naming Files, Paths, and Namespaces".
WINDOWS_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|(COM|LPT)[0-9])(\..*)?", re.IGNORECASE)
MAX_MODEL_CHARS = 100


def check_system(system: SystemName) -> None:
    """Raises DataError if a row cannot be called so."""
    if not NAME.fullmatch(system.name) or system.name.lower() in CONTROLS:
        needed = "letters, digits, dots, plus, - and _ are needed, at most 64, a letter or digit first and no dot last"
        raise DataError(f"the name {system.name!r:.100}", needed, "Choose another --name, and say more in --model")
    if WINDOWS_DEVICE.fullmatch(system.name):
        needed = "a name that is a file's on every system is needed"
        raise DataError(f"the name {system.name!r}, a device's on Windows", needed, "Choose another --name")
    if len(system.model) > MAX_MODEL_CHARS or not system.model.isprintable():
        needed = f"at most {MAX_MODEL_CHARS} characters in one line are needed"
        raise DataError(f"a --model of {len(system.model)} characters", needed, "Say it shorter")


def check_results_folder(results: Path) -> None:
    """Raises CheckpointError unless the folder is new or empty, or of tables: an experiment's record would be replaced."""
    ensure_writable_path(results)
    if list_entries(results) and not (results / ROWS_FOLDER).is_dir() and read_run_settings(results, KIND) is None:
        raise folder_in_use(results, "files, and no rows of a benchmark")


def score_folder(
    folder: Path, benchmark: Benchmark, system: SystemName, judges: Judges, results: Path, *, partial: bool = False
) -> str:
    """Check the images of a system, score them, and write the row and all tables to `results`. Returns a table as Markdown.

    Raises DataError for a folder that is not complete, CheckpointError if the name stands for other images already, or if
    `results` holds anything else.
    """
    check_results_folder(results)
    submission = read_submission(folder, benchmark, partial=partial)
    with exclusive_folder(results):
        remove_temporary(results)
        check_rows(results, benchmark, system.name, submission.digest, judges.names)
        row = score_submission(benchmark, submission, system, judges)
        print_message(*row["notes"])
        save_row(results, benchmark, row)
        return write_tables(results, benchmark)
