"""BigQuery: rows as Arrow over the Storage Write API at offsets; load jobs and MERGE where that cannot be used.

``target`` appends and replaces, ``keyed`` merges by key in a transaction with the ledger. ``_stream`` sends rows to a
write stream, ``_jobs`` loads them as a file. ``table`` and ``columns`` read and change the table. ``_client`` signs in
and sorts Google's errors. ``_emulator`` finds the address of an emulator. Google's library is an extra and takes a
second to import, so modules that need it are imported where they are first used.
"""

from api2db.targets.bigquery._emulator import emulator_address

__all__ = ["emulator_address"]
