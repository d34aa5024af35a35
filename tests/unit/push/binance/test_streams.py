"""Names of Binance streams and the addresses they are asked for at."""

import pytest

from market_ingestor.push.binance.streams import (
    Address,
    BadStreamError,
    Form,
    parse_address,
    stream_of,
    topics,
)

RAW = Form(is_combined=False, is_micro=False)


@pytest.mark.parametrize(
    ("target", "exchange", "streams", "is_combined"),
    [
        ("/binance/kraken/ws", "kraken", (), False),
        ("/binance/kraken/ws/", "kraken", (), False),
        ("/binance/kraken/ws/0", "kraken", (), False),
        ("/binance/kraken/ws/btcusd@trade", "kraken", ("btcusd@trade",), False),
        ("/binance/kraken/ws/btcusd%40trade", "kraken", ("btcusd@trade",), False),
        ("/ws/0", "binance", (), False),
        ("/ws/a@trade/b@ticker", "binance", ("a@trade", "b@ticker"), False),
        ("/stream", "binance", (), True),
        ("/stream?streams=a@trade/b@kline_1m", "binance", ("a@trade", "b@kline_1m"), True),
        ("/binance/okx/stream?streams=a@trade", "okx", ("a@trade",), True),
        ("/binance/okx/stream/0", "okx", (), True),
    ],
)
def test_address_names_exchange_and_streams(
    target: str, exchange: str, streams: tuple[str, ...], is_combined: bool
) -> None:
    address = parse_address(target)
    assert address is not None
    assert (address.exchange, address.streams) == (exchange, streams)
    assert address.form == Form(is_combined=is_combined, is_micro=False)
    assert not address.with_revisions


@pytest.mark.parametrize(
    "target", ["/ws", "/ws/", "/", "/binance/ws", "/binance/BAD/ws", "/binance/a/b/ws", "/metrics"]
)
def test_other_addresses_are_not_ours(target: str) -> None:
    assert parse_address(target) is None


@pytest.mark.parametrize(
    "target",
    [
        "/ws/btcusdt@depth",
        "/ws/btcusdt@kline_7m",
        "/stream?streams=btc-usdt@trade",
        "/stream?streams=a@trade/@",
        "/ws/0?timeUnit=NANOSECOND",
        "/ws/" + "a" * 8_000,
    ],
)
def test_what_there_is_not_is_said(target: str) -> None:
    with pytest.raises(BadStreamError):
        parse_address(target)


def test_time_unit_comes_from_query_or_header() -> None:
    for target, header, is_micro in (
        ("/ws/0", None, False),
        ("/ws/0", "MICROSECOND", True),
        ("/ws/0?timeUnit=microsecond", None, True),
        ("/ws/0?timeUnit=MILLISECOND", "MICROSECOND", False),
    ):
        address = parse_address(target, header)
        assert address is not None
        assert address.form.is_micro is is_micro


def test_streams_become_topics_and_back() -> None:
    address = Address("kraken", (), RAW, with_revisions=False)
    names = ["btcusd@kline_1m", "ethusd@trade", "ethusd@aggTrade", "a@ticker", "a@miniTicker"]
    found = topics(address, [*names, "BTCUSD@kline_1m"])
    assert found[0] == ("@kline", "kraken", "BTCUSD", "1m")
    assert [stream_of(topic) for topic in found] == names
    with_revisions = topics(address._replace(with_revisions=True), names)
    assert [stream_of(topic) for topic in with_revisions] == names
    assert with_revisions[0] != found[0]
