"""Peek: one request to an API, and guesses of a resource for it. Nothing else in this package guesses."""

import json
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from api2db.errors import ConfigurationError, PollError
from api2db.frames import to_batch
from api2db.rest._api import RestApi
from api2db.rest._auth import ApiKey, Auth, Basic, BearerToken
from api2db.rest._blocking_driver import finished
from api2db.rest._messages import Figures
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


_TAKEN: Final = frozenset({"api", "collectors", "streams", "run"})  # names of the program


@dataclass(frozen=True)
class Guess:
    """The code of an argument, and the reason for the guess."""

    code: str
    why: str


@dataclass(frozen=True)
class Peek:
    """What one response shows.

    Attributes:
        rows: The records of the response.
        schema: Their Arrow schema.
        guesses: By the argument of ``RestApi.get``.
        url: The URL without its query.
        name: A name for the collector, from the URL's path.
        classes: The classes of ``api2db.rest`` that the code needs.
        api: The code of the ``RestApi``.
        arguments: The code of the arguments of ``RestApi.get``, by name; the path is named ``""``.
    """

    rows: Sequence[Any]
    schema: pa.Schema
    guesses: Mapping[str, Guess]
    url: str
    name: str
    classes: Sequence[str]
    api: str
    arguments: Mapping[str, str]

    @property
    def cursor_comment(self) -> Sequence[str]:
        """The guessed cursor, as comments: without the parameter of the API it would lose rows that change late."""
        if "cursor" not in self.guesses:
            return ()
        code = _double_quoted(self.guesses["cursor"].code).removesuffix(")")
        return (self.guesses["cursor"].why, f'cursor={code}, param="the parameter"),')

    def program(self, stream: str, comment: str = "") -> str:
        """Return a program to paste.

        Args:
            stream: The code of the stream, such as ``Stream2Local("issues")``.
            comment: What to know of it.
        """
        lines = [f"    {name}={code}," if name else f"    {code}," for name, code in self.arguments.items()]
        lines += [f"    # {found}" for found in self.cursor_comment]
        return "\n".join(
            [
                f"from api2db import Collector, Run, {stream.partition('(')[0]}",
                f"from api2db.rest import {', '.join(self.classes)}",
                "",
                f"api = {self.api}",
                f"{self.name} = api.get(",
                *lines,
                ")",
                *([f"# {comment}"] if comment else []),
                f"streams = [{stream}]",
                f'collectors = [Collector("{self.name}", 60, {self.name}, streams)]',
                "",
                'if __name__ == "__main__":',
                "    Run(collectors).run()",
                "",
            ]
        )


def peek(url: str, auth: str | None = None) -> Peek:
    """Request a URL once, and guess how to poll it. Nothing is stored.

    Args:
        url: The URL of a list, with its query.
        auth: ``bearer:$TOKEN``, ``basic:$USER:$PASSWORD``, ``header:NAME:$KEY`` or ``param:NAME:$KEY``.

    Raises:
        ConfigurationError: An argument can't be used.
        PollError: The API returns no list.
    """
    parts = urlsplit(url)
    api = RestApi(f"{parts.scheme}://{parts.netloc}", auth=_auth(auth), tries=2, max_poll_time="30s")
    params: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        params[name] = value if name not in params else [*_listed(params[name]), value]
    endpoint = api.get(parts.path.replace("{", "%7B").replace("}", "%7D") or "/", params=params).endpoint
    response = finished(endpoint.session(Figures()).fetch(endpoint.request(None, None)))
    page, guesses = _page(endpoint.document(response), response.url, response.headers)
    rows = [row for row in page.records if isinstance(row, dict)]
    if not rows:
        raise PollError(f"{parts.netloc}{parts.path} has no records; give the URL of a list that has some")
    guesses |= _guessed(page, rows)
    class_, argument = _auth_code(auth)
    used = {"RestApi", class_}
    used |= {guess.code.partition("(")[0] for name, guess in guesses.items() if "(" in guess.code and name != "cursor"}
    arguments = {"": _literal(parts.path or "/"), **({"params": _literal(params)} if params else {})}
    arguments |= {name: _double_quoted(guess.code) for name, guess in guesses.items() if name != "cursor"}
    return Peek(
        rows,
        to_batch(rows).schema,
        guesses,
        url=f"{parts.scheme}://{parts.netloc}{parts.path}",
        name=_name(parts.path),
        classes=sorted(used - {""}),
        api=f"RestApi({_literal(f'{parts.scheme}://{parts.netloc}')}{_double_quoted(argument)})",
        arguments=arguments,
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
    return Guess(repr(named[0]), f"{len(rows)} different values in {len(rows)} records, and its name suggests a key")


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
    why = f"{name} holds times; add the API's parameter for it as param="
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
    """Yield the values of a document with their paths, without the elements of lists."""
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
    """Return the class and the code of the argument. A secret given as text is replaced by ``$API_SECRET``."""
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


def _name(path: str) -> str:
    """What a program calls a list: the last part of its path, if that can be a name."""
    name = re.sub(r"\W+", "_", path.rstrip("/").rpartition("/")[2], flags=re.ASCII).strip("_").lower() or "rows"
    name = name if not name[0].isdigit() else f"rows_{name}"
    return f"{name}_rows" if keyword.iskeyword(name) or name in _TAKEN else name


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _literal(value: Any) -> str:
    """Text, and lists and dicts of text, as a program has them: JSON's form of these is Python's."""
    return json.dumps(value, ensure_ascii=False)


def _double_quoted(code: str) -> str:
    """Code with double quotes, if that does not change it."""
    return code if '"' in code or "\\" in code else code.replace("'", '"')
