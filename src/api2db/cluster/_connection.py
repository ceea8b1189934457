"""The connection of this process to a cluster: synchronous calls, carried out by one private event loop.

The NATS client is asyncio code; all of api2db's own code is threads. Only this module knows of both.
"""

import asyncio
import logging
import os
import ssl
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from api2db.cluster._address import Address
from api2db.errors import ClusterUnavailableError, ConfigurationError, from_extra
from api2db.texts import redact

with from_extra("nats-py", "cluster"):
    import nats
    from nats import errors as nats_errors
    from nats.aio.client import Client

logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_CONNECT_S: Final = 10.0
_MARGIN_S: Final = 2.0  # in which the loop must answer after a call's own timeout
_PING_S: Final = 2  # two pings without an answer end a connection
_RECONNECT_S: Final = 0.2
_LAST_S: Final = 1.0
_LONGEST_S: Final = 60.0  # for requests with many answers
_AT_ONCE: Final = 64
_NO_ANSWER: Final = (nats_errors.Error, OSError, TimeoutError, asyncio.TimeoutError, asyncio.CancelledError)


@dataclass(frozen=True, slots=True)
class Message:
    """A message to send, or one that was received.

    Attributes:
        subject: Where it goes; for a received one, where it was published.
        headers: Its headers.
    """

    subject: str
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The status that a server set; empty for a message of a stream."""
        return self.headers.get("Status", "")


class Connection:
    """A connection that is established at the first call, and again whenever it was lost.

    Args:
        address: The cluster's.

    Raises:
        ClusterUnavailableError: From every call: no server answers in time.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._client: Client | None = None
        self._waiting: dict[str, asyncio.Queue[Message]] = {}
        self._inbox = ""
        self._count = 0
        self._connecting: asyncio.Lock | None = None
        self._answering = ThreadPoolExecutor(4, "api2db-cluster-answers")
        self._thread = threading.Thread(target=self._run, name="api2db-cluster", daemon=True)
        self._thread.start()

    @property
    def max_payload(self) -> int:
        """The largest message that the servers take, bytes, headers included."""
        self._call(self._connected(), _CONNECT_S)
        return 1 << 20 if self._client is None else int(self._client.max_payload)

    def request(
        self, subject: str, payload: bytes = b"", headers: Mapping[str, str] | None = None, *, timeout_s: float
    ) -> Message:
        """Send a request, and return its answer."""
        return self._call(self._request([Message(subject, payload, headers or {})], timeout_s), timeout_s)

    def request_all(self, messages: Sequence[Message], *, timeout_s: float) -> Message:
        """Send messages in this order, and return the answer to the last one."""
        return self._call(self._request(messages, timeout_s), timeout_s)

    def request_each(self, messages: Sequence[Message], *, timeout_s: float) -> list[Message]:
        """Send requests side by side, and return their answers in the same order.

        Args:
            timeout_s: The longest wait for one answer, seconds.
        """
        return self._call(self._request_each(messages, timeout_s), _LONGEST_S)

    def request_many(
        self, subject: str, payload: bytes, is_last: Callable[[Message], bool], *, timeout_s: float
    ) -> list[Message]:
        """Send a request, and return its answers up to the one that ``is_last`` accepts.

        Args:
            timeout_s: The longest pause before an answer, seconds. Where answers came before, they are returned.
        """
        return self._call(self._request_many(subject, payload, is_last, timeout_s), _LONGEST_S)

    def answer(self, subject: str, function: Callable[[bytes], bytes]) -> Callable[[], None]:
        """Have a thread answer the requests on a subject; return a function that ends that."""
        subscription = self._call(self._subscribe(subject, function), _CONNECT_S)

        def end() -> None:
            with suppress(ClusterUnavailableError):
                self._call(_unsubscribed(subscription), _LAST_S)

        return end

    def close(self) -> None:
        """End the connection and its threads; a forked child only forgets them."""
        if self._pid != os.getpid() or self._loop.is_closed():
            return
        with suppress(ClusterUnavailableError):
            self._call(self._closed(), _LAST_S)
        self._answering.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LAST_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(_ended(asyncio.all_tasks(self._loop)))
        finally:
            self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
        if self._pid != os.getpid() or self._loop.is_closed():
            coroutine.close()
            raise ClusterUnavailableError("the connection to the cluster was closed, or belongs to a parent process")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s + _MARGIN_S)
        except (FutureTimeoutError, *_NO_ANSWER) as error:
            future.cancel()
            said = redact(str(error)) or type(error).__name__
            raise ClusterUnavailableError(f"the cluster {self._hosts} does not answer: {said}") from error

    @property
    def _hosts(self) -> str:
        return ", ".join(server.partition("://")[2] for server in self.address.servers)

    async def _connected(self) -> Client:
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._client is None or self._client.is_closed:
                self._client = await asyncio.wait_for(self._connect(), _CONNECT_S)
                self._inbox = self._client.new_inbox()
                await self._client.subscribe(f"{self._inbox}.*", cb=self._received)
        return self._client

    async def _connect(self) -> Client:
        files = self.address.files
        return await nats.connect(
            list(self.address.servers),
            name="api2db",
            error_cb=_note,
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT_S,
            connect_timeout=_PING_S,
            ping_interval=_PING_S,
            tls=self._tls(),
            user_credentials=str(files["creds"]) if "creds" in files else None,
            nkeys_seed=str(files["nkey"]) if "nkey" in files else None,
        )

    def _tls(self) -> ssl.SSLContext | None:
        if not self.address.uses_tls:
            return None
        files = self.address.files
        try:
            context = ssl.create_default_context(cafile=files.get("ca"))
            if "cert" in files:
                context.load_cert_chain(files["cert"], files.get("key"))
        except (ssl.SSLError, OSError) as error:
            raise ConfigurationError(f"the files for TLS to the cluster can't be used: {error}") from error
        return context

    async def _received(self, message: Any) -> None:
        queue = self._waiting.get(message.subject.rpartition(".")[2])
        if queue is not None:
            queue.put_nowait(Message(message.subject, message.data, message.headers or {}))

    async def _request(self, messages: Sequence[Message], timeout_s: float) -> Message:
        client = await self._ready(timeout_s)
        for message in messages[:-1]:
            await client.publish(message.subject, message.payload, headers=dict(message.headers))
        last = messages[-1]
        headers = dict(last.headers) or None
        answer = await client.request(last.subject, last.payload, timeout=timeout_s, headers=headers)
        return Message(answer.subject, answer.data, answer.headers or {})

    async def _request_each(self, messages: Sequence[Message], timeout_s: float) -> list[Message]:
        room = asyncio.Semaphore(_AT_ONCE)

        async def answered(message: Message) -> Message:
            async with room:
                return await self._request([message], timeout_s)

        return await asyncio.gather(*map(answered, messages))

    async def _request_many(
        self, subject: str, payload: bytes, is_last: Callable[[Message], bool], timeout_s: float
    ) -> list[Message]:
        client = await self._ready(timeout_s)
        self._count += 1
        token, queue = f"{self._count:x}", asyncio.Queue[Message]()
        self._waiting[token] = queue
        found: list[Message] = []
        try:
            await client.publish(subject, payload, reply=f"{self._inbox}.{token}")
            while True:
                try:
                    message = await asyncio.wait_for(queue.get(), timeout_s)
                except TimeoutError:
                    if found:
                        return found
                    raise
                if message.status == "503":
                    raise nats_errors.NoRespondersError
                found.append(message)
                if is_last(message):
                    return found
        finally:
            del self._waiting[token]

    async def _ready(self, timeout_s: float) -> Client:
        """Wait until the connection stands: what is sent while it is lost would be sent later, by surprise."""
        client = await self._connected()
        deadline_s = self._loop.time() + timeout_s
        while not client.is_connected:
            if self._loop.time() > deadline_s or client.is_closed:
                raise nats_errors.ConnectionClosedError
            await asyncio.sleep(0.02)  # The client has no call that waits for this.
        return client

    async def _subscribe(self, subject: str, function: Callable[[bytes], bytes]) -> Any:
        client = await self._connected()

        async def received(message: Any) -> None:
            answer = self._loop.run_in_executor(self._answering, function, message.data)
            answer.add_done_callback(lambda done: self._loop.create_task(_respond(message, done)))

        return await client.subscribe(subject, cb=received)

    async def _closed(self) -> None:
        if self._client is not None:
            await self._client.close()


async def _ended(tasks: "set[asyncio.Task[Any]]") -> None:
    """Cancel what is under way when the connection is closed, such as an attempt to connect."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_LAST_S / 2)


async def _respond(message: Any, done: "asyncio.Future[bytes]") -> None:
    with suppress(*_NO_ANSWER):
        await message.respond(done.result())


async def _unsubscribed(subscription: Any) -> None:
    await subscription.unsubscribe()


async def _note(error: Exception) -> None:
    """The calls that fail say so themselves."""
    logger.debug("the connection to the cluster: %s", redact(str(error)))
