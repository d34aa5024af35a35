"""Reading JetStream streams by raw pull requests. SHELL.

`fetch()` of nats-py is three to four times slower and loses its request when the server
restarts. Here requests carry an expiry and an idle heartbeat, and are made again after a
reconnect, after two missed heartbeats and after any status that ends them. What arrives is
bounded by what was asked for, so a slow caller slows the stream and nothing else.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Self

import msgspec
import nats.errors
import structlog

from market_ingestor.bus import streams
from market_ingestor.bus.durables import ensure_durable
from market_ingestor.bus.jetstream import TROUBLE, ApiError, Bus
from market_ingestor.bus.wire import publication, status
from market_ingestor.errors import StreamRecreatedError, StreamSetupError

_log = structlog.get_logger(__name__)

BATCH: Final = 1_000  # messages asked for at a time
EXPIRES_S: Final = 30.0
HEARTBEAT_S: Final = 1.0
SILENCE_S: Final = 2.5 * HEARTBEAT_S  # two heartbeats missed: the request is lost
INACTIVE_S: Final = 60.0  # the server forgets a throw-away consumer after this
ANSWERS: Final = 500  # sent in one write
RETRY_S: Final = 0.5  # before a consumer that could not be made is tried again

_ACK = "$JS.ACK."
_STATUS_IDLE = "100"
_STATUS_DONE = frozenset({"404", "408"})  # the request ended, the consumer lives


class Delivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message of a stream.

    Attributes:
        sequence: Its sequence in the stream.
        stored_us: When the server stored it, UTC microseconds.
        pending: Messages behind it that were not delivered yet.
        reply: Where its acknowledgement goes, empty for one that was asked for by its sequence.
    """

    subject: str
    payload: bytes
    sequence: int
    stored_us: int
    pending: int
    reply: str
    consumer_sequence: int


def delivery(subject: str, reply: str, payload: bytes) -> Delivery:
    """Return a message with the facts its reply subject carries (both known forms)."""
    tokens = reply.split(".")
    # $JS.ACK.stream.consumer.delivered.sseq.cseq.time.pending, or with domain and account first
    first = 4 if len(tokens) < 11 else 6  # noqa: PLR2004 - the longer form has 11 or 12 tokens
    return Delivery(
        subject=subject,
        payload=payload,
        sequence=int(tokens[first + 1]),
        consumer_sequence=int(tokens[first + 2]),
        stored_us=int(tokens[first + 3]) // 1000,
        pending=int(tokens[first + 4]),
        reply=reply,
    )


