"""Checks of the addresses of requests: http and https only, and private addresses only if they are allowed."""

import ipaddress
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

from api2db.errors import PollError

_PORTS = {"http": 80, "https": 443}
_WITHIN = [ipaddress.IPv6Network(text) for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")]
"""Networks whose addresses hold one of IPv4 at their end: compatible, mapped, translated, and NAT64."""


class Origin(NamedTuple):
    """Scheme, host and port. Secrets are sent to one origin, and a rate limit holds for its host."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def origin_of(url: str) -> Origin:
    """Return the origin of a URL.

    Raises:
        PollError: It is not an http or https URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise PollError(f"{url.partition('?')[0]!r} is not a URL") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise PollError(f"{url.partition('?')[0]!r} is not a URL of http or https; no other scheme is followed")
    return Origin(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])


def public_address(origin: Origin) -> str:
    """Return an address of a host. Connect to this address: another look-up may return a different one.

    Raises:
        PollError: The host has a private address, or no address.
    """
    try:
        found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # a label that is too long has no encoding
        raise PollError(f"{origin.host} can't be resolved: {error}") from None
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    for address in addresses:
        if not _is_public(address):
            raise PollError(
                f"{origin.host} has the address {address}, which is private; "
                "set allow_private=True of RestApi to allow requests to it"
            )
    return addresses[0]


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return found.is_global and not found.is_multicast
    if any(found in network for network in _WITHIN):
        return _is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
    if found.sixtofour is not None:
        return _is_public(str(found.sixtofour))
    return found.is_global and not (found.is_multicast or found.is_site_local)
