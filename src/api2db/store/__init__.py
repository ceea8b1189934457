"""Stores, the periodic side: compose the shards that Stream2Local wrote, load them, and remove them, exactly once.

A store opens no journal. It locks its folder of shards and takes these steps, each durable before the next:

1. write the composed files, if any, under temporary names that say which folder they belong to;
2. write a manifest in the folder: the shards, each with its name, size and time; the composed files; and a random id;
3. load. The id is the key of a ledger row in the target. It counts the manifest's shards (and rows of the next shard)
   that are committed, and is written in the transaction of their rows. For a target without transactions the manifest
   itself counts them: one write of it clears the plan of a load and moves the position;
4. mark the manifest as loaded;
5. publish the composed files under their final names and mark the manifest; delete or move the shards; save the
   figures of ``status``; remove the manifest last.

A round that finds a manifest finishes it first, with its shards only: later shards belong to the next round. Before
step 4 the ledger says what is committed, or the manifest and the plan in it; after it nothing is read or loaded. A
composed file whose temporary name is gone has been published if its final name has its size and time; otherwise a
person must decide. A file written under a shard's name meanwhile is another shard: it stays for the next round.

``shards.manifest`` is that file, and ends both a round and a call of ``compose``. ``_round`` is what a store keeps in
it. ``_reader`` presents it to delivery as a stream's reader, so that rows are fitted, rejected
and loaded by the same code as a stream's. ``_steps`` are the steps. A store for another target is a class that makes
its stream: see ``store2sql``.
"""

from api2db.store._figures import StoreFigures, store_figures
from api2db.store.store import Store
from api2db.store.store2bigquery import Store2Bigquery
from api2db.store.store2local import Store2Local
from api2db.store.store2omnisci import Store2Omnisci
from api2db.store.store2sql import Store2Sql

__all__ = [
    "Store",
    "Store2Bigquery",
    "Store2Local",
    "Store2Omnisci",
    "Store2Sql",
    "StoreFigures",
    "store_figures",
]
