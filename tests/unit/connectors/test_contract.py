"""Every venue keeps the Venue protocol, over the goldens and over hostile frames."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from market_ingestor.connectors.registry import VENUES as REGISTERED
from market_ingestor.connectors.venue import Event, Ignored, Rejected, Trades
from market_ingestor.errors import VenueBannedError, VenueError
from market_ingestor.model.decimals import plain
from tests.golden import cases
from tests.golden.cases import SUBJECTS as VENUES

GOLDENS = cases.load()
FRAMES = sorted(name for name, golden in GOLDENS.items() if golden.events is not None)
ANSWERS = sorted(name for name, golden in GOLDENS.items() if golden.response is not None)
NAMES = sorted(VENUES)
WITH_IDS = [name for name in NAMES if VENUES[name].limits.has_ids]
RECORDED = Path("../shared/data/binance-btcusdt-trade-frames-20230405.txt.gz")
OTHER_STREAMS = Path("../shared/data/binance-futures-aggtrade-kline-frames-20210722.txt.gz")


def only_rejection(events: object) -> Rejected:
    assert isinstance(events, list)
    assert len(events) == 1, events
    assert isinstance(events[0], Rejected), events
    return events[0]


def only_trades(events: object) -> Trades:
    assert isinstance(events, list)
    assert len(events) == 1, events
    assert isinstance(events[0], Trades), events
    return events[0]


@pytest.mark.parametrize("name", FRAMES)
def test_golden_frame_means_what_the_documents_say(name: str) -> None:
    golden = GOLDENS[name]
    venue = VENUES[name.partition("/")[0]]
    assert cases.told(venue.decode(golden.payload())) == golden.events
    assert cases.told(venue.decode(golden.payload().decode())) == golden.events


def read_answer(name: str) -> dict[str, object]:
    """Return what the venue makes of a golden's answer, in the form the golden has it."""
    golden, venue = GOLDENS[name], VENUES[name.partition("/")[0]]
    assert golden.response is not None
    response = golden.response.received()
    if golden.gap is None:
        return {"instruments": msgspec.to_builtins(venue.decode_instruments(response))}
    first = msgspec.to_builtins(venue.history_request(golden.gap))
    return {"first": first, "page": msgspec.to_builtins(venue.decode_history(golden.gap, response))}


@pytest.mark.parametrize("name", [name for name in ANSWERS if GOLDENS[name].error is None])
def test_golden_answer_means_what_the_documents_say(name: str) -> None:
    golden = GOLDENS[name]
    expected = {"instruments": golden.instruments, "first": golden.first, "page": golden.page}
    assert read_answer(name) == {key: value for key, value in expected.items() if value is not None}


@pytest.mark.parametrize("name", [name for name in ANSWERS if GOLDENS[name].error is not None])
def test_golden_refusal_is_raised(name: str) -> None:
    with pytest.raises(VenueError) as raised:
        read_answer(name)
    error = {"type": type(raised.value).__name__, "retry_after_s": raised.value.retry_after_s}
    assert error == GOLDENS[name].error


MESSAGES = {"trade", "trades", "ack", "error", "heartbeat", "snapshot", "notice", "unknown"}
# What a venue never sends, and so has no golden.
LACKING = {
    "binance": {
        "trades": "a frame is a trade",
        "heartbeat": "pings are of the WebSocket protocol",
        "snapshot": "a subscription begins with the next trade",
    },
    "okx": {"snapshot": "as above"},
    "bybit": {"snapshot": "as above, whatever its type says", "notice": "on another socket"},
    "coinbase": {"trades": "a frame is a trade", "notice": "none is announced"},
    "kraken": {},
    "finnhub": {"ack": "none", "snapshot": "none", "notice": "none"},
    "tcp": {
        "trades": "a line is a trade",
        "ack": "nothing is asked for",
        "error": "as above",
        "heartbeat": "none",
        "snapshot": "none",
        "notice": "none",
    },
}


@pytest.mark.parametrize("venue", NAMES)
def test_goldens_cover_every_kind_of_message(venue: str) -> None:
    kinds = MESSAGES - LACKING[venue].keys()
    subject = VENUES[venue]
    if subject.instruments_request() is not None:
        kinds |= {"instruments", "banned", "refused"}
    if subject.limits.has_ids:
        kinds |= {"history", "busy"}
    assert {f"{venue}/{kind}" for kind in kinds} <= GOLDENS.keys()
    assert not {f"{venue}/{kind}" for kind in LACKING[venue]} & GOLDENS.keys()


