"""Pairs, choices and the result of `tenth benchmark rate`."""

from __future__ import annotations

import json
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import CheckpointError, DataError
from tenth.experiments.rating.choices import CHOICES_FILE, Choice, ChoiceFile
from tenth.experiments.rating.pairs import ImagePair, choose_pairs, list_pairs, rater_order
from tenth.experiments.rating.preference import format_preference, krippendorff_alpha, preference
from tenth.experiments.rating.study import StudyOptions, open_study
from toy_rating import rated_folders

SYSTEMS = ("one", "two")


def choice(person: int, task: int, chosen: str, rater: str = "", left: int = 0) -> Choice:
    return Choice(rater, f"{person}/{task}", str(person), SYSTEMS[left], SYSTEMS[1 - left], chosen)


# Pairs
def test_pairs_are_the_images_that_both_have(tmp_path: Path) -> None:
    folders, tasks = rated_folders(tmp_path)
    (folders[1] / "portrait/9/001/0.png").unlink()
    pairs, notes = list_pairs(folders, tasks)
    assert len(pairs) == 11
    assert {pair.person for pair in pairs} == {"000", "001", "002"}
    assert all(path.is_relative_to(folder) for pair in pairs for path, folder in zip(pair.images, folders, strict=True))
    assert [path.name for path in pairs[0].photos] == ["00.png", "01.png"]
    assert pairs[0].prompt == "a portrait photo of a person"
    assert notes == [f"{folders[1]} has no image for 1 of 12 tasks: they are not shown"]


def test_pairs_of_fewer_references(tmp_path: Path) -> None:
    folders, tasks = rated_folders(tmp_path)
    pairs, _ = list_pairs(folders, tasks, 3)
    assert {pair.task.split("/")[1] for pair in pairs} == {"3"}
    with pytest.raises(DataError, match="no tasks of 5 references; one of 3, 9 is needed"):
        list_pairs(folders, tasks, 5)


def test_without_tasks_equal_names_are_a_pair(tmp_path: Path) -> None:
    for name, ending in (("a", "png"), ("b", "jpg")):
        for person, number in product(("anna", "ben"), range(2)):
            (tmp_path / name / person).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / name / person / f"{number}.{ending}")
    (tmp_path / "b/ben/1.jpg").unlink()
    pairs, notes = list_pairs((tmp_path / "a", tmp_path / "b"))
    assert [pair.task for pair in pairs] == ["anna/0", "anna/1", "ben/0"]
    assert [pair.images[1].name for pair in pairs] == ["0.jpg", "1.jpg", "0.jpg"]
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"image": "../other/0.png"}, "outside of its folder"),
        ({"person": "../000"}, "outside of its folder"),
        ({"person": 7}, "no task in line 1"),
        ({"num_references": True}, "no task in line 1"),
    ],
)
def test_tasks_that_are_none_are_refused(change: dict[str, object], found: str, tmp_path: Path) -> None:
    line = {"image": "0.png", "person": "000", "prompt": "", "num_references": 9} | change
    (tmp_path / "tasks.jsonl").write_text(json.dumps(line))
    with pytest.raises(DataError, match=found):
        list_pairs((tmp_path, tmp_path), tmp_path)


def test_folders_without_a_pair_are_refused(tmp_path: Path) -> None:
    folders, tasks = rated_folders(tmp_path)
    with pytest.raises(DataError, match="no image in common"):
        list_pairs((folders[0], tmp_path / "empty"), tasks)
    with pytest.raises(DataError, match="does not exist"):
        list_pairs(folders, tmp_path / "empty")


def some_pairs() -> list[ImagePair]:
    """Ten of one person, three of another, one of a third."""
    sizes = {"a": 10, "b": 3, "c": 1}
    return [
        ImagePair(f"{person}/{number}", person, (Path("1"), Path("2")))
        for person, size in sizes.items()
        for number in range(size)
    ]


def test_people_have_as_many_pairs_as_can_be() -> None:
    pairs = some_pairs()
    for count, expected in ((3, (1, 1, 1)), (7, (3, 3, 1)), (99, (10, 3, 1))):
        people = Counter(pair.person for pair in choose_pairs(pairs, count, seed=0))
        assert tuple(people[person] for person in "abc") == expected
    assert choose_pairs(pairs, 7, seed=0) == choose_pairs(pairs[::-1], 99, seed=0)[:7]
    assert choose_pairs(pairs, 7, seed=0) != choose_pairs(pairs, 7, seed=1)


