"""A network between a client and a server, with switches for what networks do."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self

CHUNK_BYTES = 64 << 10
# Linger for no time: what closes such a socket sends a reset.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
SWITCHED_WITHIN_S = 10


@dataclass
class _Line:
    """One connection: the client's side and the server's."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    seen: bytes = b""
    answers_dropped: bool = False

    def cut(self) -> None:
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            side.transport.abort()


@dataclass
class _Switches:
    refusing: bool = False
    bytes_per_s: float | None = None
    answers_dropped: bool = False
    drop_after: bytes | None = None
    cut_at_answer: bool = False
    cut_after_bytes: int | None = None


@dataclass
class Proxy:
    """Forwards a port of this machine to a server; a context manager.

    What it forwarded is counted in ``bytes_to_server`` and ``bytes_to_client``; ``connections`` counts those accepted,
    ``cuts`` how often ``reset_after`` has cut all, ``answers_lost`` those cut because ``drop_answers`` was told to.
    """

    server_host: str
    server_port: int
    host: str = "127.0.0.1"
    port: int = 0
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    connections: int = 0
    cuts: int = 0
    answers_lost: int = 0
    _lines: list[_Line] = field(default_factory=list, repr=False)
    _switches: _Switches = field(default_factory=_Switches, repr=False)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *exception: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def reset(self) -> None:
        """Cut every connection there is with a reset; new ones are taken."""
        self._switch(self._cut_all)

    def refuse(self) -> None:
        """Cut every connection, and each new one, until healed."""
        self._switch(self._cut_all, refusing=True)

    def reset_after(self, size_bytes: int) -> None:
        """Cut every connection once so many more bytes have gone to the server, once."""
        self._switch(cut_after_bytes=self.bytes_to_server + size_bytes)

    def drop_answers(self, after: bytes | None = None, *, then_reset: bool = False) -> None:
        """Lose what servers answer from now on, while they still get all that clients send.

        Args:
            after: Only on a connection over which a client sends these bytes, from then on, and only on the first
                that does: with ``b"COMMIT"``, the answer to one COMMIT is lost. They are not seen in what is
                encrypted, as PyMySQL does by itself where the server can.
            then_reset: Cut that connection when its answer is there: the server has then done what it was asked.
        """
        self._switch(answers_dropped=after is None, drop_after=after, cut_at_answer=then_reset)

    def pause(self) -> None:
        """Forward nothing, in either direction, with connections left open."""
        self._switch(self._open.clear)

    def resume(self) -> None:
        """Forward again, with all that was held back."""
        self._switch(self._open.set)

    def throttle(self, kilobytes_per_s: float) -> None:
        """Forward no faster, in each direction of each connection."""
        self._switch(bytes_per_s=kilobytes_per_s * 1000)

    def heal(self) -> None:
        """Set every switch back; connections whose answers were dropped are cut, as they can't be mended."""
        self._switch(self._mend)

    def _switch(self, act: Callable[[], None] | None = None, **changes: Any) -> None:
        async def change() -> None:
            for name, value in changes.items():
                setattr(self._switches, name, value)
            if act:
                act()

        self._run(change())

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(SWITCHED_WITHIN_S)

    def _mend(self) -> None:
        for line in list(self._lines):
            if line.answers_dropped or self._switches.answers_dropped:
                line.cut()
        self._switches = _Switches()
        self._open.set()

    def _cut_all(self) -> None:
        for line in list(self._lines):
            line.cut()

    async def _listen(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._listener = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._listener.close()
        self._open.set()
        self._cut_all()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            answers, to_server = await asyncio.open_connection(self.server_host, self.server_port)
        except OSError:
            _Line(writer, writer).cut()
            return
        line = _Line(writer, to_server)
        if self._switches.refusing:
            line.cut()
            return
        self._lines.append(line)
        try:
            await asyncio.gather(self._carry_requests(line, reader), self._carry_answers(line, answers))
        finally:
            self._lines.remove(line)
            writer.close()
            to_server.close()

    async def _carry_requests(self, line: _Line, reader: asyncio.StreamReader) -> None:
        async for chunk in self._chunks(line, reader):
            self._look(line, chunk)
            self.bytes_to_server += len(chunk)
            if not await _forwarded(line.server, chunk):
                break
            limit = self._switches.cut_after_bytes
            if limit is not None and self.bytes_to_server >= limit:
                self._switches.cut_after_bytes = None
                self._cut_all()
                self.cuts += 1
        _end(line.server)

    async def _carry_answers(self, line: _Line, reader: asyncio.StreamReader) -> None:
        async for chunk in self._chunks(line, reader):
            if line.answers_dropped and self._switches.cut_at_answer:
                line.cut()
                self.answers_lost += 1
                break
            if line.answers_dropped or self._switches.answers_dropped:
                continue
            self.bytes_to_client += len(chunk)
            if not await _forwarded(line.client, chunk):
                break
        if not line.answers_dropped:
            _end(line.client)

    async def _chunks(self, line: _Line, reader: asyncio.StreamReader) -> Any:
        while True:
            try:
                chunk = await reader.read(self._chunk_size())
            except OSError:
                line.cut()
                return
            if not chunk:
                return
            await self._open.wait()
            if self._switches.bytes_per_s:
                await asyncio.sleep(len(chunk) / self._switches.bytes_per_s)
            yield chunk

    def _chunk_size(self) -> int:
        speed = self._switches.bytes_per_s
        return CHUNK_BYTES if speed is None else max(1, min(CHUNK_BYTES, int(speed / 10)))

    def _look(self, line: _Line, chunk: bytes) -> None:
        wanted = self._switches.drop_after
        if not wanted:
            return
        line.seen = (line.seen + chunk)[-len(wanted) - len(chunk) :]
        if wanted in line.seen:
            line.answers_dropped = True
            self._switches.drop_after = None


async def _forwarded(writer: asyncio.StreamWriter, chunk: bytes) -> bool:
    try:
        writer.write(chunk)
        await writer.drain()
    except OSError:
        return False
    return True


def _end(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()
