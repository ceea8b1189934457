"""A HeavyDB for tests: its protocol by the Processor of the client's own wheel, its rows in DuckDB.

It is as strict as HeavyDB is known to be from its documentation and its behaviour: one record batch a load, exact
types, reserved words, a table's epoch, dictionary-encoded text, values that mean NULL. Where it guesses, a comment says
so; tests marked ``live`` ask a real one.
"""

from tests.servers.omnisci.faults import Faults
from tests.servers.omnisci.server import OmnisciServer

__all__ = ["Faults", "OmnisciServer"]
