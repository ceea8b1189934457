"""200 sensors, each a collector, into one table."""

import api

from api2db import Collector, Run, Stream2Sql
from api2db.rest import Cursor, RestApi

gateway = RestApi(api.url())


def collector(number: int) -> Collector:
    """Return the collector of a sensor."""
    readings = gateway.get(
        f"/sensors/{number}/readings", cursor=Cursor("measured_at", param="after"), keys=["sensor", "measured_at"]
    )
    table = Stream2Sql(f"sensor_{number}", db_name="iot.duckdb", dialect="duckdb", table="readings")
    return Collector(f"sensor_{number}", seconds=10, import_target=readings, streams=[table])


collectors = [collector(number) for number in range(200)]

if __name__ == "__main__":
    Run(collectors).run()
