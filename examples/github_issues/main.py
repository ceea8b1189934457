"""Issues of a repository, one row each, as they are now."""

import api

from api2db import Collector, Run, Stream2Sql
from api2db.rest import Cursor, LinkHeader, RestApi

issues = RestApi(api.url()).get(
    "/repos/{repo}/issues",
    repo="shop/app",
    pagination=LinkHeader(),
    cursor=Cursor("updated_at", param="since"),
    keys="id",
    types={"created_at": "timestamp", "updated_at": "timestamp"},
)
table = Stream2Sql("issues", db_name="issues.duckdb", dialect="duckdb")
collectors = [Collector("issues", seconds=5, import_target=issues, streams=[table])]

if __name__ == "__main__":
    Run(collectors).run()
