"""The table beside a table of BigQuery that tells how its columns have changed."""

import logging
import time
from collections.abc import Sequence

from google.cloud import bigquery

from api2db.errors import TargetError
from api2db.targets.bigquery._client import CALL_S, Clients, answer_of
from api2db.targets.bigquery._errors import sorted_errors
from api2db.targets.port import SchemaChange
from api2db.targets.sql import CHANGES_TABLE

logger = logging.getLogger(__name__)
_COLUMNS = dict.fromkeys(("changed_at", "table_name", "column_name", "old_type", "new_type"), "STRING")
_COLUMNS["frame_ns"] = "INT64"


def record(clients: Clients, changes: Sequence[SchemaChange]) -> None:
    """Log changes and add a row for each; they are made, so where this fails it is only said."""
    for change in changes:
        logger.info("%s: %s", clients.place.table, change.said)
    try:
        _record(clients, changes)
    except TargetError as error:
        logger.warning("%d changes of %s are not recorded: %s", len(changes), clients.place.name, error)


def _record(clients: Clients, changes: Sequence[SchemaChange]) -> None:
    place = clients.place
    name = f"{place.project}.{place.dataset}.{CHANGES_TABLE}"
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    rows = [(now, place.table, each.column, each.before, each.after, each.origin.frame_ns) for each in changes]
    values = ", ".join(f"({', '.join(f'@{column}_{row}' for column in _COLUMNS)})" for row in range(len(rows)))
    parameters = [
        bigquery.ScalarQueryParameter(f"{column}_{row}", type_, value)
        for row, cells in enumerate(rows)
        for (column, type_), value in zip(_COLUMNS.items(), cells, strict=True)
    ]
    table = bigquery.Table(name, schema=[bigquery.SchemaField(*column) for column in _COLUMNS.items()])
    with sorted_errors(place, f"writing to {name}"):
        clients.rest.create_table(table, exists_ok=True, retry=None, timeout=CALL_S)
        job = clients.rest.query(
            f"INSERT INTO `{name}` ({', '.join(_COLUMNS)}) VALUES {values}",
            job_config=bigquery.QueryJobConfig(query_parameters=parameters),
            retry=None,
            job_retry=None,
            timeout=CALL_S,
        )
        answer_of(job)
