"""How many requests a client may make: a bucket for each, which fills at a steady rate."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CLIENTS = 10_000  # whose buckets are kept; the one that was silent longest goes first, and comes back with a full one


class RateLimit:
    """At most `at_once` requests of a client at once, and `per_second` over time."""

    def __init__(self, per_second: float, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second, self.at_once, self.clock = per_second, at_once, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> requests left, and when

    def take(self, client: str) -> float:
        """Count a request. Returns 0 if it may be made, else the seconds until one may; it is not counted then."""
        left = self._left(client)
        wait = self._wait(left)
        self._buckets.pop(client, None)
        self._buckets[client] = (left - (wait == 0), self.clock())
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return wait

    def wait(self, client: str) -> float:
        """As `take`, but it counts nothing."""
        return self._wait(self._left(client))

    def _left(self, client: str) -> float:
        """How many requests a client may make now."""
        now = self.clock()
        left, then = self._buckets.get(client, (float(self.at_once), now))
        return min(self.at_once, left + (now - then) * self.per_second)

    def _wait(self, left: float) -> float:
        return 0.0 if left >= 1 else (1 - left) / self.per_second


def network_of(address: str) -> str:
    """What counts as one client: an address, of IPv6 the 64 bits that a household has; "" for what is no address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return address if parsed.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))