def test_order_and_sides_are_seeded_and_balanced() -> None:
    pairs = some_pairs()
    order = rater_order(pairs, 0, "anna")
    assert order == rater_order(pairs, 0, "anna")
    assert {each.pair.task for each in order} == {pair.task for pair in pairs}
    assert sum(each.left for each in order) == len(pairs) // 2
    assert all({each.left, each.right} == {0, 1} for each in order)
    others = [rater_order(pairs, 0, "ben"), rater_order(pairs, 1, "anna")]
    assert all([each.pair for each in order] != [each.pair for each in other] for other in others)


# Choices
def test_choices_are_on_the_disk_and_the_last_one_counts(tmp_path: Path) -> None:
    file = ChoiceFile(tmp_path, SYSTEMS)
    made = [choice(1, 0, "left"), choice(1, 0, "tie", "anna"), choice(1, 0, "skip")]
    for each in made:
        file.add(each)
        assert ChoiceFile(tmp_path, SYSTEMS).all() == file.all()
    assert file.all() == [made[2], made[1]]
    assert json.loads((tmp_path / CHOICES_FILE).read_text().splitlines()[1])["choice"] == "tie"


def test_a_choice_that_cannot_be_written_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ChoiceFile(tmp_path, SYSTEMS)
    file.add(choice(1, 0, "left"))

    def full(*_: object) -> None:
        raise DataError("full", "room", "Make room")

    monkeypatch.setattr("tenth.experiments.rating.choices.write_text", full)
    with pytest.raises(DataError, match="full"):
        file.add(choice(1, 0, "right"))
    assert file.all() == [choice(1, 0, "left")] == ChoiceFile(tmp_path, SYSTEMS).all()


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"rater": ""}',
        json.dumps(vars(choice(1, 0, "other"))),
        json.dumps(vars(choice(1, 0, "left")) | {"left": "x"}),
    ],
)
def test_damaged_choices_are_refused_and_stay(line: str, tmp_path: Path) -> None:
    path = tmp_path / CHOICES_FILE
    path.write_text(f"{json.dumps(vars(choice(1, 0, 'left')))}\n{line}\n")
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"in line 2;"):
        ChoiceFile(tmp_path, SYSTEMS)
    assert path.read_bytes() == before


# Studies
def test_a_study_goes_on_and_refuses_another(tmp_path: Path) -> None:
    folders, tasks = rated_folders(tmp_path)
    options = StudyOptions(tasks, pairs=5, rater="anna")
    study = open_study(folders, tmp_path / "out", options)
    assert (len(study.order), study.next_index, study.num_chosen) == (5, 0, 0)
    study.choose(0, "left")
    study.choose(2, "skip")
    again = open_study(folders, tmp_path / "out", options)
    assert (again.next_index, again.num_chosen, again.choice(2)) == (1, 2, "skip")
    stored = again.choices.all()[0]
    shown = again.order[0]
    assert (stored.left, stored.right) == (SYSTEMS[shown.left], SYSTEMS[shown.right])

    # Another rater has the same pairs, and none of the choices.
    ben = open_study(folders, tmp_path / "out", StudyOptions(tasks, pairs=5, rater="ben"))
    assert ben.num_chosen == 0
    assert {each.pair for each in ben.order} == {each.pair for each in study.order}

    # Whatever else differs makes another study.
    with pytest.raises(CheckpointError, match=r"an evaluation by raters with other settings: images .*; pairs 5, not 6;"):
        open_study(folders, tmp_path / "out", StudyOptions(tasks, pairs=6))
    Image.new("RGB", (8, 8)).save(study.order[0].pair.images[0])
    with pytest.raises(CheckpointError, match="other settings: images "):
        open_study(folders, tmp_path / "out", options)


def test_photos_are_shown_where_identity_is_asked_for(tmp_path: Path) -> None:
    folders, tasks = rated_folders(tmp_path)
    counts = [
        len(open_study(folders, tmp_path / f"out{number}", options).order[0].pair.photos)
        for number, options in enumerate(
            [StudyOptions(tasks), StudyOptions(tasks, photos=False), StudyOptions(tasks, question="quality")]
        )
    ]
    assert counts == [2, 0, 0]


