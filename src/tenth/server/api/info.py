"""What there is to choose from, and what runs elsewhere: methods, models, experiments and trainings."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter

from tenth.server.api.context import Owner
from tenth.server.api.errors import not_found
from tenth.server.api.jobs import Id
from tenth.server.api.schemas import ModelList, ModelView, RunDetail, RunList, RunView
from tenth.server.runs import find_run, list_runs
from tenth.server.services import TheServices

PERSON_PREFIX = "tenth:"  # before a saved person's name, where a client names a model
router = APIRouter(tags=["info"])


def _views(described: Mapping[str, str], default: str) -> list[ModelView]:
    """The default first."""
    names = sorted(described, key=lambda name: name != default)
    return [ModelView(id=name, description=described[name]) for name in names]


@router.get("/v1/methods")
def list_methods(services: TheServices) -> ModelList:
    """The methods that a request may name, the default first."""
    tables = services.catalog.tables
    return ModelList(data=_views(tables.methods, tables.default_method))


@router.get("/v1/models")
def list_models(owner: Owner, services: TheServices) -> ModelList:
    """The diffusion models that a request may name, the default first; then `tenth:PERSON` for each saved person."""
    tables = services.catalog.tables
    people = [
        ModelView(id=f"{PERSON_PREFIX}{person.name}", description=f"the saved person {person.name}")
        for person in services.people(owner).list()
    ]
    return ModelList(data=[*_views(tables.models, tables.default_model), *people])


@router.get("/v1/runs")
def get_runs(services: TheServices) -> RunList:
    """Experiments, trainings and folders of images below the folders that the server was started with."""
    return RunList(data=[RunView.model_validate(run, from_attributes=True) for run in list_runs(services.settings.run_dirs)])


@router.get("/v1/runs/{id}")
def get_run(id: Id, services: TheServices) -> RunDetail:  # noqa: A002  # the name in the address
    """One of them with its settings, and of a training the validations so far."""
    run = find_run(services.settings.run_dirs, id)
    if run is None:
        raise not_found("run", id)
    return RunDetail.model_validate(run, from_attributes=True)