@pytest.mark.parametrize("venue", NAMES)
@pytest.mark.parametrize(
    "number",
    [
        "0.000000000001",
        "123456789012345.678901234567890",  # 30 digits
        "99999999999999999999999999999999999999.9",
        "0.0000000000000000000000000000000000000001",
        "28165.47000000",
    ],
)
def test_digits_survive_exactly(venue: str, number: str) -> None:
    row = cases.trade_row(venue, price=number, amount=number)
    (trade,) = only_trades(VENUES[venue].decode(cases.trade_frame(venue, row))).trades
    assert (trade.price, trade.amount) == (number, number)


@pytest.mark.parametrize("venue", NAMES)
@pytest.mark.parametrize("number", ["1e-12", "1.50E+3", "1E-40", "12e0"])
def test_exponents_become_plain_notation(venue: str, number: str) -> None:
    row = cases.trade_row(venue, price=number, amount=number)
    (trade,) = only_trades(VENUES[venue].decode(cases.trade_frame(venue, row))).trades
    assert trade.price == trade.amount == plain(Decimal(number))


@pytest.mark.parametrize("venue", NAMES)
@pytest.mark.parametrize("field", ["price", "amount"])
@pytest.mark.parametrize(
    "number",
    [
        "-1", "0", "0.00000000", "0e0", "-0", "1e999", "1e-999", "1e40", "1e-41", "9" * 61,
        "9" * 5000, "0." + "1" * 41,
    ],
)  # fmt: skip
def test_unfit_number_costs_one_rejection(venue: str, field: str, number: str) -> None:
    row = cases.trade_row(venue, **{field: number})
    if (venue, field) == ("finnhub", "amount") and number in {"0", "0.00000000", "0e0"}:
        events = VENUES[venue].decode(cases.trade_frame(venue, row))
        assert cases.told(events) == [{"event": "Ignored"}]  # a price update
        return
    rejected = only_rejection(VENUES[venue].decode(cases.trade_frame(venue, row)))
    assert rejected.reason == f"bad_{field}"
    assert len(rejected.excerpt) <= 203


@pytest.mark.parametrize("venue", NAMES)
@pytest.mark.parametrize("field", ["price", "amount"])
@pytest.mark.parametrize(
    "number", ["NaN", "sNaN", "Infinity", "-Infinity", "", "0x1", "1_0", "\uff11"]
)
def test_what_is_no_number_costs_one_rejection(venue: str, field: str, number: str) -> None:
    row = cases.trade_row(venue, **{field: number})
    rejected = only_rejection(VENUES[venue].decode(cases.trade_frame(venue, row)))
    # Where prices are JSON numbers these are no JSON.
    expected = {"bad_json"} if venue in cases.NUMBERS_ARE_JSON else {f"bad_{field}"}
    assert rejected.reason in expected


@pytest.mark.parametrize("venue", WITH_IDS)
@pytest.mark.parametrize("trade_id", ["9223372036854775808", "99999999999999999999", "-1"])
def test_id_outside_63_bits_costs_one_rejection(venue: str, trade_id: str) -> None:
    row = cases.trade_row(venue, trade_id=trade_id)
    rejected = only_rejection(VENUES[venue].decode(cases.trade_frame(venue, row)))
    assert rejected.reason == "bad_id"


@pytest.mark.parametrize("venue", WITH_IDS)
def test_largest_id_is_accepted(venue: str) -> None:
    row = cases.trade_row(venue, trade_id="9223372036854775807")
    (trade,) = only_trades(VENUES[venue].decode(cases.trade_frame(venue, row))).trades
    assert trade.id == "9223372036854775807"


@pytest.mark.parametrize("venue", NAMES)
@pytest.mark.parametrize(
    ("time_ms", "rfc3339"),
    [
        ("0", "1970-01-01T00:00:00Z"),
        ("1230767999999", "2008-12-31T23:59:59.999999999Z"),
        ("7258118400000", "2200-01-01T00:00:00Z"),
        ("1795132800125000000", "2026-11-20"),
    ],
)
def test_time_outside_the_window_costs_one_rejection(
    venue: str, time_ms: str, rfc3339: str
) -> None:
    row = cases.trade_row(venue, time_ms=time_ms, rfc3339=rfc3339)
    rejected = only_rejection(VENUES[venue].decode(cases.trade_frame(venue, row)))
    assert rejected.reason == "bad_time"


