"""How many issues are open and closed, and whether one is there twice."""

import duckdb

with duckdb.connect("issues.duckdb", read_only=True) as database:
    print(database.sql("SELECT state, count(*) AS issues, max(updated_at) AS updated FROM issues GROUP BY state"))
    print(database.sql("SELECT count(*) - count(DISTINCT id) AS twice FROM issues"))
