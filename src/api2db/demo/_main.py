"""The demo's main file, as a user would write one for a project: two lists of an API, two collectors, one run.

The rows of both lists have no ``keys`` here, so that no row that was doubled could be hidden by an upsert.

The environment variable ``API2DB_DEMO_URL`` holds the address of the API.
"""

import os

from api2db import Collector, Run, Stream2Local, Stream2Sql
from api2db.rest import Cursor, LastId, RestApi

api = RestApi(os.environ.get("API2DB_DEMO_URL", "http://127.0.0.1:8000"))

departures = api.get(
    "/departures",
    params={"limit": 250},
    pagination=LastId("id", param="after", has_more="has_more"),
    cursor=Cursor("scheduled_at", param="since"),
)

# Each poll asks for the last six hours again, as if observations came late. Rows that were loaded are recognised.
weather = api.get("/weather", cursor=Cursor("time_hour", param="since", overlap="6h"))

# Each list goes into a folder of Parquet files and into a table. The two have positions of their own in the journal, so
# neither waits for the other.
collectors = [
    Collector(
        name=name,
        seconds=1,
        import_target=resource,
        streams=[
            Stream2Local(name),  # STORE/<name>/parquet/<timestamp_ns>.parquet
            Stream2Sql(name, db_name="STORE/demo.duckdb", dialect="duckdb"),
        ],
    )
    for name, resource in (("departures", departures), ("weather", weather))
]

if __name__ == "__main__":
    Run(collectors).run()
