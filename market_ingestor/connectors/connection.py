"""One connection to one venue from handshake to close, which is one feed. SHELL.

Drives any `Venue`; never asks which exchange it has. What ends a connection is a value
(`Ending`), not an exception: `connectors.session` decides what comes next.
"""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, assert_never

import msgspec
import structlog
from websockets.exceptions import InvalidStatus, WebSocketException

from market_ingestor.connectors.context import ExchangeContext
from market_ingestor.connectors.intake import Gate, Route, Track
from market_ingestor.connectors.made_up_ids import Repeats
from market_ingestor.connectors.outbox import now_us
from market_ingestor.connectors.subscriptions import Memory, Subscriptions
from market_ingestor.connectors.transport import CLOSED, Transport, is_too_big, open_transport
from market_ingestor.connectors.venue import (
    ClosingSoon,
    Event,
    Heartbeat,
    Ignored,
    Rejected,
    Subscribed,
    SubscriptionRefused,
    Trades,
)
from market_ingestor.errors import excerpt
from market_ingestor.model.trade import TextTrade

_log = structlog.get_logger(__name__)

FRAMES_AT_ONCE: Final = 1_000  # taken before we look whether there is room for more
FRAMES_BEHIND: Final = 256  # in one read: the kernel probably holds more
WATCH_S: Final = 0.5
PROBE_S: Final = 1.0  # between a venue's answer and our next ping: readers allow 3 s without a mark
PROVED_S: Final = 30.0  # a confirmed session of this length works, trades or not
ROLLOVER_MARGIN: Final = 0.1  # of the venue's maximum life, at most:
ROLLOVER_MARGIN_S_MAX: Final = 600.0
STATUSES_OF_BANS: Final = frozenset({403, 418, 429})
RETRY_AFTER_S_MAX: Final = 3 * 86_400.0  # the longest ban any venue documents


