"""What the partitions hold, and how many small files are left."""

from pathlib import Path

import duckdb

lake = duckdb.read_parquet("lake/*/*.parquet", hive_partitioning=True)
print(duckdb.sql("SELECT at_date, count(*) AS rows, sum(kwh) AS kwh FROM lake GROUP BY at_date ORDER BY at_date"))
print("small files left:", len(list(Path("STORE/readings/parquet").glob("*.parquet"))))
