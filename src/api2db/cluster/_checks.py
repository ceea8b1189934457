"""The checks at start: servers that would lose what they acknowledge are refused.

A client can't see ``sync_interval`` by itself: only the system account may ask a server for its configuration. The
configuration that ``api2db cluster init`` writes lets the project's account ask one question of the system account, the
servers' figures (``VARZ``), which say it. Servers that don't answer that question are refused as well.
"""

import json
import logging
from typing import Any, Final

from api2db.cluster._address import Address
from api2db.cluster._jetstream import JetStream, until_answered
from api2db.errors import ClusterUnavailableError, ConfigurationError

logger = logging.getLogger(__name__)
QUESTION: Final = "$SYS.REQ.SERVER.PING.VARZ"
_OLDEST: Final = (2, 12)
_PAUSE_S: Final = 0.5  # after an answer without another one, all servers have answered
_WAIT_S: Final = 20.0
_passed: set[tuple[str, ...]] = set()


def check_servers(jetstream: JetStream, address: Address) -> None:
    """Check that the servers keep what they acknowledge; once in a process for each cluster.

    Raises:
        ConfigurationError: They don't, or it can't be seen.
        ClusterUnavailableError: No server answers.
    """
    if address.servers in _passed:
        return
    until_answered(lambda: jetstream.api("INFO"), _WAIT_S)
    servers = _asked(jetstream)
    if not servers:
        raise ConfigurationError(
            "the servers do not say whether they sync each write to disk, so acknowledged rows might be lost. Let this "
            f"project's account ask for {QUESTION}; the configuration that api2db cluster init writes does so"
        )
    for server in servers:
        _check(server)
    if address.replicas < 3:
        logger.warning(
            "each message is kept by %d server only (replicas=%d): its disk is lost with what was not delivered",
            address.replicas,
            address.replicas,
        )
    elif len([each for each in servers if each.get("jetstream")]) < address.replicas:
        logger.warning("fewer servers answer than each message has replicas; one more failure stops the cluster")
    _passed.add(address.servers)


def _asked(jetstream: JetStream) -> list[dict[str, Any]]:
    try:
        answers = jetstream.connection.request_many(QUESTION, b"", lambda _: False, timeout_s=_PAUSE_S)
    except ClusterUnavailableError:
        return []
    found = [json.loads(answer.payload) for answer in answers if answer.payload]
    return [said["data"] for said in found if isinstance(said.get("data"), dict)]


def _check(server: dict[str, Any]) -> None:
    name, version = server.get("server_name", "a server"), str(server.get("version", ""))
    parts = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    if tuple(parts) < _OLDEST:
        raise ConfigurationError(f"{name} is NATS {version}; atomic batches need 2.12 or newer: upgrade the servers")
    config = (server.get("jetstream") or {}).get("config")
    if config and not config.get("sync_always"):
        raise ConfigurationError(
            f"{name} acknowledges messages before they are on its disk (sync_interval is not always), so a power cut "
            "would lose rows that were acknowledged; set jetstream { sync_interval: always } on all servers"
        )
