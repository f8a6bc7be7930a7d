"""Whom a request is for and which page sent it: against rebound names, and against other sites' forms and scripts."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from tenth.core.wording import shorten
from tenth.server.api.errors import RequestError
from tenth.server.settings import ServerSettings, is_loopback

HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:[0-9]{1,5})?", re.IGNORECASE)
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
OWN_SITES = ("same-origin", "none")  # of Sec-Fetch-Site; none: an address that was typed


def allowed_hosts(settings: ServerSettings) -> frozenset[str]:
    """The names in Host that a server answers to; an address in digits is told apart in `check_host`."""
    own = () if settings.is_loopback else (socket.gethostname(),)
    return frozenset(name.lower() for name in ("localhost", settings.host, *own, *settings.hosts))


def check_host(host: str, allowed: frozenset[str], *, loopback: bool) -> None:
    """Raises RequestError unless Host is one of ours.

    A page of another site can have its own name point to this machine, and then counts as this site for the browser; Host still
    has that name. An address in digits is no name that can be pointed anywhere. loopback: only this machine's own are taken.
    """
    match = HOST.fullmatch(host)
    name = match[1].strip("[]").lower() if match else ""
    if name in allowed or is_loopback(name) or (not loopback and is_address(name)):
        return
    needed = f"a name of this server is needed: {', '.join(sorted(allowed))}"
    raise RequestError(421, f"the host {shorten(host)!r}", needed, "Add the name to `hosts` of the settings, if it is yours")


def check_origin(method: str, headers: Mapping[str, str]) -> None:
    """Raises RequestError if a page of another site sent the request, or embeds the answer. A link to here may be followed.

    headers: by lower-case name, with "host". Browsers say Origin or Sec-Fetch-Site of all that could change something; other
    clients say neither.
    """
    site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
    navigates = method in SAFE_METHODS and headers.get("sec-fetch-mode") == "navigate"
    try:
        foreign = origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    except ValueError:
        foreign = True
    if foreign or (site not in OWN_SITES and not navigates):
        found = f"a request from {shorten(origin) if foreign else 'a page of another site'}"
        raise RequestError(403, found, "one from this server's own page is needed", "Open the server's page itself")


def is_address(name: str) -> bool:
    """Whether a host is an IP address, and no name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
