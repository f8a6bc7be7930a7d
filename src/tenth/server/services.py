"""What the routes work with: one of each for an application, made from its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from tenth.methods.people.folder import PeopleFolder
from tenth.server.catalog import Catalog
from tenth.server.changes import ChangeFeed, Waiters
from tenth.server.owners import people_of
from tenth.server.queue.queue import JobQueue
from tenth.server.settings import ServerSettings
from tenth.server.storage.blobs import Blobs
from tenth.server.storage.database import Database
from tenth.server.storage.pictures import Pictures


@dataclass(frozen=True, eq=False)
class Services:
    """The parts of a server that its routes share."""

    settings: ServerSettings
    database: Database
    blobs: Blobs
    queue: JobQueue
    pictures: Pictures
    feed: ChangeFeed
    catalog: Catalog
    waiters: Waiters

    def people(self, owner: str) -> PeopleFolder:
        """The folder of an owner's people."""
        return people_of(self.settings.data, owner)


def open_services(settings: ServerSettings) -> Services:
    """The services of a data folder, which is made if it is missing. Raises DataError if that fails."""
    database = Database(settings.data)
    queue, blobs = JobQueue(database, max_queued=settings.max_queued), Blobs(database)
    pictures, feed = Pictures(database, blobs), ChangeFeed(queue)
    return Services(settings, database, blobs, queue, pictures, feed, Catalog(), Waiters())


async def services_of(request: Request) -> Services:
    """Those of the application that a request came to. Async, as all of these: another function would wait for a thread."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


TheServices = Annotated[Services, Depends(services_of)]
