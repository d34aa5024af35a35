"""One NATS connection of one process, and JetStream's management calls. SHELL.

With `bus.publisher` and `bus.reader` the only place that knows the JetStream API. Everything
above speaks of subjects, payloads and sequences.
"""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import nats
import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.api import Header
from nats.js.errors import APIError, BucketNotFoundError, NoStreamResponseError, NotFoundError

from market_ingestor.bus import streams, subjects
from market_ingestor.bus.bucket import Bucket
from market_ingestor.bus.cancellation import heeding_cancellation
from market_ingestor.bus.client import BusClient
from market_ingestor.bus.login import Login
from market_ingestor.bus.refusals import Refusals
from market_ingestor.bus.wire import publication
from market_ingestor.errors import BusError, StaleSequenceError

_log = structlog.get_logger(__name__)

API_TIMEOUT_S: Final = 5.0  # management calls answer in milliseconds; slow disks need more
CONNECT_TIMEOUT_S: Final = 2.0
TROUBLES_MAX: Final = 3  # different reasons that are told when no connection was made
RECONNECT_WAIT_S: Final = 0.25  # between attempts; nats-py adds none of its own on one server
PING_INTERVAL_S: Final = 10  # a half-open connection is replaced after two of these
PROBE_INTERVAL_S: Final = 2.0  # how soon a server that hangs shows in health
PROBE_TIMEOUT_S: Final = 2.0
NO_MESSAGE: Final = 10037  # JetStream error codes (server's errors.json)
CONSUMER_NOT_FOUND: Final = 10014
STREAM_NOT_FOUND: Final = 10059
# A cluster that elects, starts, or lacks nodes for the replicas: it may be ready later.
UNREADY: Final = frozenset({10004, 10005, 10008, 10009, 10023})
WRONG_LAST_SEQUENCE: Final = 10071

# What any call here may raise when the bus cannot answer now; whoever catches it tries again.
TROUBLE: Final = (nats.errors.Error, TimeoutError, OSError, BusError)

_NO_LOGIN: Final = Login()

CoreHandler = Callable[[str, bytes], None]


class ApiError(BusError):
    """JetStream answered a management call with an error; ``code`` is its ``err_code``."""

    def __init__(self, subject: str, code: int, description: str) -> None:
        super().__init__(f"{subject}: {description} ({code})")
        self.code = code


class StreamState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a stream holds.

    ``created`` tells a recreated stream from the one remembered; where it is not ``is_dated`` it
    is the server's word, which restarts may change.
    """

    name: str
    created: str
    is_dated: bool
    first_sequence: int
    last_sequence: int
    messages: int
    bytes: int
    bytes_max: int


class ConsumerState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far a durable has come.

    Attributes:
        delivered: Highest stream sequence given out.
        ack_floor: Highest stream sequence with everything at or below it acknowledged
            (`bus.streams.ack_floor`).
        pending: Messages not delivered yet.
        unacknowledged: Messages delivered and not acknowledged.
        has_all: Whether it delivers every message of the stream that was not saved before.
    """

    delivered: int
    ack_floor: int
    pending: int
    unacknowledged: int
    has_all: bool


