"""The server as a process of its own: writes a key file, says where it listens, and ends with its input."""

import sys
from pathlib import Path

from tests.servers.bigquery.server import BigqueryServer

with BigqueryServer() as server:
    server.key_file(Path(sys.argv[1]))
    sys.stdout.write(f"{server.url} {server.write_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
