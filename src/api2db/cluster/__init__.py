"""The journal of a project on NATS JetStream, so that any number of machines run it and none of them may be lost alone.

Promise
    * ``append`` returns when a majority of the servers has the group. With ``sync_interval: always``, which is checked
      at start, they have it on disk; docs/cluster.md says what is left of the risk.
    * A group of frames and the collector's state are one atomic batch: both are stored, or neither.
    * One worker at a time appends to a journal. JetStream itself refuses the writes of any other.
    * Rows are read in the order in which they were stored. A gap stops the delivery; it is never passed over.

Layout, for the project ``<p>`` of the cluster's address
    ``api2db_<p>_log_<collector>``  a collector's messages: ``rows``, ``cursor``, ``owner``, ``removal``, and the
                                    files of rejected rows: ``aside.…`` and ``rejected.…``
    ``api2db_<p>_state``            a document for each journal and stream: positions, checkpoints, counters, epochs
    ``KV_api2db_<p>_leases``        the bucket of sessions of workers and claims to collectors

Rules
    * A publication names the number of the stream's last message, so it is stored once at most, however often it is
      sent. If its answer is lost, it is sent again: JetStream then stores it, or says that the end has moved, and the
      message there shows whose it is.
    * A new owner takes its place behind the last message with an ``owner`` message. From then on all publications of
      the last owner are refused. It also rewrites each document, which the last owner then can't.
    * The high half of a record's sequence number counts the opens, as in a journal on disk. So no number is used twice,
      and a journal can move between a disk and a cluster while the targets' ledgers stay valid.
    * Every message says where the log's end is with it. So an open reads the last message, not the backlog.
    * Each rows message names the one before it. A reader that misses one asks the stream's leader, then stops.
    * Rejected rows are published before the target commits, and named after that. What is named is listed; what is not
      is removed. A removal is in the batch of the rows that are put again.
    * A journal is used on a disk or in a cluster, never on both: a move closes one side before it opens the other.
    * A rows message is removed when the saved positions of all streams are behind it, never the last one.
"""

from api2db.cluster._address import VARIABLE, Address, parse_address
from api2db.cluster._deployment import Deployment, write_deployment
from api2db.cluster._leases import Claims, Session, Worker, machine_name
from api2db.cluster._log_messages import GapError
from api2db.cluster._moving import export_journal, import_journal
from api2db.cluster._servers import ServerPlan, server_config
from api2db.cluster._store import Cluster, ClusterJournalStore, close_clusters, cluster_at, cluster_store

__all__ = [
    "VARIABLE",
    "Address",
    "Claims",
    "Cluster",
    "ClusterJournalStore",
    "Deployment",
    "GapError",
    "ServerPlan",
    "Session",
    "Worker",
    "close_clusters",
    "cluster_at",
    "cluster_store",
    "export_journal",
    "import_journal",
    "machine_name",
    "parse_address",
    "server_config",
    "write_deployment",
]
