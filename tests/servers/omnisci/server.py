"""Listens on a port of this machine, in the binary protocol or over HTTP."""

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pyarrow as pa
from heavydb.thrift.Heavy import Processor
from thrift.protocol.TBinaryProtocol import TBinaryProtocolAcceleratedFactory
from thrift.protocol.TJSONProtocol import TJSONProtocol
from thrift.server.TServer import TThreadedServer
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TBufferedTransportFactory, TMemoryBuffer

from tests.servers.omnisci.faults import Faults
from tests.servers.omnisci.handler import DATABASE, PASSWORD, USER, Handler
from tests.servers.omnisci.reach import Reach


class OmnisciServer:
    """A running server; a context manager.

    Attributes:
        faults: Its switches.
        port: Of the binary protocol.
        http_port: Of HTTP.
    """

    user, password, database, host = USER, PASSWORD, DATABASE, "127.0.0.1"

    def __init__(self) -> None:
        self.faults = Faults()
        self.handler = Handler(self.faults)
        self._threads = _Threads(Processor(self.handler))
        self._connections: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._http = ThreadingHTTPServer((self.host, 0), _http_handler(self._threads.processor))
        self.http_port: int = self._http.server_address[1]
        self._serving = [
            threading.Thread(target=self._accept, name="omnisci", daemon=True),
            threading.Thread(target=self._http.serve_forever, args=(0.02,), name="omnisci-http", daemon=True),
        ]
        for thread in self._serving:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._http.shutdown()
        self._http.server_close()
        for thread in self._serving:
            thread.join()

    @property
    def reach(self) -> Reach:
        """How a client reaches it in the binary protocol."""
        return Reach(self.user, self.password, self.host, self.port, self.database)

    @property
    def loads(self) -> int:
        """How many loads have been carried out."""
        return self.handler.loads

    def sql(self, statement: str) -> pa.Table:
        """Ask its DuckDB, past everything that a client would go through."""
        return self.handler.tables.run(statement)

    def cut(self) -> None:
        """Break every connection; sessions stay."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def forget_sessions(self) -> None:
        """As after their longest idle time."""
        self.handler.sessions.clear()

    def clear(self) -> None:
        """Drop all tables."""
        for name in self.handler.tables.names():
            self.handler.tables.drop(name)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        client = TSocket()
        client.setHandle(connection)
        self._connections.add(connection)
        try:
            self._threads.handle(client)
        finally:
            self._connections.discard(connection)
            connection.close()


class _Threads(TThreadedServer):  # type: ignore[misc]
    """Thrift's own loop for a connection, without its listening, which can't be ended."""

    def __init__(self, processor: Processor) -> None:
        super().__init__(processor, None, TBufferedTransportFactory(), TBinaryProtocolAcceleratedFactory())

    def handle(self, client: TSocket) -> None:
        with contextlib.suppress(OSError):
            super().handle(client)


def _http_handler(processor: Processor) -> type[BaseHTTPRequestHandler]:
    class Post(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = TMemoryBuffer(self.rfile.read(int(self.headers["Content-Length"])))
            answer = TMemoryBuffer()
            processor.process(TJSONProtocol(asked), TJSONProtocol(answer))
            content = answer.getvalue()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-thrift")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            return

    return Post
