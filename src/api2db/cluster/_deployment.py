"""Writes all that three hosts need to serve a cluster: configurations, certificates, keys, Compose and Kubernetes."""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from api2db.cluster._servers import CLIENT_PORT, ROUTE_PORT, ServerPlan, ServerSecurity, server_config
from api2db.disk.atomic import make_folders
from api2db.errors import ConfigurationError, from_extra

IMAGE: Final = "nats:2.15.1"
_YEARS: Final = 10
_SEED_BYTES: Final = 32
_STORE: Final = "/data"
_SECRETS: Final = "/etc/nats"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What was written.

    Attributes:
        files: All files.
        address: The address of the cluster, for ``--cluster``.
    """

    files: tuple[Path, ...]
    address: str


def write_deployment(folder: Path, hosts: Sequence[str], project: str) -> Deployment:
    """Write the files of a cluster into a new folder. Files with secrets are readable by their owner only.

    Args:
        folder: It must be empty or missing.
        hosts: Three names or addresses by which the servers and all workers reach the servers.
        project: The project's name in the address.

    Raises:
        ConfigurationError: The folder is not empty, or there are not three hosts.
    """
    if len(set(hosts)) != 3:
        raise ConfigurationError("a cluster has three servers: give three different hosts")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} is not empty; existing keys are never overwritten")
    make_folders(folder)
    writer = _Writer(folder)
    worker, system = _new_nkey(), _new_nkey()
    authority = _Authority()
    writer.write("ca.pem", authority.certificate)
    writer.write("ca.key", authority.key)
    writer.write("worker.nk", worker[0])
    writer.write("system.nk", system[0])
    security = ServerSecurity(_SECRETS, worker[1], system[1])
    routes = [f"{host}:{ROUTE_PORT}" for host in hosts]
    for number, host in enumerate(hosts, 1):
        name = f"nats-{number}"
        plan = ServerPlan(name, "0.0.0.0", _STORE, routes, security)  # noqa: S104 - the others must reach it
        certificate, key = authority.issue(host, [host, name, f"{name}.nats"])
        writer.write(f"{name}/nats.conf", server_config(plan).encode())
        writer.write(f"{name}/ca.pem", authority.certificate)
        writer.write(f"{name}/server.pem", certificate)
        writer.write(f"{name}/server.key", key)
    servers = ",".join(f"{host}:{CLIENT_PORT}" for host in hosts)
    address = f"tls://{servers}/{project}?ca=AUTH/ca.pem&nkey=AUTH/worker.nk"
    writer.write("compose.yaml", _compose(hosts, address).encode())
    writer.write("kubernetes.yaml", _kubernetes(hosts, address).encode())
    writer.write("README.md", _readme(hosts, address).encode())
    return Deployment(tuple(writer.files), address)


class _Writer:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files: list[Path] = []

    def write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        make_folders(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        self.files.append(path)


def _new_nkey() -> tuple[bytes, str]:
    """The seed of a new user, and its public key."""
    with from_extra("nkeys", "cluster"):
        import nkeys

    seed = nkeys.encode_seed(os.urandom(_SEED_BYTES), nkeys.PREFIX_BYTE_USER)
    return bytes(seed), nkeys.from_seed(bytearray(seed)).public_key.decode()


class _Authority:
    """Signs the certificates of the servers."""

    def __init__(self) -> None:
        with from_extra("cryptography", "cluster"):
            from cryptography import x509
            from cryptography.hazmat.primitives.asymmetric import ec

        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "api2db cluster")])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = self._signed(self._name, self._key.public_key(), constraints, ())
        self.key = _pem(self._key)

    def issue(self, name: str, names: Sequence[str]) -> tuple[bytes, bytes]:
        """A certificate for a server that is reached by these names, and its key."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])
        constraints = x509.BasicConstraints(ca=False, path_length=None)
        return self._signed(subject, key.public_key(), constraints, names), _pem(key)

    def _signed(self, subject: Any, key: Any, constraints: Any, names: Sequence[str]) -> bytes:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding
        from cryptography.x509.oid import ExtendedKeyUsageOID

        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
            .add_extension(constraints, critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
            uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
            builder = builder.add_extension(uses, critical=False)
        return bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))


