"""The law of forgetting: afterwards no byte of a person is in cache, people, output and temporary folders."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from tenth.cli.main import main
from tenth.core.cache import ArrayCache, default_cache_dir, image_hash
from tenth.core.cache_contents import cache_entries
from tenth.core.errors import CheckpointError, DataError
from tenth.core.files.reading import sha256_of
from tenth.core.files.writing import try_lock, write_json
from tenth.data.photo import open_photo
from tenth.evaluation.extractors.features import extract_cached
from tenth.methods.identity_file import load_identity
from tenth.methods.people.folder import PeopleFolder
from tenth.methods.people.forget import Removed, _remove_person, forget
from tenth.methods.people.record import Consent
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

NAME = "Anna Karenina"
FOLDERS = ("store", "people", "data", "out", "temporary")
Output = pytest.CaptureFixture[str]


class Mean:
    """An extractor of three numbers, as `tenth evaluate` has them."""

    name, feature_dim = "mean@1", 3

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([image.reshape(-1, 3).mean(0) for image in images]).astype(np.float64)


def move_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, below which everything lies in FOLDERS."""
    for name, variable in zip(FOLDERS, ("TENTH_CACHE_DIR", "TENTH_PEOPLE_DIR", "TENTH_DATA_DIR", "", "TMPDIR"), strict=True):
        if variable:
            monkeypatch.setenv(variable, str(folder / name))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; `me` has three photos, `bert` three others."""
    return furnish(move_to(tmp_path, monkeypatch))


def furnish(folder: Path) -> Path:
    for name in ("data", "temporary"):
        (folder / name).mkdir()
    photos = sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))
    for name, some in (("me", photos[:3]), ("bert", photos[3:6])):
        Path(name).mkdir()
        for photo in some:
            shutil.copy(photo, name)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> Iterator[Path]:
    """Anna saved, with images by name and by photos, an identity file, an evaluation, fine-tuning, and a killed one's files."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield settle(furnish(move_to(tmp_path_factory.mktemp("whole"), monkeypatch)), toy_folder)


