"""APIs of well-known shapes: a server that behaves as the published docs say, and the resource that polls it."""

import datetime
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from email.utils import format_datetime
from pathlib import Path
from typing import Any, ClassVar

import duckdb

from api2db import Collector, Run, Stream2Sql
from api2db.rest import Cursor, Job, LastId, LinkHeader, NextUrl, Resource, RestApi
from tests.rest.servers import Asked, GitHub, Reply, issue

SIZE = 5
Row = dict[str, Any]


class Shape(ABC):
    """One API.

    Attributes:
        rows: What it holds, oldest first.
        is_paged: Whether it has pages.
    """

    is_paged: ClassVar[bool] = True

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.grow(103)

    def grow(self, count: int) -> None:
        """Add rows."""
        self.rows += [self.row(len(self.rows) + number) for number in range(count)]

    def change(self) -> None:
        """Do to the rows what such an API does between two polls."""
        self.grow(23)

    @staticmethod
    @abstractmethod
    def resource(url: str) -> Resource:
        """Describe it."""

    @abstractmethod
    def row(self, number: int) -> Row:
        """Make a row."""

    @abstractmethod
    def __call__(self, asked: Asked) -> Reply:
        """Answer."""


class GitHubIssues(Shape):
    """Newest created first; ``since`` is compared with the last update. Each is later than all before."""

    minutes = 0

    @staticmethod
    def resource(url: str) -> Resource:
        return RestApi(url).get(
            "/repos/{repo}/issues",
            repo="a/b",
            params={"per_page": SIZE},
            pagination=LinkHeader(),
            cursor=Cursor("updated_at", param="since", overlap="5m"),
            keys="id",
        )

    def row(self, number: int) -> Row:
        self.minutes += 1
        return issue(number, self.minutes)

    def change(self) -> None:
        super().change()
        for number in (3, 50, 90):
            self.rows[number] = self.row(number) | {"title": f"changed at {self.minutes}"}

    def __call__(self, asked: Asked) -> Reply:
        reply = GitHub(self.rows)(asked)
        now = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC) + datetime.timedelta(minutes=self.minutes)
        return Reply(reply.body, reply.status, {**reply.headers, "Date": format_datetime(now, usegmt=True)})


