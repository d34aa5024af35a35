"""Publishing into JetStream with our own window of acknowledgements. SHELL.

nats-py's `publish_async` has no deadline, no resend and hangs for ever on a server error; this
has one reply inbox, a deadline per message, go-back-N per subject (`bus.ack_window`) and holds
when the server refuses because a stream is full.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import msgspec
import nats.errors
import structlog

from market_ingestor.bus.ack_window import AckWindow, Outcome, Outgoing, PubAck
from market_ingestor.bus.jetstream import WRONG_LAST_SEQUENCE, Bus
from market_ingestor.bus.wire import Repeated, publication
from market_ingestor.errors import BusError, StaleSequenceError

_log = structlog.get_logger(__name__)

ITEMS_MAX: Final = 4_000  # in flight; beyond this a longer window gained nothing when measured
BYTES_MAX: Final = 32 * 1024 * 1024
TICK_S: Final = 0.1  # how often deadlines are looked at
REFUSED_WAIT_S: Final = 0.5  # before a message the server refused for now is sent again
TOO_LARGE: Final = frozenset({10054})  # refusals that a resend cannot cure
LOG_INTERVAL_S: Final = 30.0


class _ApiError(msgspec.Struct, frozen=True, gc=False):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct, frozen=True, gc=False):
    seq: int = 0
    duplicate: bool = False
    error: _ApiError | None = None


_answer: Final = msgspec.json.Decoder(_Answer)


def _kind(subject: str) -> str:
    """Return what tells the streams apart: ``market.raw`` of ``market.raw.okx.BTCUSDT``."""
    return ".".join(subject.split(".", 2)[:2])


class Publisher:
    """Sends messages until JetStream has them, in order per subject.

    `run` must be running. Counters are plain attributes; the role exports them as metrics.

    Attributes:
        resent: Messages sent again after a missed deadline or a reconnect.
        refused: Answers by which the server refused a message for the time being.
    """

    def __init__(self, bus: Bus, *, items_max: int = ITEMS_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._bus = bus
        self._window = AckWindow(items_max=items_max, bytes_max=bytes_max)
        self._inbox = bus.client.new_inbox()
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._resend_now = asyncio.Event()
        self._logged_at = -LOG_INTERVAL_S
        self.resent = 0
        self.refused = 0
        self._is_behind = True  # what was taken over before is not sent, or lost: it goes first
        self._losses = 0
        self._held: dict[str, float] = {}  # kind of message -> when it is tried again

    @property
    def is_held(self) -> bool:
        """Return whether the server refuses messages for now (stream full): stop reading."""
        return bool(self._held)

    @property
    def in_flight(self) -> int:
        """Return how many messages are not acknowledged yet."""
        return len(self._window)

    @property
    def in_flight_max(self) -> int:
        """Return the bound of `in_flight`."""
        return self._window.items_max

    @property
    def has_room(self) -> bool:
        """Return whether `send` would return at once."""
        return self._window.has_room

    async def run(self) -> None:
        """Receive acknowledgements and resend what is overdue, until cancelled."""
        end = await self._bus.client.listen(f"{self._inbox}.*", self._on_answer)
        self._bus.on_loss(self._note_loss)
        self._bus.on_reconnect(self._resend_now.set)
        loop = asyncio.get_running_loop()
        try:
            await self._send_everything()  # taken before we listened
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._resend_now.wait()
                if not self._bus.is_connected:
                    self._resend_now.clear()  # that connection is lost again: the next one sets it
                    continue
                if self._resend_now.is_set():
                    self._resend_now.clear()
                    self.resent += await self._send_everything()
                    continue
                overdue = self._window.overdue(loop.time())
                self.resent += len(overdue)
                for outgoing in overdue:
                    await self._write(outgoing)
        finally:
            self._is_behind = True
            with contextlib.suppress(nats.errors.Error):
                await end()

    def _note_loss(self) -> None:
        self._losses += 1
        self._is_behind = True

    async def _send_everything(self) -> int:
        """Send all that is in flight, in order, and behind it what is taken over meanwhile.

        Returns:
            How many messages were in flight.
        """
        losses = self._losses
        newest = self._window.newest
        outgoing = self._window.everything(asyncio.get_running_loop().time())
        in_flight = len(outgoing)
        while outgoing:
            for each in outgoing:
                await self._write(each)
            newest, known = self._window.newest, newest
            outgoing = self._window.behind(known)
        self._is_behind = losses != self._losses or not self._bus.is_connected
        return in_flight

    async def send(
        self,
        subject: str,
        payload: bytes,
        message_id: str,
        *,
        expected_sequence: int | None = None,
        headers: dict[str, str] | None = None,
        on_done: Callable[[Outcome], None] | None = None,
    ) -> None:
        """Take a message over; waits only while the window is full.

        The message is resent until JetStream acknowledges it; ``on_done`` is then called with
        the `PubAck`, or with the error of a final refusal (see `publish`).

        Args:
            message_id: Names exactly this payload, for ever.
            expected_sequence: As for `publish`.
        """
        while not self._window.has_room:
            self._room.clear()
            await self._room.wait()
        outgoing = self._window.add(
            subject,
            payload,
            message_id,
            now=asyncio.get_running_loop().time(),
            expected_sequence=expected_sequence,
            headers=headers,
            on_done=on_done,
        )
        self._empty.clear()
        retry_at = self._held.get(_kind(subject)) if self._held else None
        if retry_at is not None:  # it must not overtake what was refused
            self._window.delay(outgoing, retry_at)
        elif not self._is_behind and self._bus.is_connected:
            await self._write(outgoing)

    async def publish(
        self,
        subject: str,
        payload: bytes,
        message_id: str,
        *,
        expected_sequence: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> PubAck:
        """Publish and wait for the acknowledgement, however long that takes.

        Args:
            expected_sequence: Fence: store only if this is still the subject's last sequence
                (0: the subject is empty).

        Raises:
            StaleSequenceError: Another message came first; read the subject's tail again. It may
                be this very message: newer servers look at the fence before the message id, so
                the resend of one whose acknowledgement was lost ends here.
            BusError: The server refused for good.
        """
        done: asyncio.Future[PubAck] = asyncio.get_running_loop().create_future()

        def settle(outcome: Outcome) -> None:
            if done.done():
                return
            if isinstance(outcome, PubAck):
                done.set_result(outcome)
            else:
                done.set_exception(outcome)

        await self.send(
            subject,
            payload,
            message_id,
            expected_sequence=expected_sequence,
            headers=headers,
            on_done=settle,
        )
        return await done

    async def drain(self, timeout_s: float) -> bool:
        """Wait until everything is acknowledged; returns whether that was reached in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    async def _write(self, outgoing: Outgoing) -> None:
        headers = {"Nats-Msg-Id": outgoing.message_id}
        if outgoing.expected_sequence is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(outgoing.expected_sequence)
        if outgoing.headers:
            headers |= outgoing.headers
        client = self._bus.client
        command = publication(
            outgoing.subject,
            outgoing.payload,
            reply=f"{self._inbox}.{outgoing.token}",
            headers=headers,
        )
        if len(command) > client.max_payload:  # the server would end the connection for it
            self._finish(outgoing.token, BusError(f"{outgoing.subject}: too large a message"))
            return
        # What is not sent stays in the window; the deadline or the reconnect sends it again.
        if self._bus.is_connected:
            with contextlib.suppress(nats.errors.Error, OSError):
                await client.send(Repeated(command))

    def _on_answer(self, subject: str, _reply: str, _header: bytes, payload: bytes) -> None:
        token = int(subject.rpartition(".")[2])
        outgoing = self._window.get(token)
        if outgoing is None:
            return
        if not payload:  # "no responders": the stream has no leader, or JetStream starts
            self._refuse(outgoing, "no responders")
            return
        answer = _answer.decode(payload)
        if answer.error is None:
            self._release(outgoing.subject)
            self._finish(token, PubAck(sequence=answer.seq, is_duplicate=answer.duplicate))
        elif answer.error.err_code == WRONG_LAST_SEQUENCE:
            self._release(outgoing.subject)  # it takes messages, only not this one
            self._finish(
                token, StaleSequenceError(outgoing.subject, outgoing.expected_sequence or 0)
            )
        elif answer.error.err_code in TOO_LARGE:
            self._finish(token, BusError(f"{outgoing.subject}: {answer.error.description}"))
        else:
            self._refuse(outgoing, answer.error.description)

    def _release(self, subject: str) -> None:
        """Note that the server takes messages of this kind."""
        if self._held:  # hardly ever: finding out the kind is not for every message
            self._held.pop(_kind(subject), None)

    def _refuse(self, outgoing: Outgoing, why: str) -> None:
        loop_time = asyncio.get_running_loop().time()
        self.refused += 1
        kind = _kind(outgoing.subject)
        retry_at = self._held.get(kind, 0.0)
        if retry_at <= loop_time:
            retry_at = self._held[kind] = loop_time + REFUSED_WAIT_S
        self._window.postpone(outgoing.subject, retry_at)
        if loop_time - self._logged_at >= LOG_INTERVAL_S:
            self._logged_at = loop_time
            _log.warning("publish_refused", subject=outgoing.subject, reason=why)

    def _finish(self, token: int, outcome: Outcome) -> None:
        outgoing = self._window.remove(token)
        if outgoing is None:
            return
        if self._window.has_room:
            self._room.set()
        if not len(self._window):
            self._empty.set()
        if outgoing.on_done is not None:
            outgoing.on_done(outcome)
