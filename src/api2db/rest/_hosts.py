"""The connections to each host and its pace, shared by all polls of a process; a forked child has its own."""

import os
import threading
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2

from api2db.rest._addresses import Origin
from api2db.rest._limits import Pace


class Host:
    """The connections to one host, and its pace."""

    def __init__(self) -> None:
        self.pace = Pace()
        # No cookies: they would carry one user's session into the calls of another.
        self.client = httpx2.Client(cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())), follow_redirects=False)


class _Hosts:
    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin without hosts, and with a lock that nobody holds."""
        self._lock = threading.Lock()
        self._hosts: dict[Origin, Host] = {}

    def of(self, origin: Origin) -> Host:
        with self._lock:
            if origin not in self._hosts:
                self._hosts[origin] = Host()
            return self._hosts[origin]


_hosts = _Hosts()
# Two processes that read from one connection would each get parts of the other's answers. The clients of the parent are
# not closed here, since another of its threads may have held their locks; without references their sockets close.
os.register_at_fork(after_in_child=_hosts.forget)


def host_of(origin: Origin) -> Host:
    """Return the host of an origin in this process."""
    return _hosts.of(origin)
