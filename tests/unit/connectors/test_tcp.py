"""What is particular to feeds of lines: names, amounts and addresses come from the settings."""

import pytest

from market_ingestor.config import ExchangeSettings
from market_ingestor.connectors.instruments import as_configured
from market_ingestor.connectors.registry import configured_venue, ws_base
from market_ingestor.connectors.tcp import TcpFeed
from market_ingestor.connectors.venue import Trades

LINE = '{"symbol":"BTCUSDT","price":67123.45,"timestamp":%s}'


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "tcp://127.0.0.1:40101"), ("::1", "tcp://[::1]:40101")]
)
def test_a_feed_is_made_from_its_settings(host: str, url: str) -> None:
    settings = ExchangeSettings(kind="tcp", host=host, port=40101, default_amount="0.50")
    venue = configured_venue("sim-exchange1", settings)
    assert venue is not None
    assert venue == TcpFeed(name="exchange1", default_amount="0.50")
    assert venue.connect_url(ws_base(venue, settings)) == url
    (event,) = venue.decode(LINE % 1763676000123)
    assert isinstance(event, Trades)
    assert event.trades[0].amount == "0.50"


def test_a_feed_has_no_requests() -> None:
    venue = TcpFeed()
    assert venue.subscribe(["BTCUSDT"], 1) is None
    assert venue.unsubscribe(["BTCUSDT"], 1) is None
    assert venue.instruments_request() is None


@pytest.mark.parametrize(
    "time", ["176367600012", "17636760001234", "1763676000123.5", "1763676000.", "null", "true"]
)
def test_a_time_of_unknown_unit_is_refused(time: str) -> None:
    events = TcpFeed().decode(LINE % time)
    assert [getattr(event, "reason", None) for event in events] in (["bad_time"], ["bad_json"])


def test_symbols_are_as_configured() -> None:
    table = as_configured(["BTCUSDT", "BRK.B", "BTCUSDT", "btc-usdt"])
    assert len(table) == 3
    stock = table.resolve("BRK.B")
    assert stock is not None
    assert (stock.symbol, stock.venue.venue_symbol) == ("BRKB", "BRK.B")
    found = table.resolve("BTCUSDT")
    assert found is not None
    assert found.symbol == "BTCUSDT"