class Origin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where messages came from: a stream and a durable, by the times at which they were made."""

    stream: str
    durable: str


class PullReader:
    """Reads a durable consumer, to be acknowledged message by message.

    The consumer is made when it does not exist, also when it vanishes later. Several readers may
    share it. Use as an asynchronous context manager; call `next` from one task only.

    Args:
        config: The durable's configuration (`bus.streams.durable_config`).

    Attributes:
        pending: Messages not delivered yet, as of the newest delivery.
        origin: Of what `next` returned last, None when it cannot be told.
        durable: When the durable that there is by now was made; acknowledge only what came from it,
            for the server takes acknowledgements of an earlier one for its own.
    """

    def __init__(
        self, bus: Bus, stream: str, config: dict[str, Any], *, batch: int = BATCH
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._config = config
        self._consumer: str = config["name"]
        self._batch = batch
        self._inbox = bus.client.new_inbox()
        self._generation = 0
        self._arrived: list[Delivery] = []
        self._wake = asyncio.Event()
        self._outstanding = 0
        self._heard_at = 0.0
        self._gone = True
        self._was_deleted = False
        self._is_doubtful = False
        self._origin: Origin | None = None
        self.origin: Origin | None = None
        self.durable: str | None = None
        self._end: Callable[[], Awaitable[None]] | None = None
        self._end_doubts: Callable[[], None] | None = None
        self.pending = 0

    async def __aenter__(self) -> Self:
        self._end = await self._bus.client.listen(f"{self._inbox}.*", self._on_message)
        self._end_doubts = self._bus.on_reconnect(self.doubt)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._end_doubts is not None:
            self._end_doubts()
        if self._end is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._end()

    async def next(self, wait_s: float) -> list[Delivery]:
        """Return everything that has arrived; waits for the first up to ``wait_s`` seconds.

        Returns:
            Messages in stream order (a redelivery comes when it comes); empty when none came.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + wait_s
        while not self._arrived:
            now = loop.time()
            if now >= give_up_at:
                return []
            if self._gone:
                await self._recover()
            await self._ask(now)
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(give_up_at - now, HEARTBEAT_S)):
                    await self._wake.wait()
        arrived, self._arrived = self._arrived, []
        self.origin = None if self._is_doubtful else self._origin
        self._is_doubtful = False
        self.pending = arrived[-1].pending
        await self._ask(loop.time())
        return arrived

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge each; a lost acknowledgement only means redelivery."""
        await self._answer(deliveries, b"+ACK")

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Tell the server that these are still being worked on: their ``ack_wait`` restarts."""
        await self._answer(deliveries, b"+WPI")

    async def _answer(self, deliveries: Sequence[Delivery], word: bytes) -> None:
        with contextlib.suppress(nats.errors.Error, OSError):
            for first in range(0, len(deliveries), ANSWERS):
                some = deliveries[first : first + ANSWERS]
                answers = [publication(each.reply, word) for each in some if each.reply]
                await self._bus.client.send(b"".join(answers))

    async def _recover(self) -> None:
        """Make the consumer, at first and after it vanished."""
        if self._was_deleted:  # by somebody who may be about to make it anew elsewhere
            self._was_deleted = False
            await asyncio.sleep(RETRY_S)
        try:
            made_at = await ensure_durable(self._bus, self._stream, self._config)
            state = await self._bus.stream_state(self._stream)
        except (ApiError, StreamSetupError, nats.errors.Error, TimeoutError) as problem:
            await self._wait_before_retry(problem)
            return
        origin = Origin(stream=state.created, durable=made_at)
        # What came meanwhile, if anything, may be of the stream or durable that was before.
        self._is_doubtful = bool(self._arrived) and origin != self._origin
        self._origin, self.durable = origin, made_at
        self._gone = False
        self._restart()

    async def _wait_before_retry(self, problem: Exception) -> None:
        _log.info("reader_waits", stream=self._stream, error=str(problem))
        await asyncio.sleep(RETRY_S)

    def _restart(self) -> None:
        """Forget outstanding requests: their answers, if any, are still taken."""
        self._generation += 1
        self._outstanding = 0
        self._wake.set()

    def doubt(self) -> None:
        """Take the consumer for lost: a request to one that is gone is answered by silence.

        It may be another one when it is found again.
        """
        self._gone = True
        self.durable = None
        self._restart()

    async def is_from(self, durable: str) -> bool:
        """Return whether the durable that was made at a time is the one that is there."""
        if durable != self.durable:
            return False
        if asyncio.get_running_loop().time() - self._heard_at <= SILENCE_S:
            return True  # it would have been heard that it is gone
        try:
            info = await self._bus.consumer_info(self._stream, self._consumer)
        except TROUBLE:
            return False
        return info is not None and info["created"] == durable

    async def _ask(self, now: float) -> None:
        """Keep between half a batch and one and a half batches asked for."""
        if self._outstanding and now - self._heard_at > SILENCE_S:
            self.doubt()
        if self._gone or self._outstanding > self._batch // 2 or not self._bus.is_connected:
            return
        body = msgspec.json.encode(
            {
                "batch": self._batch,
                "expires": int(EXPIRES_S * 1e9),
                "idle_heartbeat": int(HEARTBEAT_S * 1e9),
            }
        )
        self._outstanding += self._batch
        self._heard_at = now
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._bus.client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
                body,
                reply=f"{self._inbox}.{self._generation}",
            )

    def _on_message(self, subject: str, reply: str, header: bytes, payload: bytes) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if not reply.startswith(_ACK):  # nothing that is stored can look like a word of the server
            self._on_status(subject, header)
            return
        self._outstanding = max(self._outstanding - 1, 0)
        self._accept(delivery(subject, reply, payload))

    def _accept(self, arrived: Delivery) -> None:
        self._arrived.append(arrived)
        self._wake.set()

    def _on_status(self, subject: str, header: bytes) -> None:
        found = status(header)
        if found is None or found.code == _STATUS_IDLE:
            return
        if subject.rpartition(".")[2] != str(self._generation):
            return  # the end of a request given up before
        if found.code not in _STATUS_DONE:
            if "Deleted" in found.description:
                self._was_deleted, self.durable = True, None
            self._gone = self._gone or found.code == "503" or self._was_deleted
            _log.info(
                "pull_ended",
                stream=self._stream,
                status=found.code,
                description=found.description,
            )
        unanswered = found.fields.get("Nats-Pending-Messages")
        self._outstanding -= int(unanswered) if unanswered else self._outstanding
        self._outstanding = max(self._outstanding, 0)
        self._wake.set()


