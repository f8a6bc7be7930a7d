"""Saved people: list, save with a consent, forget."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from tenth.core.config import from_table
from tenth.methods.people.folder import SavedPerson
from tenth.methods.people.record import Consent
from tenth.server.api.context import Owner
from tenth.server.api.errors import RequestError, hide_folder, not_found
from tenth.server.api.photos import staged_photo
from tenth.server.api.schemas import ConsentView, PersonForm, PersonList, PersonView, RemovedView
from tenth.server.forgetting import forget as forget_everywhere
from tenth.server.services import Services, TheServices

router = APIRouter(tags=["people"])
PersonName = Annotated[str, Path(max_length=100)]


def known_person(services: Services, owner: str, name: str) -> SavedPerson:
    """A saved person. Raises RequestError, 404, if there is none."""
    person = services.people(owner).find(name)
    if person is None:
        raise not_found("person", name)
    return person


def _view(services: Services, person: SavedPerson) -> PersonView:
    consent = None
    if person.consent is not None:
        given = {name: getattr(person.consent, name) for name in ("basis", "given_by", "date", "until", "is_current")}
        consent = ConsentView.model_validate(given)
    return PersonView(
        name=person.name,
        created=person.created,
        num_photos=person.num_photos,
        methods=list(person.methods),
        consent=consent,
        problem=hide_folder(person.problem, services.settings.data),
    )


@router.get("/v1/people")
def list_people(owner: Owner, services: TheServices) -> PersonList:
    """Everybody who is saved, by name."""
    return PersonList(data=[_view(services, person) for person in services.people(owner).list()])


@router.post("/v1/people", status_code=201)
def save_person(form: PersonForm, owner: Owner, services: TheServices) -> PersonView:
    """Save a person from photos that POST /v1/photos took."""
    people = services.people(owner)
    if people.find(form.name) is not None:
        needed = "a name that nobody has is needed"
        raise RequestError(409, f"{form.name!r} is saved already", needed, "Choose another, or forget that one", param="name")
    consent = from_table(Consent, form.consent.model_dump(mode="json", exclude_none=True), "the consent")
    people.check_savable(form.name, consent)
    photos = []
    for sha256 in dict.fromkeys(form.photos):
        path = staged_photo(services, owner, sha256)
        if path is None:
            raise not_found("photo", sha256)
        photos.append(path)
    return _view(services, people.save(form.name, consent, photos))


@router.get("/v1/people/{name}")
def get_person(name: PersonName, owner: Owner, services: TheServices) -> PersonView:
    """One saved person."""
    return _view(services, known_person(services, owner, name))


@router.delete("/v1/people/{name}")
def forget(name: PersonName, owner: Owner, services: TheServices) -> RemovedView:
    """Forget a person: photos, identities, pictures, jobs and previews are removed. The answer says how many of each.

    That goes for jobs with the person's photos that did not name the person, too.
    """
    known_person(services, owner, name)
    return RemovedView(removed=forget_everywhere(services.database, services.people(owner), owner, name))
