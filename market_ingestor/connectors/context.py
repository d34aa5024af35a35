"""What the connections of one exchange share. SHELL.

Owns the rate-limited complaint about bad input and the words of events. Must never know how a
connection works.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

import structlog

from market_ingestor.config import IngestSettings
from market_ingestor.connectors.backoff import Turnstile
from market_ingestor.connectors.feed import Feed, FeedNames, Lane
from market_ingestor.connectors.gaps import FoundGap, IdReset
from market_ingestor.connectors.intake import US_PER_S, Ages, Track
from market_ingestor.connectors.made_up_ids import SALTS, MadeUpIds
from market_ingestor.connectors.outbox import Outbox, now_us
from market_ingestor.connectors.venue import Rejected, Venue
from market_ingestor.model.event import WHOLE_FEED, EventType, MarketEvent
from market_ingestor.model.exchange import is_simulated
from market_ingestor.model.trade import WIRE_VERSION, Source

_log = structlog.get_logger(__name__)

LOG_INTERVAL_S: Final = 30.0  # bad input may come a thousand times a second; one line is enough


class ExchangeContext:
    """One configured exchange: its venue, its limits and its way to the bus.

    Attributes:
        suspects: Instruments whose finder has something to decide.
        unproved: Subscriptions of which nobody knows yet what was lost before them.
        connects: Paces connection attempts to this exchange.
        turn: Held by a connection for its whole life; there is one where the venue allows one.
    """

    def __init__(
        self,
        exchange: str,
        venue: Venue,
        *,
        ws_url: str,
        settings: IngestSettings,
        outbox: Outbox,
        names: FeedNames,
        hidden: Iterable[str] = (),
    ) -> None:
        self.exchange = exchange
        self.venue = venue
        self.ws_url = ws_url
        self.settings = settings
        self.outbox = outbox
        self.names = names
        self.simulated = is_simulated(exchange)
        self.account = outbox.account(exchange)
        self.ages = Ages(
            max_age_us=int(settings.max_trade_age_s * US_PER_S),
            max_ahead_us=int(settings.max_trade_ahead_s * US_PER_S),
        )
        self.connects = Turnstile(venue.limits.connect_interval_s)
        self.suspects: set[Track] = set()
        self.unproved: dict[Lane, Track] = {}
        self.turn: contextlib.AbstractAsyncContextManager[object] = (
            asyncio.Lock() if venue.limits.is_exclusive else contextlib.nullcontext()
        )
        self.last_trade_us = 0
        self.reconnects = 0
        self._salts = itertools.count(secrets.randbelow(SALTS))
        self._hidden = [form for each in hidden if each for form in (each, quote(each, safe=""))]
        self._complained_at = -LOG_INTERVAL_S
        self._complaints = 0

    def feed(self, source: Source) -> Feed:
        """Return a new feed of this exchange."""
        return Feed(
            self.names.next(),
            self.exchange,
            source=source,
            has_contiguous_ids=self.venue.limits.has_contiguous_ids,
            simulated=self.simulated,
        )

    def made_up_ids(self) -> MadeUpIds | None:
        """Return what names the trades of a new connection, None where trades have ids."""
        if self.venue.limits.has_ids:
            return None
        return MadeUpIds(next(self._salts) % SALTS)

    def redacted(self, text: str) -> str:
        """Return ``text`` without keys; whatever names an address or quotes the venue needs it."""
        for form in self._hidden:
            text = text.replace(form, "***")
        return text

    def reject(self, rejected: Rejected) -> None:
        """Count what is not fit to use, and say so now and then."""
        self.account.reject(rejected.reason)
        self._complaints += 1
        now = asyncio.get_running_loop().time()
        if now - self._complained_at >= LOG_INTERVAL_S:
            _log.warning(
                "input_rejected",
                exchange=self.exchange,
                reason=rejected.reason,
                excerpt=self.redacted(rejected.excerpt),
                since_last_line=self._complaints,
            )
            self._complained_at = now
            self._complaints = 0

    def feed_event(self, kind: EventType, detail: str, symbol: str = WHOLE_FEED) -> None:
        """Publish that a feed, or one symbol of it, changed its state."""
        self.outbox.event(
            MarketEvent(
                v=WIRE_VERSION,
                exchange=self.exchange,
                symbol=symbol,
                type=kind,
                time_us=now_us(),
                after_id=None,
                before_id=None,
                missing=None,
                from_time=None,
                to_time=None,
                detail=detail,
                simulated=self.simulated,
            )
        )

    def gap_event(self, kind: EventType, symbol: str, gap: FoundGap | IdReset, detail: str) -> None:
        """Publish what became of a hole."""
        self.outbox.event(
            MarketEvent(
                v=WIRE_VERSION,
                exchange=self.exchange,
                symbol=symbol,
                type=kind,
                time_us=now_us(),
                after_id=str(gap.after_id),
                before_id=str(gap.before_id),
                missing=gap.missing if isinstance(gap, FoundGap) else None,
                from_time=gap.from_time_us // 1000,
                to_time=gap.to_time_us // 1000,
                detail=detail,
                simulated=self.simulated,
            )
        )
