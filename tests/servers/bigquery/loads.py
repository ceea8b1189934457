"""Load jobs: a file of Parquet or of JSON lines into a table, whole or not at all."""

import base64
import datetime
import decimal
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from tests.servers.bigquery.catalog import ApiError, Catalog, MisfitError, Table
from tests.servers.bigquery.kinds import Field, is_repeated, kind

_ARROW = {
    "INTEGER": pa.int64(),
    "FLOAT": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "STRING": pa.string(),
    "BYTES": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
    "NUMERIC": pa.decimal128(38, 9),
    "BIGNUMERIC": pa.decimal256(76, 38),
    "JSON": pa.string(),
}


def load(catalog: Catalog, configuration: Mapping[str, Any], content: bytes) -> int:
    """Load a file, and say how many rows it had."""
    place = configuration["destinationTable"]
    given = configuration.get("schema", {}).get("fields")
    with catalog.lock:
        table = _destination(catalog, place, given, str(configuration.get("createDisposition", "CREATE_IF_NEEDED")))
        disposition = configuration.get("writeDisposition", "WRITE_APPEND")
        truncates = disposition == "WRITE_TRUNCATE"
        fields = _fields(configuration, content, given, table)
        if disposition == "WRITE_EMPTY" and catalog.ask(f"SELECT count(*) FROM {table.quoted}") != [(0,)]:
            raise ApiError(409, "duplicate", f"Already Exists: Table {place['tableId']}")
        rows = _read(configuration, content, fields)
        try:
            catalog.check(fields, rows)
        except MisfitError as error:
            said = "; ".join(f"row {row}: {reason}" for row, reason in list(error.rows.items())[:5]) or str(error)
            raise ApiError(400, "invalid", f"Error while reading data, error message: {said}") from error
        if truncates:
            catalog.replace_fields(table, fields)
        catalog.insert(table, rows)
        return int(rows.num_rows)


def _destination(catalog: Catalog, place: Mapping[str, Any], given: Any, create: str) -> Table:
    try:
        return catalog.table(place["datasetId"], place["tableId"])
    except ApiError:
        if create == "CREATE_NEVER" or not given:
            raise
    return catalog.make_table(place["datasetId"], {"tableReference": place, "schema": {"fields": given}})


def _fields(configuration: Mapping[str, Any], content: bytes, given: Any, table: Table) -> Sequence[Field]:
    """The columns that are loaded into; those given must be the table's own, unless it is made anew."""
    truncates = configuration.get("writeDisposition") == "WRITE_TRUNCATE"
    if given and not truncates:
        wanted, known = ({str(f["name"]).lower(): _meaning(f) for f in each} for each in (given, table.fields))
        for name in (name for name, meaning in wanted.items() if known.get(name) != meaning):
            raise ApiError(
                400, "invalid", f"Provided Schema does not match Table {table.name}. Field {name} has changed"
            )
    if truncates and not given and configuration.get("sourceFormat") == "PARQUET":
        schema = pq.read_schema(io.BytesIO(content))
        return [{"name": field.name, **_of_file(field.type, configuration)} for field in schema]
    return given if given and truncates else table.fields


def _meaning(field: Field) -> tuple[Any, ...]:
    return (
        kind(field),
        field.get("mode") or "NULLABLE",
        *(int(field.get(each) or 0) for each in ("precision", "scale", "maxLength")),
    )


def _of_file(type_: pa.DataType, configuration: Mapping[str, Any]) -> dict[str, str]:
    """What a column of Parquet becomes by itself; source: Google's "Loading Parquet data", conversions."""
    if pa.types.is_list(type_):
        if not configuration.get("parquetOptions", {}).get("enableListInference"):
            return {"type": "RECORD"}
        return {**_of_file(type_.value_type, configuration), "mode": "REPEATED"}
    if pa.types.is_decimal(type_):
        targets = configuration.get("decimalTargetTypes") or ["NUMERIC"]
        whole = type_.precision - type_.scale
        holding = [each for each in ("NUMERIC", "BIGNUMERIC") if each in targets and _holds(each, whole, type_.scale)]
        return {"type": [*holding, targets[-1]][0]}
    return {"type": next((name for name, arrow in _ARROW.items() if arrow.equals(type_)), "STRING")}


