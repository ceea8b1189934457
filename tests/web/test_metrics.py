"""The figures for Prometheus: its own parser reads them, and they equal the status."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from api2db import Stream2Sql
from tests.web.conftest import Page

OPEN = {"Accept": "application/openmetrics-text; version=1.0.0"}


def samples(text: str, parse: Callable[[str], object]) -> dict[tuple[str, str], float]:
    found = {}
    for family in parse(text):  # type: ignore[attr-defined]
        for sample in family.samples:
            found[(sample.name, sample.labels.get("target", "") + sample.labels.get("le", ""))] = sample.value
    return found


def test_figures_equal_the_status(serve: Callable[..., Page], tmp_path: Path) -> None:
    stream = Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path, schema="freeze")
    with stream:
        stream.q.put(pd.DataFrame({"id": [1, 2]}))
        assert stream.flush(20)
        stream.q.put(pd.DataFrame({"id": ["x"]}))
        assert stream.flush(20)
        status = stream.status()
    page = serve(tmp_path)
    target = stream.identity
    for headers, parse in (({}, plain), (OPEN, open_metrics)):
        found = samples(page.get("/metrics", headers=headers).text, parse)
        assert found[("api2db_rows_delivered_total", target)] == status.rows_delivered == 2
        assert found[("api2db_rows_rejected", target)] == status.rows_rejected == 1
        assert found[("api2db_rows_waiting", target)] == status.rows_waiting == 0
        assert found[("api2db_delivery_lag_seconds", target)] == 0
        assert found[("api2db_stream_running", target)] == 0
        assert found[("api2db_delivery_latency_seconds_count", target)] == status.frames_delivered == 2
        assert found[("api2db_delivery_latency_seconds_bucket", f"{target}+Inf")] == 2
        assert found[("api2db_last_visible_timestamp_seconds", target)] > 1_700_000_000


def test_labels_may_hold_anything(serve: Callable[..., Page], tmp_path: Path) -> None:
    with Stream2Sql('a"b', "cities.sqlite", "sqlite", home=tmp_path, table='x"y\\z') as stream:
        stream.q.put(pd.DataFrame({"id": [1]}))
        assert stream.flush(20)
    found = samples(serve(tmp_path).get("/metrics").text, plain)
    assert found[("api2db_rows_delivered_total", stream.identity)] == 1


def test_ready_says_what_is_wrong(serve: Callable[..., Page], tmp_path: Path) -> None:
    page = serve(tmp_path)
    answer = page.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "no run is active\n")
    with Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path) as stream:
        stream.q.put(pd.DataFrame({"id": [1]}))
        assert stream.flush(20)
        answer = page.get("/readyz")
        assert (answer.status_code, answer.text) == (200, "ok\n")


def test_the_docs_name_every_metric(serve: Callable[..., Page], tmp_path: Path) -> None:
    with Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path) as stream:
        stream.q.put(pd.DataFrame({"id": [1]}))
        assert stream.flush(20)
    docs = (Path(__file__).parents[2] / "docs" / "watching.md").read_text()
    named = set(re.findall(r"`(api2db_\w+)`", docs))
    found = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in plain(serve(tmp_path).get("/metrics").text)
    }
    assert named == found


def test_the_dashboard_uses_only_metrics_that_there_are() -> None:
    docs = Path(__file__).parents[2] / "docs"
    named = set(re.findall(r"`(api2db_\w+)`", (docs / "watching.md").read_text()))
    dashboard = json.loads((docs / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {name.removesuffix("_bucket") for query in queries for name in re.findall(r"api2db_\w+", query)}
    assert len(queries) > 10
    assert used <= named
