"""--person SOURCE@REGION: several people in one image, each of photos, an identity file or a saved name of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tenth.cli.inputs import read_person
from tenth.cli.person.source import PlacedSource, Source, resolve_source
from tenth.core.errors import IdentityError
from tenth.core.wording import printable

if TYPE_CHECKING:
    from tenth.core.types import Identity, Method, Person
    from tenth.models.latent_diffusion import LatentDiffusion
    from tenth.sampling.people import PlacedPerson

PlacedByMethod = Mapping[str | None, tuple["PlacedPerson", ...]]


def resolve_sources(sources: Sequence[Path], people: Sequence[tuple[str, str]]) -> Source:
    """What SOURCE or --person mean, of which one is given. Raises as `resolve_source`, and typer.BadParameter for both or none."""
    if people and sources:
        raise typer.BadParameter("it names everybody in the image: leave out SOURCE", param_hint="--person")
    if not people and not sources:
        raise typer.BadParameter("it is needed: photos, an identity file or a saved name; or --person", param_hint="SOURCE")
    if not people:
        return resolve_source(sources)
    placed = tuple(PlacedSource(resolve_source([Path(source)]), region) for source, region in people)
    return Source("-".join(each.source.name for each in placed), people=placed)


@dataclass(frozen=True, eq=False)
class LoadedPeople:
    """placed: the people, by the method of a row. notes: what to say about their photos."""

    placed: PlacedByMethod
    model: LatentDiffusion
    notes: tuple[str, ...]

    @property
    def identities(self) -> dict[str | None, Identity]:
        """Those of all people together."""
        from tenth.sampling.people import combine_people

        return {name: combine_people(people) for name, people in self.placed.items()}


def load_people(
    sources: Sequence[PlacedSource],
    methods: Mapping[str | None, Method],
    trained_folder: str | None,
    load_model: Callable[[], LatentDiffusion],
) -> LoadedPeople:
    """The people in their regions. methods: of those who are given by photos. trained_folder: that of identity files' method.

    Raises IdentityError for an identity of another model, or learnt weights, which no region holds; DataError for what is no
    region, PhotoError for a mask that is no picture.
    """
    from tenth.methods.identity_file import load_identity
    from tenth.methods.registry import trained_method
    from tenth.sampling.people import PlacedPerson, Region

    # What can be refused before a model is loaded.
    regions = [Region.parse(each.region) for each in sources]
    for method in methods.values():
        if method.tunes_model:
            needed = "it learns weights, which act everywhere in an image"
            raise IdentityError(f"the method {method.name} with --person", needed, "Choose one of ip-adapter's")
    files = [load_identity(each.source.identity) if each.source.identity else None for each in sources]
    read: list[tuple[Person, list[str]] | None] = [
        None if each.source.identity else read_person(*each.source.photos) for each in sources
    ]

    # Their identities by each method.
    model = load_model()
    if trained_folder:
        trained_method(trained_folder).ensure_adapter(model)
    placed: dict[str | None, list[PlacedPerson]] = {name: [] for name in methods or {None: None}}
    notes: list[str] = []
    for each, region, file, photos in zip(sources, regions, files, read, strict=True):
        own = list(each.source.notes)
        if photos is not None:
            own += photos[1]
        for name, people in placed.items():
            if file is not None:
                model.validate(file)
                people.append(PlacedPerson(file, region))
            elif photos is not None:
                result = methods[name](photos[0], model)
                people.append(PlacedPerson(result.identity, region, photos[0].photos))
                own += result.warnings
        notes += [f"{printable(each.source.name)}: {note}" for note in own]
    return LoadedPeople({name: tuple(people) for name, people in placed.items()}, model, tuple(notes))
