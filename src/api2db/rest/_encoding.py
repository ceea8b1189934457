"""Decompression of response bodies, with a limit on their size. A truncated body is an error."""

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

from api2db.errors import PollError, from_extra

ACCEPTED: Final = "gzip, deflate, br, zstd"
_STEP_BYTES: Final = 1 << 16


class _Decoder(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decompress bytes, and yield them in small pieces."""

    @property
    def finished(self) -> bool:
        """Whether the end of the compressed data has been seen."""


class _Gzip:
    """One member, or several that follow each other and are one body."""

    def __init__(self) -> None:
        self._decoder = _new_gzip()

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._decoder.eof:
                data = data.lstrip(b"\0")  # some writers pad to a block
                if not data:
                    return
                self._decoder = _new_gzip()
            yield from _inflated(self._decoder, data)
            data = self._decoder.unused_data if self._decoder.eof else b""

    @property
    def finished(self) -> bool:
        return self._decoder.eof


class _Deflate:
    """``deflate`` is zlib's format by the standard, and the bare stream in some servers."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if data and not self._begun:
            self._begun = True
            if data[0] & 0x0F != zlib.DEFLATED:
                self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)
        if data and self._decoder.eof:
            raise zlib.error("there is data behind its end")
        yield from _inflated(self._decoder, data)
        if self._decoder.unused_data:
            raise zlib.error("there is data behind its end")

    @property
    def finished(self) -> bool:
        return self._decoder.eof


def _new_gzip() -> "zlib._Decompress":
    return zlib.decompressobj(zlib.MAX_WBITS | 16)


def _inflated(decoder: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    """Decompress data in steps. After a full step the decoder may hold more although it has taken all data."""
    while True:
        piece = decoder.decompress(data, _STEP_BYTES)
        yield piece
        data = decoder.unconsumed_tail
        if decoder.eof or (not data and len(piece) < _STEP_BYTES):
            return


class _Brotli:
    def __init__(self) -> None:
        with from_extra("brotli", "rest"):
            import brotli
        self._decoder = brotli.Decompressor()
        self.errors: type[Exception] = brotli.error

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            yield self._decoder.process(data, output_buffer_limit=_STEP_BYTES)
            while not self._decoder.can_accept_more_data():
                yield self._decoder.process(b"", output_buffer_limit=_STEP_BYTES)
        except self.errors as error:
            raise zlib.error(str(error)) from None

    @property
    def finished(self) -> bool:
        return bool(self._decoder.is_finished())


class _Zstandard:
    """One frame, or several that follow each other and are one body."""

    def __init__(self) -> None:
        with from_extra("zstandard", "rest"):
            import zstandard
        self._frames = zstandard.ZstdDecompressor()
        self._decoder = self._frames.decompressobj()
        self.errors: type[Exception] = zstandard.ZstdError

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            for start in range(0, len(data), 1024):
                step = data[start : start + 1024]
                while step:
                    if self._decoder.eof:
                        self._decoder = self._frames.decompressobj()
                    yield self._decoder.decompress(step)
                    step = self._decoder.unused_data
        except self.errors as error:
            raise zlib.error(str(error)) from None

    @property
    def finished(self) -> bool:
        return bool(self._decoder.eof)


class _Identity:
    finished = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data


class Decompression:
    """Decompresses a body piece by piece.

    Args:
        encoding: The value of ``Content-Encoding``.
        most: The maximum number of bytes received.
        most_decompressed: The maximum number of bytes once decompressed.

    Raises:
        PollError: The encoding is unknown.
    """

    def __init__(self, encoding: str, most: int, most_decompressed: int) -> None:
        self._decoder = _decoder(encoding)
        self._encoding = encoding
        self._most = most
        self._most_decompressed = most_decompressed
        self._taken = self._made = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed pieces of a piece of the body.

        Raises:
            PollError: The body is too large or damaged.
        """
        self._taken += len(data)
        _check(self._taken, self._most, "the response", "max_response_bytes")
        try:
            for piece in self._decoder.feed(data):
                self._made += len(piece)
                _check(self._made, self._most_decompressed, "the decompressed response", "max_decompressed_bytes")
                yield piece
        except zlib.error as error:
            raise PollError(f"the response is not valid {self._encoding}: {error}") from None

    def end(self) -> None:
        """Check that the body is complete.

        Raises:
            PollError: It is truncated.
        """
        if self._taken and not self._decoder.finished:
            raise PollError(f"the response ends in the middle of its {self._encoding} data")


def _decoder(encoding: str) -> _Decoder:
    match encoding.strip().lower():
        case "" | "identity":
            return _Identity()
        case "gzip" | "x-gzip":
            return _Gzip()
        case "deflate":
            return _Deflate()
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstandard()
    raise PollError(f"the response has Content-Encoding {encoding!r}; it may be one of {ACCEPTED}")


def _check(count: int, most: int, what: str, option: str) -> None:
    if count > most:
        raise PollError(f"{what} has more than {most} bytes; raise {option} of RestApi if that is right")
