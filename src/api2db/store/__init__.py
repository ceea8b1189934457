"""Stores, the periodic side: compose the shards that Stream2Local wrote, load them, and remove them, exactly once.

A store opens no journal. It locks its folder of shards and takes these steps. Each is durable before the next.

1. Write the composed files, if any, under temporary names that contain a hash of the folder.
2. Write a manifest into the folder: the shards, each with its name, size and time; the composed files; a random id.
3. Load. The id is the key of a ledger row in the target. The row counts the manifest's shards (and rows of the next
   shard) that are committed, and is written in the transaction of their rows. For a target without transactions the
   manifest itself counts them: one write of it clears the plan of a load and moves the position.
4. Mark the round as loaded.
5. Publish the composed files under their final names and mark the manifest. Delete or move the shards. Save the
   figures of ``status``. Delete the manifest last.

A round that finds a manifest first finishes it, with the manifest's shards only; later shards belong to the next round.
Before step 4 the ledger says what is committed, or the manifest and the plan in it. After step 4 nothing is read or
loaded. A file written under a shard's name in the meantime is another shard: it stays for the next round.

The manifest is ``shards.manifest``, which also ends a call of ``compose``. ``_round`` is the store's part of it.
``_reader`` presents a round to delivery as a stream's reader, so that its rows are cast, rejected and loaded by the
same code as a stream's. ``_steps`` has the steps, ``_loading`` the load, ``_figures`` keeps what ``status`` shows,
and ``rejected`` makes a shard of rejected rows again. A store for another target is a class that makes a stream for
that target: see ``store2sql``.
"""

import typing

from api2db import importing

if typing.TYPE_CHECKING:
    from api2db.store._figures import StoreFigures, store_figures
    from api2db.store.store import Store
    from api2db.store.store2bigquery import Store2Bigquery
    from api2db.store.store2delta import Store2Delta
    from api2db.store.store2iceberg import Store2Iceberg
    from api2db.store.store2local import Store2Local
    from api2db.store.store2omnisci import Store2Omnisci
    from api2db.store.store2sql import Store2Sql

__all__ = [
    "Store",
    "Store2Bigquery",
    "Store2Delta",
    "Store2Iceberg",
    "Store2Local",
    "Store2Omnisci",
    "Store2Sql",
    "StoreFigures",
    "store_figures",
]

# As in ``ingest``.
__getattr__, __dir__ = importing.on_demand(
    __name__,
    {
        "Store": "api2db.store.store",
        "Store2Bigquery": "api2db.store.store2bigquery",
        "Store2Delta": "api2db.store.store2delta",
        "Store2Iceberg": "api2db.store.store2iceberg",
        "Store2Local": "api2db.store.store2local",
        "Store2Omnisci": "api2db.store.store2omnisci",
        "Store2Sql": "api2db.store.store2sql",
        "StoreFigures": "api2db.store._figures",
        "store_figures": "api2db.store._figures",
    },
)
