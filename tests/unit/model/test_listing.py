"""Listings, and how a spelling finds one."""

from typing import Any

import msgspec
import pytest

from market_ingestor.bus import codec
from market_ingestor.errors import DecodeError
from market_ingestor.model.listing import Listing, ListingBook


def listing(**fields: Any) -> Listing:
    base: dict[str, Any] = {
        "v": 1,
        "exchange": "kraken",
        "symbol": "BTCUSD",
        "venue_symbol": "BTC/USD",
        "rest_symbol": "XBTUSD",
        "base": "BTC",
        "quote": "USD",
        "price_step": "0.1",
        "amount_step": "0.00000001",
        "volume_kind": "base",
        "state": "active",
    }
    return Listing(**(base | fields))


@pytest.mark.parametrize(
    "spelling",
    ["BTCUSD", "btcusd", "btc-usd", "BTC_USD", "BTC/USD", "XBTUSD", "XBT/USD", "xbt-usd"],
)
def test_every_spelling_finds_the_instrument(spelling: str) -> None:
    book = ListingBook()
    book.put(listing())
    found = book.resolve("kraken", spelling)
    assert found is not None
    assert found.symbol == "BTCUSD"
    assert book.resolve("okx", spelling) is None


@pytest.mark.parametrize("spelling", ["", "/", "BTC", "BTCUSDT", "é", "*"])
def test_a_strange_spelling_finds_nothing(spelling: str) -> None:
    book = ListingBook()
    book.put(listing())
    assert book.resolve("kraken", spelling) is None


@pytest.mark.parametrize("is_late", [False, True])
def test_our_symbol_comes_before_another_instruments_name(is_late: bool) -> None:
    ours = listing(symbol="XBTUSD", venue_symbol="XBT-Z/USD", rest_symbol="XBTZ")
    book = ListingBook()
    for each in (listing(), ours) if is_late else (ours, listing()):
        book.put(each)
    found = book.resolve("kraken", "xbt/usd")
    assert found is not None
    assert found.symbol == "XBTUSD"


def test_a_new_listing_replaces_the_names_of_the_old() -> None:
    book = ListingBook()
    book.put(listing())
    assert book.resolve("kraken", "XBTUSD") is not None
    book.put(listing(rest_symbol="BTCUSD", state="inactive"))
    assert book.resolve("kraken", "XBTUSD") is None
    assert [each.state for each in book.of("kraken")] == ["inactive"]
    assert len(book) == 1


def test_what_is_written_is_read() -> None:
    for each in (listing(), listing(base=None, quote=None, price_step=None, amount_step=None)):
        assert codec.listing("x", codec.encode(each)) == each


@pytest.mark.parametrize(
    "fields",
    [
        {"v": 2},
        {"base": "B\x00TC"},
        {"venue_symbol": ""},
        {"quote": "Q" * 65},
        {"price_step": "NaN"},
        {"price_step": "1e-5"},
        {"amount_step": "-1"},
        {"state": "sleepy"},
        {"volume_kind": 1},
    ],
)
def test_what_the_table_could_not_take_is_refused(fields: dict[str, Any]) -> None:
    raw = msgspec.to_builtins(listing()) | fields
    with pytest.raises(DecodeError):
        codec.listing("x", msgspec.json.encode(raw))
