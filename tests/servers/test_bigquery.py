"""The BigQuery of the tests is as strict as Google says that its own is; asked by Google's own clients."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet
import pytest
from google.api_core import exceptions
from google.auth.exceptions import RefreshError
from google.cloud import bigquery as google_bigquery
from google.cloud import bigquery_storage_v1
from google.cloud.bigquery_storage_v1 import types
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
from google.oauth2 import service_account
from google.rpc import code_pb2

from tests.servers.bigquery import PROJECT, BigqueryServer
from tests.servers.bigquery.accounts import KeyCredentials
from tests.servers.emulators import EmulatorServer

NAME = f"{PROJECT}.d.t"
ROWS = pa.record_batch({"id": [1, 2], "text": ["a", "b"]})
Code = types.StorageError.StorageErrorCode


def client_of(server: BigqueryServer, key: Path) -> Any:
    load: Any = service_account.Credentials.from_service_account_file
    scoped = load(str(key), scopes=["https://www.googleapis.com/auth/bigquery"])
    return google_bigquery.Client(PROJECT, KeyCredentials(scoped), client_options={"api_endpoint": server.url})


@pytest.fixture
def client(bigquery: BigqueryServer, tmp_path: Path) -> Iterator[Any]:
    client = client_of(bigquery, bigquery.key_file(tmp_path / "key.json"))
    client.create_dataset("d", retry=None)
    fields = [google_bigquery.SchemaField("id", "INT64"), google_bigquery.SchemaField("text", "STRING", max_length=5)]
    client.create_table(google_bigquery.Table(NAME, schema=fields), retry=None)
    yield client
    client.close()


class Writer:
    """One write stream, each request over a connection of its own."""

    def __init__(self, server: BigqueryServer | EmulatorServer) -> None:
        self._channel = grpc.insecure_channel(server.write_address, [("grpc.max_send_message_length", -1)])
        make: Any = bigquery_storage_v1.BigQueryWriteClient
        self._client = make(transport=BigQueryWriteGrpcTransport(channel=self._channel))
        wanted = types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
        parent = f"projects/{PROJECT}/datasets/d/tables/t"
        self.name = self._client.create_write_stream(parent=parent, write_stream=wanted, retry=None).name

    def append(self, offset: int, batch: pa.RecordBatch) -> Any:
        [answer] = self._answers(self._request(offset, batch))
        return answer

    def append_all(self, *batches: pa.RecordBatch) -> list[Any]:
        """Over one connection; only the first request names the stream and the schema."""
        first, offset = self._request(0, batches[0]), batches[0].num_rows
        later = []
        for batch in batches[1:]:
            later.append(types.AppendRowsRequest(offset=offset))
            later[-1].arrow_rows.rows.serialized_record_batch = batch.serialize().to_pybytes()
            offset += batch.num_rows
        return self._answers(first, *later)

    def _request(self, offset: int, batch: pa.RecordBatch) -> types.AppendRowsRequest:
        request = types.AppendRowsRequest(write_stream=self.name, offset=offset)
        request.arrow_rows.writer_schema.serialized_schema = batch.schema.serialize().to_pybytes()
        request.arrow_rows.rows.serialized_record_batch = batch.serialize().to_pybytes()
        return request

    def _answers(self, *requests: types.AppendRowsRequest) -> list[Any]:
        header = (("x-goog-request-params", f"write_stream={self.name}"),)
        return list(self._client.append_rows(iter(requests), metadata=header, retry=None))

    def finalize(self) -> int:
        return int(self._client.finalize_write_stream(name=self.name, retry=None).row_count)

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def writer(bigquery: BigqueryServer, client: Any) -> Iterator[Writer]:
    writer = Writer(bigquery)
    yield writer
    writer.close()


def storage_code(answer: Any) -> int:
    storage = types.StorageError.pb(types.StorageError())
    return int(storage.code) if any(detail.Unpack(storage) for detail in answer.error.details) else 0


def test_a_key_that_signs_for_another_account_gets_no_token(bigquery: BigqueryServer, tmp_path: Path) -> None:
    one, other = (bigquery.key_file(tmp_path / f"{name}.json") for name in ("one", "other"))
    forged = {**json.loads(one.read_text()), "private_key": json.loads(other.read_text())["private_key"]}
    one.write_text(json.dumps(forged))
    client = client_of(bigquery, one)
    with pytest.raises(RefreshError, match="invalid_grant"):
        client.get_dataset("d", retry=None)
    client.close()


def test_rows_are_taken_at_the_end_of_the_stream_and_nowhere_else(bigquery: BigqueryServer, writer: Writer) -> None:
    assert writer.append(0, ROWS).append_result.offset == 0
    again, gap = writer.append(0, ROWS), writer.append(3, ROWS)
    assert (again.error.code, storage_code(again)) == (code_pb2.ALREADY_EXISTS, Code.OFFSET_ALREADY_EXISTS)
    assert (gap.error.code, storage_code(gap)) == (code_pb2.OUT_OF_RANGE, Code.OFFSET_OUT_OF_RANGE)
    assert writer.append(2, ROWS).append_result.offset == 2
    assert [row["id"] for row in bigquery.rows("d", "t")] == [1, 2, 1, 2]


def test_a_stream_that_is_finalized_says_how_many_rows_it_has_and_takes_no_more(writer: Writer) -> None:
    writer.append(0, ROWS)
    assert (writer.finalize(), writer.finalize()) == (2, 2)
    assert storage_code(writer.append(2, ROWS)) == Code.STREAM_FINALIZED


def test_a_request_above_ten_megabytes_is_refused(writer: Writer) -> None:
    large = pa.record_batch({"text": ["x" * 10_000_000]})
    assert writer.append(0, large).error.code == code_pb2.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"new": [1]}, "extra fields"),
        ({"id": pa.array([1], pa.uint64())}, "incompatible"),
        ({"text": pa.array(["x"], pa.large_string())}, "incompatible"),
        ({"text": pa.array(["x"]).dictionary_encode()}, "incompatible"),
    ],
    ids=["unknown", "unsigned", "large text", "dictionary"],
)
def test_columns_and_types_that_are_not_the_table_s_are_refused(
    bigquery: BigqueryServer, writer: Writer, column: dict[str, Any], said: str
) -> None:
    answer = writer.append(0, pa.record_batch(column))
    assert answer.error.code == code_pb2.INVALID_ARGUMENT
    assert said in answer.error.message or "can't be read" in answer.error.message
    assert bigquery.rows("d", "t") == []


def test_one_row_that_does_not_fit_has_its_whole_request_refused_and_is_named(
    bigquery: BigqueryServer, writer: Writer
) -> None:
    answer = writer.append(0, pa.record_batch({"text": ["x", "too long for it", None]}))
    assert [error.index for error in answer.row_errors] == [1]
    assert bigquery.rows("d", "t") == []


def test_a_job_id_is_given_once_also_to_a_job_that_failed(bigquery: BigqueryServer, client: Any) -> None:
    def load(content: bytes) -> Any:
        config = google_bigquery.LoadJobConfig(source_format="PARQUET")
        return client.load_table_from_file(
            io.BytesIO(content), NAME, size=len(content), job_id="mine", job_config=config
        )

    odd, good = io.BytesIO(), io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"nowhere": [1]}), odd)
    pyarrow.parquet.write_table(pa.Table.from_batches([ROWS]), good)
    with pytest.raises(exceptions.BadRequest, match="extra fields"):
        load(odd.getvalue()).result()
    with pytest.raises(exceptions.Conflict):
        load(good.getvalue())
    assert bigquery.rows("d", "t") == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([("id", "STRING"), ("text", "STRING")], "changed type"),
        ([("text", "STRING")], "missing in new schema"),
        ([("id", "INT64"), ("text", "STRING"), ("ID", "INT64")], "already exists"),
        ([("id", "INT64"), ("text", "STRING"), ("a.b", "INT64")], "Invalid field name"),
        ([("id", "INT64"), ("text", "STRING"), ("_TABLE_x", "INT64")], "reserved prefix"),
    ],
    ids=["type", "dropped", "twin", "name", "reserved"],
)
def test_a_schema_that_bigquery_can_not_change_to_is_refused(
    client: Any, fields: list[tuple[str, str]], said: str
) -> None:
    table = client.get_table(NAME, retry=None)
    table.schema = [google_bigquery.SchemaField(name, type_) for name, type_ in fields]
    with pytest.raises(exceptions.BadRequest, match=said):
        client.update_table(table, ["schema"], retry=None)


@pytest.mark.parametrize(
    ("column", "type_", "options", "said"),
    [
        (pa.array([["a"]]), "STRING[]", {}, "RECORD"),
        (pa.array([["a"]]), "STRING[]", {"parquetOptions": {"enableListInference": True}}, ""),
        (pa.array([1], pa.decimal256(76, 38)), "BIGNUMERIC", {}, "to NUMERIC"),
        (pa.array([1], pa.decimal256(76, 38)), "BIGNUMERIC", {"decimalTargetTypes": ["NUMERIC", "BIGNUMERIC"]}, ""),
    ],
    ids=["list", "inferred list", "decimal", "wide decimal"],
)
def test_lists_and_decimals_of_parquet_become_what_the_load_job_says(
    bigquery: BigqueryServer, client: Any, column: pa.Array, type_: str, options: dict[str, Any], said: str
) -> None:
    mode = "REPEATED" if type_.endswith("[]") else "NULLABLE"
    fields = [google_bigquery.SchemaField("c", type_.removesuffix("[]"), mode)]
    client.create_table(google_bigquery.Table(f"{NAME}_own", schema=fields), retry=None)
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"c": column}), file)
    load = {"sourceFormat": "PARQUET", **options}
    config = google_bigquery.LoadJobConfig.from_api_repr({"load": load})
    file.seek(0)
    job = client.load_table_from_file(file, f"{NAME}_own", job_config=config)
    if said:
        with pytest.raises(exceptions.BadRequest, match=said):
            job.result()
    else:
        job.result()
    assert len(bigquery.rows("d", "t_own")) == (0 if said else 1)


def test_a_table_that_is_truncated_without_a_schema_has_the_file_s(bigquery: BigqueryServer, client: Any) -> None:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"text": ["too long for it"]}), file)
    config = google_bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_TRUNCATE")
    file.seek(0)
    client.load_table_from_file(file, NAME, job_config=config).result()
    assert bigquery.types("d", "t") == {"text": "STRING"}
