"""Stores: the periodic side. What Stream2Local has left as shards is composed, loaded, and put away, exactly once.

A store opens no journal. It holds its folder of shards by a lock and takes these steps, each durable before the next:

1. the composed files, where some are asked for, under temporary names that say for which folder they are;
2. a manifest in the folder: the shards, each with its name, size and time; the composed files; and a random id;
3. the load. The id is the key of a ledger row in the target, which counts the manifest's shards (and rows of the next)
   that are in, and is written in the transaction of their rows. For a target without transactions the manifest itself
   counts them: its plan of a load goes, and its position moves, by one write;
4. in the manifest: it is loaded;
5. the composed files are given their names, which the manifest then says; the shards are deleted or moved; the figures
   of ``status`` are kept; the manifest goes last.

Whoever finds a manifest goes on with it, and with no other shards: those that came meanwhile are the next one's. Before
step 4 the ledger says what is in, or the manifest and the plan in it; after it nothing is read or loaded any more. A
composed file whose temporary name is gone has been published if it has its final one, by its size and time; else a
person decides. What has been written under a shard's name meanwhile is another shard: it stays for the next round.

``manifest`` is that file, ``_log`` shows it to delivery as a stream's log, so that rows are fitted, set aside and
loaded by the same code as a stream's. ``_steps`` are the steps. A store for another target is a class that makes its
stream: see ``store2sql``.
"""

from api2db.store.figures import StoreFigures, store_figures
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
