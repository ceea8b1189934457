"""Every way to have further pages, and how lists without an end are told from long ones."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from api2db.errors import ConfigurationError, PollError
from api2db.rest import Basic, BearerToken, LastId, LinkHeader, NextToken, NextUrl, Offset, PageNumber, RestApi
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Answer, Asked, Reply

ROWS = [{"id": number} for number in range(1, 26)]
SIZE = 10


def by_link(asked: Asked) -> Reply:
    page = int(asked.params.get("page", 1))
    more = f'<{asked.path}?page={page + 1}>; rel="next"' if page * SIZE < len(ROWS) else "<x?page=1>; rel=prev"
    return Reply(ROWS[(page - 1) * SIZE : page * SIZE], headers={"Link": more})


def by_url(asked: Asked) -> Reply:
    """As HAL says."""
    page = int(asked.params.get("page", 1))
    links = {"next": {"href": f"/items?page={page + 1}"}} if page * SIZE < len(ROWS) else {}
    return Reply({"_links": links, "_embedded": {"items": ROWS[(page - 1) * SIZE : page * SIZE]}})


def by_odata(asked: Asked) -> Reply:
    skip = int(asked.params.get("$skiptoken", 0))
    more = {"@odata.nextLink": f"{asked.base}/items?$skiptoken={skip + SIZE}"} if skip + SIZE < len(ROWS) else {}
    return Reply({"@odata.context": "x", "value": ROWS[skip : skip + SIZE], **more})


def by_token(asked: Asked) -> Reply:
    at = int(asked.params.get("cursor", "t0")[1:])
    token = f"t{at + SIZE}" if at + SIZE < len(ROWS) else ""
    return Reply({"items": ROWS[at : at + SIZE], "meta": {"cursor": token}})


def by_last_id(asked: Asked) -> Reply:
    """As Stripe's charges."""
    after = int(asked.params.get("starting_after", 0))
    found = [row for row in ROWS if row["id"] > after]
    return Reply({"object": "list", "data": found[:SIZE], "has_more": len(found) > SIZE})


def by_number(asked: Asked) -> Reply:
    page = int(asked.params["page"])
    return Reply({"items": ROWS[(page - 1) * SIZE : page * SIZE], "pages": 3})


def by_offset(asked: Asked) -> Reply:
    first, limit = int(asked.params["offset"]), int(asked.params["limit"])
    return Reply({"items": ROWS[first : first + limit], "total": len(ROWS)})


CASES: dict[str, tuple[Answer, Any, str | None, int]] = {
    "link": (by_link, LinkHeader(), None, 3),
    "url": (by_url, NextUrl("_links.next.href"), "_embedded.items", 3),
    "odata": (by_odata, NextUrl('"@odata.nextLink"'), "value", 3),
    "token": (by_token, NextToken("meta.cursor", param="cursor"), None, 3),
    "last id": (by_last_id, LastId("id", param="starting_after", has_more="has_more"), None, 3),
    "number": (by_number, PageNumber(size=SIZE), None, 3),
    "number without a size": (by_number, PageNumber(), "items", 4),
    "number with the last": (by_number, PageNumber(last="pages"), None, 3),
    "offset": (by_offset, Offset(SIZE), None, 3),
    "offset with the total": (by_offset, Offset(5, total="total"), None, 5),
}


@pytest.mark.parametrize(("answer", "pagination", "records", "calls"), CASES.values(), ids=CASES)
def test_each_pagination_reads_all_pages_and_not_one_call_more(
    serve: Serve, answer: Answer, pagination: Any, records: str | None, calls: int
) -> None:
    server = serve(answer)
    polled = Polled(RestApi(server.url).get("/items", pagination=pagination, records=records))
    assert polled.poll() == ROWS
    assert len(server.asked) == calls
    assert "poll" not in polled.state


@pytest.mark.parametrize(("answer", "pagination", "records", "calls"), CASES.values(), ids=CASES)
def test_a_poll_that_ends_after_any_page_goes_on_behind_it(
    serve: Serve, answer: Answer, pagination: Any, records: str | None, calls: int
) -> None:
    resource = RestApi(serve(answer).url).get("/items", pagination=pagination, records=records)
    for pages in range(1, 3):
        polled = Polled(resource)
        frames = resource(polled.state)
        for _ in range(pages):
            polled.take(next(frames))
        frames.close()  # type: ignore[attr-defined]
        polled.poll()
        assert polled.rows == ROWS


def test_without_pagination_the_response_is_the_whole_list(serve: Serve) -> None:
    polled = Polled(RestApi(serve(by_link).url).get("/items"))
    assert polled.poll() == ROWS[:SIZE]


