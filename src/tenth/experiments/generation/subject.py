"""Whom images show: photos of a person, or an identity -> what each image's request needs of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tenth.core.types import DiffusionModel, Identity, Person, Photo
from tenth.experiments.generation.plan import ImagePlan, PlannedImage
from tenth.methods.registry import DEFAULT_METHOD, trained_method
from tenth.models.families.registry import FAMILIES
from tenth.models.memory.planner import LoadOptions
from tenth.models.memory.profiles import DEFAULT_BATCH_SIZE
from tenth.sampling.generate import Request
from tenth.sampling.people import PlacedPerson

CONTEXT_PHOTOS = max(family.max_context_photos for family in FAMILIES.values())
LoadModel = Callable[[LoadOptions], DiffusionModel]


@dataclass(frozen=True, eq=False)
class Subject:
    """Whom images show, and by which model. identities: by the method of a row, None where it does not say.

    photos: none of an identity file. notes: what to say of them. people: several in regions of their own, by the method of a
    row; then identities are those of all of them together.
    """

    identities: Mapping[str | None, Identity]
    model: DiffusionModel
    photos: tuple[Photo, ...] = ()
    notes: tuple[str, ...] = ()
    people: Mapping[str | None, Sequence[PlacedPerson]] = field(default_factory=dict)

    def request(self, image: PlannedImage) -> Request:
        """An image's request."""
        return replace(image.request, identity=self.identities[image.row.method], people=self.people.get(image.row.method, ()))


def subject_of(person: Person | Identity, plan: ImagePlan, method: str, load: LoadModel) -> Subject:
    """The subject of photos, by each row's method or this one, "" for the default; or of an identity.

    method: of an identity, the folder that it was trained in. load: called once. Raises InputError, before anything is learned,
    for a method, size or identity that the model does not support.
    """
    if isinstance(person, Identity):
        plan.methods(None)
        model = load(load_options(plan, with_photos=bool(person.context)))
        if method:
            trained_method(method).ensure_adapter(model)
        model.validate(person)
        plan.check(model)
        return Subject({None: person}, model)

    # Photos. What the model cannot do is refused before minutes go into learning.
    chosen = plan.methods(method or DEFAULT_METHOD)
    learns, with_photos = (any(getattr(each, name) for each in chosen.values()) for name in ("tunes_model", "keeps_photos"))
    model = load(load_options(plan, full_precision=learns, with_photos=with_photos))
    plan.check(model)
    results = {name: each(person, model) for name, each in chosen.items()}
    warnings = tuple(warning for result in results.values() for warning in result.warnings)
    return Subject({name: result.identity for name, result in results.items()}, model, person.photos, warnings)


def load_options(plan: ImagePlan, *, full_precision: bool = False, with_photos: bool = False) -> LoadOptions:
    """How a model is loaded for these images. full_precision: its weights are to learn. with_photos: it reads photos.

    There is room for as many photos as any family reads, so that one model serves everybody, whoever has how many.
    """
    size, num_images = plan.largest_size, min(plan.at_once or DEFAULT_BATCH_SIZE, DEFAULT_BATCH_SIZE)
    return LoadOptions(
        image_size=size.square_side if size else 0,
        batch_size=num_images,
        full_precision=full_precision,
        context_photos=CONTEXT_PHOTOS if with_photos else 0,
    )
