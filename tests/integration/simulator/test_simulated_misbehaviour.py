"""Faults over real sockets: alone, mixed, from a file and by command."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from market_ingestor.simulator import Fault, SimulatedVenue
from market_ingestor.simulator.truth import TruthLog
from tests.integration.simulator.conftest import Client, subscribed

pytestmark = pytest.mark.anyio

ONE = ["BTC-USDT"]


def venue_of(name: str = "okx", **options: Any) -> SimulatedVenue:
    return SimulatedVenue(name, ONE, **{"rate": 500, "has_limits": False, **options})


async def ids_until(client: Client, is_done: Any, before: Sequence[int] = ()) -> list[int]:
    """Collect trade ids, behind those seen ``before``, until ``is_done(ids)``."""
    ids = list(before)
    while not is_done(ids):
        ids += [trade_id for _, trade_id in await client.trades(1)]
    return ids


def missing(ids: list[int]) -> list[int]:
    return sorted(set(range(min(ids), max(ids) + 1)) - set(ids))


async def test_a_clean_cut_has_its_code() -> None:
    async with venue_of() as venue, subscribed(venue) as client:
        await client.trades(1)
        venue.inject(Fault(fault="cut", code=1012))
        assert await client.closed() == 1012


async def test_an_abrupt_cut_has_no_close_frame() -> None:
    async with venue_of() as venue, subscribed(venue) as client:
        await client.trades(1)
        venue.inject(Fault(fault="abort"))
        assert await client.closed() == 1006


async def test_one_socket_can_be_cut_alone() -> None:
    async with venue_of() as venue, subscribed(venue) as first, subscribed(venue) as second:
        await first.trades(1)
        await second.trades(1)
        venue.inject(Fault(fault="cut", sockets="one"))
        await first.closed()
        await second.trades(100)


async def test_a_half_open_socket_neither_sends_nor_answers_and_ends_in_a_reset() -> None:
    async with venue_of() as venue, subscribed(venue) as client:
        await client.trades(1)
        venue.inject(Fault(fault="half_open", duration_s=1))
        started = time.monotonic()
        pong = await client.socket.ping()
        assert await client.closed() == 1006
        assert time.monotonic() - started > 0.8
        with pytest.raises(ConnectionClosedError):
            await pong


async def test_a_stall_stops_trades_but_not_pings_and_rest_has_the_rest() -> None:
    async with venue_of() as venue, subscribed(venue) as client:
        await client.trades(1)
        venue.inject(Fault(fault="stall", duration_s=0.5))
        await client.socket.send("ping")
        while await client.message() != "pong":
            pass
        ids = await ids_until(client, lambda found: len(found) > 10)
        last = venue.world.histories[0].last_id
        assert last is not None
        assert venue.stats.trades_sent < venue.stats.trades_made
        assert ids[0] <= last


@pytest.mark.parametrize("name", ["garbage", "truncated", "unknown"])
async def test_bad_messages_come_between_trades_and_harm_no_trade(name: Any) -> None:
    async with venue_of() as venue, subscribed(venue) as client:
        await client.trades(1)
        venue.inject(Fault(fault=name))
        odd: list[str | bytes] = []
        ids: list[int] = []
        while not odd or len(ids) < 50:
            message = await client.message()
            try:
                ids += [int(row["tradeId"]) for row in msgspec.json.decode(message)["data"]]
            except (msgspec.DecodeError, KeyError):
                odd.append(message)
        assert len(odd) == 1
        assert isinstance(odd[0], bytes) is (name == "garbage")
        assert missing(ids) == []


@pytest.mark.parametrize(
    ("name", "code"), [("okx", "64008"), ("binance", "serverShutdown"), ("kraken", None)]
)
async def test_a_planned_cut_is_announced_where_the_venue_does(name: str, code: str | None) -> None:
    async with venue_of(name, rate=1) as venue, subscribed(venue) as client:
        await client.message()
        venue.inject(Fault(fault="notice", delay_s=0.5))
        messages = [str(message) async for message in client.socket]
        assert client.socket.close_code == 1000
        assert code is None or any(code in message for message in messages)


async def test_skipped_ids_stay_in_rest_unless_they_are_gone(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    with TruthLog(tmp_path / "truth") as truth:
        async with venue_of(truth=truth) as venue, subscribed(venue) as client:
            # What was seen last before a gap counts: it may come directly behind that.
            last = await ids_until(client, len)
            venue.inject(Fault(fault="gap", count=3))
            ids = await ids_until(client, missing, last[-1:])
            kept = missing(ids)
            venue.inject(Fault(fault="gap", count=2, rest="gone"))
            gone = missing(await ids_until(client, missing, ids[-1:]))
            answer = await http.get(
                venue.rest_url + "/api/v5/market/trades",
                params={"instId": "BTC-USDT", "limit": 500},
            )
            listed = {int(row["tradeId"]) for row in answer.json()["data"]}
    assert (len(kept), len(gone)) == (3, 2)
    assert set(kept) <= listed
    assert not set(gone) & listed
    rows = [msgspec.json.decode(line) for line in (tmp_path / "truth").read_bytes().splitlines()]
    told = {int(row["id"]): (row["sent"], row["rest"]) for row in rows}
    assert {told[each] for each in kept} == {(False, True)}
    assert {told[each] for each in gone} == {(False, False)}


async def test_a_trade_gone_from_rest_stays_gone_after_a_restart(tmp_path: Path) -> None:
    async with venue_of(state=tmp_path) as venue, subscribed(venue) as client:
        last = await ids_until(client, len)
        venue.inject(Fault(fault="gap", count=2, rest="gone"))
        gone = missing(await ids_until(client, missing, last[-1:]))
    async with venue_of(state=tmp_path, rate=0) as venue:
        kept = [fill.id for fill in venue.world.histories[0].starting(0, 10_000)]
    assert set(range(kept[0], kept[-1] + 1)) - set(kept) == set(gone)


async def test_a_gap_on_one_socket_is_covered_by_the_other() -> None:
    async with venue_of() as venue, subscribed(venue) as first, subscribed(venue) as second:
        last = await ids_until(first, len)
        await second.trades(1)
        venue.inject(Fault(fault="gap", count=4, sockets="one"))
        assert len(missing(await ids_until(first, missing, last[-1:]))) == 4
        assert missing(await ids_until(second, lambda ids: len(ids) > 100)) == []


async def test_duplicates_and_reordered_trades_are_all_real() -> None:
    async with venue_of() as venue, subscribed(venue) as client:
        await client.trades(1)
        venue.inject(Fault(fault="duplicate", count=5))
        venue.inject(Fault(fault="reorder", count=5))
        ids = await ids_until(client, lambda ids: len(ids) > 100)
        assert len(ids) - len(set(ids)) == 5
        assert ids != sorted(ids)
        assert missing(ids) == []


@pytest.mark.parametrize("value", ["NaN", "-1", "0", "1e999"])
async def test_an_absurd_price_is_on_the_socket_only(value: str, http: httpx2.AsyncClient) -> None:
    async with venue_of() as venue, subscribed(venue) as client:
        await client.trades(1)
        venue.inject(Fault(fault="absurd", value=value))
        while True:
            row = msgspec.json.decode(await client.message())["data"][0]
            if row["px"] == value:
                break
        answer = await http.get(
            venue.rest_url + "/api/v5/market/trades", params={"instId": "BTC-USDT"}
        )
        prices = {each["tradeId"]: each["px"] for each in answer.json()["data"]}
        assert float(prices[row["tradeId"]]) > 1


async def test_one_symbol_can_be_held_back() -> None:
    async with SimulatedVenue("bybit", ["BTCUSDT", "ETHUSDT"], rate=500) as venue:
        venue.inject(Fault(fault="hold", symbol="BTCUSDT", duration_s=60))
        async with subscribed(venue) as client:
            assert {symbol for symbol, _ in await client.trades(50)} == {"ETHUSDT"}


async def test_trade_times_can_be_off() -> None:
    async with venue_of() as venue, subscribed(venue) as client:
        await client.trades(1)
        venue.inject(Fault(fault="skew", skew_s=3_600, duration_s=60))
        await client.trades(100)
        row = msgspec.json.decode(await client.message())["data"][0]
        assert int(row["ts"]) / 1_000 - time.time() > 3_000


@pytest.mark.parametrize("status", [429, 418, 403, 503])
async def test_handshakes_can_be_refused(status: int) -> None:
    async with venue_of() as venue:
        venue.inject(Fault(fault="refuse", status=status, retry_after_s=7, duration_s=0.5))
        with pytest.raises(InvalidStatus) as refused:
            await connect(venue.ws_url + "/ws/v5/business")
        assert refused.value.response.status_code == status
        assert refused.value.response.headers["Retry-After"] == "7"
        await asyncio.sleep(0.5)
        async with subscribed(venue) as client:
            await client.trades(1)


async def test_handshakes_can_be_slow() -> None:
    async with venue_of() as venue:
        venue.inject(Fault(fault="slow_handshake", delay_s=0.4))
        started = time.monotonic()
        async with subscribed(venue) as client:
            await client.trades(1)
        assert time.monotonic() - started > 0.4


async def test_a_subscription_can_be_acknowledged_in_vain() -> None:
    async with venue_of() as venue:
        venue.inject(Fault(fault="deaf"))
        async with subscribed(venue) as client:
            ack = msgspec.json.decode(await client.message())
            assert ack["event"] == "subscribe"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await client.socket.recv()


async def test_connections_can_have_a_short_life() -> None:
    async with venue_of() as venue:
        venue.inject(Fault(fault="max_life", delay_s=0.3, duration_s=60))
        async with subscribed(venue) as client:
            assert await client.closed() == 1000


async def test_rest_can_fail_be_slow_and_lag_behind(http: httpx2.AsyncClient) -> None:
    async with venue_of() as venue, subscribed(venue) as client:
        url, params = venue.rest_url + "/api/v5/market/trades", {"instId": "BTC-USDT"}
        await client.trades(50)
        venue.inject(Fault(fault="rest_error", status=503, retry_after_s=2, duration_s=0.3))
        answer = await http.get(url, params=params)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert answer.json()["code"] == "50026"
        await asyncio.sleep(0.3)
        venue.inject(Fault(fault="rest_slow", delay_s=0.4, duration_s=0.3))
        started = time.monotonic()
        assert (await http.get(url, params=params)).status_code == 200
        assert time.monotonic() - started > 0.4
        venue.inject(Fault(fault="rest_delay", delay_s=0.5, duration_s=60))
        row = (await http.get(url, params=params)).json()["data"][0]
        assert time.time() - int(row["ts"]) / 1_000 > 0.4


async def test_a_delisted_symbol_goes_quiet_and_comes_back(http: httpx2.AsyncClient) -> None:
    async with venue_of() as venue, subscribed(venue) as client:
        await client.trades(1)
        venue.inject(Fault(fault="delist", symbol="BTCUSDT"))
        url = venue.rest_url + "/api/v5/public/instruments?instType=SPOT"
        assert (await http.get(url)).json()["data"] == []
        made = venue.stats.trades_made
        await asyncio.sleep(0.2)
        assert venue.stats.trades_made == made
        venue.inject(Fault(fault="relist", symbol="BTCUSDT"))
        await client.trades(5)


async def test_a_fault_file_is_carried_out_on_cue(tmp_path: Path) -> None:
    faults = [
        Fault(fault="gap", every_trades=100, count=2, venue="okx"),
        Fault(fault="cut", at_s=1.0),
        Fault(fault="garbage", every_s=0.3, venue="kraken"),
    ]
    with TruthLog(tmp_path / "truth") as truth:
        async with venue_of(faults=faults, truth=truth) as venue, subscribed(venue) as client:
            assert await client.closed() == 1001
            assert venue.stats.faults >= 3
    lines = (tmp_path / "truth.faults").read_bytes().splitlines()
    events = [msgspec.json.decode(line)["event"] for line in lines]
    assert {"gap", "cut", "closed"} <= set(events)
    assert "garbage" not in events


async def test_faults_can_be_commanded_over_a_socket() -> None:
    async with venue_of() as venue, subscribed(venue) as client:
        await client.trades(1)
        async with connect(venue.ws_url + "/_control") as control:

            async def command(**fields: object) -> Any:
                await control.send(msgspec.json.encode(fields).decode())
                return msgspec.json.decode(await control.recv())

            assert (await command(command="stats"))["stats"]["connections_open"] == 1
            assert (await command(fault="explode"))["ok"] is False
            assert (await command(fault="hold", symbol="NOPE"))["ok"] is False
            assert await command(command="rate", value=0) == {"ok": True}
            assert await command(fault="cut", code=4000) == {"ok": True}
            assert await client.closed() == 4000
