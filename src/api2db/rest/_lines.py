"""Lines: a reader of large bodies of lines. It keeps one piece of the body in memory."""

import hashlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from api2db.errors import PollError
from api2db.rest._effects import Answer, Read, Steps, TimeUpError
from api2db.rest._encoding import Decompression

_PIECE_BYTES: Final = 1 << 20


class Lines:
    """The lines of a response.

    Args:
        answer: The response.
        longest_bytes: The maximum size of a line.
        until_s: When the poll ends, in seconds of ``time.monotonic``.

    Attributes:
        count: The number of lines read so far.
    """

    def __init__(self, answer: Answer, longest_bytes: int, until_s: float) -> None:
        self._answer = answer
        self._longest_bytes = longest_bytes
        self._until_s = until_s
        encoding = answer.response.headers.get("content-encoding", "")
        self._decompression = Decompression(encoding, sys.maxsize, sys.maxsize)
        self._pieces: Iterator[bytes] = self._decompression.feed(answer.first)
        self._buffer = bytearray()
        self._hash = hashlib.blake2b(digest_size=12)
        self._size_bytes = 0
        self.count = 0

    @property
    def position(self) -> dict[str, Any]:
        """The lines read so far, as their number, size and hash: a JSON value."""
        return {"bytes": self._size_bytes, "lines": self.count, "hash": self._hash.hexdigest()}

    def skip(self, position: Mapping[str, Any]) -> Steps[bool]:
        """Skip the lines of a position; return whether the body begins with the same lines."""
        while self._size_bytes < position["bytes"]:
            left = position["bytes"] - self._size_bytes
            if not self._buffer and not (yield from self._more()):
                return False
            self._taken(min(left, len(self._buffer)))
        return self.position == position

    def next(self) -> Steps[bytes]:
        """Return the next lines, about 1 MB of them; empty at the end.

        Raises:
            PollError: A line is too long.
            TimeUpError: The poll has taken as long as it may.
        """
        searched = cut = 0
        while not cut:
            if len(self._buffer) >= _PIECE_BYTES:
                fits = self._buffer.rfind(b"\n", 0, _PIECE_BYTES) + 1 if not searched else 0
                cut, searched = fits or self._buffer.find(b"\n", searched) + 1, len(self._buffer)
            if not cut and len(self._buffer) > self._longest_bytes:
                raise PollError(
                    f"line {self.count + 1} has more than {self._longest_bytes} bytes; raise max_response_bytes of "
                    "RestApi if that is right"
                )
            if not cut and not (yield from self._more()):
                return self._taken(len(self._buffer))
        return self._taken(cut)

    def is_over(self) -> Steps[bool]:
        """Return whether the body has been read to its end."""
        while not self._buffer:
            if not (yield from self._more()):
                return True
        return False

    def _taken(self, size_bytes: int) -> bytes:
        piece = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        self._hash.update(piece)
        self._size_bytes += size_bytes
        self.count += piece.count(b"\n")
        return piece

    def _more(self) -> Steps[bool]:
        """Read more into the buffer; return False at the end of the body."""
        for data in self._pieces:
            self._buffer += data
            return True
        if self._answer.is_over:
            self._decompression.end()
            return False
        if time.monotonic() > self._until_s:
            raise TimeUpError(
                f"the response did not end within max_poll_time of RestApi, and the next poll goes on at line "
                f"{self.count + 1}; raise it if the API is that slow"
            )
        self._pieces = self._decompression.feed((yield Read(self._answer, self._until_s)))
        return True
