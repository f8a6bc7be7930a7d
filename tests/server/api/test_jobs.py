"""Jobs over HTTP: submitted once, looked at, cancelled, tried again; and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Served

from tenth.server.schemas_example import EXAMPLE
