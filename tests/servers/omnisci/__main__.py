"""A server in a process of its own: says its ports, and lives until its input ends."""

import json
import sys

from tests.servers.omnisci.server import OmnisciServer

with OmnisciServer() as server:
    print(json.dumps({"port": server.port, "http_port": server.http_port}), flush=True)  # noqa: T201 - its ports are its answer
    sys.stdin.read()
