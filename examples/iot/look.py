"""How many sensors and readings there are."""

import duckdb

with duckdb.connect("iot.duckdb", read_only=True) as database:
    print(database.sql("SELECT count(DISTINCT sensor) AS sensors, count(*) AS readings FROM readings"))
    print(
        database.sql(
            "SELECT count(*) AS twice FROM (SELECT 1 FROM readings GROUP BY sensor, measured_at HAVING count(*) > 1)"
        )
    )
