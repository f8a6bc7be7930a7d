"""People saved by name: kept for their owner alone, with a consent, and used by `tenth generate NAME`."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from tenth.cli.commands import generate
from tenth.cli.main import main
from tenth.cli.person.source import resolve_source
from tenth.core.cache import default_cache_dir
from tenth.core.files.png_metadata import read_sample
from tenth.core.types import Identity
from tenth.methods.identity_file import load_identity
from tenth.methods.people.folder import PeopleFolder, people_dir
from tenth.methods.people.forget import forget, is_forgotten
from tenth.methods.people.record import Consent
from tenth.models.registry import load_model

Output = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("me_and_another")


@pytest.fixture
def model(toy_folder: Path) -> list[str]:
    return ["--model", str(toy_folder)]


def drawing(toy: list[str]) -> list[str]:
    return ["--prompt", "a photo of a person", *toy, "-n", "1", "--steps", "2"]


@pytest.mark.slow
def test_a_person_is_saved_by_name_for_its_owner_alone(model: list[str], capsys: Output) -> None:
    assert main(["people"]) == 0
    assert "nobody is saved yet" in capsys.readouterr().err
    assert main(["identity", "me", *model, "--name", "anna", "--consent", "self"]) == 0
    path = PeopleFolder().identity("anna")
    assert path is not None
    assert capsys.readouterr().out == f"{path}\n"
    entries = [people_dir(), *people_dir().rglob("*")]
    assert len(entries) == 1 + 3 + 1 + 3 + 1  # folders, person.json, photos, identity
    assert all(each.stat().st_mode & 0o777 == (0o700 if each.is_dir() else 0o600) for each in entries)
    kept = {photo.read_bytes() for photo in PeopleFolder().photos("anna")}
    assert kept == {photo.read_bytes() for photo in Path("me").iterdir()}
    before = {each: each.read_bytes() for each in entries if each.is_file()}
    assert main(["identity", "me", "extra.png", *model, "--name", "anna", "--consent", "self"]) == 1
    assert "anna is saved with 3 photos, and not with the same ones" in capsys.readouterr().err
    assert main(["identity", "me", *model, "--name", "anna"]) == 0
    assert {each: each.read_bytes() for each in people_dir().rglob("*") if each.is_file()} == before
    assert main(["generate", "anna", *drawing(model), "-o", "by-name"]) == 0
    assert main(["generate", "me", *drawing(model), "-o", "by-photos"]) == 0
    assert Path("by-name/0000.png").read_bytes() == Path("by-photos/0000.png").read_bytes()
    capsys.readouterr()
    assert main(["people", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["people"]
    assert (listed["name"], listed["methods"], listed["num_photos"]) == ("anna", ["ip-adapter-consensus"], 3)
    assert "anna" not in Path("by-name/run.json").read_text()


def test_the_photos_kept_are_in_the_order_in_which_they_were_given(model: list[str], capsys: Output) -> None:
    people = PeopleFolder()
    people.save("anna", Consent("self"), sorted(Path("me").iterdir()))
    kept = people.photos("anna")
    assert [path.name for path in kept] != sorted(path.name for path in kept)  # their names are hashes
    person, _ = generate.read_person(*kept, is_saved=True)
    assert [photo.digest for photo in person.photos] == [path.name for path in kept]
    for word, out in (("anna", "saved"), ("me", "given")):
        assert main(["generate", word, *drawing(model), "--method", "ip-adapter", "-o", out]) == 0
    assert Path("saved/0000.png").read_bytes() == Path("given/0000.png").read_bytes()
    capsys.readouterr()


@pytest.mark.slow
def test_the_photos_kept_give_identities_of_other_methods_and_models(
    model: list[str], sd15_folder: Path, capsys: Output
) -> None:
    assert main(["identity", "me", *model, "--name", "anna", "--consent", "licensed", "--consent-by", "CC0"]) == 0
    assert main(["generate", "anna", "--method", "ip-adapter-avg", *drawing(model), "-o", "avg"]) == 0
    assert read_sample("avg/0000.png")["method"] == "ip-adapter-avg"
    shutil.copytree(sd15_folder, "stable")
    assert main(["generate", "anna", *drawing(["--model", "stable"]), "-o", "other"]) == 0
    assert "anna: by 3 photos kept, as no identity is of stable" in capsys.readouterr().err

    # A second identity; then it has to be said which one is meant.
    shutil.rmtree("me")
    assert main(["identity", "anna", "--method", "ip-adapter-avg", *model, "--name", "anna"]) == 0
    capsys.readouterr()
    assert main(["generate", "anna", *drawing(model), "-o", "new"]) == 1
    assert "anna has 2 identities of" in capsys.readouterr().err
    assert main(["people"]) == 0
    said = capsys.readouterr().out
    assert "3 photos, ip-adapter-avg, ip-adapter-consensus (" in said
    assert "; consent: licensed, CC0, " in said


def test_of_versions_of_a_model_the_newest_identity_is_taken(toy_folder: Path) -> None:
    people, loaded = PeopleFolder(), load_model(str(toy_folder))
    people.save("anna", Consent("self"), sorted(Path("me").iterdir()))
    for number, version in enumerate((f"{toy_folder.name}@1", f"{toy_folder.name}+fast@2")):
        identity = Identity("ip-adapter", version, loaded.encoder.name, loaded.adapter_name, torch.ones(1, 128))
        os.utime(people.add_identity("anna", identity), (number, number))
    found = resolve_source([Path("anna")], model=str(toy_folder))
    assert found.identity is not None
    assert load_identity(found.identity).model == f"{toy_folder.name}+fast@2"
    assert found.notes == ("anna: the newest of 2 identities by ip-adapter, of other weights each",)


def test_after_the_end_of_the_consent_nothing_is_made(
    model: list[str], sd15_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    consent = ["--name", "anna", "--consent", "permission", "--consent-by", "Anna"]
    assert main(["identity", "me", *model, *consent, "--consent-until", "2999-01-01"]) == 0
    monkeypatch.setattr("tenth.methods.people.record.today", lambda: dt.date(2999, 1, 2))
    capsys.readouterr()
    assert not is_forgotten(PeopleFolder(), "anna")  # what was computed of the person stays
    for words in (["generate", "anna"], ["generate", "--person", "anna@left"]):
        assert main([*words, *drawing(model), "-o", "out"]) == 1
        said = capsys.readouterr().err
        assert "anna: the consent ended on 2999-01-01; a consent that holds today is needed. Renew it with" in said
        assert "`tenth forget 'anna'`" in said
        assert not Path("out").exists()
    assert main(["identity", "me", *model, *consent]) == 0
    assert main(["generate", "anna", *drawing(model), "-o", "out"]) == 0


def test_a_path_wins_over_a_name_and_that_is_said(model: list[str], toy_folder: Path, capsys: Output) -> None:
    loaded = load_model(str(toy_folder))
    other = Identity("ip-adapter", loaded.name, loaded.encoder.name, loaded.adapter_name, torch.ones(1, 128))
    PeopleFolder().save("me", Consent("self"), identity=other)
    assert main(["generate", "me", *drawing(model), "-o", "out"]) == 0
    assert "me: the path is taken, not the person saved by this name" in capsys.readouterr().err
    assert read_sample("out/0000.png")["method"] == "ip-adapter-consensus"


def test_where_people_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TENTH_PEOPLE_DIR")
    monkeypatch.delenv("TENTH_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert people_dir() == tmp_path / "tenth/people"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert people_dir() == tmp_path / ".local/share/tenth/people"


def test_whoever_is_forgotten_while_images_are_generated_leaves_nothing_in_the_cache(
    model: list[str], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, read = PeopleFolder(), generate.read_person
    people.save("anna", Consent("self"), sorted(Path("me").iterdir()))
    digests = [path.name for path in people.photos("anna")]

    def cached() -> list[Path]:
        return [path for path in default_cache_dir().rglob("*") if any(digest in path.name for digest in digests)]

    # When the photos were read, and nothing is computed of them yet.
    def read_and_forget(*paths: Path, **options: object) -> object:
        person = read(*paths, **options)  # type: ignore[arg-type]
        forget(people, "anna")
        assert cached() == []
        return person

    with monkeypatch.context() as patch:
        patch.setattr(generate, "read_person", read_and_forget)
        assert main(["generate", "anna", *drawing(model), "-o", "out"]) == 1
    assert "anna was forgotten meanwhile; of whoever was forgotten tenth keeps nothing." in capsys.readouterr().err
    assert cached() == []
    assert people.names() == []
    assert is_forgotten(people, "anna")
    assert [path.name for path in Path("out").glob("0*.png")] == ["0000.png"]  # the user's own

    # The same of a person who is still saved is kept.
    people.save("anna", Consent("self"), sorted(Path("me").iterdir()))
    assert main(["generate", "anna", *drawing(model), "-o", "again"]) == 0
    assert cached() != []
