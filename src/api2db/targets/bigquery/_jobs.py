"""Load jobs of BigQuery: a file is loaded as a whole or not at all, under a job id that is never used twice."""

import base64
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core import exceptions
from google.cloud import bigquery

from api2db.errors import BatchRefusedError, TableChangedError, TargetUnavailableError
from api2db.frames import is_bytes, is_json, is_text
from api2db.targets.bigquery._client import CALL_S, Clients, TableLocation, next_step, sorted_errors

_JOB_S = 600.0
# Google's "Error messages": of the reasons why a job fails, only this one is about the file's content.
_DATA_AT_FAULT = "invalid"


class LoadJobs:
    """Loads into tables of one project.

    Args:
        clients: Google's clients.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._place = clients.place

    def load(
        self, job_id: str, table: str, rows: pa.Table, fields: Sequence[bigquery.SchemaField], *, truncates: bool
    ) -> None:
        """Load rows; if a job of this id exists, wait for it instead.

        Raises:
            BatchRefusedError: The job failed because of the file's content.
            TableChangedError: The table is gone.
            TargetUnavailableError: ``claimed`` tells whether the rows were loaded.
        """
        content, format_ = _file(rows)
        config = bigquery.LoadJobConfig(
            source_format=format_,
            schema=list(fields),
            write_disposition="WRITE_TRUNCATE" if truncates else "WRITE_APPEND",
            create_disposition="CREATE_NEVER",
        )
        if format_ == "PARQUET":
            options = bigquery.ParquetOptions()  # type: ignore[no-untyped-call]
            options.enable_list_inference = True  # otherwise a list becomes a RECORD with a list in it
            config.parquet_options = options
            config.decimal_target_types = ["NUMERIC", "BIGNUMERIC"]  # otherwise all decimals become NUMERIC
        with sorted_errors(self._place, f"loading into {table}"):
            try:
                # Without a size the upload is resumable. That takes a request more than a multipart one, which not all
                # emulators take from Google's library, because it does not say which format the file has.
                job = self._clients.rest.load_table_from_file(
                    io.BytesIO(content), table, num_retries=0, job_id=job_id, job_config=config, timeout=_JOB_S
                )
            except exceptions.Conflict:
                job = self._clients.rest.get_job(job_id, retry=None, timeout=CALL_S)
            self._wait(job)

    def claimed(self, job_id: str) -> bool:
        """Whether the load of this id was done; if not, it never will be.

        An id is used once: a query job that does nothing takes it, unless the load has it.
        """
        with sorted_errors(self._place, f"asking for the job {job_id}"):
            config = bigquery.QueryJobConfig(use_legacy_sql=False)
            try:
                self._clients.rest.query(
                    "SELECT 1", job_config=config, job_id=job_id, retry=None, job_retry=None, timeout=CALL_S
                )
                return False
            except exceptions.Conflict:
                job = self._clients.rest.get_job(job_id, retry=None, timeout=CALL_S)
            if job.job_type != "load":
                return False
            self._end(job)
            return job.error_result is None

    def _wait(self, job: Any) -> None:
        self._end(job)
        fault = job.error_result
        if fault is None:
            return
        said = f"the load job {job.job_id} failed: {fault.get('message')}"
        if fault.get("reason") == _DATA_AT_FAULT:
            raise BatchRefusedError(said)
        if fault.get("reason") == "notFound":
            raise TableChangedError(f"{said}{next_step(self._place, exceptions.NotFound(said))}")  # type: ignore[no-untyped-call]
        raise TargetUnavailableError(f"{said}{_next_step(self._place, fault)}")

    def _end(self, job: Any) -> None:
        """Wait for a job's end, whatever its result."""
        try:
            job.result(retry=None, timeout=_JOB_S)
        except exceptions.GoogleAPICallError:
            if job.state != "DONE":
                raise


def _next_step(place: TableLocation, fault: Mapping[str, Any]) -> str:
    if fault.get("reason") == "accessDenied":
        return next_step(place, exceptions.Forbidden("", errors=[fault]))  # type: ignore[no-untyped-call]
    if fault.get("reason") == "billingNotEnabled":
        return f"; enable billing for the project {place.project}"
    return ""


def _file(rows: pa.Table) -> tuple[bytes, str]:
    """Parquet, or JSON lines if a column is JSON, because BigQuery loads no Parquet into such columns."""
    rows = _with_plain_numbers(rows)
    if any(is_json(field.type) for field in rows.schema):
        return _lines(rows), "NEWLINE_DELIMITED_JSON"
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="snappy", coerce_timestamps="us")
    return buffer.getvalue(), "PARQUET"


def _with_plain_numbers(rows: pa.Table) -> pa.Table:
    """Cast durations to integers, and decimals to the width that is loaded as the column's type."""
    return rows.cast(pa.schema([(field.name, _plain_number(field.type)) for field in rows.schema]))


def _plain_number(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal256(type_):
        return pa.decimal256(76, 38)
    return pa.int64() if pa.types.is_duration(type_) else type_


def _lines(rows: pa.Table) -> bytes:
    columns = [
        [_cell_writer(field.type)(value) for value in _plain(column)]
        for field, column in zip(rows.schema, rows.columns, strict=True)
    ]
    names = [json.dumps(name, ensure_ascii=False) for name in rows.column_names]
    lines = (
        ",".join(f"{name}:{cell}" for name, cell in zip(names, cells, strict=True) if cell is not None)
        for cells in zip(*columns, strict=True)
    )
    return "".join(f"{{{line}}}\n" for line in lines).encode()


def _plain(column: pa.ChunkedArray) -> list[Any]:
    whole = column.combine_chunks()
    return list((whole.storage if is_json(column.type) else whole).to_pylist())


def _cell_writer(type_: pa.DataType) -> Callable[[Any], str | None]:
    """The function that writes a value of a column into a line; it returns None for null."""
    if is_json(type_):
        return lambda text: text
    if pa.types.is_list(type_):
        element = _cell_writer(type_.value_type)
        return lambda values: None if values is None else f"[{','.join(str(element(each)) for each in values)}]"
    if pa.types.is_floating(type_):
        return lambda value: None if value is None else _float(value)
    if is_bytes(type_):
        return lambda value: None if value is None else json.dumps(base64.b64encode(value).decode())
    if pa.types.is_boolean(type_) or pa.types.is_integer(type_):
        return lambda value: None if value is None else json.dumps(value)
    if pa.types.is_decimal(type_):
        return lambda value: None if value is None else json.dumps(f"{value:f}")
    if is_text(type_):
        return lambda value: None if value is None else json.dumps(value, ensure_ascii=False)
    return lambda value: None if value is None else json.dumps(value.isoformat())


def _float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'