@pytest.fixture
def settled(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and the working directory."""
    return move_to(Path(shutil.copytree(whole, tmp_path / "copy")), monkeypatch)


def settle(here: Path, toy_folder: Path) -> Path:
    toy = ["--model", str(toy_folder)]
    drawn = ["--prompt", "a photo of a person", "-n", "2", "--steps", "1", *toy]
    for words in (
        ["identity", "me", "--name", NAME, "--consent", "permission", "--consent-by", "Leo", *toy],
        ["identity", "bert", "--name", "bert", "--consent", "self", *toy],
        ["generate", NAME, *drawn],
        ["generate", "me", *drawn, "--candidates", "3", "--keep-all", "-o", "out/kept"],
        ["generate", "bert", *drawn, "-o", "out/bert"],
        ["identity", "me", "--method", "ip-adapter-avg", "-o", "out/me.safetensors", *toy],
    ):
        assert main(words) == 0, words
    shutil.copytree("out/kept", "out/unfinished")
    Path("out/unfinished/run.json").rename("out/unfinished/.begun.json")
    for folder in ("me", "bert", f"out/{NAME}-1"):
        extract_cached([open_photo(path).pixels for path in sorted(Path(folder).glob("*.png"))], Mean())
    for digest, name in ((sha256_of("me/01.png"), "anna"), (sha256_of("bert/04.png"), "bert")):
        training = here / "store" / "dreambooth" / name
        (training / "step-00000009").mkdir(parents=True)
        write_json(training / "photos.json", [digest])
        (training / "step-00000009" / "weights.safetensors").write_bytes(b"trained weights of " + digest.encode())
    leftover = here / "people" / f".{NAME}.{'0' * 16}.part"
    (leftover / "photos").mkdir(parents=True)
    shutil.copy("me/01.png", leftover / "photos" / sha256_of("me/01.png"))
    return here


def traces(here: Path) -> list[tuple[str, bytes]]:
    """What could be found of Anna: her name, photos and their hashes, embeddings, images."""
    found = [("name", NAME.encode()), ("giver", b"Leo"), ("trained", b"trained weights of " + sha256_of("me/01.png").encode())]
    people = PeopleFolder()
    (path, _), *_ = people.identities(NAME)
    identities = [load_identity(path), load_identity("out/me.safetensors")]
    for identity in identities:
        assert identity.embeddings is not None
        found.append(("identity", identity.embeddings.numpy().tobytes()))
    own = {sha256_of(path) for path in Path("me").iterdir()}
    for path in [*Path("me").iterdir(), *Path(f"out/{NAME}-1").glob("0*.png")]:
        pixels = open_photo(path).pixels
        found += [
            ("hash", sha256_of(path).encode()),
            ("pixels", image_hash(pixels).encode()),
            ("file", path.read_bytes()[-500:]),
        ]
        found.append(("features", pixels.reshape(-1, 3).mean(0).astype(np.float32).tobytes()))
    for entry in cache_entries(default_cache_dir()):
        if entry.path.name[:64] in own:
            array = ArrayCache(default_cache_dir()).read(entry.namespace, entry.path.stem)
            assert array is not None
            found.append(("embedding", array.tobytes()))
    assert sum(kind == "embedding" for kind, _ in found) == 3
    return found


def search(here: Path, found: Sequence[tuple[str, bytes]]) -> Iterator[str]:
    """Which trace is in which file, or in its path."""
    for path in (each for name in FOLDERS for each in (here / name).rglob("*")):
        content = os.fsencode(path.relative_to(here)) + b"\n" + (path.read_bytes() if path.is_file() else b"")
        yield from (f"{kind} in {path.relative_to(here)}" for kind, trace in found if trace in content)


def test_nothing_is_found_afterwards_and_nothing_of_others_is_lost(settled: Path, capsys: Output) -> None:
    found = traces(settled)
    assert {hit.split()[0] for hit in search(settled, found)} == {kind for kind, _ in found}
    berts = {path: path.read_bytes() for path in settled.rglob("*") if path.is_file() and "bert" in path.parts}
    (settled / "out" / "kept" / "letter.txt").write_text("mine")
    capsys.readouterr()
    assert main(["forget", NAME, "--in", "out", "--yes"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("removed: 3 photos, 1 identity, ")
    assert "1 run of fine-tuning, 12 images, 7 other files" in said
    assert not list(search(settled, found))
    assert {path: path.read_bytes() for path in berts} == berts
    assert len(list(Path("me").iterdir())) == 3  # the user's own photos
    assert sorted(path.name for path in Path("out").iterdir()) == ["bert", "kept"]
    assert [path.name for path in Path("out/kept").iterdir()] == ["letter.txt"]
    assert PeopleFolder().names() == ["bert"]
    assert (settled / "store/dreambooth/bert/photos.json").exists()
    assert main(["forget", NAME, "--in", "out", "--yes"]) == 0
    assert "removed: nothing" in capsys.readouterr().out


class Kill:
    """Ends this process at the n-th moment at which a file is named, removed or opened to be written."""

    def __init__(self, moment: int) -> None:
        self.moment = moment

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writing or event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "shutil.rmtree"):
            self.moment -= 1
            if self.moment < 0:
                os.kill(os.getpid(), signal.SIGKILL)


def test_killed_at_any_moment_it_is_done_when_run_again(settled: Path, whole: Path) -> None:
    found, killed, moment = traces(settled), 0, 0
    while True:
        for name in FOLDERS:
            shutil.rmtree(settled / name, ignore_errors=True)
            shutil.copytree(whole / name, settled / name)
        process = os.fork()
        if process == 0:
            sys.addaudithook(Kill(moment).audit)
            forget(PeopleFolder(), NAME, [Path("out")], decode=True)
            os._exit(0)
        if not os.WIFSIGNALED(os.waitpid(process, 0)[1]):
            break
        killed += 1
        forget(PeopleFolder(), NAME, [Path("out")], decode=True)
        assert not list(search(settled, found)), moment
        moment += 3
    assert killed > 20
    assert not list(search(settled, found))


def test_what_another_saved_person_needs_stays(here: Path, toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = ["--model", str(toy_folder)]
    assert main(["identity", "me", "--name", "anna", "--consent", "self", *toy]) == 0
    assert main(["identity", "me/01.png", "me/02.png", "--name", "twin", "--consent", "self", *toy]) == 0
    user = PeopleFolder(here / "data" / "users" / "u" / "people")
    before = {entry.path.name for entry in cache_entries(default_cache_dir())}
    assert forget(PeopleFolder(), "anna").cached == 1  # of the photo that twin does not have
    shared = {entry.path.name for entry in cache_entries(default_cache_dir())}
    assert {name[:64] for name in before - shared} == {sha256_of("me/03.png")}

    # A user of the server counts as well.
    user.save("anna", Consent("self"), [Path("me/01.png")])
    assert forget(PeopleFolder(), "twin") == Removed(photos=2, identities=1, cached=1)
    assert forget(user, "anna") == Removed(photos=1, cached=1)
    assert not list(cache_entries(default_cache_dir()))


def test_a_half_forgotten_person_is_not_used_and_a_damaged_one_goes(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    people = PeopleFolder()
    people.save("anna", Consent("self"), [Path("me/01.png")])
    people.save("bert", Consent("self"), [Path("bert/04.png")])
    with monkeypatch.context() as patch:
        patch.setattr("tenth.methods.people.forget.remove_photo_entries", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            forget(people, "anna")
    assert main(["generate", "anna", "--prompt", "x", "-o", "out/new"]) == 1
    assert "forgetting was begun and did not end" in capsys.readouterr().err
    assert main(["identity", "me/01.png", "--name", "anna", "--consent", "self"]) == 1
    (people.path("bert") / "person.json").write_text("{")
    ArrayCache(default_cache_dir()).write("faces", f"{sha256_of('bert/04.png')}-ab", np.ones(3))
    assert [forget(people, name).photos for name in ("anna", "bert", "bert")] == [1, 1, 0]
    assert list(people.directory.iterdir()) == []
    assert not list(cache_entries(default_cache_dir()))


def test_what_a_link_leads_to_is_never_removed(here: Path, capsys: Output) -> None:
    """A link in the people's folder, in the cache or among a person's files is no folder of tenth's."""
    others = here / "others"
    (others / "aa").mkdir(parents=True)
    (others / "letter.txt").write_text("mine")
    (others / "aa/letter.txt").write_text("mine")
    PeopleFolder().save("anna", Consent("self"), sorted(Path("me").iterdir()))
    (here / "people/anna/photos/more").symlink_to(others)
    (here / "people/linked").symlink_to(others)
    (here / "store/dreambooth").parent.mkdir(exist_ok=True)
    (here / "store/dreambooth").symlink_to(others)
    before = sorted(others.rglob("*"))
    assert PeopleFolder().names() == ["anna"]
    assert main(["forget", "linked", "--yes"]) in (0, 1)
    assert main(["cache", "clear"]) == 0
    assert main(["forget", "anna", "--yes"]) == 0
    assert not (here / "people/anna").exists()
    assert sorted(others.rglob("*")) == before
    with pytest.raises(DataError, match="is a link"):
        _remove_person(here / "people/linked")
    assert "Traceback" not in capsys.readouterr().err


def test_a_run_that_goes_on_is_waited_for(settled: Path) -> None:
    for folder in ("store/dreambooth/anna", "out/kept"):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            assert try_lock(descriptor)
            with pytest.raises(CheckpointError, match=f"another run is writing to .*{Path(folder).name}"):
                forget(PeopleFolder(), NAME, [Path("out")])
        finally:
            os.close(descriptor)
        assert len(PeopleFolder().photos(NAME)) == 3
    assert forget(PeopleFolder(), NAME, [Path("out")]).photos == 3


def test_a_question_is_asked_and_a_slip_refused(here: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    people = PeopleFolder()
    people.save("anna", Consent("self"), [Path("me/01.png")])
    for words, code, said in (
        (["forget", "ana", "--yes"], 1, "nobody is saved as ana; one of anna is needed. Did you mean anna?"),
        (["forget", "../anna", "--yes"], 1, "a name has at most 100 letters"),
        (["forget", "anna", "--in", "none", "--yes"], 1, "none is not a folder"),
        (
            ["forget", "anna"],
            1,
            "anna would be forgotten for good; a yes is needed, and nobody is there to be asked. Add --yes",
        ),
    ):
        assert main(words) == code
        assert said in capsys.readouterr().err
        assert people.names() == ["anna"]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    assert main(["forget", "anna"]) == 1
    assert "images in folders of yours stay" in capsys.readouterr().err
    assert people.names() == ["anna"]
    monkeypatch.setattr("typer.confirm", lambda *_, **__: True)
    assert main(["forget", "anna", "--json"]) == 0
    assert '"photos": 1' in capsys.readouterr().out
    assert main(["forget", "zoe", "--yes"]) == 0
    assert "nobody is saved as zoe" in capsys.readouterr().err
