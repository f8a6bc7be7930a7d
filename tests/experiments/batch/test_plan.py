"""A plan becomes rows that are sorted by person, each once, in shards; bad ones are listed and cost themselves alone."""

from __future__ import annotations

import json
import random
import re
import tracemalloc
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from house_source import ROOT
from tenth.core.errors import CheckpointError, InputError
from tenth.experiments.batch import plan as plan_module
from tenth.experiments.batch import plan_files, sorting
from tenth.experiments.batch.plan import Plan, plan_batch, read_plan
from tenth.experiments.batch.plan_files import PRODUCT_KEYS
from tenth.experiments.batch.rows import KEYS
from tenth.experiments.batch.shards import read_shard_rows
from tenth.experiments.batch.sorting import sorted_lines
from tenth.experiments.batch.store import open_store
from toy_batch import write_plan

SETTINGS = {"rows_per_shard": 10, "image_format": "png"}


def planned(path: Path, out: Path, settings: dict[str, Any] = SETTINGS) -> tuple[Plan, list[str]]:
    """The plan of a file, and the ids of its rows in order."""
    store = open_store(str(out))
    plan = plan_batch(path, store, settings)
    return plan, [row.id for index in range(plan.shards) for row in read_shard_rows(store, index)]


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_rows_are_sorted_by_person_and_come_once(tmp_path: Path) -> None:
    path = write_plan(tmp_path / "plan.jsonl", 7, 6)
    path.write_text(path.read_text() + path.read_text()[:1_000].rpartition("\n")[0] + "\n")
    repeated = path.read_text().count("\n") - 42
    plan, ids = planned(path, tmp_path / "out")
    assert (plan.rows, plan.shards, plan.duplicates, plan.bad_rows) == (42, 5, repeated, 0)
    assert repeated > 5
    assert len(set(ids)) == 42
    rows = [row for index in range(5) for row in read_shard_rows(open_store(str(tmp_path / "out")), index)]
    people = [row.person for row in rows]
    assert people == sorted(people)
    assert [len(read_shard_rows(open_store(str(tmp_path / "out")), index)) for index in range(5)] == [10, 10, 10, 10, 2]


def test_the_order_of_the_plan_does_not_matter(tmp_path: Path) -> None:
    lines = write_plan(tmp_path / "plan.jsonl", 5, 5).read_text().splitlines()
    random.Random(1).shuffle(lines)
    (tmp_path / "other.jsonl").write_text("\n".join(lines))
    one, other = planned(tmp_path / "plan.jsonl", tmp_path / "a"), planned(tmp_path / "other.jsonl", tmp_path / "b")
    assert one[1] == other[1]
    assert one[0].rows_sha256 == other[0].rows_sha256
    assert (tmp_path / "a/rows/00001.jsonl").read_bytes() == (tmp_path / "b/rows/00001.jsonl").read_bytes()


def test_parquet_says_the_same_as_json_lines(tmp_path: Path) -> None:
    rows = [{"person": "anna", "prompt": f"a photo {index}", "seed": index, "size": None} for index in range(30)]
    rows[0] |= {"size": "64", "sampling": {"steps": 3, "guidance_scale": None}}
    write_table(pa.Table.from_pylist(rows), tmp_path / "plan.parquet")
    rows[0]["sampling"] = {"steps": 3}
    write_rows(tmp_path / "plan.jsonl", rows)
    assert planned(tmp_path / "plan.parquet", tmp_path / "a")[1] == planned(tmp_path / "plan.jsonl", tmp_path / "b")[1]


@pytest.mark.parametrize(
    "people", ['"faces"', '"faces/*"', '"list.txt"', '["faces/anna", "faces/bert", "faces/me.safetensors"]']
)
def test_a_toml_multiplies_people_prompts_and_seeds(people: str, tmp_path: Path) -> None:
    for name in ("anna", "bert"):
        (tmp_path / "faces" / name).mkdir(parents=True)
    (tmp_path / "faces" / ".git").mkdir()  # nobody, as the files that are no identity
    for name in ("me.safetensors", "README.txt", "photo.png"):
        (tmp_path / "faces" / name).touch()
    (tmp_path / "list.txt").write_text("# people\nfaces/anna\nfaces/bert\n\nfaces/me.safetensors\n")
    text = f'people = {people}\nprompts = ["a photo", "a hat"]\nseeds = [3, 4]\nsize = 64\n[sampling]\nsteps = 2\n'
    (tmp_path / "plan.toml").write_text(text)
    rows = [
        {"person": f"faces/{name}", "prompt": prompt, "seed": seed, "size": 64, "sampling": {"steps": 2}}
        for name in ("anna", "bert", "me.safetensors")
        for prompt in ("a photo", "a hat")
        for seed in (3, 4)
    ]
    write_rows(tmp_path / "plan.jsonl", rows)
    assert planned(tmp_path / "plan.toml", tmp_path / "a")[1] == planned(tmp_path / "plan.jsonl", tmp_path / "b")[1]


