"""--person SOURCE@REGION: several people in one image, each of photos, an identity file or a saved name of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tenth.cli.inputs import read_person
from tenth.cli.person.source import PlacedSource, Source, resolve_source
from tenth.core.errors import IdentityError
from tenth.core.wording import printable

if TYPE_CHECKING:
    from tenth.experiments.generation.plan import ImagePlan
    from tenth.experiments.generation.subject import LoadModel, Subject
    from tenth.sampling.people import PlacedPerson


def resolve_sources(
    sources: Sequence[Path], people: Sequence[tuple[str, str]], method: str | None = None, model: str = ""
) -> Source:
    """What SOURCE or --person mean. Raises as `resolve_source`, and typer.BadParameter for both or none of the two."""
    if people and sources:
        raise typer.BadParameter("it names everybody in the image: leave out SOURCE", param_hint="--person")
    if not people and not sources:
        raise typer.BadParameter("it is needed: photos, an identity file or a saved name; or --person", param_hint="SOURCE")
    if not people:
        return resolve_source(sources, method or "", model)
    placed = tuple(PlacedSource(resolve_source([Path(source)], method or "", model), region) for source, region in people)
    return Source("-".join(each.source.name for each in placed), people=placed)


def load_people(
    sources: Sequence[PlacedSource], plan: ImagePlan, method: str | None, default_method: str | None, load: LoadModel
) -> Subject:
    """The people in their regions. method: by name; of identity files, the folder it was trained in; None: the default.

    Raises IdentityError for an identity of another model, or learnt weights, which no region holds; DataError for what is no
    region, PhotoError for a mask that is no picture.
    """
    from tenth.experiments.generation.subject import Subject, load_options
    from tenth.methods.identity_file import load_identity
    from tenth.methods.registry import DEFAULT_METHOD, trained_method
    from tenth.sampling.generate import check_request
    from tenth.sampling.people import PlacedPerson, Region, combine_people

    # What can be refused before a model is loaded.
    regions = [Region.parse(each.region) for each in sources]
    files = [load_identity(each.source.identity) if each.source.identity else None for each in sources]
    if any(files):
        plan.methods(None)
    methods = plan.methods(method or default_method or DEFAULT_METHOD)
    for chosen in methods.values():
        if chosen.tunes_model or chosen.keeps_photos:
            gives = "learns weights" if chosen.tunes_model else "gives the model photos"
            needed = f"it {gives}, which act everywhere in an image"
            raise IdentityError(f"the method {chosen.name} with --person", needed, "Choose one of ip-adapter's")
    read = [
        None if each.source.identity else read_person(*each.source.photos, is_saved=each.source.is_saved) for each in sources
    ]

    # Their identities by each method.
    model = load(load_options(plan))
    if any(files) and method:
        trained_method(method).ensure_adapter(model)
    placed: dict[str | None, list[PlacedPerson]] = {name: [] for name in methods}
    notes: list[str] = []
    for each, region, file, given in zip(sources, regions, files, read, strict=True):
        own = list(each.source.notes) + (given[1] if given else [])
        for name, people in placed.items():
            if file is not None:
                model.validate(file)
                people.append(PlacedPerson(file, region))
            elif given is not None:
                result = methods[name](given[0], model)
                people.append(PlacedPerson(result.identity, region, given[0].photos))
                own += result.warnings
        notes += [f"{printable(each.source.name)}: {note}" for note in own]

    # All of them together; what the model cannot do is refused before anything is said.
    photos = tuple(photo for given in read if given for photo in given[0].photos)
    identities = {name: combine_people(people) for name, people in placed.items()}
    subject = Subject(identities, model, photos, tuple(notes), placed)
    plan.check(model)
    for image in plan.images:
        check_request(model, subject.request(image), plan.request.sampling, plan.hires)
    return subject


def recorded_people_notes(recorded: Sequence[Mapping[str, Any]], people: Sequence[PlacedPerson]) -> list[str]:
    """That people of an image whose settings are taken are not given again, or are elsewhere."""
    if not recorded or [dict(each) for each in recorded] == [person.region.metadata for person in people]:
        return []
    if people:
        return ["--settings-from had people in other regions than this command: the images will be others"]
    text = f"--settings-from shows {len(recorded)} people in regions, and no PNG says who they are"
    return [f"{text}: give each again with --person; without it the images will be others"]
