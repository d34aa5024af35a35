"""Names and digits of simulated instruments."""

import pytest

from market_ingestor.simulator.markets import VENUES, build, by_name, default_symbols, split


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("BTCUSDT", ("BTC", "USDT")),
        ("btc-usd", ("BTC", "USD")),
        ("ETH/BTC", ("ETH", "BTC")),
        ("S000USDT", ("S000", "USDT")),
        ("XRPETH", ("XRP", "ETH")),
    ],
)
def test_a_symbol_is_split_into_base_and_quote(symbol: str, pair: tuple[str, str]) -> None:
    assert split(symbol) == pair


def test_a_symbol_without_known_quote_is_refused() -> None:
    with pytest.raises(ValueError, match="FOOBAR"):
        split("FOOBAR")


def test_an_unknown_venue_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown venue"):
        build("nasdaq", ["BTCUSD"])


@pytest.mark.parametrize(
    ("venue", "native", "price", "amount"),
    [
        ("binance", "BTCUSDT", "91234.50000000", "0.01000000"),
        ("okx", "BTC-USDT", "91234.5", "0.01"),
        ("bybit", "BTCUSDT", "91234.5", "0.010000"),
        ("coinbase", "BTC-USDT", "91234.50", "0.01000000"),
        ("kraken", "BTC/USDT", "91234.5", "0.01000000"),
    ],
)
def test_a_venue_spells_names_and_digits_its_own_way(
    venue: str, native: str, price: str, amount: str
) -> None:
    (market,) = build(venue, ["BTCUSDT"])
    assert market.native == native
    assert market.price_text(912345 * 10 ** (market.price_places - 1)) == price
    assert market.amount_text(10 ** (market.amount_places - 2)) == amount


def test_whole_lots_still_get_eight_digits_on_binance() -> None:
    (market,) = build("binance", ["DOGEUSDT"])
    assert market.amount_text(3120) == "3120.00000000"
    assert market.price_text(7) == "0.00007000"


def test_kraken_has_three_name_spaces() -> None:
    bitcoin, doge, solana = build("kraken", ["BTCUSD", "DOGEUSD", "SOLUSD"])
    assert (bitcoin.native, bitcoin.rest_name, bitcoin.rest_key) == (
        "BTC/USD",
        "XBTUSD",
        "XXBTZUSD",
    )
    assert (doge.native, doge.rest_name, doge.rest_key) == ("DOGE/USD", "XDGUSD", "XDGUSD")
    assert (solana.native, solana.rest_key) == ("SOL/USD", "SOLUSD")


@pytest.mark.parametrize("venue", VENUES)
def test_no_venue_trades_an_amount_of_zero(venue: str) -> None:
    for market in build(venue, [*default_symbols(venue), "S000USDT", "XRPETH"]):
        assert market.typical_amount >= 1
        assert market.start_price >= 1
        assert float(market.amount_text(1)) > 0


def test_hundreds_of_made_up_symbols_are_listed_once_each() -> None:
    names = [f"S{number:03d}USDT" for number in range(300)]
    markets = build("binance", [*names, *names])
    assert [market.native for market in markets] == names
    assert len(by_name(markets)) == 300
