"""What a collector under debug shows instead of delivering."""

import sys

import pyarrow as pa

from api2db.frames import is_json, to_pandas
from api2db.ingest._pages import batches
from api2db.ingest.collector import Collector, takes_state
from api2db.ingest.counts import counted

_ROWS = 20


def preview(collector: Collector) -> int:
    """Poll once from an empty state, show each frame and its schema, and give the number of rows; nothing is stored."""
    target = collector.import_target
    result = target({}) if takes_state(target, collector.name) else target()
    rows = 0
    for batch in batches(result, collector.transform):
        if batch is not None:
            rows += batch.num_rows
            _show(collector.name, batch)
    if not rows:
        sys.stdout.write(f"{collector.name}: nothing new\n")
    sys.stdout.flush()
    return rows


def _show(name: str, batch: pa.RecordBatch) -> None:
    head = to_pandas(batch.slice(0, _ROWS))
    columns = "\n".join(f"  {field.name}: {_type_name(field.type)}" for field in batch.schema)
    more = f"\n… {counted(batch.num_rows - _ROWS, 'more row')}" if batch.num_rows > _ROWS else ""
    rows = counted(batch.num_rows, "row")
    sys.stdout.write(f"{name}: {rows} (debug: not stored)\n{head.to_string()}{more}\n{columns}\n\n")


def _type_name(type_: pa.DataType) -> str:
    return "JSON" if is_json(type_) else str(type_)
