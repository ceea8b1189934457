"""The connections to each host and its pace, shared by all polls of a process; a forked child has its own."""

import os
import threading
from functools import cached_property
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2

from api2db.rest._addresses import Origin
from api2db.rest._pace import Pace


class Host:
    """The connections to one host, and its pace.

    Args:
        origin: The host.
    """

    def __init__(self, origin: Origin) -> None:
        self.pace = Pace(str(origin))

    @cached_property
    def client(self) -> httpx2.Client:
        """The client of the threads that poll."""
        return httpx2.Client(cookies=_no_cookies(), follow_redirects=False)

    def async_client(self) -> httpx2.AsyncClient:
        """Make the client of an event loop."""
        return httpx2.AsyncClient(cookies=_no_cookies(), follow_redirects=False)


def _no_cookies() -> CookieJar:
    """They would carry one user's session into the calls of another."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))


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
                self._hosts[origin] = Host(origin)
            return self._hosts[origin]


_hosts = _Hosts()
# Two processes that read from one connection would each get parts of the other's answers. The clients of the parent are
# not closed here, since another of its threads may have held their locks; without references their sockets close.
os.register_at_fork(after_in_child=_hosts.forget)


def host_of(origin: Origin) -> Host:
    """Return the host of an origin in this process."""
    return _hosts.of(origin)
