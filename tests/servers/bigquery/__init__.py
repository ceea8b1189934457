"""A BigQuery of our own for tests: REST, the Storage Write API, and the exchange of a key file for a token.

It follows Google's published descriptions of these interfaces, and refuses what those say is refused. Where they leave
something open, a comment that begins with "A guess" says what was taken. Rows lie in DuckDB, which tests ask directly.
"""

from tests.servers.bigquery.faults import Faults
from tests.servers.bigquery.server import PROJECT, BigqueryServer

__all__ = ["PROJECT", "BigqueryServer", "Faults"]
