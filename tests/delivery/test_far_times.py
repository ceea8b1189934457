"""Times whose units can't be brought together in one batch."""

from pathlib import Path

import duckdb
import pandas as pd

from api2db import Stream2Sql

FAR = pd.DataFrame({"moment": [pd.Timestamp("9999-12-31").as_unit("s")]})
FINE = pd.DataFrame({"moment": [pd.Timestamp("2020-12-31 00:00:00.000000001")]})


def test_times_too_far_for_the_nanoseconds_of_their_neighbours_stop_nothing(tmp_path: Path) -> None:
    stream = Stream2Sql("times", "times.duckdb", "duckdb", home=tmp_path)
    for frame in (FAR, FINE, FAR, FAR.assign(n=1)):
        stream.q.put(frame)
    with stream:
        assert stream.flush(20)
        status = stream.status()
    assert status.rows_delivered + status.rows_rejected == 4
    with duckdb.connect(str(tmp_path / "times.duckdb")) as connection:
        rows = connection.execute("SELECT year(moment), n FROM times").fetchall()
    assert rows.count((9999, None)) == 2
    assert rows.count((9999, 1)) == 1
