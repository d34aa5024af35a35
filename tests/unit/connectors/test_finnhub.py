"""What is particular to Finnhub: a key that never shows, and refusals without a name."""

import msgspec
import pytest

from market_ingestor.config import ExchangeSettings
from market_ingestor.connectors.finnhub import Finnhub
from market_ingestor.connectors.registry import configured_venue
from market_ingestor.connectors.subscriptions import Memory, Subscriptions
from market_ingestor.connectors.venue import Gap, Ignored, RestResponse
from market_ingestor.errors import VenueError
from market_ingestor.model.instrument import VenueInstrument

VENUE = Finnhub()
KEY = "s3cr/et"
STOCK = VenueInstrument(venue_symbol="AAPL", rest_symbol="AAPL", base="AAPL", quote="")
GAP = Gap(instrument=STOCK, after_id=1, before_id=3, from_time_us=0, to_time_us=1)


def test_the_key_stands_in_the_address_and_the_header_and_in_no_text() -> None:
    settings = ExchangeSettings.model_validate({"token": KEY})
    venue = configured_venue("finnhub", settings)
    assert venue is not None
    assert venue.connect_url(venue.ws_url) == "wss://ws.finnhub.io?token=s3cr%2Fet"
    request = venue.instruments_request()
    assert request is not None
    assert request.headers == {"X-Finnhub-Token": KEY}
    assert request.params == {"exchange": "US"}
    assert KEY not in f"{venue!r} {venue} {settings!r} {settings.model_dump_json()}"


def test_without_a_key_nothing_is_sent() -> None:
    assert VENUE.connect_url("ws://h") == "ws://h"
    request = VENUE.instruments_request()
    assert request is not None
    assert request.headers == {}


def test_a_message_names_one_symbol() -> None:
    assert VENUE.subscribe(["BRK.B"], 1) == '{"type":"subscribe","symbol":"BRK.B"}'
    assert VENUE.unsubscribe(["AAPL"], 1) == '{"type":"unsubscribe","symbol":"AAPL"}'


def test_there_is_no_history() -> None:
    assert VENUE.history_request(GAP) is None
    assert VENUE.newest_request(STOCK) is None
    with pytest.raises(VenueError):
        VENUE.decode_history(GAP, RestResponse(status=200, headers={}, body=b"{}"))


@pytest.mark.parametrize("kind", ["[]", "{}", "null", "7", '"novelty"'])
def test_a_type_of_any_shape_is_ignored(kind: str) -> None:
    assert VENUE.decode('{"type":%s}' % kind) == [Ignored()]  # noqa: UP031 - braces of JSON


def test_two_connections_never_overlap() -> None:
    assert VENUE.limits.is_exclusive
    assert not msgspec.structs.replace(VENUE.limits, has_ids=True).is_exclusive


def asked(count: int, confirms_after_s: float | None = 2.0) -> Subscriptions:
    names = [f"S{number}" for number in range(count)]
    subs = Subscriptions(names, batch_max=1, memory=Memory(), confirms_after_s=confirms_after_s)
    while subs.next_request(0.0) is not None:
        pass
    return subs


def test_a_symbol_without_refusal_counts_as_confirmed_in_time() -> None:
    subs = asked(3)
    assert subs.unrefused(1.9) == []
    assert subs.confirm(None, ("S1",)) == ["S1"]  # it traded
    assert sorted(subs.unrefused(2.0)) == ["S0", "S2"]
    assert subs.is_settled
    assert subs.expire(100.0) == []


def test_refusals_without_a_name_are_about_what_was_asked_for_last() -> None:
    subs = asked(5)
    assert [subs.refuse(None, (), "too many", 0.0) for _ in range(2)] == [["S4"], ["S3"]]
    assert sorted(subs.unrefused(2.0)) == ["S0", "S1", "S2"]
    assert subs.refuse(None, (), "too many", 0.0) == []  # nothing is open any more


def test_a_venue_that_answers_is_waited_for() -> None:
    subs = asked(1, confirms_after_s=None)
    assert subs.unrefused(1_000.0) == []
