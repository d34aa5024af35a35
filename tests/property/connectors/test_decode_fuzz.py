"""Whatever the venue sends: decode never raises, answers raise a VenueError or are read."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from market_ingestor.connectors.fields import TIME_US_MAX, TIME_US_MIN
from market_ingestor.connectors.venue import (
    ClosingSoon,
    Event,
    Gap,
    Heartbeat,
    HistoryPage,
    Ignored,
    Rejected,
    RestResponse,
    Subscribed,
    SubscriptionRefused,
    Trades,
)
from market_ingestor.errors import VenueError
from market_ingestor.model.decimals import checked
from market_ingestor.model.instrument import VenueInstrument
from market_ingestor.model.trade import TRADE_ID_MAX, TextTrade
from tests.golden import cases
from tests.golden.cases import SUBJECTS as VENUES

GOLDENS = cases.load()
INSTRUMENT = VenueInstrument(venue_symbol="A-B", rest_symbol="AB", base="A", quote="B")
GAP = Gap(
    instrument=INSTRUMENT,
    after_id=812345670,
    before_id=812345690,
    from_time_us=1795132800_000000,
    to_time_us=1795132801_000000,
)

unhurried = settings(deadline=None)  # a busy machine is no failure
venues = st.sampled_from(sorted(VENUES))
listing = st.sampled_from(sorted(name for name in VENUES if name != "tcp"))  # have REST
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(min_value=-(10**4000), max_value=10**4000),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(["NaN", "Infinity", "-1", "0", "1e999", "1e-12", "9" * 70, "\ud800", "\0"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a JSON document, the whole included."""
    found = [path]
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(each, (*path, key))
    return found


@st.composite
def spoiled(draw: st.DrawFn, texts: Sequence[bytes]) -> bytes:
    """Draw a golden payload with one to three of its values replaced or removed."""
    document = {"": json.loads(draw(st.sampled_from(texts)))}
    for _ in range(draw(st.integers(min_value=1, max_value=3))):
        *outer, last = draw(st.sampled_from(places(document)[1:] or [("",)]))
        target: Any = document
        for key in outer:
            target = target[key]
        if draw(st.booleans()):
            target[last] = draw(json_values)
        elif outer:
            del target[last]
    text = json.dumps(document.get(""), ensure_ascii=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")


@st.composite
def frames(draw: st.DrawFn) -> tuple[str, bytes | str]:
    """Draw a venue and a frame: noise, any JSON, or one of its own frames spoiled or cut."""
    venue = draw(venues)
    own = [
        golden.payload()
        for name, golden in GOLDENS.items()
        if name.startswith(venue) and golden.events is not None and golden.text is None
    ]
    dumped = json_values.map(json.dumps)
    cut = st.sampled_from(own).flatmap(
        lambda text: st.integers(min_value=0, max_value=len(text)).map(lambda end: text[:end])
    )
    return venue, draw(st.one_of(spoiled(own), st.binary(), st.text(), dumped, cut))


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, RestResponse]:
    """Draw a venue and an answer of its REST interface, at times spoiled."""
    venue = draw(listing)
    own = [
        bytes(golden.response.body)
        for name, golden in GOLDENS.items()
        if name.startswith(venue) and golden.response is not None
    ]
    body = draw(st.one_of(spoiled(own), st.binary(), st.sampled_from(own)))
    status = draw(st.sampled_from([200] * 6 + [400, 403, 418, 429, 503]))
    headers = draw(
        st.dictionaries(st.just("retry-after"), st.text(alphabet="0123456789.-enaif", max_size=9))
    )
    return venue, RestResponse(status=status, headers=headers, body=body)


def assert_fit(trade: TextTrade, venue: str) -> None:
    if VENUES[venue].limits.has_ids:
        assert 0 <= int(trade.id) <= TRADE_ID_MAX
        assert str(int(trade.id)) == trade.id
        assert trade.side in {"buy", "sell"}
    else:
        assert not trade.id
    for text in (trade.price, trade.amount):
        value, plain = checked(text)
        assert value > 0
        assert plain == text
        assert set(text) <= set("0123456789.")
    assert TIME_US_MIN <= trade.time_us < TIME_US_MAX


def assert_bounded(event: Event, venue: str) -> None:
    match event:
        case Trades():
            assert event.venue_symbol
            assert event.trades
            for trade in event.trades:
                assert_fit(trade, venue)
        case Rejected():
            assert len(event.excerpt) <= 203
        case SubscriptionRefused() | ClosingSoon():
            assert len(event.message) <= 203
        case Heartbeat():
            assert event.last_id is None or int(event.last_id) <= TRADE_ID_MAX
        case Subscribed() | Ignored():
            pass


@unhurried
@given(frames())
def test_decode_never_raises_and_lets_only_fit_trades_pass(case: tuple[str, bytes | str]) -> None:
    venue, frame = case
    for event in VENUES[venue].decode(frame):
        assert_bounded(event, venue)


@unhurried
@given(frames())
def test_bytes_and_text_of_a_frame_mean_the_same(case: tuple[str, bytes | str]) -> None:
    venue, frame = case
    if isinstance(frame, bytes):
        try:
            text = frame.decode()
        except UnicodeDecodeError:
            return
        assert VENUES[venue].decode(frame) == VENUES[venue].decode(text)


@unhurried
@given(answers())
def test_history_is_read_or_refused(case: tuple[str, RestResponse]) -> None:
    venue, response = case
    try:
        page: HistoryPage = VENUES[venue].decode_history(GAP, response)
    except VenueError:
        return
    ids = [int(trade.id) for trade in page.trades]
    assert ids == sorted(set(ids))
    for trade in page.trades:
        assert_fit(trade, venue)
    for rejected in page.rejected:
        assert_bounded(rejected, venue)


@unhurried
@given(answers())
def test_instruments_are_read_or_refused(case: tuple[str, RestResponse]) -> None:
    venue, response = case
    try:
        instruments = VENUES[venue].decode_instruments(response)
    except VenueError:
        return
    names = [instrument.venue_symbol for instrument in instruments]
    assert all(names)
    assert len(set(names)) == len(names)
    assert msgspec.json.encode(instruments)


@unhurried
@given(
    st.sampled_from(cases.SEVERAL_ROWS),
    st.lists(st.sampled_from(["1.50", "0", "-1", "1e999", "1e-12"]), min_size=1, max_size=8),
)
def test_each_bad_trade_costs_exactly_one_rejection(venue: str, prices: list[str]) -> None:
    rows = [
        cases.trade_row(venue, price=price, trade_id=str(number))
        for number, price in enumerate(prices)
    ]
    events = VENUES[venue].decode(cases.trade_frame(venue, *rows))
    good = [str(number) for number, price in enumerate(prices) if price in {"1.50", "1e-12"}]
    trades = [trade.id for event in events if isinstance(event, Trades) for trade in event.trades]
    rejected = [event for event in events if isinstance(event, Rejected)]
    assert trades == good
    assert len(rejected) == len(prices) - len(good)
    assert {event.reason for event in rejected} <= {"bad_price"}