class StripeCharges(Shape):
    """Newest first, several in a second; without keys, so rows are known by their content."""

    @staticmethod
    def resource(url: str) -> Resource:
        return RestApi(url).get(
            "/v1/charges",
            params={"limit": SIZE},
            pagination=LastId("id", param="starting_after", has_more="has_more"),
            cursor=Cursor("created", param="created[gte]", overlap="3s", type="unix_s", descending=True),
        )

    def row(self, number: int) -> Row:
        return {"id": f"ch_{number:04}", "created": 1714557600 + number // 2, "amount": number}

    def __call__(self, asked: Asked) -> Reply:
        since = int(asked.params.get("created[gte]", 0))
        found = [row for row in reversed(self.rows) if row["created"] >= since]
        if after := asked.params.get("starting_after"):
            found = [row for row in found if row["id"] < after]
        size = int(asked.params["limit"])
        return Reply({"object": "list", "url": "/v1/charges", "has_more": len(found) > size, "data": found[:size]})


class BinanceTicker(Shape):
    """One list of all symbols, whose prices change; each poll loads what has changed."""

    is_paged = False

    @staticmethod
    def resource(url: str) -> Resource:
        return RestApi(url).get(
            "/api/v3/ticker/price", keys="symbol", types={"price": "decimal(18,8)"}, changes_only=True
        )

    def row(self, number: int) -> Row:
        return {"symbol": f"S{number:04}", "price": f"{number}.50000000"}

    def change(self) -> None:
        super().change()
        for number in range(0, 100, 7):
            self.rows[number] = {"symbol": f"S{number:04}", "price": f"{number}.75000000"}

    def __call__(self, asked: Asked) -> Reply:
        return Reply(self.rows)


class LargeLines(Shape):
    """One body of lines, which is some MB."""

    is_paged = False

    @staticmethod
    def resource(url: str) -> Resource:
        return RestApi(url).get("/export.ndjson", format="ndjson", keys="id")

    def row(self, number: int) -> Row:
        return {"id": f"{number:05}", "text": f"{number} " * 4000}

    def change(self) -> None:
        super().change()
        self.rows[7] = self.rows[7] | {"text": f"changed with {len(self.rows)}"}

    def __call__(self, asked: Asked) -> Reply:
        return Reply(b"".join(json.dumps(row).encode() + b"\n" for row in self.rows))


class LinesWithoutKeys(LargeLines):
    """The same, of which nothing says which row is which."""

    @staticmethod
    def resource(url: str) -> Resource:
        return RestApi(url).get("/export.ndjson", format="ndjson")


class Hal(Shape):
    """Links to the next page in the body; nothing says what is new."""

    @staticmethod
    def resource(url: str) -> Resource:
        return RestApi(url).get(
            "/orders", pagination=NextUrl("_links.next.href"), records="_embedded.orders", keys="id"
        )

    def row(self, number: int) -> Row:
        return {"id": number, "total": number * 3, "_links": {"self": {"href": f"/orders/{number}"}}}

    def __call__(self, asked: Asked) -> Reply:
        page = int(asked.params.get("page", 1))
        more = {"next": {"href": f"/orders?page={page + 1}"}} if page * SIZE < len(self.rows) else {}
        return Reply({"_links": more, "_embedded": {"orders": self.rows[(page - 1) * SIZE : page * SIZE]}})


class OData(Shape):
    """The server decides on the pages; the cursor goes into a filter."""

    @staticmethod
    def resource(url: str) -> Resource:
        return RestApi(url).get(
            "/odata/Orders",
            params={"$orderby": "Modified"},
            records="value",
            pagination=NextUrl('"@odata.nextLink"'),
            cursor=Cursor("Modified", param="$filter", template="Modified ge {}", overlap="2m"),
            keys=["Id"],
        )

    def row(self, number: int) -> Row:
        return {"Id": number, "Modified": f"2024-05-01T{number // 60:02}:{number % 60:02}:00.5Z"}

    def __call__(self, asked: Asked) -> Reply:
        since = asked.params.get("$filter", "Modified ge ").removeprefix("Modified ge ")
        found = [row for row in self.rows if row["Modified"] >= since]
        skip = int(asked.params.get("$skiptoken", 0))
        link = f"{asked.base}{asked.path}?%24filter=Modified%20ge%20{since}&$skiptoken={skip + SIZE}"
        more = {"@odata.nextLink": link} if skip + SIZE < len(found) else {}
        return Reply({"@odata.context": "$metadata#Orders", "value": found[skip : skip + SIZE], **more})


QUERY = """
query ($after: String, $since: DateTime) {
  repository { issues(first: 5, after: $after, filterBy: {since: $since}) {
    nodes { id updatedAt } pageInfo { hasNextPage endCursor } } }
}
"""


class GraphQl(Shape):
    """A connection; without keys, so rows are known by their content."""

    @staticmethod
    def resource(url: str) -> Resource:
        return RestApi(url).graphql(
            QUERY, records="data.repository.issues.nodes", cursor=Cursor("updatedAt", param="since", overlap="3m")
        )

    def row(self, number: int) -> Row:
        return {"id": f"I_{number}", "updatedAt": issue(number)["updated_at"]}

    def __call__(self, asked: Asked) -> Reply:
        variables: Mapping[str, str] = asked.json["variables"]
        found = [row for row in self.rows if row["updatedAt"] >= variables.get("since", "")]
        at = int(variables.get("after", 0))
        info = {"hasNextPage": at + SIZE < len(found), "endCursor": str(at + SIZE)}
        issues = {"nodes": found[at : at + SIZE], "pageInfo": info}
        return Reply({"data": {"repository": {"issues": issues}}})


class Export(Shape):
    """A job makes the list, in two files; one that is submitted again by the same key is the same job."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[list[Row]] = []
        self.keys: list[str] = []
        self.looks = 0

    @staticmethod
    def resource(url: str) -> Resource:
        return RestApi(url).post(
            "/exports",
            json={"kind": "orders"},
            job=Job(
                id="job.id",
                status="/exports/{id}",
                state="state",
                done="done",
                failed="failed",
                result_url="files",
                every="10ms",
                idempotency_header="Idempotency-Key",
            ),
            format="ndjson",
            cursor=Cursor("updated", param="since", overlap="3s", type="unix_s"),
        )

    def row(self, number: int) -> Row:
        return {"id": number, "updated": 1714557600 + number // 2}

    def __call__(self, asked: Asked) -> Reply:
        parts = asked.path.split("/")
        if asked.path == "/exports":
            if asked.headers["idempotency-key"] not in self.keys:
                self.keys.append(asked.headers["idempotency-key"])
                self.jobs.append([row for row in self.rows if row["updated"] >= asked.json.get("since", 0)])
            return Reply({"job": {"id": self.keys.index(asked.headers["idempotency-key"])}}, 202)
        rows, self.looks = self.jobs[int(parts[2])], self.looks + 1
        if len(parts) == 3:
            files = [f"{asked.base}{asked.path}/{number}?signature=canary" for number in (0, 1)]
            return Reply({"state": "done", "files": files} if self.looks % 2 else {"state": "running"})
        half = rows[: len(rows) // 2] if parts[3] == "0" else rows[len(rows) // 2 :]
        return Reply("".join(f"{json.dumps(row)}\n" for row in half).encode())


SHAPES: dict[str, type[Shape]] = {
    "github": GitHubIssues,
    "stripe": StripeCharges,
    "ticker": BinanceTicker,
    "hal": Hal,
    "odata": OData,
    "graphql": GraphQl,
    "lines": LargeLines,
}
KILLED: dict[str, type[Shape]] = {**SHAPES, "export": Export}


def collect_shape(shape: str, url: str, home: Path) -> None:
    """Poll once, and deliver what that gives into DuckDB."""
    stream = Stream2Sql("rows", "rows.duckdb", "duckdb", home=home)
    found = KILLED.get(shape, LinesWithoutKeys)
    Run([Collector("rows", 60, found.resource(url), [stream])]).run(once=True)


def rows_in(home: Path, shape: Shape) -> list[tuple[str, ...]]:
    """What the table holds, as text, in the order of its first column."""
    names = ", ".join(f'"{name}"' for name in _scalars(shape))
    with duckdb.connect(str(home / "rows.duckdb")) as database:
        found = database.execute(f"SELECT {names} FROM rows").fetchall()
    return sorted(tuple(map(str, row)) for row in found)


def rows_of(shape: Shape) -> list[tuple[str, ...]]:
    """What the API holds, in the same form."""
    return sorted(tuple(str(row[name]) for name in _scalars(shape)) for row in shape.rows)


def _scalars(shape: Shape) -> list[str]:
    return [name for name, value in shape.row(0).items() if not isinstance(value, dict)]
