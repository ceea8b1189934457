"""A first look at an API: what its records are, and what a resource for it might be. Guesses are made here only."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from api2db.errors import ConfigurationError, PollError
from api2db.frames import to_batch
from api2db.rest._api import RestApi
from api2db.rest._auth import ApiKey, Auth, Basic, BearerToken
from api2db.rest._blocking_driver import finished
from api2db.rest._http import Figures
from api2db.rest._order import order_of
from api2db.rest._pagination import LinkHeader, Page
from api2db.rest._records import WHOLE, path_of_records, records_at

_KEYS: Final[Sequence[str]] = ("id", "uuid", "guid", "key", "symbol", "code", "slug", "number")
_MOMENT: Final = re.compile(r"(updated|modified|changed|last|created|timestamp|time|date)", re.IGNORECASE)
_RANKS: Final = ("updated", "modified", "changed", "created", "timestamp", "time", "date", "last")
_NEXT_URL: Final = re.compile(r"next|nextlink|next_?url|next_?page", re.IGNORECASE)
_TOKEN: Final = re.compile(r"(next_?)?(cursor|(page_?|continuation_?)token)", re.IGNORECASE)
_LAST_PAGE: Final = re.compile(r"(total_?pages|page_?count|last_?page|pages)", re.IGNORECASE)
_UNIX_S: Final = (10**8, 10**10)
_UNIX_MS: Final = (10**11, 10**13)


@dataclass(frozen=True)
class Guess:
    """A guess, as it would be written in a program, and why."""

    code: str
    why: str


@dataclass(frozen=True)
class Peek:
    """What one response tells.

    Attributes:
        rows: The records of the response.
        schema: What they become in Arrow.
        guesses: By the argument of ``RestApi.get``.
        program: A collector to paste.
    """

    rows: Sequence[Any]
    schema: pa.Schema
    guesses: Mapping[str, Guess] = field(default_factory=dict)
    program: str = ""


def peek(url: str, auth: str | None = None) -> Peek:
    """Ask for a URL once, and guess how to poll it. Nothing is stored.

    Args:
        url: A list, with its query.
        auth: ``bearer:$TOKEN``, ``basic:$USER:$PASSWORD``, ``header:NAME:$KEY`` or ``param:NAME:$KEY``.

    Raises:
        ConfigurationError: An argument can't be used.
        PollError: The API gives no list.
    """
    parts = urlsplit(url)
    api = RestApi(f"{parts.scheme}://{parts.netloc}", auth=_auth(auth), tries=2, max_poll_time="30s")
    params = dict(parse_qsl(parts.query, keep_blank_values=True))
    endpoint = api.get(parts.path.replace("{", "%7B").replace("}", "%7D") or "/", params=params).endpoint
    response = finished(endpoint.session(Figures()).fetch(endpoint.request(None, None)))
    page, guesses = _page(endpoint.document(response), response.url, response.headers)
    rows = [row for row in page.records if isinstance(row, dict)]
    if not rows:
        raise PollError(f"{parts.netloc}{parts.path} has no records; ask for a list that has some")
    guesses |= _guessed(page, rows)
    return Peek(
        rows, to_batch(rows).schema, guesses, _program(parts.scheme, parts.netloc, parts.path, params, auth, guesses)
    )


def _page(document: Any, url: str, headers: Mapping[str, str]) -> tuple[Page, dict[str, Guess]]:
    try:
        path, why = path_of_records(document), "the one list of objects"
    except PollError:
        lists = {path: found for path, found in _walk(document) if isinstance(found, list) and found}
        if not lists:
            raise
        path = max(lists, key=lambda name: len(lists[name]))
        why = f"the longest list; others are {', '.join(sorted(set(lists) - {path}))}"
    guesses = {} if path == WHOLE else {"records": Guess(repr(path), why)}
    return Page(url, headers, document, records_at(document, path)), guesses


def _guessed(page: Page, rows: Sequence[Mapping[str, Any]]) -> dict[str, Guess]:
    found = {"pagination": _pagination(page, rows), "keys": _key(rows), "cursor": _cursor(rows)}
    return {name: guess for name, guess in found.items() if guess is not None}


def _key(rows: Sequence[Mapping[str, Any]]) -> Guess | None:
    unique = [name for name in rows[0] if _is_unique([row.get(name) for row in rows])]
    named = [name for name in _KEYS if name in unique] or [name for name in unique if name.lower().endswith("id")]
    if not named:
        return None
    return Guess(repr(named[0]), f"{len(rows)} different values in {len(rows)} records, and its name")


def _is_unique(values: Sequence[Any]) -> bool:
    texts = [str(value) for value in values if isinstance(value, (str, int)) and not isinstance(value, bool)]
    return len(texts) == len(values) == len(set(texts))


def _cursor(rows: Sequence[Mapping[str, Any]]) -> Guess | None:
    moments = {name: _type_of([row.get(name) for row in rows]) for name in rows[0] if _MOMENT.search(name)}
    names = [name for name, type_ in moments.items() if type_ is not None]
    if not names:
        return None
    name = min(names, key=lambda one: next(place for place, word in enumerate(_RANKS) if word in one.lower()))
    type_ = "" if moments[name] == "iso" else f", type={moments[name]!r}"
    why = f"{name} holds times; name the API's parameter for it as param="
    return Guess(f"Cursor({name!r}{type_})", why)


def _type_of(values: Sequence[Any]) -> str | None:
    orders = [order_of(value, None) for value in values if value is not None]
    if not orders or any(order is None for order in orders):
        return None
    known = [order for order in orders if order is not None]
    if all(order.kind == "iso" for order in known):
        return "iso"
    for type_, (low, high) in (("unix_s", _UNIX_S), ("unix_ms", _UNIX_MS)):
        if all(order.kind == "number" and low <= order.value < high for order in known):
            return type_
    return None


def _pagination(page: Page, rows: Sequence[Mapping[str, Any]]) -> Guess | None:
    if LinkHeader().after(page, None) is not None:
        return Guess("LinkHeader()", 'the header Link has rel="next"')
    leaves = [(path, value) for path, value in _walk(page.document) if not isinstance(value, (dict, list))]
    for path, value in leaves:
        parents = [name.strip('"@') for name in path.split(".")]
        is_next = any(_NEXT_URL.fullmatch(name.rpartition(".")[2]) for name in parents)
        if isinstance(value, str) and value.startswith(("http://", "https://", "/")) and is_next:
            return Guess(f"NextUrl({path!r})", f"{path} holds a URL")
        if isinstance(value, str) and value and _TOKEN.fullmatch(parents[-1]):
            param = re.sub(r"^next_?", "", parents[-1], flags=re.IGNORECASE)
            return Guess(f"NextToken({path!r}, param={param!r})", f"{path} holds a token; check the parameter's name")
    return _numbered(dict(leaves), rows)


def _numbered(leaves: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Guess | None:
    if leaves.get("has_more") is not None and "id" in rows[0]:
        return Guess("LastId('id', param='starting_after', has_more='has_more')", "has_more, as in Stripe's lists")
    for path, value in leaves.items():
        if _LAST_PAGE.fullmatch(path.rpartition(".")[2]) and isinstance(value, int):
            return Guess(f"PageNumber(last={path!r})", f"{path} is {value}")
    total = next(
        (path for path in leaves if path.rpartition(".")[2].lower() in {"total", "total_count", "count"}), None
    )
    if total is not None and isinstance(leaves[total], int) and leaves[total] > len(rows):
        return Guess(f"Offset({len(rows)}, total={total!r})", f"{total} is {leaves[total]}, and there are {len(rows)}")
    return None


def _walk(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What is in a document, with its path, but not within lists."""
    if not isinstance(found, dict):
        return
    for name, value in found.items():
        quoted = name if re.fullmatch(r"[A-Za-z_]\w*", name) else f'"{name}"'
        below = f"{path}.{quoted}" if path else quoted
        yield below, value
        yield from _walk(value, below)