def _holds(name: str, whole: int, fraction: int) -> bool:
    return (whole <= 29 and fraction <= 9) if name == "NUMERIC" else (whole <= 38 and fraction <= 38)


def _check_file(schema: pa.Schema, fields: Sequence[Field], configuration: Mapping[str, Any]) -> None:
    known = {str(each["name"]).lower(): each for each in fields}
    for field in schema:
        each = known.get(field.name.lower())
        if each is None or not (pa.types.is_list(field.type) or pa.types.is_decimal(field.type)):
            continue
        found = _of_file(field.type, configuration)
        if (found["type"], found.get("mode") == "REPEATED") != (kind(each), is_repeated(each)):
            raise ApiError(400, "invalid", f"Field {field.name} has changed type from {kind(each)} to {found['type']}")


def _read(configuration: Mapping[str, Any], content: bytes, fields: Sequence[Field]) -> pa.Table:
    format_ = configuration.get("sourceFormat", "CSV")
    if format_ == "PARQUET":
        if any(kind(each) == "JSON" for each in fields):
            raise ApiError(400, "invalid", "Unsupported field type: JSON")
        rows = pq.read_table(io.BytesIO(content))
        _check_file(rows.schema, fields, configuration)
        return _as_sent(rows, fields)
    if format_ == "NEWLINE_DELIMITED_JSON":
        return _from_lines(content, fields)
    raise ApiError(400, "invalid", f"this server does not load {format_}")


def _as_sent(rows: pa.Table, fields: Sequence[Field]) -> pa.Table:
    """Parquet has no time zone but UTC; dictionaries and large text are its readers' affair."""
    known = {str(each["name"]).lower(): each for each in fields}
    for place, field in enumerate(rows.schema):
        each = known.get(field.name.lower())
        if each is not None and not is_repeated(each) and kind(each) in {"TIMESTAMP", "STRING", "BYTES", "BIGNUMERIC"}:
            rows = rows.set_column(place, field.name, rows.column(place).cast(_ARROW[kind(each)]))
    return rows


def _from_lines(content: bytes, fields: Sequence[Field]) -> pa.Table:
    known = {str(each["name"]).lower(): each for each in fields}
    lines = [json.loads(line, parse_float=_Number) for line in content.decode().split("\n") if line]
    columns: dict[str, list[Any]] = {str(each["name"]): [None] * len(lines) for each in fields}
    for row, line in enumerate(lines):
        for name, value in line.items():
            each = known.get(name.lower())
            if each is None:
                raise ApiError(400, "invalid", f"Error while reading data, error message: No such field: {name}.")
            columns[str(each["name"])][row] = _cell(each, value)
    types = [_ARROW[kind(each)] for each in fields]
    arrays = [
        pa.array(values, pa.list_(type_) if is_repeated(each) else type_)
        for values, type_, each in zip(columns.values(), types, fields, strict=True)
    ]
    return pa.table(arrays, names=list(columns))


class _Number(float):
    """A fraction that remembers how it was written."""

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str

    def __repr__(self) -> str:
        return self.text


def _cell(field: Field, value: Any) -> Any:
    if value is None:
        return None
    if is_repeated(field):
        return [_cell({**field, "mode": "NULLABLE"}, each) for each in value]
    name = kind(field)
    if name == "JSON":
        return json.dumps(value, ensure_ascii=False)
    if name == "BYTES":
        return base64.b64decode(value, validate=True)
    if name in {"NUMERIC", "BIGNUMERIC"}:
        return decimal.Decimal(repr(value) if isinstance(value, _Number) else str(value))
    if name in {"INTEGER", "FLOAT"}:
        return int(value) if name == "INTEGER" else float(value)
    parse: dict[str, Any] = {
        "DATE": datetime.date.fromisoformat,
        "TIME": datetime.time.fromisoformat,
        "DATETIME": datetime.datetime.fromisoformat,
        "TIMESTAMP": lambda text: datetime.datetime.fromisoformat(text).astimezone(datetime.UTC),
    }
    return parse[name](value) if name in parse else value
