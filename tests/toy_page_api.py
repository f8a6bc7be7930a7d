"""The API's answers, made up: for views of what takes hours, or what no sound server says. Put between page and server."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from playwright.sync_api import Page, Route

from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

PHOTOS = sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))
METHODS = {  # the default comes first
    "ip-adapter-consensus": "all photos, mean weighted by agreement: a wrong photo hardly counts",
    "ip-adapter": "one photo, the first in file-name order",
    "ip-adapter-max": "all photos, element-wise maximum of their embeddings",
}
NOON = 1_700_000_000.0
REQUEST = {"prompts": ["a portrait photo of a smiling person"], "num_images": 4, "seed": 7, "method": "", "model": "pocket"}
NOT_FOUND = {"found": "there is no such thing", "needed": "the id of one is needed", "action": "Check the id"}


def picture(number: int, /, **changes: Any) -> dict[str, Any]:
    """A picture as the gallery lists it."""
    names = list(METHODS)
    known = {"id": f"p{number}", "job": "done", "person": "anna", "seed": number, "prompt": REQUEST["prompts"][0]}
    known |= {"method": names[number % 3], "identity": 0.3 + number % 50 / 100, "created": NOON + number}
    return known | {"width": 128, "height": 128, "kept": number % 5 == 0} | changes


def job(name: str, status: str, created: float = NOON, /, **changes: Any) -> dict[str, Any]:
    """A job as it is listed."""
    known = {"id": name, "kind": "images", "status": status, "done": 0, "total": 4, "position": None, "person": "anna"}
    known |= {"request": REQUEST | {"sampling": {}}, "pictures": [], "error": None, "created": created}
    return known | {"started": None, "finished": None} | changes


def verdict(file: str, accepted: bool = True, reason: str = "", /, **changes: Any) -> dict[str, Any]:
    """What the intake says of a photo."""
    code = "ok" if accepted else "blurred"
    known = {"sha256": f"{len(file):064x}", "file": file, "accepted": accepted, "code": code, "reason": reason}
    return known | {"face": [0.2, 0.2, 0.8, 0.85], "width": 128, "height": 128} | changes


def person(name: str, /, **changes: Any) -> dict[str, Any]:
    """A saved person as the list has them."""
    consent = {"basis": "permission", "given_by": name, "date": "2026-11-02", "until": "2999-11-02", "is_current": True}
    return {"name": name, "created": "2026-11-02", "num_photos": 9, "methods": [], "consent": consent, "problem": ""} | changes


def run(name: str, kind: str, /, **changes: Any) -> dict[str, Any]:
    """An experiment or a training that goes on."""
    known = {"id": name, "name": name, "kind": kind, "status": "running", "done": 1200, "total": 4800, "changed": NOON}
    return known | {"metrics": {"identity": 0.412, "fid": 41.2}, "settings": {"seed": 0}, "history": []} | changes


@dataclass
class ToyApi:
    """Answers by address. An entry of `refusals` comes before: "METHOD /path" -> status, error, headers."""

    people: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    num_pictures: int = 0  # instead of a list: so many, made when they are asked for
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=lambda: {"steps": 8, "guidance_scale": 2.0, "model": "pocket@1"})
    refusals: dict[str, tuple[int, Mapping[str, Any], Mapping[str, str]]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def between(self, page: Page) -> None:
        """Answer instead of the server from now on."""
        page.route(re.compile(r".*/(v1|health).*"), self.answer)

    def answer(self, route: Route) -> None:
        address, method = urlsplit(route.request.url), route.request.method
        path, values = unquote(address.path), {key: value[0] for key, value in parse_qs(address.query).items()}
        sent = route.request.post_data if method == "POST" and "json" in route.request.headers.get("content-type", "") else None
        self.asked.append((method, path, json.loads(sent) if sent else values))
        if refused := self.refusals.get(f"{method} {path}"):
            status, error, headers = refused
            route.fulfill(status=status, json={"error": error}, headers=dict(headers))
        elif path.endswith((".png", "/thumbnail", "/preview")):
            number = sum(path.encode()) % len(PHOTOS)
            route.fulfill(path=PHOTOS[number], content_type="image/png")
        elif path == "/v1/events":
            route.fulfill(status=204)  # no stream: the browser gives up, the page asks again and again
        else:
            found = self.read(path, values) if method == "GET" else self.change(method, path, json.loads(sent or "{}"))
            route.fulfill(status=404 if found is None else 200, json={"error": NOT_FOUND} if found is None else found)

    @property
    def submitted(self) -> list[dict[str, Any]]:
        """The jobs that were asked for."""
        return [values for method, path, values in self.asked if (method, path) == ("POST", "/v1/jobs")]

    def read(self, path: str, values: Mapping[str, str]) -> Any:
        lists = {
            "/v1/people": self.people,
            "/v1/methods": [{"id": name, "object": "model", "description": text} for name, text in METHODS.items()],
            "/v1/models": [{"id": "pocket", "object": "model"}, {"id": "tenth:anna", "object": "model"}],
            "/v1/runs": self.runs,
            "/v1/jobs": self.jobs,
        }
        if path == "/health":
            return {"status": "ok", "queued": 0, "running": 0, "workers": 1}
        if path in lists:
            return {"data": lists[path], "next": None}
        if path == "/v1/pictures":
            return self.page(values)
        kind, name = path.split("/")[2:4]
        if kind == "pictures":
            found = picture(int(name[1:])) if self.num_pictures else named(self.pictures, name)
            return found and found | {"settings": {**self.settings, "prompt": found["prompt"]}, "figures": {"sharpness": 31.5}}
        return named({"jobs": self.jobs, "runs": self.runs}[kind], name)

    def page(self, values: Mapping[str, str]) -> Any:
        limit, before = int(values.get("limit", 50)), values.get("before")
        if self.num_pictures:
            newest = int(before[1:]) if before else self.num_pictures
            data = [picture(number) for number in range(newest - 1, max(-1, newest - 1 - limit), -1)]
        else:
            whose = [each for each in self.pictures if values.get("person") in (None, each["person"])]
            start = next((index + 1 for index, each in enumerate(whose) if each["id"] == before), 0)
            data = whose[start : start + limit]
        return {"data": data, "next": data[-1]["id"] if len(data) == limit else None}

    def change(self, method: str, path: str, sent: Mapping[str, Any]) -> Any:
        if path == "/v1/photos":
            return self.verdicts
        if path == "/v1/jobs":
            made = job(f"new{len(self.jobs)}", "queued", NOON + 1000 + len(self.jobs), request=sent["request"], position=0)
            self.jobs.insert(0, made)
            return made
        if path.startswith("/v1/jobs/"):
            found = named(self.jobs, path.split("/")[3])
            assert found is not None
            found |= {"status": "cancelled" if method == "DELETE" else "queued", "error": None}
            return found
        if method == "DELETE" and path.startswith("/v1/people/"):
            self.people[:] = [each for each in self.people if each["name"] != path.split("/")[3]]
            return {"removed": {"photos": 9, "pictures": 12}}
        meant = {path.split("/")[3]} if method == "DELETE" else set(sent.get("ids", ()))
        if path.startswith("/v1/pictures/") and not meant <= {each["id"] for each in self.pictures}:
            return None
        if method == "DELETE" and path.startswith("/v1/pictures/"):
            self.pictures[:] = [each for each in self.pictures if each["id"] not in meant]
        return {}


def named(items: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((each for each in items if each["id"] == name), None)
