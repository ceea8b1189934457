"""Emulators of BigQuery that others wrote, each in a Python environment of its own.

The suites use ``EmulatorServer`` in place of ``BigqueryServer``. Where one disagrees with Google's published documents,
the documents decide: ``DEVIATIONS`` lists what an emulator does otherwise, with the page.
"""

import functools
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from tests.servers.bigquery import PROJECT
from tests.servers.processes import ServerProcess, free_port, new_folder

READY_WITHIN_S = 60
ASK_EVERY_S = 0.05


@dataclass(frozen=True)
class Emulator:
    """An emulator, as a Python package.

    Attributes:
        version: The version that the suites run on.
        arguments: The arguments of Python that start it; ``{rest}`` and ``{grpc}`` are its ports.
    """

    package: str
    version: str
    arguments: Sequence[str]

    @property
    def name(self) -> str:
        """The name of its environment."""
        return f"{self.package}-{self.version}"

    @property
    def pins(self) -> Path:
        """All packages of its environment."""
        return Path(__file__).with_name(f"{self.package}.txt")


BQEMULATOR = Emulator(
    "bqemulator",
    "1.4.0",
    (
        *("-c", "from bqemulator.cli import main; main()", "start", "--ephemeral", "--log-level", "error"),
        *("--rest-port", "{rest}", "--grpc-port", "{grpc}"),
    ),
)
EMULATORS = (BQEMULATOR,)


# What bqemulator does otherwise than Google's published documents, by the test in test_emulators.py that shows it, with
# the document. A version that does as Google says fails these tests, so that the suites can take it further.
DEVIATIONS = {
    "a_job_id_is_given_once": "a second job gets the id of the first, so that rows whose load job was not answered may"
    " be there twice. Google: Running jobs programmatically, Generate a job ID",
    "a_column_that_is_added_takes_values": "tables.patch adds a column to the schema, but not to the table, so that"
    " AppendRows fails. Google: Modifying table schemas, Add a column",
    "a_finalized_stream_counts_what_is_in_the_table": "the count includes rows of a request that failed, so rows are"
    " lost. Google: RPC reference, FinalizeWriteStreamResponse.row_count",
    "a_load_that_fails_leaves_the_table_as_it_was": "WRITE_TRUNCATE removes the rows before the load, and readers see"
    " that. Google: REST reference, JobConfigurationLoad.writeDisposition",
    "a_load_that_replaces_a_table_gives_it_its_schema": "WRITE_TRUNCATE keeps the old columns, and columns are taken by"
    " their place. Google: REST reference, JobConfigurationLoad.writeDisposition",
    "an_upload_in_one_request_may_have_any_media_type": "a multipart upload of Google's own library is refused, which"
    " has the type */*. Google: REST reference, jobs.insert, accepted media types",
    "a_script_has_parameters": "parameters of a script are not bound. Google: Running parameterized queries",
    "a_script_has_assertions": "there is no ASSERT, so keys= does not work. Google: GoogleSQL, Debugging statements",
    "later_requests_of_a_call_may_leave_the_stream_out": "they are refused. Google: RPC reference,"
    " AppendRowsRequest.write_stream",
    "a_column_may_be_bignumeric": "tables.insert ends with status 500. Google: GoogleSQL, Data types, BIGNUMERIC",
}


class EmulatorServer:
    """A running emulator; a context manager.

    Args:
        emulator: Which one.
        environment: Where it is installed.
    """

    def __init__(self, emulator: Emulator, environment: Path) -> None:
        self.emulator = emulator
        self._rest_port, self._grpc_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self._rest_port}"
        self.write_address = f"127.0.0.1:{self._grpc_port}"
        self._environment = environment

    def __enter__(self) -> Self:
        self._folder = new_folder()
        ports = {"rest": self._rest_port, "grpc": self._grpc_port}
        arguments = [each.format_map(ports) for each in self.emulator.arguments]
        home = f"HOME={self._environment / 'home'}"
        command = ["env", home, str(self._environment / "bin/python"), *arguments]
        self._process = ServerProcess(command, self._folder, self._folder / "log", as_user=False)
        try:
            for port in (self._rest_port, self._grpc_port):
                self._wait_until_it_listens(port)
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()
        self._process.kill()  # it holds nothing, and may not end by itself

    def restart(self) -> None:
        """Start it again, without data sets."""
        self.__exit__()
        self.__enter__()

    def clear(self) -> None:
        """Drop all data sets."""
        for dataset in self._client.list_datasets():
            self._client.delete_dataset(dataset.reference, delete_contents=True)

    def make_table(self, dataset: str, table: str, **columns: str) -> None:
        """Create a table with the type of each column, and its data set."""
        self._client.create_dataset(dataset, exists_ok=True)
        fields = [bigquery.SchemaField(name, type_) for name, type_ in columns.items()]
        self._client.create_table(bigquery.Table(f"{PROJECT}.{dataset}.{table}", schema=fields))

    def rows(self, dataset: str, table: str) -> list[dict[str, Any]]:
        """What a table holds, as the emulator lists it; nothing where there is none."""
        try:
            return [dict(row.items()) for row in self._client.list_rows(self._client.get_table(f"{dataset}.{table}"))]
        except NotFound:
            return []

    @functools.cached_property
    def _client(self) -> Any:
        nobody: Any = AnonymousCredentials  # it has no types
        return bigquery.Client(PROJECT, nobody(), client_options={"api_endpoint": self.url})

    def _wait_until_it_listens(self, port: int) -> None:
        deadline_s = time.monotonic() + READY_WITHIN_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            if not self._process.alive or time.monotonic() > deadline_s:
                log = (self._folder / "log").read_text()[-2000:]
                raise RuntimeError(f"{self.emulator.package} does not listen: {log}")
            time.sleep(ASK_EVERY_S)


def offer_extensions(environment: Path) -> None:
    """Put DuckDB's extensions, which are packages there, where DuckDB looks for them: below a home."""
    asked = "import duckdb; print(*duckdb.sql('PRAGMA platform').fetchone())"
    python = str(environment / "bin/python")
    platform = subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True).stdout.strip()
    for extension in environment.glob("lib/*/site-packages/duckdb_extension_*/extensions/*/*.duckdb_extension"):
        folder = environment / "home/.duckdb/extensions" / extension.parent.name / platform
        folder.mkdir(parents=True, exist_ok=True)
        (folder / extension.name).symlink_to(os.path.relpath(extension, folder))
