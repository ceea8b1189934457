"""What ``api2db cluster init`` writes: three servers run on it as it is, and let in nobody without a key."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from api2db.app.command_line import app
from api2db.cluster import Deployment, write_deployment
from api2db.errors import ClusterUnavailableError, ConfigurationError
from tests.cluster.journals import Machine, delivered, rows
from tests.servers.nats import program
from tests.servers.processes import ServerProcess, free_port, give_away, new_folder

HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return write_deployment(tmp_path / "servers", HOSTS, "shop")


@pytest.fixture
def running(deployment: Deployment, tmp_path: Path) -> Iterator[str]:
    """The servers, on ports of their own; the address of the cluster."""
    client, route = free_port(), free_port()
    processes = []
    for number, host in enumerate(HOSTS, 1):
        folder = new_folder()
        for file in (tmp_path / "servers" / f"nats-{number}").iterdir():
            text = file.read_text()
            for before, after in (
                ("0.0.0.0", host),
                (":4222", f":{client}"),
                (":6222", f":{route}"),
                ("/etc/nats", str(folder)),
                ("/data", str(folder / "data")),
            ):
                text = text.replace(before, after)
            (folder / file.name).write_text(text)
            give_away(folder / file.name)
        processes.append(ServerProcess([program(), "-c", str(folder / "nats.conf")], folder, folder / "log"))
    auth = tmp_path / "AUTH"
    auth.mkdir()
    for name in ("ca.pem", "worker.nk"):
        (auth / name).write_bytes((tmp_path / "servers" / name).read_bytes())
    yield deployment.address.replace(":4222", f":{client}")
    for process in processes:
        process.kill()


def test_servers_run_on_it_encrypted_and_let_in_only_who_has_the_key(running: str, tmp_path: Path) -> None:
    machine = Machine(running, tmp_path)
    journal, reader = machine.attached()
    journal.append([rows(1)], cursor={"page": 1})
    assert delivered(reader) == [1]
    machine.close()
    for part in ("&nkey=AUTH/worker.nk", "ca=AUTH/ca.pem&"):
        stranger = Machine(running.replace(part, ""), tmp_path)
        with pytest.raises(ClusterUnavailableError):
            stranger.cluster.jetstream.api("INFO")
        stranger.cluster.connection.close()


def test_secrets_are_files_that_only_their_owner_reads(deployment: Deployment) -> None:
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in deployment.files)
    assert not any(seed in deployment.address for seed in ("SU", "PRIVATE"))
    with pytest.raises(ConfigurationError, match="not empty"):
        write_deployment(deployment.files[0].parent, HOSTS, "shop")
    with pytest.raises(ConfigurationError, match="three"):
        write_deployment(deployment.files[0].parent / "new", HOSTS[:2], "shop")


def test_the_manifests_mount_what_the_configuration_names(deployment: Deployment, tmp_path: Path) -> None:
    compose = yaml.safe_load((tmp_path / "servers" / "compose.yaml").read_text())
    assert set(compose["services"]) == {"nats-1", "nats-2", "nats-3", "worker"}
    assert compose["services"]["worker"]["environment"]["API2DB_CLUSTER"] == deployment.address
    documents = list(yaml.safe_load_all((tmp_path / "servers" / "kubernetes.yaml").read_text()))
    kinds = {(each["kind"], each["metadata"]["name"]): each["spec"] for each in documents}
    pod = kinds["StatefulSet", "nats"]["template"]["spec"]
    mounts = {each["mountPath"]: each["name"] for each in pod["containers"][0]["volumeMounts"]}
    assert mounts == {"/data": "data", "/etc/nats": "secrets"}
    [projected] = [each["projected"] for each in pod["volumes"]]
    paths = {item["path"] for source in projected["sources"] for item in source["secret"]["items"]}
    assert paths == {str(path.relative_to(tmp_path / "servers")) for path in deployment.files if "nats-" in str(path)}
    assert ("Deployment", "api2db-worker") in kinds


def test_the_command_writes_it_and_says_how_to_go_on(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["cluster", "init", str(tmp_path / "new"), "a", "b", "c"])
    assert said.exit_code == 0
    assert "--cluster 'tls://a:4222,b:4222,c:4222/api2db?ca=AUTH/ca.pem&nkey=AUTH/worker.nk'" in said.output
