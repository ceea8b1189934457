"""API servers that behave as the published docs of well-known APIs say, on this machine."""

from typing import Any
from urllib.parse import urlencode

from api2db.testing import Answer, ApiServer, Reply
from api2db.testing import Call as Asked

Server = ApiServer
__all__ = ["Answer", "Asked", "GitHub", "Reply", "Server", "issue"]


class GitHub:
    """The list of issues: ``since`` by ``updated_at``, newest created first, pages by the Link header."""

    def __init__(self, issues: list[dict[str, Any]]) -> None:
        self.issues = issues
        self.version = 0

    def __call__(self, asked: Asked) -> Reply:
        since = asked.params.get("since", "")
        found = [issue for issue in reversed(self.issues) if issue["updated_at"] >= since]
        size, number = int(asked.params.get("per_page", 30)), int(asked.params.get("page", 1))
        etag = f'"{self.version}-{since}-{number}"'
        if asked.headers.get("if-none-match") == etag:
            return Reply(status=304, headers={"ETag": etag})
        headers = {"ETag": etag}
        if number * size < len(found):
            query = urlencode({**asked.params, "page": number + 1})
            headers["Link"] = f'<{asked.base}{asked.path}?{query}>; rel="next", <{asked.base}/x?page=9>; rel="last"'
        return Reply(found[(number - 1) * size : number * size], headers=headers)


def issue(number: int, minute: int | None = None, **more: Any) -> dict[str, Any]:
    """An issue that was updated at a minute of a day."""
    at = number if minute is None else minute
    updated = f"2024-05-{1 + at // 1440:02}T{at // 60 % 24:02}:{at % 60:02}:00Z"
    return {"id": number, "title": f"issue {number}", "updated_at": updated, "user": {"login": "ann"}, **more}