def test_a_search_by_post_has_its_parameters_in_the_body(serve: Serve) -> None:
    def answer(asked: Asked) -> Reply:
        body = asked.json
        assert body["filter"] == {"kind": "x"}
        return by_offset(Asked("POST", asked.path, body["page"], {}, b"", asked.base))

    server = serve(answer)
    pagination = Offset(SIZE, param="page.offset", limit_param="page.limit")
    resource = RestApi(server.url).post("/search", json={"filter": {"kind": "x"}}, pagination=pagination)
    assert Polled(resource).poll() == ROWS
    assert {asked.method for asked in server.asked} == {"POST"}


def test_the_params_of_a_post_are_in_its_query(serve: Serve) -> None:
    server = serve(lambda asked: Reply({"items": []}))
    api = RestApi(server.url)
    Polled(api.post("/search", json={"q": 1}, params={"api-version": "2024"}, pagination=Offset(5))).poll()
    assert server.asked[0].params == {"api-version": "2024"}
    assert server.asked[0].json == {"q": 1, "offset": 0, "limit": 5}


QUERY = "query ($after: String) { items(first: 10, after: $after) { nodes { id } pageInfo { hasNextPage endCursor } } }"


def by_graphql(asked: Asked) -> Reply:
    assert asked.json["query"] == QUERY
    at = int(asked.json["variables"].get("after", 0))
    info = {"hasNextPage": at + SIZE < len(ROWS), "endCursor": str(at + SIZE)}
    return Reply({"data": {"items": {"nodes": ROWS[at : at + SIZE], "pageInfo": info}}})


def test_a_connection_of_graphql_is_read_by_its_page_info(serve: Serve) -> None:
    server = serve(by_graphql)
    assert Polled(RestApi(server.url).graphql(QUERY, records="data.items.nodes")).poll() == ROWS
    assert [asked.json["variables"].get("after") for asked in server.asked] == [None, "10", "20"]


def test_an_error_of_graphql_fails_the_poll(serve: Serve) -> None:
    server = serve(lambda asked: Reply({"data": None, "errors": [{"message": "no field 'x'"}]}))
    with pytest.raises(PollError, match="GraphQL: no field 'x'"):
        Polled(RestApi(server.url).graphql(QUERY, records="data.items.nodes")).poll()


REPEATING: dict[str, tuple[Answer, Any]] = {
    "token": (
        lambda asked: Reply({"items": [{"id": len(asked.params)}], "meta": {"cursor": "a"}}),
        NextToken("meta.cursor", param="c"),
    ),
    "page": (lambda asked: Reply({"items": ROWS}), PageNumber()),
    "link": (lambda asked: Reply(ROWS, headers={"Link": f"<{asked.path}>; rel=next"}), LinkHeader()),
}


@pytest.mark.parametrize(("answer", "pagination"), REPEATING.values(), ids=REPEATING)
def test_a_page_or_token_that_repeats_ends_the_poll_with_its_rows_kept(
    serve: Serve, answer: Answer, pagination: Any
) -> None:
    polled = Polled(RestApi(serve(answer).url).get("/items", pagination=pagination))
    with pytest.raises(PollError, match="repeats: no end"):
        polled.poll()
    assert polled.rows
    assert "poll" not in polled.state


def test_more_than_max_pages_is_an_error_and_the_next_poll_goes_on_behind_them(serve: Serve) -> None:
    server = serve(by_number)
    polled = Polled(RestApi(server.url).get("/items", pagination=PageNumber(last="pages"), max_pages=2))
    with pytest.raises(PollError, match=r"more than max_pages=2 pages.*raise max_pages"):
        polled.poll()
    assert polled.rows == ROWS[:20]
    polled.poll()
    assert polled.rows == ROWS
    assert [asked.params["page"] for asked in server.asked] == ["1", "2", "3"]


def test_a_position_that_the_api_no_longer_knows_is_given_up_for_the_beginning(serve: Serve) -> None:
    gone: set[str] = set()

    def answer(asked: Asked) -> Reply:
        return Reply("gone", 410) if asked.params.get("cursor") in gone else by_token(asked)

    resource = RestApi(serve(answer).url).get("/items", pagination=NextToken("meta.cursor", param="cursor"))
    polled = Polled(resource)
    frames = resource(polled.state)
    next(frames)
    gone.add("t10")
    with pytest.raises(PollError, match="HTTP 410"):
        next(frames)
    gone.clear()
    gone.add("t10")
    with pytest.raises(PollError, match="HTTP 410"):
        polled.poll()
    assert polled.rows == ROWS[:SIZE]


