"""What Google's documents say, asked of our own server and of an emulator that others wrote.

Each test is about something that the suites or ``Stream2Bigquery`` use. Where the emulator is expected to fail,
``DEVIATIONS`` names the document that decides.
"""

import io
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as google_bigquery

from tests.servers.bigquery import PROJECT, BigqueryServer
from tests.servers.emulators import DEVIATIONS, EmulatorServer
from tests.servers.test_bigquery import Writer

NAME = f"{PROJECT}.d.t"
ROWS = pa.record_batch({"id": [1, 2]})
MORE = pa.record_batch({"id": [3], "new": [4]})
PARAMETERS = [google_bigquery.ScalarQueryParameter("id", "INT64", 1)]
Server = BigqueryServer | EmulatorServer


@pytest.fixture(params=["bigquery", "bqemulator"])
def server(request: pytest.FixtureRequest) -> Server:
    name = request.function.__name__.removeprefix("test_")
    if request.param != "bigquery" and name in DEVIATIONS:
        request.applymarker(pytest.mark.xfail(reason=DEVIATIONS[name], strict=True))
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    nobody: Any = AnonymousCredentials  # it has no types
    client: Any = google_bigquery.Client(PROJECT, nobody(), client_options={"api_endpoint": server.url})
    client.create_dataset("d", retry=None)
    client.create_table(google_bigquery.Table(NAME, schema=[google_bigquery.SchemaField("id", "INT64")]), retry=None)
    yield client
    client.close()


@pytest.fixture
def writer(server: Server, client: Any) -> Iterator[Writer]:
    writer = Writer(server)
    yield writer
    writer.close()


def add_column(client: Any) -> None:
    table = client.get_table(NAME)
    table.schema = [*table.schema, google_bigquery.SchemaField("new", "INT64")]
    client.update_table(table, ["schema"], retry=None)


def load(client: Any, rows: pa.RecordBatch, columns: dict[str, str], **options: Any) -> None:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_batches([rows]), file)
    size = {"size": file.tell()} if options.pop("in_one_request", False) else {}
    file.seek(0)
    fields = [google_bigquery.SchemaField(*column) for column in columns.items()]
    config = google_bigquery.LoadJobConfig(source_format="PARQUET", schema=fields, **options)
    client.load_table_from_file(file, NAME, job_config=config, num_retries=0, **size).result(retry=None)


def run(client: Any, script: str, parameters: Any = ()) -> None:
    config = google_bigquery.QueryJobConfig(query_parameters=parameters)
    client.query(script, job_config=config, retry=None, job_retry=None).result(retry=None, job_retry=None)


def ids(server: Server) -> list[int]:
    return [row["id"] for row in server.rows("d", "t")]


def test_rows_are_taken_at_their_offset_once(server: Server, writer: Writer) -> None:
    assert writer.append(0, ROWS).append_result.offset == 0
    assert [writer.append(offset, ROWS).error.code != 0 for offset in (0, 3)] == [True, True]
    assert writer.append(2, ROWS).append_result.offset == 2
    assert ids(server) == [1, 2, 1, 2]
    assert (writer.finalize(), writer.finalize()) == (4, 4)
    assert writer.append(4, ROWS).error.code != 0


def test_a_job_id_is_given_once(client: Any) -> None:
    config = google_bigquery.QueryJobConfig(use_legacy_sql=False)
    client.query("SELECT 1", job_id="once", job_config=config, retry=None, job_retry=None)
    with pytest.raises(exceptions.Conflict):
        client.query("SELECT 2", job_id="once", job_config=config, retry=None, job_retry=None)


@pytest.mark.parametrize("missing", [f"{PROJECT}.d.none", f"{PROJECT}.none.t"])
def test_what_is_missing_has_the_reason_not_found(client: Any, missing: str) -> None:
    with pytest.raises(exceptions.NotFound) as caught:
        client.get_table(missing, retry=None)
    assert caught.value.errors[0]["reason"] == "notFound"


def test_a_column_that_is_added_takes_values(server: Server, client: Any) -> None:
    add_column(client)
    writer = Writer(server)
    assert writer.append(0, MORE).append_result.offset == 0
    writer.close()
    assert server.rows("d", "t") == [{"id": 3, "new": 4}]


def test_a_finalized_stream_counts_what_is_in_the_table(server: Server, client: Any) -> None:
    add_column(client)
    writer = Writer(server)
    with suppress(exceptions.GoogleAPICallError):
        writer.append(0, MORE)
    count = writer.finalize()
    writer.close()
    assert count == len(ids(server))


def test_a_load_that_fails_leaves_the_table_as_it_was(server: Server, client: Any, writer: Writer) -> None:
    writer.append(0, ROWS)
    bad = pa.record_batch({"id": ["no number"]})
    with pytest.raises(exceptions.GoogleAPICallError):
        load(client, bad, {"id": "INT64"}, write_disposition="WRITE_TRUNCATE")
    assert ids(server) == [1, 2]


def test_a_load_that_replaces_a_table_gives_it_its_schema(server: Server, client: Any) -> None:
    load(client, MORE, {"id": "INT64", "new": "INT64"}, write_disposition="WRITE_TRUNCATE")
    assert server.rows("d", "t") == [{"id": 3, "new": 4}]


def test_an_upload_in_one_request_may_have_any_media_type(server: Server, client: Any) -> None:
    load(client, ROWS, {"id": "INT64"}, in_one_request=True)
    assert ids(server) == [1, 2]


def test_a_script_has_parameters(client: Any) -> None:
    script = f"BEGIN TRANSACTION;\nUPDATE `{NAME}` SET id = @id WHERE id = @id;\nCOMMIT TRANSACTION"
    run(client, script, PARAMETERS)


def test_a_script_has_assertions(client: Any) -> None:
    run(client, f"BEGIN TRANSACTION;\nDELETE FROM `{NAME}` WHERE id = 7;\nASSERT @@row_count = 0 AS 'none'")


def test_later_requests_of_a_call_may_leave_the_stream_out(server: Server, writer: Writer) -> None:
    assert [answer.error.code for answer in writer.append_all(ROWS, ROWS)] == [0, 0]
    assert ids(server) == [1, 2, 1, 2]


def test_a_column_may_be_bignumeric(client: Any) -> None:
    field = google_bigquery.SchemaField("x", "BIGNUMERIC")
    client.create_table(google_bigquery.Table(f"{PROJECT}.d.big", schema=[field]), retry=None)
