"""The connections to each host, its pace and its rates, shared by all polls of a process.

A forked child has connections and paces of its own.
"""

import os
import threading
import weakref
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Protocol

import httpx2

from api2db.rest._addresses import Origin
from api2db.rest._arguments import Rate
from api2db.rest._pace import Pace


class Host:
    """The connections to one host, and its pace.

    Args:
        origin: The host.
    """

    def __init__(self, origin: Origin) -> None:
        self.pace = Pace(str(origin))

    def client(self) -> httpx2.AsyncClient:
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


class Rated(Protocol):
    """What has the rate limits of one RestApi."""

    @property
    def rates(self) -> tuple[Rate, ...]: ...


_rated: "dict[Origin, weakref.WeakValueDictionary[int, Rated]]" = {}


def add_rates(origin: Origin, limits: Rated) -> None:
    """Let all calls to a host count for these rates, too, as long as the object exists."""
    _rated.setdefault(origin, weakref.WeakValueDictionary())[id(limits)] = limits


def rates_of(origin: Origin, limits: Rated) -> tuple[Rate, ...]:
    """Return the rates for which a call to a host counts: its own, and those of the host."""
    found = {rate for other in list(_rated.get(origin, {}).values()) for rate in other.rates}
    return tuple(sorted(found | set(limits.rates)))
