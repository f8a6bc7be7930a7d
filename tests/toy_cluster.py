"""A Ray cluster on this machine: node processes that can be killed."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from ray.cluster_utils import Cluster

from toy_jobs import PYTHONPATH

STORE_BYTES = 80_000_000  # the least that Ray takes
ENVIRONMENT = {
    "PYTHONPATH": PYTHONPATH,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # else what fills the machine's memory beside the tests ends their workers
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # else a head that is lost is waited for, a minute long
}


class RayNodes:
    """A head and others, each with one CPU."""

    def __init__(self, others: int = 2) -> None:
        os.environ.update(ENVIRONMENT)
        self.others = others
        self.start()

    def start(self) -> None:
        head = self._options() | {"include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []
        for _ in range(self.others):
            self.add_node()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add_node(self) -> None:
        self.nodes.append(self.cluster.add_node(**self._options()))

    def kill_node(self, number: int) -> None:
        """With SIGKILL, and the workers on it."""
        self.cluster.remove_node(self.nodes.pop(number), allow_graceful=False)

    def kill_head(self) -> None:
        """With SIGKILL, and the workers on it; the other nodes are left."""
        self.cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)

    def stop(self) -> None:
        self.cluster.shutdown()

    def __enter__(self) -> RayNodes:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    @staticmethod
    def _options() -> dict[str, Any]:
        return {"num_cpus": 1, "object_store_memory": STORE_BYTES}
