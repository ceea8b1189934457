"""HeavyDB, which was OmniSci: rows as one Arrow record batch a call, and no transactions.

``target`` plans a load, and tells by the table's epoch and row count whether it was carried out. ``client`` holds one
session, by Thrift; ``values`` makes columns fit, which HeavyDB matches exactly. The client's library, an extra, is
imported when a session is first opened.
"""

from api2db.targets.heavydb._client import PORTS, Protocol, client_connection
from api2db.targets.heavydb._target import SUFFIX, HeavydbTarget, quoted

__all__ = ["PORTS", "SUFFIX", "HeavydbTarget", "Protocol", "client_connection", "quoted"]
