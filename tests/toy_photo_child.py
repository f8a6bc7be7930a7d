"""A photo child for tests, with the real one's limits: what a file begins with says what opening it does."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from tenth.server.security.photo_child import limit_resources

limit_resources(int(sys.argv[1]))
for line in sys.stdin:
    answer, lies = {}, False
    for path, name in json.loads(line):
        content = Path(path).read_bytes()
        if content.startswith(b"dies"):
            os.abort()
        if content.startswith(b"memory"):
            bytearray(3 << 30)
        if content.startswith(b"sleeps"):
            time.sleep(60)
        lies |= content.startswith(b"lies")
        answer[path] = {"accepted": True, "code": "ok", "reason": name, "face": None, "width": 1, "height": 1}
    print("half an answer" if lies else json.dumps(answer), flush=True)
