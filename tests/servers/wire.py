"""A network of its own between a client and a server, whose cable can be pulled: then nothing is heard at all."""

import contextlib
import ctypes
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.needs import lack, need

CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Wire:
    """A host at the other end of a cable, which forwards one port to a server of this machine."""

    host: str
    port: int
    space: str
    cable: str

    def pull(self) -> None:
        """What is sent is lost, in both directions."""
        _ip("-n", self.space, "link", "set", self.cable, "down")

    def plug(self) -> None:
        _ip("-n", self.space, "link", "set", self.cable, "up")


@contextmanager
def wire_to(host: str, port: int) -> Iterator[Wire]:
    """A wire to a server, for as long as the block lasts."""
    need("ip", root=True)
    name, block = f"a2d{os.getpid()}", f"10.213.{next(_numbers)}"
    here, there = f"{name}h", f"{name}t"
    try:
        _ip("netns", "add", name)
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        _ip("addr", "add", f"{block}.1/24", "dev", here)
        _ip("link", "set", here, "up")
        _ip("-n", name, "addr", "add", f"{block}.2/24", "dev", there)
        _ip("-n", name, "link", "set", there, "up")
        with _listening_in(name, f"{block}.2") as listening:
            threading.Thread(target=_forward_all, args=(listening, (host, port)), daemon=True).start()
            yield Wire(f"{block}.2", listening.getsockname()[1], name, there)
    finally:
        subprocess.run(["ip", "link", "del", here], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _listening_in(space: str, host: str) -> socket.socket:
    """A socket stays in the network in which it was made, whoever uses it."""
    made: list[socket.socket] = []

    def make() -> None:
        with (Path("/run/netns") / space).open() as handle:
            if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET):
                return
        made.append(socket.create_server((host, 0)))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if not made:
        lack("can't enter a network of its own here")
    return made[0]


def _forward_all(listening: socket.socket, to: tuple[str, int]) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listening.accept()
            server = socket.create_connection(to)
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=_forward, args=(one, other), daemon=True).start()


def _forward(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
    for side in (one, other):
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
    one.close()


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        lack(f"can't lay a wire here: {done.stderr.strip()}")