def test_a_toml_takes_a_file_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text("prompt,seed,size,num_images\na photo,7,64,2\na hat,,,\n")
    (tmp_path / "plan.toml").write_text('people = ["anna"]\nprompts = "prompts.csv"\nseed = 1\nmethod = "ip-adapter"\n')
    rows = [
        {"person": "anna", "prompt": "a photo", "seed": 7, "size": 64, "num_images": 2, "method": "ip-adapter"},
        {"person": "anna", "prompt": "a hat", "seed": 1, "method": "ip-adapter"},
    ]
    write_rows(tmp_path / "plan.jsonl", rows)
    assert planned(tmp_path / "plan.toml", tmp_path / "a")[1] == planned(tmp_path / "plan.jsonl", tmp_path / "b")[1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("plan.txt", "a photo", "is no plan by its name; a name that ends in .jsonl, .parquet, .toml"),
        ("plan.jsonl", "", "holds no row; a row with a person"),
        (
            "plan.jsonl",
            "nonsense\n{}\n[]\n",
            r"no good row, and 3 bad ones; the first: plan\.jsonl, row 1: it is not JSON",
        ),
        ("plan.jsonl", "\ud800", "is not UTF-8"),
        ("plan.parquet", "nonsense", "is not Parquet"),
        ("plan.toml", "nonsense", "is not TOML"),
        ("plan.toml", 'people = "."', "'prompts' is missing"),
        ("plan.toml", 'peple = "."', "'peple' is not a key.*Did you mean people"),
        ("plan.toml", 'people = "none"\nprompts = ["x"]', "none does not exist; a folder that holds"),
        ("plan.toml", 'people = "none/*"\nprompts = ["x"]', "people is 'none/\\*', which is nobody"),
        ("plan.toml", 'people = 3\nprompts = ["x"]', "people is 3, which is nobody"),
        ("plan.toml", 'people = ["a"]\nprompts = []', r"prompts is \[\]"),
        ("plan.toml", 'people = ["a"]\nprompts = ["b"]\nseeds = 3', "seeds is 3; a list"),
        ("plan.toml", 'people = ["a"]\nprompts = ["x"]\nseed = 1\nseeds = [2]', "both seed and seeds"),
        ("plan.toml", 'people = ["a"]\nprompts = ["x"]\nseeds = [-2]', "prompt 1: seed is -2"),
        ("plan.toml", 'people = ["a"]\nprompts = [3]', "prompt 1: prompt is 3"),
        ("plan.toml", 'people = ["a"]\nprompts = "none.csv"', "none.csv does not exist"),
        ("none.jsonl", None, "does not exist"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(InputError, match=message):
        planned(tmp_path / name, tmp_path / "out")
    assert read_plan(open_store(str(tmp_path / "out"))) is None


def test_the_document_has_every_key() -> None:
    tables = [line for line in (ROOT / "docs/batch.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    names = {name for line in tables for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert names >= {*KEYS, *PRODUCT_KEYS}
    assert names <= {*KEYS, *PRODUCT_KEYS, "seed", "ID"}


def test_bad_rows_cost_themselves_alone(tmp_path: Path) -> None:
    lines = write_plan(tmp_path / "plan.jsonl", 2, 3).read_text().splitlines()
    bad = ['{"person": "anna"', '{"person": "anna"}', '{"person": "anna", "prompt": "x", "seed": -1}', "3"]
    bad += ['{"person": "anna", "prompt": "x", "seed": 1, "seed": 2}']
    mixed = [line for pair in zip(lines, bad, strict=False) for line in pair] + lines[5:]
    (tmp_path / "mixed.jsonl").write_text("\n".join(mixed))
    one, other = planned(tmp_path / "plan.jsonl", tmp_path / "a"), planned(tmp_path / "mixed.jsonl", tmp_path / "b")
    assert one[1] == other[1]
    assert (one[0].bad_rows, other[0].bad_rows) == (0, 5)
    listed = [json.loads(line) for line in (tmp_path / "b/rows/bad.jsonl").read_text().splitlines()]
    assert [each["found"].partition(":")[0] for each in listed] == [f"mixed.jsonl, row {number}" for number in (2, 4, 6, 8, 10)]
    assert listed[-1]["found"].endswith("it has the key 'seed' twice")


def test_what_a_place_holds_is_gone_on_with_or_refused(tmp_path: Path) -> None:
    path, out = write_plan(tmp_path / "plan.jsonl", 3, 4), tmp_path / "out"
    first, ids = planned(path, out)
    before = {each: each.stat().st_ino for each in out.rglob("*")}
    assert planned(path, out) == (first, ids)
    assert {each: each.stat().st_ino for each in out.rglob("*")} == before
    with pytest.raises(CheckpointError, match="the same plan with image_format 'png', not 'webp'"):
        planned(path, out, SETTINGS | {"image_format": "webp"})
    with pytest.raises(CheckpointError, match="holds another plan"):
        planned(write_plan(tmp_path / "other.jsonl", 3, 5), out)
    (out / "plan.json").unlink()  # killed before it was written
    assert planned(path, out) == (first, ids)
    (out / "plan.json").unlink()
    (out / "mine.txt").touch()
    with pytest.raises(CheckpointError, match=r"holds mine\.txt, which is not of a batch"):
        planned(path, out)


def test_a_folder_of_people_that_changed_is_another_plan(tmp_path: Path) -> None:
    (tmp_path / "faces" / "anna").mkdir(parents=True)
    (tmp_path / "plan.toml").write_text('people = "faces"\nprompts = ["x"]')
    assert planned(tmp_path / "plan.toml", tmp_path / "out")[0].rows == 1
    (tmp_path / "faces" / "bert").mkdir()
    with pytest.raises(CheckpointError, match="holds another plan"):
        planned(tmp_path / "plan.toml", tmp_path / "out")


@pytest.mark.parametrize("parts", [2, 256])
def test_lines_are_sorted_on_the_disk(parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "MAX_PARTS", parts)
    lines = [f"{random.Random(number).random()}\n".encode() for number in range(100)]
    assert list(sorted_lines(iter(lines), tmp_path, 7)) == sorted(lines)
    assert list(sorted_lines(iter(lines[:14]), tmp_path, 7)) == sorted(lines[:14])
    left = sorted_lines(iter(lines), tmp_path, 7)
    next(left)
    left.close()
    assert not list(tmp_path.iterdir())


def test_sorting_takes_the_memory_of_a_part(tmp_path: Path) -> None:
    def lines(count: int) -> Iterator[bytes]:
        rng = random.Random(0)
        return (b"%016x%s\n" % (rng.randrange(1 << 60), b"x" * 200) for _ in range(count))

    peaks = []
    for count in (5_000, 40_000):
        tracemalloc.start()
        assert sum(1 for _ in sorted_lines(lines(count), tmp_path, 2_000)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_values_that_only_parquet_has_cost_their_row_alone(tmp_path: Path) -> None:
    rows = [
        {"person": "anna", "prompt": "a", "strength": None},
        {"person": "anna", "prompt": "b", "strength": date(2026, 1, 1)},
    ]
    write_table(pa.Table.from_pylist(rows), tmp_path / "plan.parquet")
    plan, ids = planned(tmp_path / "plan.parquet", tmp_path / "out")
    assert (plan.bad_rows, len(ids)) == (1, 1)
    assert "date is not JSON" in (tmp_path / "out/rows/bad.jsonl").read_text()


def test_a_negative_prompt_hides_no_bad_sampling(tmp_path: Path) -> None:
    row = {"person": "anna", "prompt": "a", "negative_prompt": "b"}
    plan, _ = planned(write_rows(tmp_path / "plan.jsonl", [row, row | {"sampling": 5}]), tmp_path / "out")
    assert (plan.rows, plan.bad_rows) == (1, 1)


def test_a_plan_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_plan(tmp_path / "plan.jsonl", 3, 3)

    def read_and_change(path: Path) -> Iterator[Any]:
        yield from plan_files.read_plan_rows(path)
        write_plan(path, 4, 3)

    with monkeypatch.context() as patch:
        patch.setattr(plan_module, "read_plan_rows", read_and_change)
        with pytest.raises(InputError, match="changed while it was read"):
            planned(path, tmp_path / "out")
    assert planned(path, tmp_path / "out")[0].rows == 12


def test_a_toml_does_not_multiply_without_end(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(f'people = ["anna"]\nprompts = ["a"]\nnum_images = 10000\nseeds = {list(range(0, 10**9, 10**6))}\n')
    with pytest.raises(InputError, match="10,000,000 pictures of each person"):
        planned(path, tmp_path / "out")


def test_a_column_that_parquet_has_twice_is_refused(tmp_path: Path) -> None:
    columns = [pa.array([name]) for name in ("anna", "bert", "a photo")]
    write_table(pa.Table.from_arrays(columns, names=["person", "person", "prompt"]), tmp_path / "plan.parquet")
    with pytest.raises(InputError, match="has the column 'person' twice"):
        planned(tmp_path / "plan.parquet", tmp_path / "out")


@pytest.mark.parametrize("other", ["5", '""', "[]"])
def test_nobody_is_left_out_of_a_list_of_people(other: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(f'people = ["anna", {other}]\nprompts = ["a"]\n')
    with pytest.raises(InputError, match="people has"):
        planned(path, tmp_path / "out")
