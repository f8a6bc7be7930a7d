"""What a person's photos led to in shards: images of `tenth batch`, and training sets of `tenth data encode`."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenth.core.files.claims import exclusive_folder, list_entries, remove_temporary
from tenth.core.files.reading import MAX_TEXT_BYTES, UnreadableError, open_regular, parse_json, read_json, read_lines
from tenth.core.files.writing import atomic_file, explain_os_errors, write_bytes
from tenth.methods.people.outputs import Output, walk_folders

PLAN_FILE, ROWS_FOLDER, SHARDS_FOLDER, EVALUATION_FOLDER = "plan.json", "rows", "shards", "evaluation"
OF_ALL_SHARDS = ("batch.json", "index.json")  # written last: without it the same command goes on
ROW_KEYS = ("person", "prompt", "seed")  # that a report names of a bad row
FEATURES_SUFFIX = ".features.safetensors"
FORGOTTEN = {"found": "the person was forgotten", "needed": "a person who is not is needed", "action": "Leave the row"}


def find_shard_outputs(directory: Path, digests: Collection[str], without: Collection[Path] = ()) -> Iterator[Output]:
    """Batches below a folder with images of these photos, and training sets with what was encoded of them.

    digests: sha256 of the photos' files. without: folders that are not searched.
    """
    for folder, folders, files in walk_folders(directory, without):
        if PLAN_FILE not in files or not {ROWS_FOLDER, SHARDS_FOLDER} <= set(folders):
            continue
        shards = [folder / SHARDS_FOLDER / name for name in sorted(list_entries(folder / SHARDS_FOLDER))]
        images = [path / name for path in shards if path.suffix == ".tar" for name in _ids_of(path, digests)]
        if images:
            yield _BatchOutput(folder, tuple(images), (*_of_all_shards(folder), *_kept_by_evaluations(folder)))

        # A shard of a training set cannot do without a person, nor be encoded again from rows that name the photos.
        rows = [folder / ROWS_FOLDER / name for name in sorted(list_entries(folder / ROWS_FOLDER)) if name.endswith(".jsonl")]
        if stems := {path.stem for path in rows if _has_row(path, digests)}:
            parts = [path for path in (*shards, *rows) if path.name.partition(".")[0] in stems]
            yield Output(folder, records=(*_of_all_shards(folder), *parts))


@dataclass(frozen=True)
class _BatchOutput(Output):
    """Images in the shards of a batch, SHARD.tar/ID each. records: what evaluations made of the shards."""

    def remove(self) -> None:
        """Write each shard without these images; their rows are bad rows then. Raises CheckpointError while a run writes."""
        with exclusive_folder(self.folder), explain_os_errors(self.folder):
            remove_temporary(self.folder)
            for path in self.records:
                path.unlink(missing_ok=True)
            for tar in sorted({image.parent for image in self.images}):
                _write_without(tar, {image.name for image in self.images if image.parent == tar})


def _write_without(tar: Path, ids: Collection[str]) -> None:
    """A shard without some images. One that is damaged, or was not finished, goes: the batch draws it again."""
    done, report_path, features = (tar.with_suffix(suffix) for suffix in (".done", ".json", FEATURES_SUFFIX))
    try:
        seconds, report, entries = read_json(done)["seconds"], read_json(report_path), dict(_entries(tar))
        done.unlink()  # what is written anew is not finished meanwhile
        rows = {name: said["row"] for name, said in entries.items() if name in ids}
        bad = [{"id": name} | {key: row[key] for key in ROW_KEYS} | {"error": FORGOTTEN} for name, row in rows.items()]

        # The images last: as long as they are there, they are found.
        if features.exists():
            _keep_features(features, [name not in ids for name in entries])
        with (
            open_regular(tar) as old,
            tarfile.open(fileobj=old, mode="r|") as source,
            atomic_file(tar) as file,
            tarfile.TarFile(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as target,
        ):
            for entry in source:
                if entry.name.partition(".")[0] not in ids:
                    target.addfile(entry, source.extractfile(entry))

        # The report, and what says that the shard is finished.
        files = {f"{SHARDS_FOLDER}/{path.name}": _bytes_and_digest(path) for path in (tar, features) if path.exists()}
        report |= {"rows": len(entries) - len(ids), "bad": [*report["bad"], *bad], "files": files}
        content = json.dumps(report, sort_keys=True, indent=1).encode() + b"\n"
        write_bytes(report_path, content)
        said = {"seconds": seconds, "sha256": hashlib.sha256(content).hexdigest()}
        write_bytes(done, json.dumps(said, sort_keys=True).encode() + b"\n")
    except (FileNotFoundError, UnreadableError, tarfile.TarError, KeyError, TypeError):
        for path in (done, report_path, features, tar):
            path.unlink(missing_ok=True)


def _entries(tar: Path) -> Iterator[tuple[str, Any]]:
    """The id of each image of a shard, and what its JSON says, None for none. Raises TarError where the shard is damaged."""
    with open_regular(tar) as file, tarfile.open(fileobj=file, mode="r|") as source:
        for entry in source:
            content = source.extractfile(entry) if entry.name.endswith(".json") else None
            if content is not None:
                said = None
                with suppress(UnreadableError):
                    said = parse_json(content.read(MAX_TEXT_BYTES).decode(errors="replace"))
                yield entry.name.removesuffix(".json"), said


def _ids_of(tar: Path, digests: Collection[str]) -> Iterator[str]:
    """The ids of a shard's images that are of these photos; of a damaged one, those that can be read."""
    with suppress(OSError, UnreadableError, tarfile.TarError):
        for name, said in _entries(tar):
            photos = said.get("photos") if isinstance(said, dict) else None
            if isinstance(photos, list) and not set(digests).isdisjoint(map(str, photos)):
                yield name


def _has_row(path: Path, digests: Collection[str]) -> bool:
    """Whether a row of a data set is of one of the photos."""
    with suppress(OSError, UnreadableError):
        for line in read_lines(path):
            row: Any = parse_json(line)
            if isinstance(row, dict) and row.get("digest") in digests:
                return True
    return False


def _of_all_shards(folder: Path) -> list[Path]:
    return [folder / name for name in OF_ALL_SHARDS if (folder / name).exists()]


def _kept_by_evaluations(folder: Path) -> Iterator[Path]:
    """Sums and features that evaluations keep beside the shards: SHARD.KIND-KEY.safetensors and what is of several."""
    for part in (SHARDS_FOLDER, EVALUATION_FOLDER):
        for name in sorted(list_entries(folder / part)):
            if name.endswith(".safetensors") and "-" in name:
                yield folder / part / name


def _keep_features(path: Path, kept: list[bool]) -> None:
    """Keep some rows of a shard's features. Raises UnreadableError if the file has another number of rows."""
    import torch

    from tenth.core.files.tensors import read_tensors
    from tenth.core.files.writing import write_tensors

    metadata, tensors = read_tensors(path, finite_floats=False)  # NaN: without a face
    if any(len(rows) != len(kept) for rows in tensors.values()):
        raise UnreadableError("has other rows than its shard")
    chosen = torch.tensor(kept, dtype=torch.bool)
    write_tensors(path, {name: rows[chosen] for name, rows in tensors.items()}, metadata)


def _bytes_and_digest(path: Path) -> dict[str, Any]:
    with open_regular(path) as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
