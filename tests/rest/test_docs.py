"""Each example of docs/rest.md polls a local server of that shape."""

import hmac
import re
import time
from typing import Any

import pytest

from tests.docs.markdown import ROOT, Block, blocks
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply
from tests.rest.shapes import BinanceTicker, GitHubIssues, GraphQl, Hal, OData, StripeCharges

EXAMPLES = [block for block in blocks(ROOT / "docs" / "rest.md") if block.info == "python rest"]


def oauth(asked: Asked) -> Reply:
    if asked.path == "/token":
        return Reply({"access_token": "t-123456", "expires_in": 60})
    assert asked.headers["authorization"] == "Bearer t-123456"
    more = None if "cursor" in asked.params else "second"
    return Reply({"items": [{"id": len(asked.params)}], "meta": {"cursor": more}})


def orders(asked: Asked) -> Reply:
    if asked.path == "/orders":
        return Reply([{"id": 1, "updated": "2024-05-01"}, {"id": 2, "updated": "2024-05-02"}])
    return Reply([{"line": 1}])


def search(asked: Asked) -> Reply:
    assert asked.json["page"] == {"offset": 0, "limit": 100}
    return Reply({"hits": [{"id": 1}]})


def exchange(asked: Asked) -> Reply:
    """As the published docs of Binance's signed endpoints say."""
    signature = hmac.new(b"secret-1234", asked.query.rpartition("&signature=")[0].encode(), "sha256").hexdigest()
    assert asked.headers["x-api-key"] == "secret-1234"
    assert list(asked.params) == ["symbol", "timestamp", "signature"]
    assert abs(time.time() - int(asked.params["timestamp"]) / 1000) < 5
    return Reply([{"id": 1}]) if asked.params["signature"] == signature else Reply({"code": -1022}, 400)


def portal(asked: Asked) -> Reply:
    if asked.path == "/login":
        assert asked.json == {"user": "secret-1234"}
        return Reply({"step": "s-123456"})
    if asked.path == "/login/password":
        assert asked.json == {"step": "s-123456", "password": "secret-1234"}
        return Reply({"token": "t-123456"})
    return Reply([{"number": 1}]) if asked.headers.get("x-session") == "t-123456" else Reply("who?", 401)


def warehouse(asked: Asked) -> Reply:
    assert asked.headers["authorization"] == "Bearer secret-1234"
    if asked.method == "POST":
        return Reply({"id": "e1", "state": "pending"})
    if asked.path == "/exports/e1":
        return Reply({"state": "completed", "download_url": f"{asked.base}/files/e1.csv"})
    return Reply(b"id,total,updated\n1,9.90,2024-05-01T10:00:00Z\n")


SERVERS: dict[str, Any] = {
    "api.github.com/graphql": GraphQl,
    "api.github.com": GitHubIssues,
    "api.stripe.com": StripeCharges,
    "api.binance.com": BinanceTicker,
    "login.example.com": lambda: oauth,
    "hal.example.com": Hal,
    "erp.example.com": OData,
    "exchange.example.com": lambda: exchange,
    "portal.example.com": lambda: portal,
    "warehouse.example.com": lambda: warehouse,
    "/lines": lambda: orders,
    "/search": lambda: search,
}


def server_of(text: str) -> Any:
    text = text.replace("api.github.com", "api.github.com/graphql") if ".graphql(" in text else text
    return next(make for name, make in SERVERS.items() if name in text)()


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_an_example_polls_an_api_of_its_shape(serve: Serve, block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(re.findall(r"\"\$([A-Z_]+)\"", block.text)):
        monkeypatch.setenv(name, "secret-1234")
    server = serve(server_of(block.text))
    hosts = [part.split('"')[0].split("/")[0] for part in block.text.split("https://")[1:]]
    text = block.text
    for host in hosts:
        text = text.replace(f"https://{host}", server.url)
    names: dict[str, Any] = {}
    exec(compile(text, str(block), "exec"), names)
    polled = Polled(names["resource"])
    assert polled.poll()
    assert server.asked
    polled.poll()


def test_there_is_an_example_of_each_shape() -> None:
    assert len(EXAMPLES) == 12
