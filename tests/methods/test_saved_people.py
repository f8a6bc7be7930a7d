"""Saved people: their folders, the record of consent, and who may be used."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tenth.core.config import from_table, to_table
from tenth.core.errors import CheckpointError, DataError, IdentityError, RecipeError
from tenth.core.files.writing import PRIVATE_FOLDER_MODE, atomic_folder
from tenth.core.types import Identity
from tenth.methods.people import record as records
from tenth.methods.people.folder import PeopleFolder
from tenth.methods.people.record import Consent, read_person_record

IDENTITY = Identity("ip-adapter", "pocket@1", "e@2", "a@3", torch.ones(1, 8), photos=("ab",))
PHOTOS = (b"one", b"two")


@pytest.fixture
def people(tmp_path: Path) -> PeopleFolder:
    return PeopleFolder(tmp_path / "people")


def test_a_person_is_found_as_they_were_saved(people: PeopleFolder, tmp_path: Path) -> None:
    (tmp_path / "two.jpg").write_bytes(b"two")
    consent = Consent("permission", "Anna's mother", until=dt.date(2999, 1, 2))
    saved = people.save("Anna B", consent, [b"one", tmp_path / "two.jpg"], IDENTITY)
    assert people.list() == (saved,)
    assert (saved.name, saved.consent, saved.num_photos) == ("Anna B", consent, 2)
    assert (saved.methods, saved.models, saved.problem) == (("ip-adapter",), ("pocket@1",), "")
    assert [path.read_bytes() for path in people.photos("Anna B")] == [b"one", b"two"]
    entries = [people.directory, *people.directory.rglob("*")]
    assert all(each.stat().st_mode & 0o777 == (0o700 if each.is_dir() else 0o600) for each in entries)
    assert not any(b"Anna B" in path.read_bytes() for path in entries if path.is_file())
    assert people.find("anna") is None
    assert to_table(saved)["consent"]["until"] == "2999-01-02"


def test_identities_are_found_by_method_and_model(people: PeopleFolder) -> None:
    people.save("anna", Consent("self"), PHOTOS, IDENTITY)
    other = people.add_identity("anna", replace(IDENTITY, method="dreambooth", model="sd15@9"))
    assert people.add_identity("anna", IDENTITY) == people.identity("anna", "ip-adapter")
    assert len(people.identities("anna")) == 2
    assert people.identity("anna", model="sd15") == people.identity("anna", "dreambooth", "sd15@9") == other
    assert people.identity("anna", "dreambooth", "pocket") is None
    assert people.identity("bert") is None
    with pytest.raises(CheckpointError, match="anna has another identity of ip-adapter and pocket@1"):
        people.add_identity("anna", replace(IDENTITY, embeddings=torch.zeros(1, 8)))


def test_nobody_is_replaced_and_a_consent_is_renewed(people: PeopleFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    people.save("anna", Consent("self", until=dt.date(2030, 1, 1), date=dt.date(2026, 1, 1)), PHOTOS)
    before = {path: path.read_bytes() for path in people.directory.rglob("*") if path.is_file()}
    for photos in ((b"one",), (b"one", b"three"), ()):
        with pytest.raises(CheckpointError, match="anna is saved with 2 photos"):
            people.save("anna", Consent("self"), photos)
    people.save("anna", None, PHOTOS)
    people.save("anna", Consent("self", until=dt.date(2030, 1, 1)), PHOTOS)  # the same, said later
    assert {path: path.read_bytes() for path in people.directory.rglob("*") if path.is_file()} == before

    # On its last day it holds; then it is said, and can be renewed with the same photos.
    monkeypatch.setattr(records, "today", lambda: dt.date(2030, 1, 1))
    assert people.require("anna").problem == ""
    monkeypatch.setattr(records, "today", lambda: dt.date(2030, 1, 2))
    with pytest.raises(IdentityError, match=r"the consent ended on 2030-01-01; .* Renew it with .* or `tenth forget 'anna'`"):
        people.require("anna")
    for refused in (lambda: people.save("anna", None, PHOTOS), lambda: people.add_identity("anna", IDENTITY)):
        with pytest.raises(IdentityError, match="the consent ended"):
            refused()
    renewed = Consent("self", date=dt.date(2030, 1, 2), until=dt.date(2031, 1, 1))
    assert people.save("anna", renewed, PHOTOS, IDENTITY).consent == renewed


def test_what_is_no_consent_is_refused(people: PeopleFolder) -> None:
    for values, found in (
        ({"basis": "none"}, "basis is 'none'"),
        ({"basis": "permission"}, "given_by is ''; needed: who gave the consent"),
        ({"basis": "licensed", "given_by": " "}, "given_by is ' '"),
        ({"basis": "self", "given_by": "a\nb"}, "one line"),
        ({"basis": "self", "date": "2026-01-02", "until": "2026-01-01"}, "until is '2026-01-01'"),
        ({"basis": "self", "until": "soon"}, "until is 'soon'"),
        ({"basis": "self", "who": "me"}, "'who' is not a key"),
    ):
        with pytest.raises(RecipeError, match=found.replace("(", r"\(")):
            from_table(Consent, values)
    with pytest.raises(DataError, match="anna without a consent"):
        people.save("anna", None, PHOTOS)
    past = Consent("self", date=dt.date(2020, 1, 1), until=dt.date(2020, 1, 1))
    with pytest.raises(DataError, match="a consent until 2020-01-01; one that holds today"):
        people.save("anna", past, PHOTOS)
    for name in ("../anna", "a/b", "", ".anna", "anna.safetensors", "anna ", "x" * 101, "漢" * 67, "\u0301a", "a\nb"):
        with pytest.raises(DataError, match="a name has at most 100 letters"):
            people.save(name, Consent("self"), PHOTOS)
    assert not people.directory.exists()


@pytest.mark.parametrize("name", ["अनिता", "นภา", "e\u0301milie", "漢" * 66])
def test_names_are_of_any_script(name: str, people: PeopleFolder) -> None:
    people.save(name, Consent("self"), PHOTOS)
    assert people.names() == [name]
    assert people.require(name).name == name


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"format": 2}', b'{"consent": {"basis": "none"}}', None])
def test_a_damaged_record_is_said_and_the_person_not_used(people: PeopleFolder, content: bytes | None) -> None:
    people.save("anna", Consent("self"), PHOTOS, IDENTITY)
    path = people.path("anna") / "person.json"
    path.unlink() if content is None else path.write_bytes(content)
    (listed,) = people.list()
    assert listed.problem
    assert listed.consent is None
    with pytest.raises(IdentityError, match="tenth forget"):
        people.require("anna")


def test_a_damaged_identity_is_said(people: PeopleFolder) -> None:
    people.save("anna", Consent("self"), PHOTOS, IDENTITY)
    path = people.identity("anna")
    assert path is not None
    path.write_bytes(path.read_bytes()[:60])
    assert "damaged or not safetensors" in people.list()[0].problem


def test_saving_is_whole_or_not_at_all(people: PeopleFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"one")
    with monkeypatch.context() as patch:
        patch.setattr("tenth.methods.people.folder.save_identity", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(DataError, match="cannot be written"):
            people.save("anna", Consent("self"), [tmp_path / "photo.jpg"], IDENTITY)
    assert list(people.directory.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr("tenth.methods.people.folder.photo_digest", lambda _: "0" * 64)
        with pytest.raises(DataError, match="changed while it was read"):
            people.save("anna", Consent("self"), [tmp_path / "photo.jpg"])
    assert people.names() == []


def test_two_processes_that_save_one_name_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    with atomic_folder(tmp_path / "anna", PRIVATE_FOLDER_MODE, no_overwrite=True) as new:  # an empty one is none
        (new / "file").write_text("first")
    with pytest.raises(CheckpointError, match="exists"), atomic_folder(tmp_path / "anna", no_overwrite=True) as new:
        (new / "file").write_text("second")
    assert (tmp_path / "anna" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["anna"]


def test_the_record_is_read_back(people: PeopleFolder) -> None:
    people.save("anna", Consent("licensed", "CC0"), (b"one", b"two", b"one"))
    record = read_person_record(people.path("anna"))
    assert len(record.photos) == 2
    assert record.created.tzinfo is not None
    table = json.loads((people.path("anna") / "person.json").read_text())
    assert table["consent"] == {"basis": "licensed", "given_by": "CC0", "date": str(record.consent.date), "until": None}


def test_people_need_no_torch(tmp_path: Path) -> None:
    text = (
        "import sys; from tenth.methods.people.forget import forget; from tenth.methods.people.folder import PeopleFolder;"
        "from tenth.methods.people.record import Consent; people = PeopleFolder();"
        "people.save('anna', Consent('self'), [b'x']); people.list(); forget(people, 'anna'); sys.exit('torch' in sys.modules)"
    )
    places = {"TENTH_PEOPLE_DIR": str(tmp_path / "people"), "TENTH_DATA_DIR": str(tmp_path), "TENTH_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", text], env=os.environ | places, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