class Ending(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why a connection is over.

    Attributes:
        reason: One clause for logs and events.
        is_proved: It delivered a valid trade, or held half a minute with confirmed symbols.
        retry_after_s: The venue's wish, 0 without one.
    """

    reason: str
    is_proved: bool = False
    retry_after_s: float = 0.0


class Connection:
    """Connects once, subscribes, reads until the end.

    Args:
        tracks: The instruments to subscribe.
        memory: What earlier connections of these instruments learned.

    Attributes:
        established: Set when every subscription has been answered or given up.
        wants_successor: Set when the next connection should be opened now, while this one lives.
        is_planned: Whether that is because its known life ends.
    """

    def __init__(self, context: ExchangeContext, tracks: Iterable[Track], memory: Memory) -> None:
        self._context = context
        self._venue = context.venue
        self._outbox = context.outbox
        self._limits = context.venue.limits
        self._gate = Gate(
            context.ages, context.account, has_contiguous_ids=self._limits.has_contiguous_ids
        )
        self.feed = context.feed("ws")
        self._routes = self._made_routes(tracks)
        self.subscriptions = Subscriptions(
            self._routes,
            batch_max=self._limits.subscribe_batch,
            memory=memory,
            confirms_after_s=self._limits.confirms_after_s,
        )
        self._ids = context.made_up_ids()
        self._repeats = Repeats() if self._limits.repeats_frames else None
        self.established = asyncio.Event()
        self.wants_successor = asyncio.Event()
        self.is_planned = False
        self.is_up = False
        self._is_over = False
        self._ask = asyncio.Event()
        self._close = asyncio.Event()
        self._has_traded = False
        self._opened_at = 0.0
        self._confirmed_at: float | None = None
        self._heard_us = 0
        self._marked_us = 0
        self._reason = ""

    def _made_routes(self, tracks: Iterable[Track]) -> dict[str, Route]:
        return {
            track.instrument.venue.venue_symbol: Route(
                track, self.feed.lane(track.instrument.symbol)
            )
            for track in tracks
        }

    def extend(self, tracks: Iterable[Track]) -> None:
        """Subscribe these instruments as well; `established` waits for them too."""
        routes = self._made_routes(tracks)
        self._routes |= routes
        self.subscriptions.add(routes)
        if not self._is_over:
            self.established.clear()
            self._look_settled()
            self._ask.set()

    def close(self, reason: str) -> None:
        """End this connection in order; what arrives until then is still taken."""
        self._reason = self._reason or reason
        self._close.set()

    def mark(self, time_us: int) -> None:
        """Say on the bus that this connection lives and has sent all it had, if it evidently does.

        Args:
            time_us: Now, UTC microseconds.
        """
        lived_us = self._lived_us(time_us)
        if not self.feed.is_paused and lived_us > self._marked_us:
            self._marked_us = lived_us
            self._outbox.mark(self.feed, lived_us)

    def _lived_us(self, time_us: int) -> int:
        """Return until when this connection evidently lived, UTC microseconds.

        A half-open one looks alive until the read deadline. Where ids show what it lost, no more
        is needed; where they do not, only what was heard counts.
        """
        return self._heard_us if self._limits.answers_pings else time_us

    async def run(self) -> Ending:
        """Connect and serve until the connection ends."""
        try:
            socket = await open_transport(
                self._venue.connect_url(self._context.ws_url),
                frame_bytes_max=self._limits.frame_bytes_max,
            )
        except InvalidStatus as refusal:
            return _refused(refusal, self._limits.bans_s)
        except (OSError, TimeoutError, WebSocketException) as problem:
            return Ending(reason=excerpt(self._context.redacted(f"cannot connect: {problem!r}")))
        self._opened_at = asyncio.get_running_loop().time()
        self._heard_us = now_us()
        try:
            reason = await self._serve(socket)
        except asyncio.CancelledError:
            self._reason = self._reason or "stopped"
            raise
        else:
            self._reason = self._reason or reason
        finally:
            self._over()
            with contextlib.suppress(OSError, WebSocketException):
                await socket.close()
        return Ending(reason=self._reason, is_proved=self._is_proved())

    def _is_proved(self) -> bool:
        """Return whether attempts to connect evidently work."""
        now = asyncio.get_running_loop().time()
        return self._has_traded or (
            self._confirmed_at is not None and now - self._confirmed_at >= PROVED_S
        )

    def _over(self) -> None:
        """Say on the bus that this feed has ended."""
        self._is_over = True
        for route in self._routes.values():
            self._context.unproved.pop(route.lane, None)
        self._outbox.mark(self.feed, self._lived_us(now_us()), end=True)
        if self.is_up:
            self.is_up = False
            self._context.feed_event("feed_down", f"{self.feed.name}: {self._reason}")
        _log.info(
            "connection_ended",
            exchange=self._context.exchange,
            feed=self.feed.name,
            reason=self._reason,
        )

    async def _serve(self, socket: Transport) -> str:
        """Read while siblings write and watch; return the reason of the end."""
        self.subscriptions.ask_again(asyncio.get_running_loop().time())
        async with asyncio.TaskGroup() as tasks:
            siblings = [
                tasks.create_task(self._write(socket)),
                tasks.create_task(self._watch(socket)),
                tasks.create_task(self._end_in_order(socket)),
            ]
            if self._limits.answers_pings:
                siblings.append(tasks.create_task(self._probe(socket)))
            try:
                return self._context.redacted(await self._read(socket))
            finally:
                for sibling in siblings:
                    sibling.cancel()

    # -- reading

    async def _read(self, socket: Transport) -> str:
        """Take frames until the connection ends; never yields while frames are queued."""
        loop, is_refilled = asyncio.get_running_loop(), self._limits.refills
        try:
            while True:
                frames = await socket.frames()
                for begin in range(0, len(frames), FRAMES_AT_ONCE):
                    self._heard_us = now_us()
                    self._take(frames[begin : begin + FRAMES_AT_ONCE], self._heard_us, loop.time())
                    has_room = self._outbox.has_room(is_refilled=is_refilled)
                    if not has_room and not await self._pause(socket):
                        return "paused for too long: the bus does not take what was read"
                if len(frames) >= FRAMES_BEHIND:
                    self._outbox.fell_behind()
        except CLOSED as closed:
            if is_too_big(closed):
                self._context.reject(Rejected("bad_type", "a frame beyond the venue's bound"))
            return excerpt(str(closed))

    def _take(self, frames: Sequence[bytes], received_us: int, now: float) -> None:
        """Do what frames mean that came together.

        The trades of one symbol among them are taken together, in their order, and share what a
        symbol costs: 1.5 us a trade beside its decoding, not 3.4, where a hundred symbols are busy.
        """
        decode, repeats = self._venue.decode, self._repeats
        trades: defaultdict[str, list[TextTrade]] = defaultdict(list)
        for frame in frames:
            events = decode(frame)
            if repeats is not None and self._is_repeat(frame, events, now):
                continue
            for event in events:
                if type(event) is Trades:
                    trades[event.venue_symbol] += event.trades
                else:
                    self._on_all_trades(trades, received_us, now)  # they came first
                    trades.clear()
                    self._on_event(event, received_us, now)
        self._on_all_trades(trades, received_us, now)

    def _is_repeat(self, frame: bytes, events: Sequence[Event], now: float) -> bool:
        """Return whether this frame of trades came just before; counts them as copies if so."""
        trades = sum(len(each.trades) for each in events if type(each) is Trades)
        if not trades or self._repeats is None or not self._repeats.is_repeat(frame, now):
            return False
        self._context.account.drop(trades)
        return True

    def _on_all_trades(
        self, trades: Mapping[str, Sequence[TextTrade]], received_us: int, now: float
    ) -> None:
        for venue_symbol, some in trades.items():
            self._on_trades(venue_symbol, some, received_us, now)

    def _on_trades(
        self, venue_symbol: str, trades: Sequence[TextTrade], received_us: int, now: float
    ) -> None:
        route = self._routes.get(venue_symbol)
        if route is None:
            for trade in trades:
                self._context.reject(
                    Rejected("unknown_symbol", excerpt(f"{venue_symbol} {trade.id}"))
                )
            return
        if not route.lane.is_confirmed:
            self._on_confirmed(self.subscriptions.confirm(None, (venue_symbol,)), now)
        named = self._ids.name(venue_symbol, trades) if self._ids else trades
        fit = self._gate.accept(route, named, received_us, now)
        if fit:
            finder = route.track.finder
            self._has_traded = True
            self._context.last_trade_us = received_us
            if finder.is_stopped:
                route.lane.has_contiguous_ids = False  # readers then judge by who was up
            self._outbox.put(route.lane, fit, received_us)
            if finder.needs_look:
                self._context.suspects.add(route.track)

    def _on_event(self, event: Event, received_us: int, now: float) -> None:
        match event:
            case Trades():
                self._on_trades(event.venue_symbol, event.trades, received_us, now)
            case Subscribed():
                self._on_confirmed(
                    self.subscriptions.confirm(event.request_id, event.venue_symbols), now
                )
            case SubscriptionRefused():
                self._on_refused(event, now)
            case Rejected():
                self._context.reject(event)
            case Heartbeat():
                self._on_heartbeat(event, received_us, now)
            case ClosingSoon():
                _log.info("closing_soon", feed=self.feed.name, message=event.message)
                self.wants_successor.set()
            case Ignored():
                pass
            case _:
                assert_never(event)

    def _on_confirmed(self, venue_symbols: Iterable[str], now: float) -> None:
        for venue_symbol in venue_symbols:
            route = self._routes[venue_symbol]
            route.lane.is_confirmed = True
            if self._limits.has_contiguous_ids:
                self._context.unproved[route.lane] = route.track
        if not self.is_up and self.feed.confirmed:
            self.is_up = True
            self._confirmed_at = now
            self._context.feed_event("feed_up", f"{self.feed.name}: first symbol confirmed")
            _log.info("feed_up", exchange=self._context.exchange, feed=self.feed.name)
        self._look_settled()

    def _on_refused(self, event: SubscriptionRefused, now: float) -> None:
        refused = self.subscriptions.refuse(
            event.request_id, event.venue_symbols, event.message, now
        )
        _log.warning(
            "subscription_refused",
            exchange=self._context.exchange,
            venue_symbols=refused or "a whole request, now asked one by one",
            message=self._context.redacted(event.message),
        )
        for venue_symbol in refused:
            self._routes[venue_symbol].lane.is_confirmed = False
        self._ask.set()
        self._look_settled()

    def _on_heartbeat(self, event: Heartbeat, received_us: int, now: float) -> None:
        if event.venue_symbol is None or event.last_id is None:
            return
        route = self._routes.get(event.venue_symbol)
        if route is not None and self._limits.has_contiguous_ids:
            finder = route.track.finder
            finder.heard(int(event.last_id), received_us, now)
            if finder.needs_look:
                self._context.suspects.add(route.track)

    def _look_settled(self) -> None:
        if self.subscriptions.is_settled:
            self.established.set()

    async def _pause(self, socket: Transport) -> bool:
        """Wait until the bus takes more; return whether it did in time."""
        self.feed.is_paused = True
        try:
            async with asyncio.timeout(self._context.settings.pause_max_s):
                await self._outbox.room(is_refilled=self._limits.refills)
        except TimeoutError:
            return False
        finally:
            self.feed.is_paused = False
            socket.heard = True  # it was we who did not listen
        return True

    # -- writing

    async def _write(self, socket: Transport) -> None:
        """Send subscribe requests and pings, no faster than the venue allows."""
        loop = asyncio.get_running_loop()
        interval = self._limits.ping_interval_s
        ping_at = loop.time() + interval if interval else None
        while True:
            now = loop.time()
            frame = None
            if ping_at is not None and now >= ping_at and interval:
                frame = self._venue.ping(self.subscriptions.number())
                ping_at = now + interval
            elif (request := self.subscriptions.next_request(now)) is not None:
                frame = self._venue.subscribe(request.venue_symbols, request.request_id)
                if frame is None:
                    continue
            if frame is not None:
                if not await self._send(socket, frame):
                    return
                await asyncio.sleep(self._limits.message_interval_s)
                continue
            self._ask.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if ping_at is None else max(ping_at - now, 0)):
                    await self._ask.wait()

    async def _send(self, socket: Transport, frame: str) -> bool:
        """Send one frame; return False when the connection is no longer good for it."""
        try:
            async with asyncio.timeout(self._context.settings.write_timeout_s):
                await socket.send(frame)
        except CLOSED:
            return False  # the reader says why
        except TimeoutError:
            self._cut(socket, "the venue does not read what we send")
            return False
        return True

    # -- watching

    async def _watch(self, socket: Transport) -> None:
        """Look after deadlines: silence, unanswered subscriptions, the end of our life."""
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        roll_at = self._rollover_at()
        silence_max_s = max(self._context.settings.read_timeout_s, self._limits.silence_max_s)
        while True:
            now = loop.time()
            await asyncio.sleep(WATCH_S if roll_at is None else min(WATCH_S, max(roll_at - now, 0)))
            now = loop.time()
            if socket.heard:
                socket.heard = False
                heard_at = now
            elif now - heard_at > silence_max_s:
                self._cut(socket, f"silent for {now - heard_at:.0f} s")
                return
            self._on_confirmed(self.subscriptions.unrefused(now), now)
            unanswered = self.subscriptions.expire(now)
            if unanswered:
                _log.warning(
                    "subscription_unanswered",
                    exchange=self._context.exchange,
                    venue_symbols=unanswered[:10],
                    count=len(unanswered),
                )
                self._ask.set()
                self._look_settled()
            if self.subscriptions.ask_again(now):
                self._ask.set()
            if roll_at is not None and now >= roll_at:
                roll_at = None
                _log.info("connection_life_ends", feed=self.feed.name)
                self.is_planned = True
                self.wants_successor.set()

    async def _probe(self, socket: Transport) -> None:
        """Ask again and again whether the venue is there; an answer counts as heard."""
        with contextlib.suppress(*CLOSED):  # the reader says why
            while True:
                await socket.probe()
                self._heard_us = now_us()
                await asyncio.sleep(PROBE_S)

    def _rollover_at(self) -> float | None:
        """Return when to open the next connection, some time before the venue ends this one."""
        life = self._limits.connection_life_s
        if life is None:
            return None
        margin = min(life * ROLLOVER_MARGIN, ROLLOVER_MARGIN_S_MAX)
        # Connections opened together must not all be replaced together.
        return self._opened_at + life - margin * random.uniform(1.0, 2.0)

    async def _end_in_order(self, socket: Transport) -> None:
        """Close when asked to; the reader takes what still arrives."""
        await self._close.wait()
        await socket.close()

    def _cut(self, socket: Transport, reason: str) -> None:
        """End a connection whose other side cannot be expected to answer."""
        self._reason = self._reason or reason
        socket.transport.abort()


def _refused(refusal: InvalidStatus, bans_s: Mapping[int, int]) -> Ending:
    """Return the ending of a handshake that was answered with an HTTP status.

    A ban lasts as long as the answer says, else as long as the venue's documents do.
    """
    status = refusal.response.status_code
    text = refusal.response.headers.get("Retry-After", "").strip()
    wait_s = float(bans_s.get(status, 0))
    if status in STATUSES_OF_BANS and text.isascii() and text.isdigit():
        wait_s = min(float(text[:9]), RETRY_AFTER_S_MAX)
    return Ending(reason=f"handshake refused with status {status}", retry_after_s=wait_s)
