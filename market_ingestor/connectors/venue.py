"""The Venue protocol: everything particular to one exchange, as pure methods.

A venue knows its addresses, limits, frames and pages; it opens no socket, reads no clock and
keeps no state between calls. `connectors.session` drives any venue over WebSockets,
`connectors.refill` over REST; neither ever asks which exchange it has.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from market_ingestor.model.instrument import VenueInstrument
from market_ingestor.model.listing import VolumeKind
from market_ingestor.model.trade import TextTrade

RejectReason: TypeAlias = Literal[
    "bad_json", "bad_type", "bad_price", "bad_amount", "bad_id", "bad_time", "bad_side",
    "unknown_symbol", "too_old", "too_far_ahead",
]  # fmt: skip


class Trades(msgspec.Struct, frozen=True, gc=False):
    """Live trades of one instrument in the order of the frame."""

    venue_symbol: str
    trades: Sequence[TextTrade]


class Subscribed(msgspec.Struct, frozen=True, gc=False):
    """The venue confirmed subscriptions.

    Attributes:
        request_id: The request it answers, None when the venue does not say.
        venue_symbols: What is confirmed; empty means everything that request asked for.
    """

    request_id: int | None
    venue_symbols: Sequence[str] = ()


class SubscriptionRefused(msgspec.Struct, frozen=True, gc=False):
    """The venue refused subscriptions.

    Attributes:
        request_id: The request it answers, None when the venue does not say.
        venue_symbols: What is refused; empty means the whole request got no data, and each of
            its symbols must be asked for alone to learn which one was at fault.
        message: The venue's own words, bounded.
    """

    request_id: int | None
    venue_symbols: Sequence[str]
    message: str


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """A frame, or one trade of it, that is not fit to use; it costs one counter.

    Attributes:
        reason: Label of the counter.
        excerpt: Bounded text of what was refused.
    """

    reason: RejectReason
    excerpt: str


class Heartbeat(msgspec.Struct, frozen=True, gc=False):
    """The venue is alive.

    Attributes:
        venue_symbol: The instrument it speaks of, None for the whole connection.
        last_id: The last trade of that instrument at the venue; a higher id than the last one
            delivered is a gap even before the next trade arrives.
    """

    venue_symbol: str | None = None
    last_id: str | None = None


class ClosingSoon(msgspec.Struct, frozen=True, gc=False):
    """The venue will close this connection: open the next one now."""

    message: str


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A frame that is none of our business, or of a kind the venue added unannounced."""


Event: TypeAlias = (
    Trades | Subscribed | SubscriptionRefused | Rejected | Heartbeat | ClosingSoon | Ignored
)


class Limits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the venue allows and expects of one connection; all from its documents.

    Attributes:
        subscribe_batch: Symbols in one subscribe message.
        symbols_per_connection: Symbols on one connection.
        message_interval_s: Least time between two messages we send.
        connect_interval_s: Least time between two connection attempts of this process.
        ping_interval_s: How often `Venue.ping` must be sent, None when the venue needs none.
        connection_life_s: When the venue ends a connection by itself, None when it does not.
        frame_bytes_max: Largest frame to expect; a larger one closes the connection.
        rest_requests_per_s: Sustained REST rate for trade history.
        bans_s: Seconds to stay away after the statuses 403, 418 and 429 where the answer itself,
            to a request or to a handshake, does not say.
        has_contiguous_ids: Whether ids of an instrument grow by one, so that a jump is a hole.
        has_amounts: Whether every trade must carry a positive amount.
        volume_kind: What amounts mean: traded units, or updates where most trades bring none.
        has_ids: Whether trades have ids; without, `decode` leaves them empty and the connection
            makes them up (`connectors.made_up_ids`).
        repeats_frames: Whether the venue is known to send a frame twice; only of a venue without
            ids must that be known.
        confirms_after_s: For a venue that confirms nothing: seconds without a refusal after which
            a symbol counts as confirmed. None for venues that answer.
        answers_pings: Whether it is pinged each second, and a mark says no more than the newest
            answer proves; of a venue without ids marks are all the evidence there is.
        silence_max_s: Longest silence of a healthy connection; raises the read deadline.
        history_slack_s: For a venue whose history is asked for by time: how far a trade's time may
            lie from those of its neighbours by id. Only a walk over so much more on both sides
            tells that an id does not exist. None where it is asked for by id.
        refills: Whether its history gives back what a pause of reading costs. Venues that do not
            are the last to pause.
        trades_always: Whether a long silence of all symbols says that something is wrong; not
            where markets close for the night.
        lists_for_all: Whether everybody gets the list of instruments; else symbols are taken as
            configured when it is refused.
    """

    subscribe_batch: int
    symbols_per_connection: int
    message_interval_s: float
    connect_interval_s: float
    ping_interval_s: float | None
    connection_life_s: float | None
    frame_bytes_max: int
    rest_requests_per_s: float
    bans_s: Mapping[int, int]
    has_contiguous_ids: bool
    has_amounts: bool = True
    volume_kind: VolumeKind = "base"
    has_ids: bool = True
    repeats_frames: bool = False
    confirms_after_s: float | None = None
    answers_pings: bool = False
    silence_max_s: float = 0.0
    history_slack_s: float | None = None
    refills: bool = True
    trades_always: bool = True
    lists_for_all: bool = True

    @property
    def is_exclusive(self) -> bool:
        """Return whether two connections must never be open at once.

        Trades without ids that come over two connections cannot be told from twice as many.
        """
        return not self.has_ids


class RestRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A GET relative to the venue's REST base address."""

    path: str
    params: Mapping[str, str | int] = {}
    headers: Mapping[str, str] = {}


class RestResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What came back; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Gap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A hole in an instrument's ids: everything strictly between two ids that we have.

    Attributes:
        after_id: Last id before the hole.
        before_id: First id behind the hole.
        from_time_us: Trade time of ``after_id``; ``to_time_us`` that of ``before_id``.
    """

    instrument: VenueInstrument
    after_id: int
    before_id: int
    from_time_us: int
    to_time_us: int


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One page of trade history.

    Attributes:
        trades: Ascending by id; neighbours are neighbours at the venue too, but for venues with
            `Limits.history_slack_s`. May reach beyond the gap on both sides.
        rejected: Rows of the page that were not fit to use.
        next: The request for the next page of the same gap, None when the gap is exhausted or
            the venue has nothing older (newer) to give.
        is_whole: Whether the pages so far list all there is between their ends; not so where no
            cursor leads past an instant with more trades than a page holds.
    """

    trades: Sequence[TextTrade]
    rejected: Sequence[Rejected]
    next: RestRequest | None
    is_whole: bool = True


class Venue(Protocol):
    """One exchange's protocol. Implementations are stateless and compare equal by type."""

    @property
    def name(self) -> str:
        """The exchange's name in this project, without ``sim-``."""

    @property
    def ws_url(self) -> str:
        """Base address of the public WebSocket; configuration may replace it."""

    @property
    def rest_url(self) -> str:
        """Base address of the public REST interface; configuration may replace it."""

    @property
    def limits(self) -> Limits:
        """The venue's limits."""

    def connect_url(self, base: str) -> str:
        """Return the address to connect to for trades, given the base address."""

    def subscribe(self, venue_symbols: Sequence[str], request_id: int) -> str | None:
        """Return the frame that subscribes at most ``limits.subscribe_batch`` symbols.

        None where nothing is to be said: the venue sends all it has to whoever connects.

        Args:
            venue_symbols: The venue's own names.
            request_id: 1 .. 2**31-1, echoed by venues that echo.
        """

    def unsubscribe(self, venue_symbols: Sequence[str], request_id: int) -> str | None:
        """Return the frame that ends these subscriptions, None as in `subscribe`."""

    def ping(self, request_id: int) -> str | None:
        """Return the application-level ping frame, None when the venue wants none."""

    def decode(self, frame: bytes | str) -> Sequence[Event]:
        """Return what a frame means, in order; never raises, whatever the bytes.

        Trades are checked: finite positive price (and amount), id of 1-19 digits (empty without
        ``limits.has_ids``), a time in microseconds; ``side`` is the taker's, None where the venue
        never tells it. Age is not checked here: that needs a clock.
        """

    def instruments_request(self) -> RestRequest | None:
        """Return the request for the venue's list of instruments, None when it has none."""

    def decode_instruments(self, response: RestResponse) -> Sequence[VenueInstrument]:
        """Return the listed instruments.

        Raises:
            VenueError: The venue refused; `VenueBannedError` when it told us to stay away.
            VenueProtocolError: The body is not what the documents say.
        """

    def history_request(self, gap: Gap) -> RestRequest | None:
        """Return the first request that fills ``gap``, None when the venue keeps no history."""

    def newest_request(self, instrument: VenueInstrument) -> RestRequest | None:
        """Return the request for the newest trade, whose answer is a page of history.

        None where the socket itself tells the newest trade after a subscription, or where ids
        are not contiguous: then there is nothing to learn.
        """

    def decode_history(self, gap: Gap, response: RestResponse) -> HistoryPage:
        """Return one page of the answer and the request for the next.

        Raises:
            VenueError: As `decode_instruments`.
        """