def test_what_cannot_be_rated_is_refused(tmp_path: Path) -> None:
    folders, tasks = rated_folders(tmp_path)
    output = tmp_path / "out"
    with pytest.raises(DataError, match="twice"):
        open_study((folders[0], folders[0]), output, StudyOptions(tasks))
    with pytest.raises(DataError, match="rater's name"):
        open_study(folders, output, StudyOptions(tasks, rater="a\nb"))
    for folder in folders:
        (folder / "0.png").write_bytes((folder / "portrait/9/000/0.png").read_bytes())
    with pytest.raises(DataError, match="prompts are needed"):
        open_study(folders, output, StudyOptions(question="prompt"))
    assert not output.exists()


# The result
def test_win_rate_by_hand() -> None:
    choices = [
        *(choice(1, 0, "left"), choice(1, 1, "left", left=1)),  # one, two: a half
        *(choice(2, 0, "right", left=1), choice(2, 1, "tie")),  # one, tie: three quarters
        *(choice(3, 0, "left"), choice(3, 1, "skip")),  # one
    ]
    result = preference(choices, *SYSTEMS)
    assert result.win_rate.value == pytest.approx((0.5 + 0.75 + 1) / 3)
    assert (result.wins, result.ties, result.skipped) == ((3, 1), 1, 1)
    assert result.win_rate.n == 3
    assert result.p_value == pytest.approx(4 / 8)  # of 8 signs of (0, 0.5, 1): both with all that is not 0, twice for the 0
    assert result.left_rate == pytest.approx(3 / 4)
    other = preference(choices, *SYSTEMS[::-1])
    assert other.win_rate.value == pytest.approx(1 - result.win_rate.value)
    assert other.p_value == result.p_value
    assert format_preference(result).startswith("one over two: win rate 0.750 [0.")


@pytest.mark.parametrize(("chosen", "value"), [("tie", 0.5), ("left", 1.0), ("right", 0.0)])
def test_where_all_people_are_alike_the_interval_has_a_width_and_says_so(chosen: str, value: float) -> None:
    result = preference([choice(person, 0, chosen) for person in range(12)], *SYSTEMS)
    low, high = result.win_rate.low, result.win_rate.high
    assert (result.win_rate.value, result.alike) == (value, True)
    assert low is not None
    assert high is not None
    assert 0 <= low <= value <= high <= 1
    assert high - low == pytest.approx(1 - 0.025 ** (1 / 12))
    said = format_preference(result)
    assert f"the rate of each of 12 people is {value:.3f}" in said
    assert "Clopper and Pearson" in said
    one = preference([choice(0, 0, chosen)], *SYSTEMS)
    assert (one.alike, one.win_rate.low) == (False, None)
    other = preference([choice(0, 0, "left"), choice(1, 0, "tie")], *SYSTEMS)
    assert not other.alike
    assert "Clopper" not in format_preference(other)


def test_raters_of_a_task_are_averaged() -> None:
    """Three raters of one task weigh as much as one of another."""
    choices = [choice(1, 0, "left", rater) for rater in "abc"] + [choice(1, 1, "right"), choice(2, 0, "right")]
    result = preference(choices, *SYSTEMS)
    assert result.win_rate.value == pytest.approx((0.5 + 0) / 2)
    assert (result.raters, result.shared_tasks) == (4, 1)
    assert "4 raters" in format_preference(result)


def test_without_choices_there_is_no_result() -> None:
    with pytest.raises(DataError, match="no pair was chosen"):
        preference([choice(1, 0, "skip")], *SYSTEMS)


def test_p_and_interval_of_a_coin_and_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    coin = [choice(person, task, str(rng.choice(["left", "right"]))) for person in range(20) for task in range(8)]
    clear = [choice(person, task, "left" if rng.random() < 0.75 else "right") for person in range(20) for task in range(8)]
    nothing, something = preference(coin, *SYSTEMS), preference(clear, *SYSTEMS)
    assert nothing.p_value > 0.05
    assert something.p_value < 0.001
    low, high = something.win_rate.low, something.win_rate.high
    assert low is not None
    assert high is not None
    assert 0.5 < low < 0.75 < high


def test_alpha_of_the_published_example() -> None:
    """Four observers, twelve units, 0.743: Krippendorff 2011, section C."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[value for value in unit if value is not None] for unit in zip(*observers, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_at_its_ends() -> None:
    assert krippendorff_alpha([(0, 0), (1, 1), (0,)]) == 1
    alpha = krippendorff_alpha([(0, 1), (1, 0)])
    assert alpha is not None
    assert alpha < 0
    assert krippendorff_alpha([(1, 1), (1, 1)]) is None
    assert krippendorff_alpha([]) is None