class OrderedReader(PullReader):
    """Reads a stream from a sequence on, in order, each message once, without acks.

    Its consumer is thrown away and made again from the next sequence whenever the server lost
    it or a message went missing on the way: right for rebuilding state.

    A stream that was deleted and made again, or that ends before what was read of it, is read
    from its beginning, unless ``created`` was given: then `next` raises StreamRecreatedError.

    Args:
        created: When the stream was made, as `Bus.stream_state` tells it; for a caller that knows
            more of the stream than this reader has read.

    Attributes:
        next_sequence: The next stream sequence this reader will return, or a later one.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        *,
        start_sequence: int,
        filter_subject: str | None = None,
        batch: int = BATCH,
        created: str | None = None,
    ) -> None:
        super().__init__(bus, stream, {"name": ""}, batch=batch)
        self._filter = filter_subject
        self._created = created
        self._is_strict = created is not None
        self._accepted_sequence = max(start_sequence, 1) - 1
        self._consumer_sequence = 0
        self._made = 0

    @property
    def next_sequence(self) -> int:
        """Return the sequence behind everything that has arrived."""
        return self._accepted_sequence + 1

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        if self._consumer and self._bus.is_connected:
            with contextlib.suppress(ApiError, nats.errors.Error, TimeoutError):
                await self._bus.api(f"CONSUMER.DELETE.{self._stream}.{self._consumer}")

    async def _recover(self) -> None:
        try:
            await self._recognise()
        except (ApiError, nats.errors.Error, TimeoutError) as problem:
            await self._wait_before_retry(problem)
            return
        self._made += 1
        name = f"{self._inbox.rpartition('.')[2]}-{self._made}"
        config = streams.ordered_config(
            name,
            start_sequence=self.next_sequence,
            filter_subject=self._filter,
            inactive_s=INACTIVE_S,
        )
        try:
            answer = await self._bus.api(
                f"CONSUMER.CREATE.{self._stream}.{name}",
                {"stream_name": self._stream, "config": config},
            )
        except (ApiError, nats.errors.Error, TimeoutError) as problem:
            await self._wait_before_retry(problem)
            return
        self._consumer = name
        self._consumer_sequence = 0
        self.pending = answer.get("num_pending", 0)
        self._gone = False
        self._restart()

    async def _recognise(self) -> None:
        """Find out whether this is still the stream that was read so far.

        The server would place a consumer beyond the end of another stream without a word, and
        nothing would be heard until its sequences have caught up.
        """
        read = self._accepted_sequence  # what arrives meanwhile may be newer than the answer
        state = await self._bus.stream_state(self._stream)
        known = self._created
        self._created = state.created
        has_lost = self._made > 0 and read > state.last_sequence
        if known in {None, state.created} and not has_lost:
            return
        if self._is_strict:
            raise StreamRecreatedError(self._stream)
        _log.warning("stream_recreated", stream=self._stream, read=self._accepted_sequence)
        self._accepted_sequence = 0

    def _accept(self, arrived: Delivery) -> None:
        if f".{self._consumer}." not in arrived.reply:
            return  # from a consumer given up before
        if arrived.consumer_sequence != self._consumer_sequence + 1:
            self._gone = True
            self._wake.set()
            return
        self._consumer_sequence = arrived.consumer_sequence
        if arrived.sequence > self._accepted_sequence:
            self._accepted_sequence = arrived.sequence
            super()._accept(arrived)
