"""Clients that others wrote for Binance, unmodified, against candles of Kraken."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from market_ingestor.model.period import MINUTE_MS
from tests.integration.clients.conftest import QUIET, Service
from tests.support.processes import program

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(240)]


def is_whole(service: Service, rows: list[Any], *, without: int = 0) -> None:
    """Check that all candles of ETH/USD came once, in order, flat where nothing was traded.

    Args:
        without: How many of the newest a client keeps to itself.
    """
    assert [row[0] for row in rows] == service.openings[: len(service.openings) - without]
    by_minute = {(row[0] - service.since) // MINUTE_MS: row for row in rows}
    for n in range(*QUIET):
        prices = {float(each) for each in by_minute[n][1:5]}
        assert prices == {2_000.0 + QUIET[0] - 1}
        assert float(by_minute[n][5]) == 0
    assert [float(each) for each in by_minute[QUIET[1]][1:6]] == [2_102, 2_103, 2_101, 2_102, 3]


async def test_ccxt(service: Service) -> None:
    found = await service.asked_by(
        "use_ccxt.py", service.api, service.push, "kraken", "BTC/USD", service.since
    )
    assert found["markets"].keys() == {"BTC/USD", "ETH/USD"}
    assert found["markets"]["ETH/USD"]["price"] == 0.01
    assert [row[0] for row in found["newest"]] == service.openings[-3:]
    assert [row[0] for row in found["since"]] == service.openings[:4]
    is_whole(service, found["paginated"])
    ids = [int(trade["id"]) for trade in found["trades"]]
    assert ids == list(range(ids[0], ids[0] + 5))
    assert {trade["side"] for trade in found["trades"]} <= {"buy", "sell"}
    ticker = found["ticker"]
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
    assert ticker["bid"] is None
    assert found["tickers"] == ["BTC/USD", "ETH/USD"]
    assert found["prices"] == ["BTC/USD"]  # of the other there are candles and no trades
    assert found["order_book"] == "BadRequest"
    (candle,) = found["watched"][-1:]
    assert candle[3] <= candle[4] <= candle[2]
    assert found["watched_trades"][0]["price"] > 0


async def test_python_binance(service: Service) -> None:
    found = await service.asked_by(
        "use_python_binance.py", service.api, service.push, "BTCUSD", service.since
    )
    assert (found["info"]["baseAsset"], found["info"]["quoteAsset"]) == ("BTC", "USD")
    assert [row[0] for row in found["newest"]] == service.openings[-3:]
    assert all(len(row) == 12 for row in found["newest"])
    is_whole(service, found["history"])
    assert found["micro"] == service.openings[-1] * 1_000
    assert {each["symbol"] for each in found["tickers"]} >= {"BTCUSD"}
    assert float(found["average"]["price"]) > 0
    ids = [trade["id"] for trade in found["historical"]]
    assert ids[:5] == [trade["id"] for trade in found["recent"]]
    assert found["iterated"] == list(range(ids[0] + 1, ids[0] + 1 + len(found["iterated"])))
    assert found["ticker"]["bidPrice"] is None
    candle = found["kline"]
    assert (candle["e"], candle["k"]["s"], candle["k"]["i"]) == ("kline", "BTCUSD", "1m")
    assert {each["e"] for each in found["multiplex"].values()} == {"trade", "kline"}


async def test_binance_connector(service: Service) -> None:
    found = await service.asked_by("use_binance_connector.py", service.api, service.push, "BTCUSD")
    assert found["symbols"] == ["BTCUSD", "ETHUSD"]
    assert [row[0] for row in found["newest"]] == service.openings[-3:]
    assert len(found["trades"]) == len(found["aggregates"]) == 2
    assert found["ticker"]["symbol"] == found["price"]["symbol"] == "BTCUSD"
    assert [each["symbol"] for each in found["tickers"]] == ["BTCUSD", "ETHUSD"]
    assert found["error"] == [400, -1121, "Invalid symbol."]
    ack, event = found["stream"]
    assert ack["result"] is None
    assert event["e"] == "kline"


async def test_freqtrade_downloads_all_there_is(service: Service, tmp_path: Path) -> None:
    freqtrade = os.environ.get("MARKET_INGESTOR_FREQTRADE")
    if freqtrade is None:
        pytest.skip("set MARKET_INGESTOR_FREQTRADE to the program freqtrade, installed by itself")
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "stake_currency": "USD",
                "dataformat_ohlcv": "json",
                "exchange": {
                    "name": "binance",
                    "only_from_ccxt": True,
                    "ccxt_config": {
                        "urls": {"api": {"public": f"{service.api}/binance/kraken/api/v3"}},
                        "options": {"fetchMarkets": {"types": ["spot"]}},
                    },
                    "pair_whitelist": ["ETH/USD"],
                },
            }
        )
    )
    arguments = ["--userdir", str(tmp_path), "-c", str(config), "--days", "5", "-t", "1m"]
    (tmp_path / "data").mkdir()
    async with program(freqtrade, "download-data", *arguments, log=tmp_path / "log") as downloading:
        assert await downloading.ended(180) == 0, downloading.output
    rows = json.loads((tmp_path / "data/binance/ETH_USD-1m.json").read_bytes())
    is_whole(service, rows, without=1)  # it takes the newest for one that is still open