def _auth(said: str | None) -> Auth | None:
    kind, *values = (said or "").split(":")
    match kind, values:
        case "", []:
            return None
        case "bearer", [token]:
            return BearerToken(token)
        case "basic", [username, password]:
            return Basic(username, password)
        case "header", [name, key]:
            return ApiKey(key, header=name)
        case "param", [name, key]:
            return ApiKey(key, param=name)
    raise ConfigurationError("--auth is bearer:$TOKEN, basic:$USER:$PASSWORD, header:NAME:$KEY or param:NAME:$KEY")


def _auth_code(said: str | None) -> tuple[str, str]:
    """The class and the argument for a program; a secret that was given as text becomes a variable's name."""
    kind, *values = (said or "").split(":")
    named = [value if value.startswith("$") else "$API_SECRET" for value in values]
    match kind:
        case "bearer":
            return "BearerToken", f", auth=BearerToken({named[0]!r})"
        case "basic":
            return "Basic", f", auth=Basic({named[0]!r}, {named[1]!r})"
        case "header" | "param":
            return "ApiKey", f", auth=ApiKey({named[1]!r}, {kind}={values[0]!r})"
    return "", ""


def _program(
    scheme: str, host: str, path: str, params: Mapping[str, str], auth: str | None, guesses: Mapping[str, Guess]
) -> str:
    class_, argument = _auth_code(auth)
    classes = {"RestApi", class_, *(guess.code.partition("(")[0] for guess in guesses.values() if "(" in guess.code)}
    name = re.sub(r"\W+", "_", path.rstrip("/").rpartition("/")[2]).strip("_").lower() or "rows"
    name = name if not name[0].isdigit() else f"rows_{name}"
    lines = [f"    {path or '/'!r},", *([f"    params={dict(params)!r},"] if params else [])]
    lines += [f"    {option}={guess.code}," for option, guess in guesses.items()]
    text = "\n".join(
        [
            "from api2db import Collector, Run, Stream2Sql",
            f"from api2db.rest import {', '.join(sorted(classes - {''}))}",
            "",
            f"api = RestApi({f'{scheme}://{host}'!r}{argument})",
            f"{name} = api.get(",
            *lines,
            ")",
            f'streams = [Stream2Sql({name!r}, db_name="STORE/data.duckdb", dialect="duckdb")]',
            f"collectors = [Collector({name!r}, 60, {name}, streams)]",
            "",
            'if __name__ == "__main__":',
            "    Run(collectors).run()",
            "",
        ]
    )
    return text.replace("'", '"') if '"' not in "".join(guess.code for guess in guesses.values()) else text
