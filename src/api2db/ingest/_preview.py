"""What a collector under debug shows instead of delivering."""

import sys

import pyarrow as pa

from api2db.frames import Refused, is_json, reason_of, to_pandas
from api2db.ingest._async import is_async, run_async
from api2db.ingest._collector import Collector, takes_state
from api2db.ingest._pages import batches
from api2db.ingest.counts import counted

_ROWS = 20


def preview(collector: Collector) -> int:
    """Poll once from an empty state, show each frame and its schema, and give the number of rows; nothing is stored."""
    target = collector.import_target
    result = target({}) if takes_state(target, collector.name) else target()
    if is_async(result):
        result = run_async(result)
    rows = 0
    for page in batches(result, collector.transform):
        if page is not None:
            rows += page.num_rows
            _show(collector.name, page)
    if not rows:
        sys.stdout.write(f"{collector.name}: nothing new\n")
    sys.stdout.flush()
    return rows


def _show(name: str, page: pa.RecordBatch | Refused) -> None:
    rows, note = (page.rows, "would be rejected") if isinstance(page, Refused) else (page, "debug: not stored")
    head = to_pandas(rows.slice(0, _ROWS)).to_string()
    columns = "\n".join(f"  {field.name}: {_type_name(field.type)}" for field in rows.schema)
    more = f"\n… {counted(rows.num_rows - _ROWS, 'more row')}" if rows.num_rows > _ROWS else ""
    said = f"{name}: {counted(rows.num_rows, 'row')} ({note})"
    why = f"\n{reason_of(rows.schema)}" if isinstance(page, Refused) else ""
    sys.stdout.write(f"{said}{why}\n{head}{more}\n{columns}\n\n")


def _type_name(type_: pa.DataType) -> str:
    return "JSON" if is_json(type_) else str(type_)
