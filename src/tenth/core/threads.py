"""How the threads that compute wait for each other. It has to be said before torch is imported: OpenMP reads it once."""

from __future__ import annotations

import os

WAIT_POLICY_VARIABLE = "OMP_WAIT_POLICY"


def set_wait_policy() -> None:
    """Threads that wait sleep, unless the user's environment says otherwise.

    OpenMP's own choice is to spin: on a machine that does other work too, each spinning thread takes the core from the one that
    it waits for, and an image takes many times as long (benchmarks/busy_machine.py).
    """
    os.environ.setdefault(WAIT_POLICY_VARIABLE, "PASSIVE")
