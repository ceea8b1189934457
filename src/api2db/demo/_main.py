"""The demo's main file, as a project of yours would have it: two collectors, each into Parquet shards and DuckDB."""

from api2db import Collector, Run, Stream2Local, Stream2Sql
from api2db.demo._collectors import departures, weather

collectors = [
    Collector(
        name=name,
        seconds=1,
        import_target=import_target,
        streams=[
            Stream2Local(name),  # STORE/<name>/parquet/<timestamp_ns>.parquet
            Stream2Sql(name, db_name="STORE/demo.duckdb", dialect="duckdb"),
        ],
    )
    for name, import_target in (("departures", departures), ("weather", weather))
]

if __name__ == "__main__":
    Run(collectors).run()
