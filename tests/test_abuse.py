"""`make abuse`, a small part of it, and that it tells what failed from what did not."""

from __future__ import annotations

from pathlib import Path

import pytest

from abuse import Outcome, all_bad_commands, bad_commands, is_clear, run_bad_commands
from fresh import Done, Fresh
from parsed_commands import top_commands

EVERY = 12  # so many bad commands are left for `make abuse`


@pytest.mark.slow
def test_some_bad_commands_end_in_one_clear_error_each(fresh: Fresh, tmp_path: Path) -> None:
    outcome = run_bad_commands(fresh, tmp_path, all_bad_commands()[::EVERY])
    assert outcome.tried >= 20
    assert outcome.code == 0, str(outcome)


def test_every_command_gets_bad_input() -> None:
    commands = all_bad_commands()
    assert {words[0] for _, words in commands} >= top_commands()
    assert len({tuple(words) for _, words in commands}) >= 250


def test_a_line_has_an_environment_words_and_bytes() -> None:
    text = "# a comment\n\nA=b C=d photos 'x y' %FF --adapter-scale '{\"a\": 1}'\n"
    assert list(bad_commands(text)) == [({"A": "b", "C": "d"}, ["photos", "x y", "\udcff", "--adapter-scale", '{"a": 1}'])]


@pytest.mark.parametrize(
    ("done", "clear"),
    [
        (Done(1, "", "tenth: none does not exist; a folder is needed. Give one.\n"), True),
        (Done(2, "", "tenth photos: Missing argument 'DIR'. `tenth photos --help` says more.\n"), True),
        (Done(2, "", "Usage: tenth\ntenth photos: Missing argument 'DIR'.\n"), False),
        (Done(1, "a.png  no\n0 of 1 accepted\n", ""), True),
        (Done(1, "a.png  yes\n1 of 1 accepted\n", ""), False),
        (Done(0, "", "tenth: none does not exist\n"), False),
        (Done(1, "", "a note\ntenth: none does not exist\n"), False),
        (Done(1, "", ""), False),
        (Done(2, "", ""), False),
        (Done(70, "", "Traceback\n"), False),
        (Done(-14, "", ""), False),
        (Done(1, "", f"tenth: {'x' * 4000}\n"), False),
    ],
)
def test_what_a_clear_error_is(done: Done, clear: bool) -> None:
    assert is_clear(done) == clear


def test_the_counts_are_printed_and_decide() -> None:
    sound = Outcome(tried=1234, injected=20, survived=20)
    assert str(sound) == "bad inputs tried 1,234, failed 0\nfaults injected 20, survived 20\nlost 0"
    assert sound.code == 0
    for unsound in (Outcome(tried=1, failed=["x"]), Outcome(tried=1, lost=["x"]), Outcome(tried=1, injected=2, survived=1)):
        assert unsound.code == 1
    assert Outcome().code == 1  # nothing was tried
    sound.add(Outcome(tried=1, failed=["photos x: exit code 70"]))
    assert str(sound).startswith("failed: photos x: exit code 70\nbad inputs tried 1,235, failed 1\n")
