"""The configuration of the servers of a cluster, as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from api2db.cluster._checks import QUESTION

CLIENT_PORT: Final = 4222
ROUTE_PORT: Final = 6222
MONITOR_PORT: Final = 8222


@dataclass(frozen=True, slots=True)
class ServerSecurity:
    """The files and the public keys of a server.

    Attributes:
        folder: The folder of ``ca.pem``, ``server.pem`` and ``server.key``, as the server sees it.
        worker_key: The public nkey of the workers' user.
        system_key: The public nkey of the administrators' user.
    """

    folder: str
    worker_key: str
    system_key: str


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """One server of a cluster.

    Attributes:
        name: Its name, which no other server of the cluster has.
        host: The address on which it listens.
        store: The folder of its data.
        routes: The other servers, and it may be this one too, as host:port.
        security: None for servers that only this machine reaches, without TLS and users.
        monitor_port: The port of its figures; None for none.
    """

    name: str
    host: str
    store: str
    routes: Sequence[str]
    security: ServerSecurity | None = None
    client_port: int = CLIENT_PORT
    route_port: int = ROUTE_PORT
    monitor_port: int | None = None


def server_config(plan: ServerPlan) -> str:
    """The text of a server's configuration file."""
    monitor = "" if plan.monitor_port is None else f"http: 127.0.0.1:{plan.monitor_port}\n"
    worker, system = _users(plan.security)
    return f"""server_name: {plan.name}
listen: "{plan.host}:{plan.client_port}"
{monitor}{_tls(plan.security, "")}
jetstream {{
  store_dir: "{plan.store}"
  # A message is on disk before it is acknowledged. api2db refuses servers without it.
  sync_interval: always
}}
{_cluster(plan)}
accounts {{
  SYS {{
    users: [{system}]
    # api2db asks at start whether all servers sync each message.
    exports: [{{service: "{QUESTION}", response_type: stream}}]
  }}
  API2DB {{
    jetstream: enabled
    users: [{worker}]
    imports: [{{service: {{account: SYS, subject: "{QUESTION}"}}}}]
  }}
}}
system_account: SYS
{"" if plan.security else "no_auth_user: worker"}
"""


def _cluster(plan: ServerPlan) -> str:
    """Nothing for a server alone, which would wait for the others."""
    if len(plan.routes) == 1:
        return ""
    routes = ", ".join(f'"nats-route://{route}"' for route in plan.routes)
    return f"""
cluster {{
  name: api2db
  listen: "{plan.host}:{plan.route_port}"
  routes: [{routes}]
{_tls(plan.security, "  ")}}}
"""


def _users(security: ServerSecurity | None) -> tuple[str, str]:
    if security is None:
        return '{user: worker, password: ""}', ""
    return f"{{nkey: {security.worker_key}}}", f"{{nkey: {security.system_key}}}"


def _tls(security: ServerSecurity | None, indent: str) -> str:
    if security is None:
        return ""
    lines = [
        "tls {",
        f'  cert_file: "{security.folder}/server.pem"',
        f'  key_file: "{security.folder}/server.key"',
        f'  ca_file: "{security.folder}/ca.pem"',
        *(["  verify: true"] if indent else []),  # servers prove to each other who they are
        "}",
    ]
    return "".join(f"{indent}{line}\n" for line in lines)
