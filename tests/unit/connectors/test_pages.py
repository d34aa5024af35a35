"""connectors.pages: refusals, rows that are bad one by one, the walk backward."""

import msgspec
import pytest

from market_ingestor.connectors.fields import TIME_US_MIN
from market_ingestor.connectors.pages import (
    decode_body,
    history_rows,
    page_backward,
    read_instruments,
    retry_after_s,
)
from market_ingestor.connectors.venue import Gap, Rejected, RestRequest, RestResponse
from market_ingestor.errors import VenueBannedError, VenueError, VenueProtocolError
from market_ingestor.model.instrument import VenueInstrument
from market_ingestor.model.trade import TextTrade, Trade

BAN_S = {403: 60, 418: 120, 429: 2}
INSTRUMENT = VenueInstrument(venue_symbol="A-B", rest_symbol="AB", base="A", quote="B")
GAP = Gap(instrument=INSTRUMENT, after_id=10, before_id=20, from_time_us=0, to_time_us=1)
NUMBERS = msgspec.json.Decoder(list[int])
NUMBER = msgspec.json.Decoder(int)


def answer(status: int = 200, body: bytes = b"[1]", **headers: str) -> RestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RestResponse(status=status, headers=named, body=body)


def read(row: msgspec.Raw) -> TextTrade | Rejected:
    number = NUMBER.decode(row)
    if number < 0:
        return Rejected("bad_id", str(number))
    return Trade(id=str(number), price="1", amount="1", side=None, time_us=TIME_US_MIN)


def rows(*numbers: object) -> list[msgspec.Raw]:
    return [msgspec.Raw(str(number).encode()) for number in numbers]


def older_than(gap: Gap, trade_id: int) -> RestRequest:
    return RestRequest(path=f"{gap.instrument.rest_symbol}/{trade_id}")


def test_good_body_is_decoded() -> None:
    assert decode_body("x", answer(), NUMBERS, BAN_S) == [1]


@pytest.mark.parametrize(
    ("response", "wait_s"),
    [
        (answer(429), 2.0),
        (answer(418, retry_after="200"), 200.0),
        (answer(403, retry_after="0"), 60.0),
        (answer(429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), 2.0),
        (answer(429, retry_after="9" * 5000), 259_200.0),
        (answer(429, retry_after="inf"), 2.0),
    ],
)
def test_ban_says_when_to_come_back(response: RestResponse, wait_s: float) -> None:
    with pytest.raises(VenueBannedError) as raised:
        decode_body("x", response, NUMBERS, BAN_S)
    assert raised.value.retry_after_s == wait_s


@pytest.mark.parametrize("status", [301, 400, 404, 451, 500, 502, 503])
def test_other_status_is_a_plain_refusal(status: int) -> None:
    with pytest.raises(VenueError) as raised:
        decode_body("x", answer(status, b"\xff" * 10_000), NUMBERS, BAN_S)
    assert not isinstance(raised.value, VenueBannedError | VenueProtocolError)
    assert len(str(raised.value)) < 300


def test_maintenance_may_say_when_to_come_back() -> None:
    with pytest.raises(VenueError) as raised:
        decode_body("x", answer(503, retry_after="30"), NUMBERS, BAN_S)
    assert raised.value.retry_after_s == 30.0


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[1.5]", b"[" * 100_000, b'["\xff"]'])
def test_odd_body_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(VenueProtocolError):
        decode_body("x", answer(200, body), NUMBERS, BAN_S)


def test_absent_retry_after_is_none() -> None:
    assert retry_after_s(answer()) is None


def test_rows_become_ascending_without_repeats() -> None:
    trades, rejected = history_rows(rows(9, 10, 2, "null", 9, -1), read)
    assert [trade.id for trade in trades] == ["2", "9", "10"]
    assert [each.reason for each in rejected] == ["bad_type", "bad_id"]


def test_full_page_is_followed_by_one_that_starts_with_its_oldest_trade() -> None:
    page = page_backward(GAP, rows(19, 18, 17), read, limit=3, older_than=older_than)
    assert page.next == RestRequest(path="AB/18")  # ids below 18: 17 comes again


@pytest.mark.parametrize(
    "numbers",
    [
        (19, 18),  # not full
        (),
        (12, 11, 10),  # reached the other side
        (12, 11, 9),  # ids 10 gone at the venue
        (19, -1, -1),  # no second trade to go on from
    ],
)
def test_walk_ends(numbers: tuple[int, ...]) -> None:
    page = page_backward(GAP, rows(*numbers), read, limit=3, older_than=older_than)
    assert page.next is None


def test_walk_terminates_over_any_holes() -> None:
    listed = [19, 15, 14, 13, 10, 3]
    request, seen = older_than(GAP, 20), set[str]()
    for _ in range(10):
        bound = int(request.path.split("/")[1])
        page = page_backward(
            GAP,
            rows(*[number for number in listed if number < bound][:3]),
            read,
            limit=3,
            older_than=older_than,
        )
        seen.update(trade.id for trade in page.trades)
        if page.next is None:
            break
        request = page.next
    else:
        pytest.fail("the walk did not end")
    assert {"19", "15", "14", "13", "10"} <= seen


def test_malformed_instruments_are_left_out() -> None:
    def instrument(row: msgspec.Raw) -> VenueInstrument | None:
        return INSTRUMENT if NUMBER.decode(row) else None

    assert read_instruments("x", rows("[]", 0, 1, 1), instrument) == [INSTRUMENT]
    assert read_instruments("x", [], instrument) == []
    with pytest.raises(VenueProtocolError):
        read_instruments("x", rows("[]", "{}"), instrument)