class Stored(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message read back from a stream; ``stored_us`` is when the server stored it."""

    subject: str
    sequence: int
    payload: bytes
    stored_us: int


class Bus:
    """A connection that reconnects for ever, and what may be asked of JetStream through it.

    Made by `connect`; closed by `close`. Callbacks given to `on_reconnect` run after every
    reconnection: whoever has something in flight sends it again.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.client = BusClient()
        self._troubles: dict[str, None] = {}  # what went wrong while connecting, each once
        self._refusals = Refusals()
        self._ended = asyncio.Event()
        self._lost: list[Callable[[], None]] = []
        self._reconnected: list[Callable[[], None]] = []
        self._disconnected_logged = False
        self._answers = True
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls,
        servers: Sequence[str],
        *,
        name: str,
        login: Login = _NO_LOGIN,
        timeout_s: float = 30.0,
    ) -> "Bus":
        """Connect, retrying until ``timeout_s`` has passed.

        Args:
            servers: ``nats://[user:password@]host:port`` addresses.
            name: Shown in the server's monitoring.
            login: Credentials and certificates.

        Raises:
            BusError: No server could be reached, or it refused our credentials.
            ConfigError: A certificate cannot be used.
        """
        bus = cls(name)
        bus.client.must_encrypt = login.wants_tls(servers)
        options = login.options(servers)
        try:
            async with asyncio.timeout(timeout_s):
                await bus.client.connect(
                    servers=list(servers),
                    name=name,
                    **options,
                    connect_timeout=int(CONNECT_TIMEOUT_S),
                    reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type] # typed int, used as float
                    max_reconnect_attempts=-1,
                    ping_interval=PING_INTERVAL_S,
                    max_outstanding_pings=2,
                    error_cb=bus._on_error,
                    disconnected_cb=bus._on_disconnected,
                    reconnected_cb=bus._on_reconnected,
                    closed_cb=bus._on_closed,
                )
        except (TimeoutError, OSError, nats.errors.Error) as problem:
            await bus.close()
            bus.client.abandon()
            reason = "; ".join(bus._troubles) or problem
            raise BusError(f"no NATS server reached within {timeout_s:g} s: {reason}") from problem
        bus._watching = asyncio.create_task(bus._watch(), name=f"watch {name}")
        return bus

    async def _on_error(self, problem: Exception) -> None:
        trouble = str(problem) or type(problem).__name__
        if len(self._troubles) < TROUBLES_MAX:
            self._troubles[trouble] = None
        self._refusals.note(trouble)
        if self.client.is_connected:
            _log.warning("bus_error", connection=self.name, error=repr(problem))

    async def _on_closed(self) -> None:
        self._ended.set()

    async def until_ended(self) -> None:
        """Wait until the connection is gone and will not come back by itself.

        A server that takes our rights away, as when passwords are changed, ends it like that.

        Raises:
            BusError: It is; whoever wants to go on begins anew.
        """
        await self._ended.wait()
        reason = "; ".join(self._troubles) or "closed"
        raise BusError(f"NATS ended the connection of {self.name} for good: {reason}")

    async def _on_disconnected(self) -> None:
        for callback in self._lost:
            callback()
        if not self._disconnected_logged and not self.client.is_closed:
            self._disconnected_logged = True
            _log.warning("bus_disconnected", connection=self.name)

    async def _on_reconnected(self) -> None:
        self._disconnected_logged = False
        _log.info("bus_reconnected", connection=self.name)
        for callback in self._reconnected:
            callback()

    @property
    def server_version(self) -> tuple[tuple[int, int, int], str]:
        """Return the version of the server: major, minor and patch, and as it is written."""
        version = self.client.connected_server_version
        numbers = version.major, version.minor, version.patch
        return numbers, str(self.client._server_info.get("version"))  # noqa: SLF001 - as written there

    @property
    def is_connected(self) -> bool:
        """Return whether messages can be sent right now."""
        return self.client.is_connected

    @property
    def is_up(self) -> bool:
        """Return whether JetStream answered when it was last asked, seconds ago at most.

        A server that hangs keeps its connections; only this tells.
        """
        return self.client.is_connected and self._answers

    async def _watch(self) -> None:
        """Keep `is_up` true to life until cancelled."""
        while True:
            self._answers = await self._is_answering()
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def _is_answering(self) -> bool:
        try:
            await self.api("INFO", timeout_s=PROBE_TIMEOUT_S)
        except TROUBLE:
            return False
        return True

    def on_loss(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever the connection is lost, before there is another one."""
        self._lost.append(callback)

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after every reconnection; returns what ends that."""
        self._reconnected.append(callback)
        return functools.partial(self._reconnected.remove, callback)

    async def close(self) -> None:
        """Send what is buffered, then close. Never raises."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            if self.client.is_connected:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self.client.flush()
        with contextlib.suppress(nats.errors.Error, OSError):
            await self.client.close()

    # -- core NATS: not stored, at most once

    async def publish_core(self, *messages: tuple[str, bytes]) -> None:
        """Publish subjects and payloads without storage; lost while disconnected, by design."""
        if self.client.is_connected:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self.client.send(b"".join([publication(*each) for each in messages]))

    async def subscribe_core(
        self, subject: str, handler: CoreHandler
    ) -> Callable[[], Awaitable[None]]:
        """Call ``handler(subject, payload)`` for each message; returns what ends it.

        It is called where messages are read, so it must not take long.
        """
        return await self.client.listen(
            subject, lambda subject, _reply, _header, payload: handler(subject, payload)
        )

    async def ask_core(self, subject: str, payload: bytes, *, timeout_s: float) -> bytes | None:
        """Return the first answer to a question, None when nobody is there to answer.

        Raises:
            TimeoutError, nats.errors.Error: Those who are there did not answer.
        """
        reply = f"{subjects.ANSWERS}.{self.client.new_inbox().rpartition('.')[2]}"
        async with asyncio.timeout(timeout_s):
            return await self.client.ask(subject, payload, reply=reply)

    async def answer_core(
        self, subject: str, handler: Callable[[bytes], Awaitable[bytes]]
    ) -> Callable[[], Awaitable[None]]:
        """Answer each question with what ``handler`` returns; returns what ends it."""

        async def deliver(message: Msg) -> None:
            answer = await handler(message.data)
            with contextlib.suppress(nats.errors.Error, OSError):
                await message.respond(answer)

        subscription = await self.client.subscribe(subject, cb=deliver)
        return subscription.unsubscribe

    # -- management

    async def api(
        self, subject: str, body: dict[str, Any] | None = None, *, timeout_s: float = API_TIMEOUT_S
    ) -> dict[str, Any]:
        """Make one JetStream API request and return its answer.

        Raises:
            ApiError: The server answered with an error.
            TimeoutError, nats.errors.Error: It did not answer.
        """
        payload = msgspec.json.encode(body) if body is not None else b""
        async with self._refusals.watch(subject):
            with heeding_cancellation():
                message = await self.client.request(
                    f"$JS.API.{subject}", payload, timeout=timeout_s
                )
        answer: dict[str, Any] = msgspec.json.decode(message.data)
        error = answer.get("error")
        if error is not None:
            raise ApiError(
                subject, error.get("err_code", error.get("code", 0)), error.get("description", "")
            )
        return answer

    async def stream_state(self, stream: str) -> StreamState:
        """Return what a stream holds; ApiError when it does not exist."""
        answer = await self.api(f"STREAM.INFO.{stream}")
        state = answer["state"]
        return StreamState(
            name=stream,
            created=streams.created(answer),
            is_dated=streams.is_dated(answer),
            first_sequence=state["first_seq"],
            last_sequence=state["last_seq"],
            messages=state["messages"],
            bytes=state["bytes"],
            bytes_max=answer["config"]["max_bytes"],
        )

    async def consumer_info(self, stream: str, durable: str) -> dict[str, Any] | None:
        """Return what the server says of a durable, None when it does not exist.

        While one is being deleted, 2.9.10 answers with nothing of it and no error.
        """
        try:
            answer = await self.api(f"CONSUMER.INFO.{stream}.{durable}")
        except ApiError as problem:
            if problem.code in {CONSUMER_NOT_FOUND, STREAM_NOT_FOUND}:
                return None
            raise
        return answer if "config" in answer else None

    async def consumer_state(self, stream: str, durable: str) -> ConsumerState | None:
        """Return how far a durable has come, None when it does not exist."""
        info = await self.consumer_info(stream, durable)
        if info is None:
            return None
        return ConsumerState(
            delivered=info["delivered"]["stream_seq"],
            ack_floor=streams.ack_floor(info),
            pending=info["num_pending"],
            unacknowledged=info["num_ack_pending"],
            has_all=streams.begins_behind(info["config"]) is not None,
        )

    async def last_message(self, stream: str, subject: str) -> Stored | None:
        """Return the newest message of a subject, None when there is none.

        Asks the stream's leader, never a replica: a fence built on a stale answer fails.
        """
        return await self._message(stream, {"last_by_subj": subject})

    async def message_at(self, stream: str, sequence: int) -> Stored | None:
        """Return the message with a sequence, None when it is gone."""
        return await self._message(stream, {"seq": sequence})

    async def messages_of(self, stream: str, subject: str) -> list[Stored]:
        """Return every message of a subject, oldest first; for a subject that has few."""
        found: list[Stored] = []
        sequence = 1
        while True:
            query = {"next_by_subj": subject, "seq": sequence}
            message = await self._message(stream, query)
            if message is None:
                return found
            found.append(message)
            sequence = message.sequence + 1

    async def _message(self, stream: str, query: dict[str, Any]) -> Stored | None:
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", query)
        except ApiError as problem:
            if problem.code == NO_MESSAGE:
                return None
            raise
        message = answer["message"]
        return Stored(
            subject=message["subject"],
            sequence=message["seq"],
            payload=msgspec.json.decode(f'"{message.get("data", "")}"', type=bytes),
            stored_us=streams.time_us(message["time"]),
        )

    async def subjects_of(self, stream: str, subject_filter: str) -> list[str]:
        """Return the subjects of a stream that have a message and match a filter."""
        answer = await self.api(f"STREAM.INFO.{stream}", {"subjects_filter": subject_filter})
        return sorted(answer["state"].get("subjects") or ())

    async def put_fenced(self, subject: str, payload: bytes, expected: int | None) -> bool:
        """Store one message, durably when this returns; False when no stream takes the subject.

        For what is rare; everything that flows goes through `bus.publisher`.

        Args:
            expected: The subject's last sequence as it was read, 0 for none; None: any.

        Raises:
            StaleSequenceError: The subject has a newer message.
            TimeoutError, nats.errors.Error: The server did not take it now.
        """
        fence: dict[str, Any] = {}
        if expected is not None:
            fence[Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value] = str(expected)
        js = self.client.jetstream(timeout=API_TIMEOUT_S)
        with heeding_cancellation():
            try:
                await js.publish(subject, payload, headers=fence or None)
            except NoStreamResponseError:
                return False
            except APIError as problem:
                if problem.err_code == WRONG_LAST_SEQUENCE:
                    raise StaleSequenceError(subject, expected or 0) from problem
                raise
        return True

    async def sequence_since(
        self, stream: str, since: datetime, *, filter_subject: str | None = None
    ) -> int:
        """Return the first sequence stored at or after ``since`` (one past the end when none).

        Uses a throw-away consumer, which every supported server can place by time.
        """
        name = f"seek{self.client.client_id}x{id(since):x}"
        config: dict[str, Any] = {
            "name": name,
            "ack_policy": "none",
            "deliver_policy": "by_start_time",
            "opt_start_time": since.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "replay_policy": "instant",
            "inactive_threshold": 5_000_000_000,
            "mem_storage": True,
            "num_replicas": 1,
        }
        if filter_subject is not None:
            config["filter_subject"] = filter_subject
        body = {"stream_name": stream, "config": config}
        answer = await self.api(f"CONSUMER.CREATE.{stream}.{name}", body)
        with contextlib.suppress(ApiError):
            await self.api(f"CONSUMER.DELETE.{stream}.{name}")
        return int(answer["delivered"]["stream_seq"]) + 1

    # -- key-value buckets

    async def bucket(
        self,
        name: str,
        *,
        max_age_s: float | None = None,
        max_bytes: int | None = None,
        history: int = 1,
        replicas: int = 1,
    ) -> Bucket:
        """Return a KV bucket, creating it when missing, with limits if any.

        Args:
            history: Values kept of each key.
        """
        js = self.client.jetstream(timeout=API_TIMEOUT_S)
        with heeding_cancellation():
            try:
                return Bucket(name, await js.key_value(name), self._refusals)
            except (BucketNotFoundError, NotFoundError):
                made = await js.create_key_value(
                    bucket=name,
                    ttl=max_age_s,
                    max_bytes=max_bytes,
                    history=history,
                    replicas=replicas,
                )
                return Bucket(name, made, self._refusals)
