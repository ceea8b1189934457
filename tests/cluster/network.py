"""A network of hosts on this machine: network namespaces on a bridge, whose links can be cut."""

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

FIRST_HOST = 10


@dataclass(frozen=True)
class Host:
    """A namespace with one address.

    Attributes:
        link: The end of its link at the bridge.
        inside: What runs a command in it.
    """

    name: str
    address: str
    link: str
    inside: tuple[str, ...]

    def cut(self) -> None:
        """Lose all packets from and to it, silently."""
        ip("link", "set", self.link, "down")

    def lose(self, other: str) -> None:
        """Lose all packets from it to one address."""
        self._ip("route", "replace", "blackhole", f"{other}/32")

    def heal(self) -> None:
        """Undo that."""
        ip("link", "set", self.link, "up")
        self._ip("route", "flush", "type", "blackhole")

    def _ip(self, *arguments: str) -> None:
        subprocess.run([*self.inside, "ip", *arguments], check=True, capture_output=True)


@dataclass
class Network:
    """Hosts on a bridge of their own; a context manager."""

    hosts: dict[str, Host] = field(default_factory=dict)

    @staticmethod
    def works_here() -> bool:
        """Whether this user may make namespaces here."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            return False
        name = f"api2db-{os.getpid()}"
        made = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode == 0
        if made:
            ip("netns", "delete", name)
        return made

    @property
    def address(self) -> str:
        """The address of this machine in it."""
        return f"{self._subnet}.1"

    def __enter__(self) -> Self:
        ip("link", "add", self._bridge, "type", "bridge")
        ip("address", "add", f"{self.address}/24", "dev", self._bridge)
        ip("link", "set", self._bridge, "up")
        return self

    def __exit__(self, *exception: object) -> None:
        for host in self.hosts.values():
            with suppress(subprocess.CalledProcessError):
                ip("link", "delete", host.link)  # a namespace goes later, with its last process, and its links with it
            with suppress(subprocess.CalledProcessError):
                ip("netns", "delete", host.inside[3])
        ip("link", "delete", self._bridge)

    def host(self, name: str) -> Host:
        """The host with a name, made at the first call."""
        if name not in self.hosts:
            self.hosts[name] = self._made(name)
        return self.hosts[name]

    def _made(self, name: str) -> Host:
        number = FIRST_HOST + len(self.hosts)
        namespace, link, peer = (f"{kind}{os.getpid()}-{number}" for kind in ("api2db", "ah", "ap"))
        host = Host(name, f"{self._subnet}.{number}", link, ("ip", "netns", "exec", namespace))
        ip("netns", "add", namespace)
        ip("link", "add", link, "type", "veth", "peer", "name", peer, "netns", namespace)
        ip("link", "set", link, "master", self._bridge, "up")
        ip("-n", namespace, "address", "add", f"{host.address}/24", "dev", peer)
        ip("-n", namespace, "link", "set", peer, "up")
        ip("-n", namespace, "link", "set", "lo", "up")
        return host

    @property
    def _bridge(self) -> str:
        return f"ab{os.getpid()}"

    @property
    def _subnet(self) -> str:
        return f"10.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}"


def ip(*arguments: str) -> None:
    """Call ``ip``."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
