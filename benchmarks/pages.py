"""How long rows take to be visible while the live page has a hundred readers, beside the same without any."""

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import psutil

from benchmarks.figure import Figure
from benchmarks.latency import delays_ms, ticking
from tests.servers.processes import free_port

_READERS = 100
_ROUNDS = 3
_FRAMES = 500
_EVERY_S = 0.02
_READY_S = 60.0
_AIM_RATIO = 0.8


def measure(folder: Path) -> Iterator[Figure]:
    """In turn with the readers and without them, in one run, so that a noisy machine is noisy to both."""
    with ticking(folder) as (stream, newest), _page(folder) as (port, process):
        alone, watched = list[float](), list[float]()
        used_s = watched_s = 0.0
        memory_mb = [_memory_mb(process)]
        for first in range(0, 2 * _ROUNDS * _FRAMES, 2 * _FRAMES):
            alone += delays_ms(stream, newest, range(first, first + _FRAMES), _EVERY_S)
            with _readers(port):
                before_s, began_s = _cpu_s(process), time.monotonic()
                watched += delays_ms(stream, newest, range(first + _FRAMES, first + 2 * _FRAMES), _EVERY_S)
                used_s += _cpu_s(process) - before_s
                watched_s += time.monotonic() - began_s
                memory_mb.append(_memory_mb(process))
    for percent in (50, 99):
        floor, value = float(np.percentile(alone, percent)), float(np.percentile(watched, percent))
        title = f"put to visible with {_READERS} pages and a stuck one, p{percent}"
        yield Figure(title, value, "ms", floor=floor, aim=_AIM_RATIO, less_is_better=True)
    yield Figure(
        f"the page's process with {_READERS} pages: memory", max(memory_mb), "MB", memory_mb[0], less_is_better=True
    )
    yield Figure(f"the page's process with {_READERS} pages: CPU", 100 * used_s / watched_s, "% of one")


@contextmanager
def _page(home: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Serve the page in a process of its own, as a run does."""
    port = free_port()
    command = [sys.executable, "-m", "api2db", "web", f"127.0.0.1:{port}", "--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + _READY_S
        while time.monotonic() < deadline_s:
            with ExitStack() as stack:
                try:
                    stack.enter_context(socket.create_connection(("127.0.0.1", port), 1))
                except OSError:
                    time.sleep(0.1)  # until it listens
                    continue
            break
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def _readers(port: int) -> Iterator[None]:
    """Open pages that read all events, and one that never reads."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(1024, 4 * _READERS), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    command = [sys.executable, "-m", "benchmarks.pages", str(port), str(_READERS)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or process.stdout.readline() != "reading\n":
            raise RuntimeError("the readers can't connect")
        yield
    finally:
        process.communicate("")


def _read(port: int, count: int) -> None:
    """Read the events of many pages in this process until its input closes."""
    import selectors

    request = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    open_pages = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(count + 1)]
    chosen = selectors.DefaultSelector()
    for page in open_pages:
        page.sendall(request)
    for page in open_pages[1:]:  # the first one never reads
        chosen.register(page, selectors.EVENT_READ)
    chosen.register(sys.stdin, selectors.EVENT_READ)
    print("reading", flush=True)
    while True:
        for key, _ in chosen.select():
            if key.fileobj is sys.stdin:
                return
            if isinstance(key.fileobj, socket.socket) and not key.fileobj.recv(1 << 20):
                raise RuntimeError("the page has hung up")


def _memory_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    _read(int(sys.argv[1]), int(sys.argv[2]))
