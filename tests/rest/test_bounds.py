"""Bounds of what a server may send, and faults of a server: never half a page, always an error that says what to do."""

import gzip
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import brotli
import pytest
import zstandard

from api2db.errors import PollError
from api2db.rest import ApiKey, NextUrl, Offset, RestApi
from api2db.rest import _addresses as addresses
from api2db.rest import _http as http
from api2db.rest import _transfer as transfer
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Reply

BODY = b'[{"id": 1}, {"id": 2}]'
ROWS = [{"id": 1}, {"id": 2}]
RAW_DEFLATE = zlib.compressobj(wbits=-15)

ENCODINGS: dict[str, tuple[str, bytes]] = {
    "gzip": ("gzip", gzip.compress(BODY)),
    "deflate": ("deflate", zlib.compress(BODY)),
    "bare deflate": ("deflate", RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush()),
    "br": ("br", brotli.compress(BODY)),
    "zstd": ("zstd", zstandard.compress(BODY)),
    "none": ("identity", BODY),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_FIRST_PAUSE_S", 0.001)


def poll(serve: Serve, body: bytes, headers: Mapping[str, str] | None = None, **options: Any) -> list[dict[str, Any]]:
    server = serve(lambda asked: Reply(body, headers=headers or {}))
    return Polled(RestApi(server.url, **options).get("/x")).poll()


@pytest.mark.parametrize(("encoding", "body"), ENCODINGS.values(), ids=ENCODINGS)
def test_responses_may_be_compressed(serve: Serve, encoding: str, body: bytes) -> None:
    assert poll(serve, body, {"Content-Encoding": encoding}) == ROWS


@pytest.mark.parametrize(
    ("encoding", "body"), [case for name, case in ENCODINGS.items() if name != "none"], ids=[*ENCODINGS][:-1]
)
def test_compressed_data_that_is_cut_off_is_an_error(serve: Serve, encoding: str, body: bytes) -> None:
    with pytest.raises(PollError, match=f"in the middle of its {encoding}|not valid {encoding}"):
        poll(serve, body[:-3], {"Content-Encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_data_of_several_parts_is_read_to_its_end(serve: Serve, encoding: str) -> None:
    known: dict[str, Any] = {"gzip": gzip.compress, "zstd": zstandard.compress}
    compress = known[encoding]
    parts = [compress(part) for part in (BODY[:9], b"", BODY[9:])]
    assert poll(serve, b"".join(parts), {"Content-Encoding": encoding}) == ROWS
    with pytest.raises(PollError, match=f"in the middle of its {encoding}"):
        poll(serve, b"".join(parts)[:-3], {"Content-Encoding": encoding})


def test_gzip_may_be_padded_with_zeros(serve: Serve) -> None:
    assert poll(serve, gzip.compress(BODY) + bytes(100), {"Content-Encoding": "gzip"}) == ROWS


@pytest.mark.parametrize(
    ("encoding", "body"), [case for name, case in ENCODINGS.items() if name != "none"], ids=[*ENCODINGS][:-1]
)
def test_other_data_behind_compressed_data_is_an_error(serve: Serve, encoding: str, body: bytes) -> None:
    with pytest.raises(PollError, match=f"not valid {encoding}"):
        poll(serve, body + b"junk", {"Content-Encoding": encoding})


def bomb(encoding: str) -> bytes:
    compress = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstandard.compress}
    return bytes(compress[encoding](bytes(10_000_000)))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_what_a_response_decompresses_to_is_bounded(serve: Serve, encoding: str) -> None:
    with pytest.raises(PollError, match="more than 1000000 bytes; raise max_decompressed_bytes of RestApi"):
        poll(serve, bomb(encoding), {"Content-Encoding": encoding}, max_decompressed_bytes="1MB")


def test_the_bytes_of_a_response_are_bounded(serve: Serve) -> None:
    with pytest.raises(PollError, match="more than 1000 bytes; raise max_response_bytes of RestApi"):
        poll(serve, b"[" + b" " * 2000 + b"]", max_response_bytes=1000)


@pytest.mark.parametrize("depth", [20, 100_000])
def test_the_depth_of_a_document_is_bounded(serve: Serve, depth: int) -> None:
    with pytest.raises(PollError, match="nested deeper than 10 levels; raise max_depth of RestApi"):
        poll(serve, b"[" * depth + b"]" * depth, max_depth=10)


def test_a_poll_ends_in_time_though_the_server_drips(serve: Serve) -> None:
    def answer(asked: Any) -> Reply:
        return Reply(b"x", headers={"Content-Length": "100"})

    begin_s = time.monotonic()
    with pytest.raises(PollError):
        Polled(RestApi(serve(answer).url, timeout=0.1, max_poll_time="1s", tries=2).get("/x")).poll()
    assert time.monotonic() - begin_s < 5


@contextmanager
def dripping_headers() -> Iterator[str]:
    """A server that sends the headers of its response byte by byte, without an end."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve_one() -> None:
            with suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nX-A: ")
                    while True:
                        connection.sendall(b"a")
                        time.sleep(0.02)

        thread = threading.Thread(target=serve_one)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_poll_ends_in_time_though_the_headers_drip() -> None:
    with dripping_headers() as url, pytest.raises(PollError, match="max_poll_time"):
        Polled(RestApi(url, max_poll_time="200ms").get("/x")).poll()


def test_a_poll_ends_in_time_though_a_name_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = threading.Event()
    monkeypatch.setattr(transfer, "public_address", lambda origin: resolved.wait(20))
    api = RestApi("http://api.example", allow_private=False, max_poll_time="100ms")
    with pytest.raises(PollError, match="max_poll_time"):
        Polled(api.get("/x")).poll()
    assert not resolved.is_set()
    resolved.set()


FAULTS: dict[str, tuple[bytes, Mapping[str, str], str]] = {
    "not UTF-8": (b'[{"a": "\xff"}]', {}, "not UTF-8: invalid start byte at byte"),
    "cut JSON": (BODY[:-5], {}, "not JSON: .*it begins with"),
    "a page of HTML": (b"<html>login</html>", {}, "not JSON: .*'<html>login</html>'"),
    "nothing": (b" ", {}, "not JSON"),
    "NaN": (b'[{"a": NaN}]', {}, "not JSON"),
    "an unknown encoding": (BODY, {"Content-Encoding": "lzma"}, "Content-Encoding 'lzma'; it may be one of gzip"),
    "no gzip": (BODY, {"Content-Encoding": "gzip"}, "not valid gzip"),
    "an unknown charset": (BODY, {"Content-Type": "application/json; charset=klingon"}, "charset 'klingon'"),
}


@pytest.mark.parametrize(("body", "headers", "says"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_response_gives_no_row_and_a_clear_error(
    serve: Serve, body: bytes, headers: Mapping[str, str], says: str
) -> None:
    with pytest.raises(PollError, match=says):
        poll(serve, body, headers)


def test_a_byte_order_mark_is_passed_over(serve: Serve) -> None:
    assert poll(serve, b"\xef\xbb\xbf" + BODY) == ROWS


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x.y/z", "gopher://x"])
@pytest.mark.parametrize("how", ["redirect", "link"])
def test_other_schemes_are_not_followed(serve: Serve, target: str, how: str) -> None:
    reply = Reply(status=302, headers={"Location": target}) if how == "redirect" else Reply({"a": [{}], "next": target})
    with pytest.raises(PollError, match="not a URL of http or https"):
        Polled(RestApi(serve(lambda asked: reply).url).get("/x", pagination=NextUrl("next"))).poll()


def test_redirects_without_end_are_an_error(serve: Serve) -> None:
    server = serve(lambda asked: Reply(status=302, headers={"Location": f"{asked.path}x"}))
    with pytest.raises(PollError, match="more than 10 redirects"):
        Polled(RestApi(server.url).get("/x")).poll()
    assert len(server.asked) == 11


@pytest.mark.parametrize("how", ["redirect", "link"])
def test_by_default_nothing_but_the_api_itself_may_lead_to_a_private_address(serve: Serve, how: str) -> None:
    other = serve(lambda asked: Reply([]))
    reply = (
        Reply(status=307, headers={"Location": other.url})
        if how == "redirect"
        else Reply({"a": [{}], "next": other.url})
    )
    with pytest.raises(PollError, match=r"has the address 127.0.0.1, which is private; set allow_private=True"):
        Polled(RestApi(serve(lambda asked: reply).url).get("/x", pagination=NextUrl("next"))).poll()
    assert not other.asked


def test_without_private_addresses_the_api_itself_may_not_have_one(serve: Serve) -> None:
    server = serve(lambda asked: Reply([]))
    with pytest.raises(PollError, match="which is private"):
        Polled(RestApi(server.url, allow_private=False).get("/x")).poll()
    assert not server.asked


PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "127.0.0.1",
    "0.0.0.0",
    "::1",
    "fe80::1",
    "fd00::1",
    "::ffff:10.0.0.1",
    "100.64.0.1",
    "224.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::1",
    "fec0::1",
    "::ffff:0:127.0.0.1",
    "::",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_a_name_resolves_to_is_what_counts(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(family, socket.SOCK_STREAM, 6, "", (address, 80))])
    with pytest.raises(PollError, match="which is private"):
        addresses.public_address(addresses.origin_of("http://innocent.example"))


def test_a_checked_address_is_the_one_that_is_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(lambda asked: Reply([{"host": asked.headers["host"]}]))
    port = server.url.rpartition(":")[2]
    monkeypatch.setattr(transfer, "public_address", lambda origin: "127.0.0.1")
    rows = Polled(RestApi(f"http://api.example:{port}", allow_private=False).get("/x")).poll()
    assert rows == [{"host": f"api.example:{port}"}]


def test_cookies_are_not_kept(serve: Serve) -> None:
    server = serve(lambda asked: Reply([{"n": 1}], headers={"Set-Cookie": "session=abc; Path=/"}))
    for _ in range(2):
        Polled(RestApi(server.url).get("/x")).poll()
    assert [asked.headers.get("cookie") for asked in server.asked] == [None, None]


BAD_LINKS = ["http://[bad/x", "http://a:99999/", f"http://{'a' * 70}.com/", "http://x y/\x00"]


@pytest.mark.parametrize("allow_private", [None, True])
@pytest.mark.parametrize("how", ["redirect", "link"])
@pytest.mark.parametrize("target", BAD_LINKS)
def test_a_link_that_is_no_url_is_a_poll_error(
    serve: Serve,
    target: str,
    how: str,
    allow_private: bool | None,  # noqa: FBT001 - as pytest gives it
) -> None:
    def answer(asked: Any) -> Reply:
        if how == "redirect":
            return Reply(status=302, headers={"Location": target.replace("\x00", "%00")})
        return Reply({"items": [{"id": 1}], "next": target})

    api = RestApi(serve(answer).url, tries=1, allow_private=allow_private)
    with pytest.raises(PollError):
        Polled(api.get("/x", records="items", pagination=NextUrl("next"))).poll()


def test_a_total_that_is_no_number_is_a_poll_error(serve: Serve) -> None:
    server = serve(lambda asked: Reply({"total": "many", "items": [{"id": 1}]}))
    with pytest.raises(PollError, match="is of no use to Offset"):
        Polled(RestApi(server.url).get("/x", records="items", pagination=Offset(1, total="total"))).poll()


@pytest.mark.parametrize("errors", ["nope", {"message": "nope"}, ["nope"], [{"message": "nope"}]])
def test_errors_of_graphql_may_have_any_form(serve: Serve, errors: Any) -> None:
    server = serve(lambda asked: Reply({"errors": errors}))
    with pytest.raises(PollError, match=r"GraphQL: nope$"):
        Polled(RestApi(server.url).graphql("query", records="data.x.nodes")).poll()


def test_no_content_is_no_record(serve: Serve) -> None:
    resource = RestApi(serve(lambda asked: Reply(b"", 204)).url).get("/x", records="items")
    assert Polled(resource).poll() == []


def test_a_declaration_in_any_encoding_of_xml_is_refused(serve: Serve) -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY e "x">]><a><b><id>&e;</id></b></a>'
    server = serve(lambda asked: Reply(text.encode("utf-16")))
    with pytest.raises(PollError, match="declares a document type"):
        Polled(RestApi(server.url).get("/x", format="xml", records="a.b")).poll()


def test_a_link_keeps_bytes_that_are_no_utf_8(serve: Serve) -> None:
    pages = [{"items": [{"id": 1}], "next": "/x?tok=%FF%FE&api_key=kkkk"}, {"items": [], "next": None}]
    server = serve(lambda asked: Reply(pages[min(1, len(server.asked) - 1)]))
    api = RestApi(server.url, auth=ApiKey("kkkk", param="api_key"))
    Polled(api.get("/x", records="items", pagination=NextUrl("next"))).poll()
    assert server.asked[1].query == "tok=%FF%FE&api_key=kkkk"


def test_another_host_is_not_sent_the_body_of_a_post(serve: Serve) -> None:
    other = serve(lambda asked: Reply([]))
    server = serve(lambda asked: Reply(status=307, headers={"Location": f"{other.url}/y?k=v"}))
    with pytest.raises(PollError, match=r"redirects a POST to .*/y, another host"):
        Polled(RestApi(server.url, allow_private=True).post("/x", json={"api_key": "canary"})).poll()
    assert not other.asked
