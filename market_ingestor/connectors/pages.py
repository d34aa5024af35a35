"""What the venues' REST answers have in common.

Owns the reading of a refusal, of rows that are bad one by one, of lists of instruments, and the
walk backward through pages that are newest first. Must never know a venue or do a request.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from market_ingestor.connectors.fields import DECODE_ERRORS, checked_number
from market_ingestor.connectors.venue import (
    Gap,
    HistoryPage,
    Rejected,
    RestRequest,
    RestResponse,
)
from market_ingestor.errors import (
    VenueBannedError,
    VenueError,
    VenueProtocolError,
    VenueRefusedError,
    excerpt,
)
from market_ingestor.model.instrument import VenueInstrument
from market_ingestor.model.trade import TextTrade

T = TypeVar("T")

RETRY_AFTER_S_MAX: Final = 3 * 86_400  # the longest ban any venue documents
STATUS_OK: Final = 200
STATUSES_OF_REQUESTS: Final = frozenset({400, 404})  # it is about what was asked for
STATUSES_OF_BANS: Final = frozenset({403, 418, 429})


def decode_body(
    exchange: str,
    response: RestResponse,
    decoder: msgspec.json.Decoder[T],
    ban_s: Mapping[int, int],
) -> T:
    """Return the decoded body of an answer that is not a refusal.

    Args:
        exchange: Named in the errors.
        response: The answer.
        decoder: Of the body that the documents promise.
        ban_s: Seconds to stay away per status, for answers that do not say.

    Raises:
        VenueBannedError: Status 403, 418 or 429.
        VenueRefusedError: Status 400 or 404.
        VenueError: Any other status but 200.
        VenueProtocolError: The body is not what ``decoder`` expects.
    """
    if response.status in STATUSES_OF_BANS:
        raise VenueBannedError(
            exchange,
            f"HTTP {response.status}: {excerpt(response.body)}",
            retry_after_s=retry_after_s(response) or float(ban_s[response.status]),
        )
    if response.status != STATUS_OK:
        is_of_request = response.status in STATUSES_OF_REQUESTS
        raise (VenueRefusedError if is_of_request else VenueError)(
            exchange,
            f"HTTP {response.status}: {excerpt(response.body)}",
            retry_after_s=retry_after_s(response),
        )
    try:
        return decoder.decode(response.body)
    except DECODE_ERRORS:
        raise VenueProtocolError(exchange, f"odd body: {excerpt(response.body)}") from None


def retry_after_s(response: RestResponse) -> float | None:
    """Return the seconds of ``Retry-After``, None if absent, zero or a date."""
    text = response.headers.get("retry-after", "").strip()
    if not (text.isascii() and text.isdigit()):
        return None
    return float(min(int(text[:9]), RETRY_AFTER_S_MAX)) or None


def history_rows(
    rows: Iterable[msgspec.Raw], read: Callable[[msgspec.Raw], TextTrade | Rejected]
) -> tuple[list[TextTrade], list[Rejected]]:
    """Return the good rows, ascending by id and each id once, and the bad ones."""
    trades: dict[int, TextTrade] = {}
    rejected: list[Rejected] = []
    for row in rows:
        result = read_row(row, read)
        if isinstance(result, Rejected):
            rejected.append(result)
        else:
            trades.setdefault(int(result.id), result)
    return [trades[number] for number in sorted(trades)], rejected


def read_row(
    row: msgspec.Raw, read: Callable[[msgspec.Raw], TextTrade | Rejected]
) -> TextTrade | Rejected:
    """Return what ``read`` makes of one row, a `Rejected` if it is of another shape."""
    try:
        return read(row)
    except DECODE_ERRORS:
        return Rejected("bad_type", excerpt(bytes(row)))


def page_backward(
    gap: Gap,
    rows: Sequence[msgspec.Raw],
    read: Callable[[msgspec.Raw], TextTrade | Rejected],
    *,
    limit: int,
    older_than: Callable[[Gap, int], RestRequest],
) -> HistoryPage:
    """Return a page of a walk from ``gap.before_id`` down to ``gap.after_id``.

    The next page starts with the oldest trade of this one, so that the trades on both sides of
    the seam are seen to be neighbours. A page that is not full is the last.

    Args:
        gap: What is walked.
        rows: The page as sent, newest first.
        read: Turns a row into a trade.
        limit: Rows of a full page, at least 2.
        older_than: Makes the request for trades with ids below the given one.
    """
    trades, rejected = history_rows(rows, read)
    request = None
    if len(rows) >= limit and len(trades) > 1 and int(trades[0].id) > gap.after_id:
        request = older_than(gap, int(trades[1].id))
    return HistoryPage(trades=trades, rejected=rejected, next=request)


def read_instruments(
    exchange: str,
    rows: Iterable[T],
    read: Callable[[T], VenueInstrument | None],
) -> list[VenueInstrument]:
    """Return the instruments of a list, one per venue symbol, without the rows that are none.

    Args:
        exchange: Named in the error.
        rows: The list as sent.
        read: Turns a row into an instrument; None leaves it out. May raise `DECODE_ERRORS`.

    Raises:
        VenueProtocolError: Rows came and every one was malformed.
    """
    instruments: dict[str, VenueInstrument] = {}
    malformed = well_formed = 0
    for row in rows:
        try:
            instrument = read(row)
        except DECODE_ERRORS:
            malformed += 1
            continue
        well_formed += 1
        if instrument is not None and instrument.venue_symbol:
            instruments.setdefault(instrument.venue_symbol, instrument)
    if malformed and not well_formed:
        raise VenueProtocolError(exchange, f"none of {malformed} instruments can be read")
    return list(instruments.values())


def step(value: str) -> str | None:
    """Return a tick or lot size as plain text, None where the venue gives none."""
    return checked_number(value)
