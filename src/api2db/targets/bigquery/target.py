"""A table of BigQuery, loaded by the Storage Write API into a stream of its own, each request at an offset.

A plan names the stream and the offset. After any doubt the stream is finalized: then its row count tells for good how
much of the plan is committed, whatever requests are still under way. If the Write API is forbidden, or the newest frame
replaces the table, rows are loaded by jobs; then a plan names the job, whose id is never used twice.
"""

import logging
import time
import uuid
from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa
from google.api_core import exceptions

from api2db.errors import (
    BatchRefusedError,
    ConnectionBrokenError,
    RowsRefusedError,
    TableChangedError,
    TargetError,
    TargetUnavailableError,
)
from api2db.targets._evolve import new_columns, placed, typed_columns, unplaced_names
from api2db.targets.bigquery._client import Clients, TableLocation, sorted_errors
from api2db.targets.bigquery._jobs import LoadJobs
from api2db.targets.bigquery._stream import (
    NotInError,
    WriteStream,
    as_sent,
    conformed,
    ends_of_requests,
    finalized_rows,
    new_stream,
    schema_of,
    unknown_column,
)
from api2db.targets.bigquery.columns import check_name, field_of, in_table, replaced_columns, replacement_fields
from api2db.targets.bigquery.table import Table, load_dataset, record
from api2db.targets.port import (
    ChangeOrigins,
    Column,
    IfExists,
    LoadPlan,
    SchemaChange,
    SchemaRule,
    SteppedTarget,
    unknown_origin,
)
from api2db.targets.types import BIGQUERY, ValueLimit

logger = logging.getLogger(__name__)
_LABEL = "api2db_stream"
_TRY_AGAIN_S = 120.0  # it takes Google minutes to apply a permission, and a new table may seem forbidden
_SEEN_AFTER_S = 600.0  # Google: the Write API sees a change of a schema after some minutes


