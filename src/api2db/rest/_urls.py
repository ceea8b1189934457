"""URLs: their parameters, what is shown of them, and links between them."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote_plus, urlencode, urljoin, urlsplit, urlunsplit

from api2db.errors import PollError


def shown(url: str) -> str:
    """Return a URL without its query, which may hold a secret, and without a password."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def with_params(url: str, params: Mapping[str, Any]) -> str:
    """Return a URL whose query has these parameters, in place of those of the same names; others stay as they are."""
    if not params:
        return url
    parts = urlsplit(url)
    # What stays is not encoded again: a signature is for the query as it is.
    kept = [one for one in parts.query.split("&") if one and unquote_plus(one.partition("=")[0]) not in params]
    added = [(name, _text(value)) for name, values in params.items() for value in _listed(values) if value is not None]
    query = "&".join([*kept, urlencode(added, quote_via=quote, safe=":,/")]) if added else "&".join(kept)
    return urlunsplit(parts._replace(query=query))


def without_params(url: str, names: frozenset[str]) -> str:
    """Return a URL without the parameters of these names."""
    return with_params(url, dict.fromkeys(names)) if names else url


def joined(url: str, target: str) -> str:
    """Return the URL that a response leads to, which may be relative.

    Raises:
        PollError: It is no URL.
    """
    try:
        return urljoin(url, target)
    except ValueError:
        raise PollError(f"{target.partition('?')[0]!r} is not a URL") from None


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