def _alternatives(names: Sequence[str]) -> list[Any]:
    from cryptography import x509

    found: list[Any] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _compose(hosts: Sequence[str], address: str) -> str:
    services = "".join(
        f"""  nats-{number}:
    profiles: [nats-{number}]
    image: {IMAGE}
    command: ["-c", "{_SECRETS}/nats.conf"]
    hostname: {host}
    network_mode: host
    restart: always
    stop_grace_period: 60s
    volumes:
      - ./nats-{number}:{_SECRETS}:ro
      - nats-{number}:{_STORE}
"""
        for number, host in enumerate(hosts, 1)
    )
    volumes = "".join(f"  nats-{number}: {{}}\n" for number in range(1, len(hosts) + 1))
    return f"""# On each host: docker compose --profile nats-N up -d, with its own number. On hosts that run collectors:
# docker compose --profile worker up -d, with your project in ./project and ca.pem and worker.nk in ./project/AUTH.
services:
{services}  worker:
    profiles: [worker]
    image: python:3.12-slim
    working_dir: /project
    command: ["sh", "-c", "pip install --quiet 'api2db[all]' && exec api2db run main.py"]
    environment:
      API2DB_CLUSTER: "{address}"
    network_mode: host
    restart: always
    stop_grace_period: 30s
    volumes:
      - ./project:/project
volumes:
{volumes}"""


def _kubernetes(hosts: Sequence[str], address: str) -> str:
    count = len(hosts)
    return f"""# In Kubernetes, give "api2db cluster init" the hosts nats-1.nats, nats-2.nats and nats-3.nats.
# First: for n in 1 2 3; do kubectl create secret generic nats-$n --from-file=nats-$n; done
#        kubectl create secret generic api2db-worker --from-file=ca.pem --from-file=worker.nk
# The image of the workers is yours: your project in /project, with pip install 'api2db[all]'.
apiVersion: v1
kind: Service
metadata:
  name: nats
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    app: nats
  ports:
    - name: client
      port: {CLIENT_PORT}
    - name: route
      port: {ROUTE_PORT}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: nats
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      app: nats
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: nats
spec:
  serviceName: nats
  replicas: {count}
  podManagementPolicy: Parallel
  ordinals:
    start: 1
  selector:
    matchLabels:
      app: nats
  template:
    metadata:
      labels:
        app: nats
    spec:
      terminationGracePeriodSeconds: 60
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - labelSelector:
                matchLabels:
                  app: nats
              topologyKey: kubernetes.io/hostname
      containers:
        - name: nats
          image: {IMAGE}
          args: ["-c", "{_SECRETS}/nats.conf"]
          env:
            - name: POD_NAME
              valueFrom:
                fieldRef:
                  fieldPath: metadata.name
          ports:
            - containerPort: {CLIENT_PORT}
            - containerPort: {ROUTE_PORT}
          volumeMounts:
            - name: data
              mountPath: {_STORE}
            - name: secrets
              mountPath: {_SECRETS}
              subPathExpr: $(POD_NAME)
              readOnly: true
      volumes:
        - name: secrets
          projected:
            defaultMode: 0400
            sources:
{_projected(count)}  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        resources:
          requests:
            storage: 100Gi
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: api2db-worker
spec:
  replicas: 3
  selector:
    matchLabels:
      app: api2db-worker
  template:
    metadata:
      labels:
        app: api2db-worker
    spec:
      terminationGracePeriodSeconds: 30
      containers:
        - name: worker
          image: your-project:latest
          workingDir: /project
          command: ["api2db", "run", "main.py"]
          env:
            - name: API2DB_CLUSTER
              value: "{address}"
          volumeMounts:
            - name: auth
              mountPath: /project/AUTH
              readOnly: true
      volumes:
        - name: auth
          secret:
            secretName: api2db-worker
            defaultMode: 0400
"""


def _projected(count: int) -> str:
    return "".join(
        f"""              - secret:
                  name: nats-{number}
                  items:
{_items(number)}"""
        for number in range(1, count + 1)
    )


def _items(number: int) -> str:
    names = ("nats.conf", "ca.pem", "server.pem", "server.key")
    return "".join(f"                    - {{key: {name}, path: nats-{number}/{name}}}\n" for name in names)


def _readme(hosts: Sequence[str], address: str) -> str:
    steps = "\n".join(
        f"- {host}: copy `nats-{number}/` and `compose.yaml`, then `docker compose --profile nats-{number} up -d`."
        for number, host in enumerate(hosts, 1)
    )
    return f"""# A cluster for api2db

`ca.key`, `*.nk` and `server.key` are secrets: keep them out of version control. `ca.key` is needed only to make further
certificates; `system.nk` only for administrators.

{steps}
- Each machine that runs collectors: `ca.pem` and `worker.nk` in the project's `AUTH/`, then

      api2db run main.py --cluster '{address}'

`kubernetes.yaml` has the same for Kubernetes; read its first lines.
"""