class BigqueryTarget(SteppedTarget):
    """A table of BigQuery.

    Args:
        place: The table, and the account that uses it.
        if_exists: ``"append"``; ``"replace"``: the table is the newest frame; ``"fail"``: refuse a table of others.
        schema: ``"evolve"``: columns are added and widened; ``"freeze"``: the table stays as it is.
        keys: With ``"replace"``: of rows with the same values in these columns the last is kept.
    """

    limits: Sequence[ValueLimit] = BIGQUERY.limits

    def __init__(self, place: TableLocation, if_exists: IfExists, schema: SchemaRule, keys: Sequence[str] = ()) -> None:
        self.keys = tuple(keys)
        self._place = place
        self._if_exists = if_exists
        self.replaces_table = if_exists == "replace"
        self._schema = schema
        self._owner = ""
        self._clients: Clients | None = None
        self._stream: WriteStream | None = None
        self._offset = 0
        self._prepared: tuple[pa.Schema, Sequence[Column]] | None = None
        self._altered_s = -_SEEN_AFTER_S
        self._forbidden_s: float | None = None
        self._certain: tuple[LoadPlan, int] | None = None
        self._sending: pa.RecordBatch | None = None
        self._replaces = False
        self.unplaced = {}
        self._warned: set[str] = set()
        self._has_told_of_emulator = False

    @property
    def clients(self) -> Clients:
        """Google's clients, created from the key file as it is now."""
        if self._clients is None:
            self._clients = Clients(self._place)
            self._tell_of_emulator()
        return self._clients

    def connect(self) -> None:
        if self._clients is None:
            load_dataset(self.clients)
            self._forbidden_s = None

    def close(self) -> None:
        self._end_stream()
        clients, self._clients = self._clients, None
        self._prepared = None
        if clients is not None:
            clients.close()

    def newest(self, count: int, by: str | None) -> pa.Table | None:
        return self._table.newest(count, by)

    def acquire(self, owner: str) -> None:
        self._owner = owner
        self._check_own()

    def columns(self) -> Sequence[Column] | None:
        return self._table.columns()

    def fold(self, name: str) -> str:
        return name.casefold()

    def prepare(self, schema: pa.Schema, origins: ChangeOrigins = unknown_origin) -> Sequence[Column]:
        if self._prepared is None or not self._prepared[0].equals(schema):
            self._prepared = schema, self._prepare(schema, origins)
            self.keys = in_table(self.keys, self._prepared[1])
            self._tell_of_lists(self._prepared[1])
        return self._prepared[1]

    def widen(self, column: Column, to: pa.DataType, origins: ChangeOrigins = unknown_origin) -> Column | None:
        if self._schema == "freeze" or self.replaces_table:
            return None
        wider = self._table.wider(column, to)
        if wider is None:
            return None
        self._prepared = None
        self._end_stream()
        self._altered_s = time.monotonic()
        changed = self._table.change_type(column, wider)
        if changed.declared != column.declared:
            record(self.clients, [SchemaChange(column.name, column.declared, changed.declared, origins(column.name))])
        return changed

    def plan(self, rows: pa.Table, columns: Sequence[Column]) -> LoadPlan:
        stream = None if self.replaces_table or self._is_forbidden else self._reach_stream(columns)
        if stream is None:
            job_id = f"api2db_{self._owner}_{uuid.uuid4().hex}"
            return LoadPlan([rows.num_rows], {"job": job_id})
        self._sending = as_sent(rows, columns)
        ends = ends_of_requests(self._sending)
        return LoadPlan(ends, {"stream": stream.name, "offset": self._offset})

    def append(self, plan: LoadPlan, rows: pa.Table, columns: Sequence[Column]) -> None:
        if "job" in plan.details:
            self._load(plan, rows, columns)
            return
        stream, sending = self._stream, self._sending
        if stream is None or sending is None or stream.name != plan.details["stream"]:
            raise TargetUnavailableError("the write stream was closed meanwhile")
        starts, offset = [0, *plan.ends], int(plan.details["offset"])
        try:
            stream.append(offset, [sending.slice(start, end - start) for start, end in pairwise(starts)])
        except NotInError as error:
            self._certain = plan, starts[error.taken]
            raise self._meant(error.error, starts[error.taken], columns) from error
        except ConnectionBrokenError as error:
            raise self._meant(error, 0, columns) from error
        self._offset = offset + plan.rows

    def rows_committed(self, plan: LoadPlan) -> int | None:
        certain, self._certain = self._certain, None
        if "job" in plan.details:
            return plan.rows if LoadJobs(self.clients).claimed(plan.details["job"]) else 0
        self._end_stream()
        if certain is not None and certain[0] == plan:
            return certain[1]
        with sorted_errors(self._place, "asking how many rows a write stream has"):
            count = finalized_rows(self.clients.writer, plan.details["stream"])
        return None if count is None else min(max(0, count - int(plan.details["offset"])), plan.rows)

    @property
    def _table(self) -> Table:
        return Table(self.clients)

    @property
    def _is_forbidden(self) -> bool:
        """Whether the Write API was found forbidden a short while ago."""
        return self._forbidden_s is not None and time.monotonic() - self._forbidden_s < _TRY_AGAIN_S

    def _prepare(self, schema: pa.Schema, origins: ChangeOrigins) -> Sequence[Column]:
        columns = self._table.columns()
        known = [column.name for column in columns or []]
        self.unplaced = unplaced_names(schema.names, {*known, *self.keys}, check_name, self.fold)
        schema = placed(schema, self.unplaced, self.keys)
        if columns is None:
            return self._create(schema)
        if self.replaces_table and self._schema == "evolve":
            replacement = replaced_columns(schema, columns)
            self._replaces = replacement != columns
            return replacement
        new = new_columns(schema, columns, self.fold, BIGQUERY.column)
        if self._schema == "freeze" or not new:
            return columns
        self._end_stream()
        self._altered_s = time.monotonic()
        columns = self._table.add(field_of(name, declared) for name, declared in new)
        record(self.clients, [SchemaChange(name, None, declared, origins(name)) for name, declared in new])
        return columns

    def _tell_of_emulator(self) -> None:
        place = self._place
        if place.endpoint and not self._has_told_of_emulator:
            self._has_told_of_emulator = True
            logger.warning(
                "%s is on the BigQuery emulator at %s (gRPC at %s), not on Google's BigQuery; no key is used",
                place.name,
                place.endpoint,
                place.write_address,
            )

    def _tell_of_lists(self, columns: Sequence[Column]) -> None:
        for name in sorted({each.name for each in columns if pa.types.is_list(each.type)} - self._warned):
            self._warned.add(name)
            logger.warning("%r is REPEATED: BigQuery keeps a null there as an empty list", name)

    def _create(self, schema: pa.Schema) -> Sequence[Column]:
        fields = [field_of(name, declared) for name, declared in typed_columns(schema, BIGQUERY.column)] or [
            field_of(name, "STRING", undecided=True) for name in schema.names
        ]
        self._altered_s = time.monotonic()
        columns = self._table.create(fields, {_LABEL: self._owner} if self._owner else {})
        self._check_own()  # somebody else may have created it just before
        return columns

    def _check_own(self) -> None:
        if self._if_exists != "fail" or not self._owner:
            return
        resource = self._table.resource()
        if resource is not None and resource.labels.get(_LABEL) != self._owner:
            raise TargetUnavailableError(
                f"the table {self._place.name} exists and if_exists='fail'; rename or drop it, or use 'append'"
            )

    def _reach_stream(self, columns: Sequence[Column]) -> WriteStream | None:
        """A stream whose requests have these columns; None if the Write API is forbidden."""
        schema = schema_of(columns)
        if self._stream is not None and (not self._stream.is_open or not self._stream.schema.equals(schema)):
            self._end_stream()
        if self._stream is None:
            name = self._new_stream(columns)
            self._stream = None if name is None else WriteStream(self.clients.writer, name, schema)
            self._offset = 0
        return self._stream

    def _new_stream(self, columns: Sequence[Column]) -> str | None:
        place = self._place
        path = f"projects/{place.project}/datasets/{place.dataset}/tables/{place.table}"
        with sorted_errors(place, f"creating a write stream into {place.name}"):
            try:
                made = new_stream(self.clients.writer, path)
            except exceptions.PermissionDenied as error:
                if self._forbidden_s is None:
                    logger.warning("the Storage Write API is forbidden, so rows are loaded by jobs: %s", error.message)
                self._forbidden_s = time.monotonic()
                return None
        self._forbidden_s = None
        if unknown := unknown_column(made, columns):
            raise TargetUnavailableError(
                f"the Write API does not know the column {unknown.name!r} of {place.name} as {unknown.declared} yet;"
                " Google needs some minutes"
            )
        return str(made.name)

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _load(self, plan: LoadPlan, rows: pa.Table, columns: Sequence[Column]) -> None:
        resource = self._table.resource()
        if resource is None:
            raise TableChangedError(f"the table {self._place.name} is gone")
        # The schema is stated as it is, or as the newest frame changes it, so that nothing is concluded from the file.
        fields = replacement_fields(resource.schema, columns) if self._replaces else list(resource.schema)
        sent = conformed(rows, columns)
        jobs = LoadJobs(self.clients)
        try:
            jobs.load(plan.details["job"], self._place.name, sent, fields, truncates=self.replaces_table)
        except BatchRefusedError as error:
            if not self._replaces and self.columns() != list(columns):
                raise TableChangedError(f"the table {self._place.name} was altered meanwhile: {error}") from error
            raise

    def _meant(self, error: TargetError, before: int, columns: Sequence[Column]) -> TargetError:
        if not isinstance(error, (BatchRefusedError, ConnectionBrokenError)):
            return error
        if self.columns() != list(columns):
            return TableChangedError(f"the table {self._place.name} was altered meanwhile: {error}")
        if isinstance(error, RowsRefusedError):
            return RowsRefusedError({before + row: reason for row, reason in error.reasons.items()})
        if time.monotonic() - self._altered_s < _SEEN_AFTER_S:
            return TargetUnavailableError(
                f"the table was altered just now, and the Write API may not know that yet: {error}"
            )
        return error
