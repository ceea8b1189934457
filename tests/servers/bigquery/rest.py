"""The REST interface: the exchange for a token, datasets, tables, jobs with their uploads, queries."""

import email.parser
import email.policy
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.servers.bigquery.accounts import Accounts, RefusedError
from tests.servers.bigquery.catalog import ApiError, Catalog, Table
from tests.servers.bigquery.cells import listed
from tests.servers.bigquery.faults import Faults
from tests.servers.bigquery.loads import load
from tests.servers.bigquery.queries import Queries

_STATUS = {"unavailable": (503, "backendError"), "internal": (500, "internalError"), "quota": (403, "quotaExceeded"),
           "forbidden": (403, "accessDenied")}  # fmt: skip
_JOB_ID = re.compile(r"[\w-]{1,1024}")
_ROUTES: list[tuple[str, re.Pattern[str], str]] = [
    (verb, re.compile(path), method)
    for verb, path, method in (
        ("POST", r"/datasets", "datasets.insert"),
        ("GET", r"/datasets/([^/]+)", "datasets.get"),
        ("POST", r"/datasets/([^/]+)/tables", "tables.insert"),
        ("GET", r"/datasets/([^/]+)/tables/([^/]+)", "tables.get"),
        ("PATCH", r"/datasets/([^/]+)/tables/([^/]+)", "tables.patch"),
        ("DELETE", r"/datasets/([^/]+)/tables/([^/]+)", "tables.delete"),
        ("GET", r"/datasets/([^/]+)/tables/([^/]+)/data", "tabledata.list"),
        ("POST", r"/jobs", "jobs.insert"),
        ("GET", r"/jobs/([^/]+)", "jobs.get"),
        ("GET", r"/queries/([^/]+)", "jobs.getQueryResults"),
    )
]


