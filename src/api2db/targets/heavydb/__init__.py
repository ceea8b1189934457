"""HeavyDB, formerly OmniSci: each call loads rows as one Arrow record batch; there are no transactions.

``_target`` plans a load, and tells by the table's epoch and row count whether it was carried out. ``_client`` holds one
session, by Thrift; ``_values`` casts columns to the exact types that HeavyDB needs. The client's library is an extra,
and is imported when a session is first opened.
"""

from api2db.targets.heavydb._client import PORTS, Protocol, client_connection
from api2db.targets.heavydb._target import SUFFIX, HeavydbTarget, quoted

__all__ = ["PORTS", "SUFFIX", "HeavydbTarget", "Protocol", "client_connection", "quoted"]
