"""The documents of the live page."""

from pathlib import Path

import pytest

from api2db import Stream2Sql
from api2db.ingest.status import LiveStatus
from api2db.web._documents import Documents


@pytest.mark.parametrize(("delayed_until", "next_at"), [(None, 1060.0), (1600.0, 1600.0)])
def test_the_next_poll_is_an_interval_later_unless_failures_delay_it(
    tmp_path: Path, delayed_until: float | None, next_at: float
) -> None:
    status = LiveStatus("cities", 60.0)
    status.publish_in(tmp_path)
    with Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path):
        status.note(polls=1, polled_at=1000.0)
        status.poll_ended(0, "no answer", delayed_until)
        status.publish()
        [collector] = Documents(tmp_path).project()["collectors"]
    assert collector["next_at"] == next_at
