"""Wrong arguments: each is told of where it is written, by its name."""

from collections.abc import Callable
from typing import Any

import pytest

from api2db.errors import ConfigurationError
from api2db.rest import ApiKey, BearerToken, Cursor, LastId, NextToken, Offset, PageNumber, RestApi, SecretFile

URL = "https://api.example.com"
API: Any = RestApi(URL)
Make: Any = RestApi

WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "timeout": (lambda: Make(URL, timeout=0), "timeout of RestApi is 0; it must be more than 0"),
    "max_poll_time": (lambda: Make(URL, max_poll_time="0s"), "max_poll_time of RestApi is '0s'"),
    "allow_private": (lambda: Make(URL, allow_private="no"), "allow_private of RestApi must be True or False"),
    "size": (lambda: Make(URL, max_response_bytes="0MB"), "max_response_bytes of RestApi is '0MB'"),
    "rate": (lambda: Make(URL, rate_limit="1/00s"), "rate_limit of RestApi is '1/00s'"),
    "fragment": (lambda: Make(f"{URL}#x"), "url of RestApi has a fragment"),
    "blank": (lambda: Make("https://api exa.com"), "a blank or a control character"),
    "class": (lambda: Make(URL, auth=BearerToken), "the class BearerToken itself: call it"),
    "headers": (lambda: Make(URL, headers="x"), "headers of RestApi must be a dict"),
    "newline": (lambda: API.get("/a", headers={"X": "a\nb"}), "headers.'X'. must be text of ASCII without a newline"),
    "int": (lambda: API.get("/a", headers={"X": 1}), "headers.'X'. must be text"),
    "header's name": (lambda: API.get("/a", headers={"X Y": "1"}), "'X Y', which is no name of a header"),
    "whole URL": (lambda: API.get("https://other.example.com/a"), "must be a path below the url"),
    "format in braces": (lambda: API.get("/a/{id:03}", id=5), "braces may hold a plain name"),
    "attribute in braces": (lambda: API.get("/a/{id.x}", id=5), "braces may hold a plain name"),
    "nested params": (lambda: API.get("/a", params={"a": {"b": 1}}), "params.'a'. must be a plain value"),
    "xml": (lambda: API.get("/a", format="xml"), "format='xml' needs records="),
    "records": (lambda: API.get("/a", records=5), "records must be text"),
    "fields": (lambda: API.get("/a", fields=["a"]), "fields must be a dict"),
    "changes_only": (lambda: API.get("/a", keys="id", changes_only="no"), "changes_only must be True or False"),
    "flatten": (lambda: API.get("/a", flatten="no"), "flatten must be True or False"),
    "include_parent": (lambda: API.get("/a/{id}", for_each=API.get("/b"), include_parent="id"), "must be a dict"),
    "PageNumber": (lambda: PageNumber(param=5), "param of PageNumber must be text"),  # type: ignore[arg-type]
    "LastId": (lambda: LastId("id", None), "param of LastId must be text"),  # type: ignore[arg-type]
    "NextToken": (lambda: NextToken("a", param=""), "param of NextToken must be text"),
    "Offset": (lambda: Offset(5, limit_param=""), "limit_param of Offset must be text"),
    "ApiKey": (lambda: ApiKey("k", header="X\n"), "no name of a header"),
    "Cursor": (lambda: Cursor("a", param=5), "param of Cursor"),  # type: ignore[arg-type]
    "overlap": (lambda: Cursor("a", type="number", overlap="5m"), "a duration, and its values are numbers"),
    "overlap of a number": (lambda: Cursor("a", initial=5, overlap="5m"), "a duration, and its values are numbers"),
    "template": (lambda: Cursor("a", template=5), "template of Cursor must be text"),  # type: ignore[arg-type]
    "SecretFile": (lambda: SecretFile(fil="x", field="y"), "did you mean 'file'"),  # type: ignore[call-arg]
    "no path": (API.get, "missing a required argument: 'path'"),
    "graphql": (lambda: API.graphql("q", recrods="x", records="a"), "no argument 'recrods'; did you mean 'records'"),
    "variables": (lambda: API.graphql("q", ["a"], records="x"), "variables must be a dict"),
    "records of graphql": (lambda: API.graphql("q", records=5), "records must be text"),
    "post": (lambda: API.post("/a", jsn={}, json={}), "no argument 'jsn'; did you mean 'json'"),
    "post without json": (lambda: API.post("/a", jsn={}), "missing a required argument: 'json'; 'jsn' may be meant"),
}


@pytest.mark.parametrize(("make", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_argument_is_told_of_at_once(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make()


def test_no_message_shows_the_value_of_a_header() -> None:
    with pytest.raises(ConfigurationError) as caught:
        RestApi(URL, headers={"X-Key": "canary\n"})
    assert "canary" not in str(caught.value)