@pytest.mark.parametrize("venue", cases.SEVERAL_ROWS)
def test_bad_row_does_not_spoil_its_neighbours(venue: str) -> None:
    good = [cases.trade_row(venue, trade_id=str(number)) for number in (1, 2, 3)]
    wrong_type = good[0].replace('"sell"', "7").replace('"Sell"', "7")
    rows = (good[0], cases.trade_row(venue, price="-1"), wrong_type, good[1], "[]", good[2])
    trades, *rejected = VENUES[venue].decode(cases.trade_frame(venue, *rows))
    assert isinstance(trades, Trades)
    assert [trade.id for trade in trades.trades] == ["1", "2", "3"]
    reasons = [event.reason for event in rejected if isinstance(event, Rejected)]
    assert reasons == ["bad_price", "bad_side", "bad_type"]


HOSTILE: dict[str, bytes | str] = {
    "nothing": b"",
    "no json": b"<html>502 Bad Gateway</html>",
    "cut": b'{"channel":"trade","data":[{"symbol":',
    "invalid utf-8": b'{"data":{"e":"trade","s":"\xff"},"type":"\xff"}',
    "lone surrogate": '{"data":"\ud800"}',
    "nested arrays": b"[" * 200_000,
    "nested objects": b'{"data":' * 100_000,
    "huge integer": b'{"id":1,"trade_id":' + b"9" * 100_000 + b"}",
    "number": b"5",
    "null": b"null",
    "array": b"[]",
}


@pytest.mark.parametrize("venue", NAMES)
@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_frame_costs_one_bounded_rejection(venue: str, name: str) -> None:
    rejected = only_rejection(VENUES[venue].decode(HOSTILE[name]))
    assert rejected.reason in {"bad_json", "bad_type"}
    assert len(rejected.excerpt) <= 203


@pytest.mark.parametrize("venue", NAMES)
def test_unknown_object_is_ignored(venue: str) -> None:
    assert cases.told(VENUES[venue].decode(b'{"hello":[1,{"a":null}]}')) == [{"event": "Ignored"}]


@pytest.mark.parametrize("venue", NAMES)
def test_requests_are_json_within_the_limits(venue: str) -> None:
    subject = VENUES[venue]
    symbols = [f"COIN{number}-USDT" for number in range(subject.limits.subscribe_batch)]
    subscribe, unsubscribe = subject.subscribe(symbols, 7), subject.unsubscribe(symbols, 8)
    if subscribe is None or unsubscribe is None:
        assert subscribe == unsubscribe
        return  # nothing is asked for
    assert subscribe != unsubscribe
    for request in (subscribe, unsubscribe):
        text = json.dumps(json.loads(request)).lower()
        assert all(symbol.lower() in text for symbol in symbols)
    assert (subject.ping(9) is None) == (subject.limits.ping_interval_s is None)


@pytest.mark.parametrize("venue", sorted(REGISTERED))
@pytest.mark.parametrize("status", [403, 418, 429])
def test_ban_always_says_when_to_come_back(venue: str, status: int) -> None:
    answer = cases.Response(status=status, headers={}, body=msgspec.Raw(b"{}")).received()
    with pytest.raises(VenueBannedError) as raised:
        VENUES[venue].decode_instruments(answer)
    assert raised.value.retry_after_s is not None
    assert raised.value.retry_after_s >= 1


def test_venues_compare_equal_by_type() -> None:
    assert all(type(venue)() == venue for venue in VENUES.values())


@pytest.mark.skipif(not RECORDED.exists(), reason="the recording is not part of the project")
def test_recorded_frames_of_binance_decode_completely() -> None:
    with gzip.open(RECORDED, "rt") as lines:
        events: list[Event] = [
            event
            for line in lines
            for event in VENUES["binance"].decode(line.split(" ", 1)[1].encode())
        ]
    trades = [trade for event in events if isinstance(event, Trades) for trade in event.trades]
    assert len(trades) == len(events) == 3144
    ids = [int(trade.id) for trade in trades]
    assert ids == list(range(ids[0], ids[0] + 3144))
    first_five_minutes = [
        trade for trade in trades if 0 <= trade.time_us - 1_680_652_800_000_000 < 300_000_000
    ]
    assert len(first_five_minutes) == 2363
    assert sum(Decimal(trade.amount) for trade in first_five_minutes) == Decimal("83.42189")


@pytest.mark.skipif(not OTHER_STREAMS.exists(), reason="the recording is not part of the project")
def test_recorded_frames_of_other_streams_are_ignored() -> None:
    with gzip.open(OTHER_STREAMS, "rt") as lines:
        frames = [line.split(": ", 1)[1] for line in lines]
    assert frames
    assert {type(event) for frame in frames for event in VENUES["binance"].decode(frame)} == {
        Ignored
    }