WRONG: dict[str, tuple[Callable[[RestApi], Any], str]] = {
    "an option of get": (lambda api: api.get("/x", paginaton=LinkHeader()), "'paginaton'; did you mean 'pagination'"),
    "an option of graphql": (lambda api: api.graphql("q", records="a.nodes", key="id"), "'key'; did you mean 'keys'"),  # type: ignore[call-arg]
    "a path parameter": (lambda api: api.get("/{repo}/x", rpo="a"), "'rpo'; did you mean 'repo'"),
    "a missing path parameter": (lambda api: api.get("/{repo}/x"), "needs the argument repo="),
    "a way up": (lambda api: api.get("/{repo}/x", repo="../admin"), "can't stand in the path"),
    "a class": (lambda api: api.get("/x", pagination=LinkHeader), "call it"),  # type: ignore[arg-type]
    "an argument of a class": (lambda api: NextToken("a", parm="b"), "'parm'; did you mean 'param'"),  # type: ignore[call-arg]
    "a rate": (lambda api: RestApi("https://x.y", rate_limit="80 a minute"), "rate_limit of RestApi is '80 a minute'"),
    "a url": (lambda api: RestApi("ftp://x.y"), "url of RestApi"),
    "a password in a url": (lambda api: RestApi("https://me:pw@x.y"), "auth=Basic"),
    "a type": (lambda api: api.get("/x", types={"a": "decimal(2,9)"}), r"types\['a'\]"),
    "a path": (lambda api: api.get("/x", records="data..items"), "records='data..items' is not JMESPath"),
    "a dialect's name": (lambda api: NextUrl("@odata.nextLink"), "needs quotes: '\"@odata.nextLink\"'"),
    "keys beside fields": (lambda api: api.get("/x", fields={"uid": "id"}, keys="id"), "did you mean 'uid'"),
    "changes without keys": (lambda api: api.get("/x", changes_only=True), "changes_only needs keys"),
    "max_pages": (lambda api: api.get("/x", max_pages=0), "max_pages must be a whole number"),
    "a size": (lambda api: RestApi("https://x.y", max_response_bytes="big"), "max_response_bytes of RestApi is 'big'"),
    "a format": (lambda api: api.get("/x", format="jsonl"), "did you mean"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("make", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_argument_is_told_when_it_is_written_down(make: Callable[[RestApi], Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make(RestApi("https://api.example.com"))


def test_a_link_without_its_query_is_joined_to_the_page(serve: Serve) -> None:
    def answer(asked: Asked) -> Reply:
        more = f"?{urlencode({'page': 2})}" if not asked.params else None
        return Reply({"items": ROWS[:1] if not asked.params else ROWS[1:2], "next": more})

    assert Polled(RestApi(serve(answer).url).get("/items", pagination=NextUrl("next"))).poll() == ROWS[:2]


@pytest.mark.parametrize("tag", ["", '"one"'])
def test_a_list_that_grows_onto_a_second_page_has_changed_though_its_first_page_has_not(serve: Serve, tag: str) -> None:
    rows = ROWS[:SIZE]

    def answer(asked: Asked) -> Reply:
        page = int(asked.params.get("page", 1))
        found = rows[(page - 1) * SIZE : page * SIZE]
        more = {"Link": f'<{asked.path}?page={page + 1}>; rel="next"'} if page * SIZE < len(rows) else {}
        headers = more | ({"ETag": tag} if tag and page == 1 else {})
        if tag and asked.headers.get("If-None-Match") == tag:
            return Reply(status=304, headers=headers)
        return Reply(found, headers=headers)

    polled = Polled(RestApi(serve(answer).url).get("/items", pagination=LinkHeader(), keys="id"))
    polled.poll()
    assert polled.poll() == []
    rows = ROWS[: SIZE + 2]
    assert polled.poll() == rows


def test_pages_of_equal_rows_are_all_loaded(serve: Serve) -> None:
    rows = [{"v": 0}] * 9 + [{"v": 1}]

    def answer(asked: Asked) -> Reply:
        first = int(asked.params["offset"])
        return Reply(rows[first : first + 2])

    assert Polled(RestApi(serve(answer).url).get("/x", pagination=Offset(2))).poll() == rows
    rows = [{"v": 0}] * 5
    assert Polled(RestApi(serve(answer).url).get("/x", pagination=Offset(2))).poll() == rows


@pytest.mark.parametrize("pagination", [PageNumber(size=50, last="pages"), Offset(50, total="total")])
def test_an_api_that_returns_shorter_pages_than_requested_is_read_to_its_last_page(
    serve: Serve, pagination: Any
) -> None:
    def answer(asked: Asked) -> Reply:
        first = int(asked.params.get("offset", (int(asked.params.get("page", 1)) - 1) * SIZE))
        return Reply({"items": ROWS[first : first + SIZE], "pages": 3, "total": len(ROWS)})

    assert Polled(RestApi(serve(answer).url).get("/items", pagination=pagination)).poll() == ROWS


@pytest.mark.parametrize(("pagination", "option"), [(PageNumber(size=200), "size"), (Offset(200), "limit")])
def test_a_first_page_that_looks_capped_is_warned_of_once(
    serve: Serve, caplog: pytest.LogCaptureFixture, pagination: Any, option: str
) -> None:
    resource = RestApi(serve(lambda asked: Reply([{"id": number} for number in range(100)])).url).get(
        "/items", pagination=pagination
    )
    for _ in range(2):
        assert len(Polled(resource).poll()) == 100
    said = (
        f"{resource.endpoint.url} returned 100 records for a {option} of 200: if it never returns more, further pages "
        f"are not read; then set {option}=100"
    )
    assert [record.getMessage() for record in caplog.records].count(said) == 1


def test_an_api_that_ignores_the_number_of_the_page_has_its_rows_loaded_once(serve: Serve) -> None:
    polled = Polled(RestApi(serve(lambda asked: Reply(ROWS)).url).get("/items", pagination=PageNumber()))
    with pytest.raises(PollError, match="repeats: no end"):
        polled.poll()
    assert polled.rows == ROWS


def cut_off_after_two_pages(resource: Any) -> Polled:
    polled = Polled(resource)
    frames = resource(polled.state)
    for _ in range(2):
        polled.take(next(frames))
    frames.close()
    return polled


@pytest.mark.parametrize("status", [200, 401, 403, 500])
def test_a_position_at_which_three_polls_fail_is_given_up_if_the_list_begins(serve: Serve, status: int) -> None:
    forgotten: set[int] = set()

    def answer(asked: Asked) -> Reply:
        at = int(asked.json["variables"].get("after", 0))
        return Reply({"errors": [{"message": "no such cursor"}]}, status) if at in forgotten else by_graphql(asked)

    resource = RestApi(serve(answer).url, tries=1).graphql(QUERY, records="data.items.nodes", keys="id")
    polled = cut_off_after_two_pages(resource)
    forgotten.add(20)
    for _ in range(2):
        with pytest.raises(PollError):
            polled.poll()
    with pytest.raises(PollError):
        polled.poll()
    assert polled.rows == [*ROWS[:20], *ROWS[:20]]
    forgotten.clear()
    polled.poll()
    assert polled.rows[-5:] == ROWS[20:]


def test_a_position_is_kept_while_the_api_is_down(serve: Serve) -> None:
    left = [0]

    def answer(asked: Asked) -> Reply:
        left[0] -= 1
        return Reply("down", 500) if left[0] >= 0 else by_number(asked)

    server = serve(answer)
    polled = cut_off_after_two_pages(RestApi(server.url, tries=1).get("/items", pagination=PageNumber(last="pages")))
    for calls in (1, 1, 2, 2):
        left[0] = calls
        with pytest.raises(PollError, match="HTTP 500"):
            polled.poll()
    left[0] = 1  # it comes back in the middle of a poll
    polled.poll()
    assert polled.rows == ROWS
    assert [asked.params["page"] for asked in server.asked[-3:]] == ["3", "1", "3"]


def test_a_secret_that_stands_in_the_resources_own_url_does_not_keep_a_poll_from_going_on(serve: Serve) -> None:
    server = serve(by_link)
    for token in ("items", "item", "page1234"):
        api = RestApi(server.url, auth=BearerToken(token))
        polled = Polled(api.get("/items", pagination=LinkHeader(), max_pages=2))
        with pytest.raises(PollError, match="max_pages"):
            polled.poll()
        assert polled.state["poll"]["at"] is not None
        polled.poll()
        assert polled.rows == ROWS


@pytest.mark.parametrize("name", ["item", "items"])
def test_a_user_name_that_occurs_in_the_url_does_not_keep_a_poll_from_going_on(serve: Serve, name: str) -> None:
    def answer(asked: Asked) -> Reply:
        reply = by_link(asked)
        return Reply(reply.body, headers={"Link": reply.headers["Link"].replace("?page", f"?owner={name}&page")})

    api = RestApi(serve(answer).url, auth=Basic(name, "x7-of-nobody"))
    polled = Polled(api.get("/items", pagination=LinkHeader(), max_pages=2))
    with pytest.raises(PollError, match="max_pages"):
        polled.poll()
    polled.poll()
    assert polled.rows == ROWS
