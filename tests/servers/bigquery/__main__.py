"""The server as a process of its own: says where it listens, and ends with its input."""

import sys

from tests.servers.bigquery.server import BigqueryServer

with BigqueryServer() as server:
    sys.stdout.write(f"{server.url} {server.write_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
