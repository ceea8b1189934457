"""The main file of the demo of a cluster: the two lists of ``_main.py``, each into a folder of Parquet files.

``pin="*"`` says that all machines share the disk that has the files, as the three workers of the demo do.
"""

from api2db import Collector, Run, Stream2Local
from api2db.demo._main import departures, weather

collectors = [
    Collector(name, 1, resource, [Stream2Local(name)], pin="*")  # STORE/<name>/parquet/<timestamp_ns>.parquet
    for name, resource in (("departures", departures), ("weather", weather))
]

if __name__ == "__main__":
    Run(collectors).run()