class RestApi:
    """The interface, served in a thread for each connection.

    Attributes:
        forbidden: The methods that nobody may call.
    """

    def __init__(self, catalog: Catalog, accounts: Accounts, faults: Faults) -> None:
        self.catalog = catalog
        self.accounts = accounts
        self.faults = faults
        self.queries = Queries(catalog)
        self.forbidden: set[str] = set()
        self.uploads: dict[str, tuple[dict[str, Any], bytes]] = {}
        handler = type("Handler", (_Handler,), {"api": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._connections: set[socket.socket] = set()
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.05,), daemon=True, name="bigquery-rest"
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def call(self, method: str, names: tuple[str, ...], body: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a method says."""
        if method in self.forbidden:
            raise ApiError(403, "accessDenied", f"Access Denied: Permission bigquery.{method} denied")
        first, last = [*names, "", ""][:2]
        calls: dict[str, Callable[[], dict[str, Any]]] = {
            "datasets.insert": lambda: self.catalog.make_dataset(body),
            "datasets.get": lambda: self.catalog.dataset(first),
            "tables.insert": lambda: self._resource(self.catalog.make_table(first, body)),
            "tables.get": lambda: self._resource(self.catalog.table(first, last)),
            "tables.patch": lambda: self._patch(first, last, body),
            "tables.delete": lambda: self._delete(first, last),
            "tabledata.list": lambda: self._rows(self.catalog.table(first, last)),
            "jobs.insert": lambda: self.insert_job(body, b""),
            "jobs.get": lambda: self._job(first),
            "jobs.getQueryResults": lambda: self._results(first),
        }
        return calls[method]()

    def insert_job(self, body: Mapping[str, Any], content: bytes) -> dict[str, Any]:
        """Run a job; its id is never given twice, also where it failed.

        Really it runs later; here it has ended when it is answered.
        """
        reference = dict(body.get("jobReference", {}))
        job_id = str(reference.get("jobId") or f"job_{self.catalog.number()}")
        if not _JOB_ID.fullmatch(job_id):
            raise ApiError(400, "invalid", f"Invalid job ID {job_id}")
        with self.catalog.lock:
            if job_id in self.catalog.jobs:
                raise ApiError(409, "duplicate", f"Already Exists: Job {self.catalog.project}:US.{job_id}")
            location = str(reference.get("location") or "US")
            job = {
                "kind": "bigquery#job",
                "jobReference": {"projectId": self.catalog.project, "jobId": job_id, "location": location},
                "configuration": dict(body["configuration"]),
                "status": {"state": "DONE"},
                "statistics": {},
            }
            self.catalog.jobs[job_id] = job
            try:
                self._run(job, content)
            except ApiError as error:
                fault = {"reason": error.reason, "message": str(error)}
                job["status"] = {"state": "DONE", "errorResult": fault, "errors": [fault]}
            except BaseException:
                job["status"] = {"state": "DONE", "errorResult": {"reason": "internalError", "message": "a bug"}}
                raise
            return _shown(job)

    def _run(self, job: dict[str, Any], content: bytes) -> None:
        configuration = job["configuration"]
        self._check_location(configuration, job["jobReference"]["location"])
        if "load" in configuration:
            if self.faults.of_loads:
                raise ApiError(400, self.faults.of_loads.pop(0), "planted in a load job")
            rows = load(self.catalog, configuration["load"], content)
            job["statistics"] = {"load": {"outputRows": str(rows)}}
        elif query := configuration.get("query", {}).get("query"):
            if "BEGIN TRANSACTION" in query and self.faults.of_transactions:
                raise ApiError(400, "invalidQuery", self.faults.of_transactions.pop(0))
            job["_answer"] = self.queries.run(configuration["query"])
            job["statistics"] = {"query": {"statementType": "SELECT"}}
        else:
            raise ApiError(400, "invalid", "a job needs a configuration of load or query")

    def _check_location(self, configuration: Mapping[str, Any], location: str) -> None:
        """A job sees the data sets of its own location alone.

        Not modelled: that ``jobs.get`` asks for the location too, and a query without one that goes where its first
        data set is.
        """
        named = {str(configuration.get("load", {}).get("destinationTable", {}).get("datasetId", ""))}
        named |= {
            name.split(".")[1] for name in re.findall(r"`([^`.]+\.[^`.]+\.[^`]+)`", str(configuration.get("query")))
        }
        for name in sorted(named & set(self.catalog.datasets)):
            if self.catalog.dataset(name)["location"].upper() != location.upper():
                raise ApiError(
                    404,
                    "notFound",
                    f"Not found: Dataset {self.catalog.project}:{name} was not found in location {location}",
                )

    def _job(self, job_id: str) -> dict[str, Any]:
        if job_id not in self.catalog.jobs:
            raise ApiError(404, "notFound", f"Not found: Job {self.catalog.project}:US.{job_id}")
        return _shown(self.catalog.jobs[job_id])

    def _results(self, job_id: str) -> dict[str, Any]:
        job = self._job(job_id)
        if "errorResult" in job["status"]:
            fault = job["status"]["errorResult"]
            raise ApiError(400, fault["reason"], fault["message"])
        answer = self.catalog.jobs[job_id].get("_answer", {})
        rows = answer.get("rows", [])
        return {
            "kind": "bigquery#getQueryResultsResponse",
            "jobReference": job["jobReference"],
            "jobComplete": True,
            "totalRows": str(len(rows)),
            **answer,
        }

    def _rows(self, table: Table) -> dict[str, Any]:
        """All of them at once, whatever ``maxResults`` says."""
        rows = listed(table.fields, self.catalog.ask(f"SELECT * FROM {table.quoted} ORDER BY rowid"))
        return {"kind": "bigquery#tableDataList", "totalRows": str(len(rows)), "rows": rows}

    def _delete(self, dataset: str, name: str) -> dict[str, Any]:
        self.catalog.drop_table(dataset, name)
        return {}

    def _patch(self, dataset: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        table = self.catalog.table(dataset, name)
        if "schema" in body:
            self.catalog.change_fields(table, body["schema"]["fields"])
        if "labels" in body:
            table.labels = dict(body["labels"] or {})
        return self._resource(table)

    def _resource(self, table: Table) -> dict[str, Any]:
        reference = {"projectId": self.catalog.project, "datasetId": table.dataset, "tableId": table.name}
        [(rows,)] = self.catalog.ask(f"SELECT count(*) FROM {table.quoted}")
        return {
            "kind": "bigquery#table",
            "id": f"{self.catalog.project}:{table.dataset}.{table.name}",
            "etag": f"{table.made}-{table.version}",
            "tableReference": reference,
            "schema": {"fields": table.fields},
            "labels": table.labels,
            "numRows": str(rows),
            "type": "TABLE",
            "location": "US",
        }


def _shown(job: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if not name.startswith("_")}


class _Handler(BaseHTTPRequestHandler):
    api: ClassVar[RestApi]
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PATCH(self) -> None:
        self._serve("PATCH")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def log_message(self, *_: Any) -> None:
        return

    def _serve(self, verb: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        try:
            if verb == "POST" and address.path == "/token":
                self._exchange(body)
            elif not self.api.accounts.admits(self.headers.get("Authorization")):
                self._refuse(ApiError(401, "authError", "Request had invalid authentication credentials."))
            elif address.path.startswith("/upload/"):
                self._upload(verb, address.path, parse_qs(address.query), body)
            else:
                self._call(verb, address.path, body)
        except ApiError as error:
            self._refuse(error)
        except ConnectionError:
            self.close_connection = True

    def _exchange(self, form: bytes) -> None:
        self.api.faults.count("token")
        self._meet("token", "before")
        try:
            self._answer(200, self.api.accounts.exchange(form))
        except RefusedError as refused:
            said = "Invalid JWT Signature, or the account is gone." if str(refused) == "invalid_grant" else "refused"
            self._answer(400, {"error": str(refused), "error_description": said})

    def _call(self, verb: str, path: str, body: bytes) -> None:
        rest = self._below_project(path, "/bigquery/v2/projects/")
        for wanted, pattern, method in _ROUTES:
            found = pattern.fullmatch(rest)
            if found and wanted == verb:
                content = json.loads(body or b"{}")
                self._done(method, lambda: self.api.call(method, found.groups(), content))  # noqa: B023
                return
        raise ApiError(404, "notFound", f"no such method: {verb} {path}")

    def _done(self, method: str, act: Any) -> None:
        self.api.faults.count(method)
        if self._meet(method, "before"):
            return
        answer = act()
        while method in self.api.faults.stalled:
            time.sleep(0.01)
        if self._meet(method, "after"):
            return
        self._answer(200, answer)

    def _meet(self, method: str, moment: Any) -> bool:
        kind = self.api.faults.meet(method, moment)
        if kind == "cut":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return True
        if kind:
            raise ApiError(*_STATUS[kind], f"planted {moment} {method}")
        return False

    def _below_project(self, path: str, prefix: str) -> str:
        project, slash, rest = path.removeprefix(prefix).partition("/")
        if not path.startswith(prefix):
            raise ApiError(404, "notFound", f"no such path: {path}")
        if project != self.api.catalog.project:
            raise ApiError(404, "notFound", f"Not found: Project {project}")
        return slash + rest

    def _upload(self, verb: str, path: str, query: Mapping[str, list[str]], body: bytes) -> None:
        if self._below_project(path, "/upload/bigquery/v2/projects/") != "/jobs":
            raise ApiError(404, "notFound", f"no such path: {path}")
        if query.get("uploadType") == ["multipart"]:
            metadata, content = _parts(self.headers["Content-Type"], body)
            self._done("jobs.insert", lambda: self._load_job(metadata, content))
        elif verb == "POST":
            key = str(self.api.catalog.number())
            self.api.uploads[key] = json.loads(body), b""
            self._answer(200, {}, {"Location": f"{self.api.url}{path}?uploadType=resumable&upload_id={key}"})
        else:
            self._resume(query["upload_id"][0], body)

    def _load_job(self, metadata: Mapping[str, Any], content: bytes) -> dict[str, Any]:
        if "jobs.insert" in self.api.forbidden:
            raise ApiError(403, "accessDenied", "Access Denied: User does not have bigquery.jobs.create permission")
        return self.api.insert_job(metadata, content)

    def _resume(self, key: str, body: bytes) -> None:
        metadata, before = self.api.uploads[key]
        content = before + body
        self.api.uploads[key] = metadata, content
        total = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+|\*)", self.headers["Content-Range"])
        if total is None:
            raise ApiError(400, "invalid", "Content-Range is missing")
        if total[1] != "*" and len(content) == int(total[1]):
            self._done("jobs.insert", lambda: self._load_job(metadata, content))
        else:
            self._answer(308, None, {"Range": f"bytes=0-{len(content) - 1}"})

    def _refuse(self, error: ApiError) -> None:
        fault = {"reason": error.reason, "message": str(error), "domain": "global"}
        self._answer(error.status, {"error": {"code": error.status, "message": str(error), "errors": [fault]}})

    def _answer(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
        data = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _parts(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    metadata = next(message.iter_parts())
    # The parser may mend line ends; what was sent is between the second part's empty line and the last boundary.
    boundary = b"--" + str(message.get_boundary()).encode()
    raw = body.split(boundary)[2]
    return json.loads(bytes(metadata.get_payload(decode=True))), raw.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
