"""BigQuery: rows as Arrow over the Storage Write API, at offsets; load jobs and MERGE where that can't be used.

``target`` appends and replaces, ``keyed`` merges by key in a transaction with the ledger. Rows are made fit by ``rows``
and sent on a ``stream``, or loaded as a file by ``jobs``. ``table`` follows the data; ``columns`` reads and writes its
schema, ``newest`` is for a table that is the newest frame, ``changes`` keeps word. ``client`` signs in, ``errors`` says
what Google's mean, ``address`` what a server's may be. Google's library, an extra, takes a second to import: what needs
it is not exported here, but imported from its module where it is first needed.
"""

from api2db.targets.bigquery._address import is_address

__all__ = ["is_address"]
