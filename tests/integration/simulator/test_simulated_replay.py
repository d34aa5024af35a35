"""Recorded frames, played over real sockets."""

import asyncio
import gzip
from pathlib import Path

import httpx2
import msgspec
import pytest
from websockets.asyncio.client import connect

from market_ingestor.simulator import Fault, SimulatedVenue
from tests.integration.simulator.conftest import Client, subscribed, until

pytestmark = pytest.mark.anyio

RECORDED = (
    Path(__file__).parents[3].parent / "shared/data/binance-btcusdt-trade-frames-20230405.txt.gz"
)
needs_recording = pytest.mark.skipif(not RECORDED.exists(), reason="recorded data is not here")


def frame(symbol: str, trade_id: int, time_ms: int) -> str:
    return (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":{time_ms},"s":"{symbol}",'
        f'"t":{trade_id},"p":"2.50000000","q":"1.00000000","T":{time_ms},"m":true,"M":true}}}}'
    )


@pytest.fixture
def two_tapes(tmp_path: Path) -> Path:
    """A recording of two symbols, 1,000 trades each, one a millisecond."""
    path = tmp_path / "frames.txt"
    start_ms = 1_680_652_800_000
    with path.open("w") as file:
        for number in range(1_000):
            for symbol in ("BTCUSDT", "ETHUSDT"):
                at_ms = start_ms + number
                file.write(f"{at_ms * 1_000} {frame(symbol, number + 1, at_ms)}\n")
    return path


async def read_all(client: Client) -> list[str]:
    """Read until nothing comes for a moment."""
    frames: list[str] = []
    try:
        while True:
            async with asyncio.timeout(0.5):
                message = await client.socket.recv()
            assert isinstance(message, str)
            frames.append(message)
    except TimeoutError:
        return frames


async def ids(http: httpx2.AsyncClient, venue: SimulatedVenue, symbol: str) -> list[int]:
    rows: list[int] = []
    while True:
        answer = await http.get(
            venue.rest_url + "/api/v3/historicalTrades",
            params={"symbol": symbol, "fromId": rows[-1] + 1 if rows else 1, "limit": 1_000},
        )
        page = [row["id"] for row in answer.json()]
        if not page:
            return rows
        rows += page


@needs_recording
async def test_a_recording_is_played_verbatim_once_and_served_by_rest_afterwards(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    lines = gzip.decompress(RECORDED.read_bytes()).decode().splitlines()
    expected = [line.partition(" ")[2] for line in lines]
    async with SimulatedVenue("binance", frames=RECORDED, state=tmp_path) as venue:
        assert venue.symbols == ["BTCUSDT"]
        async with subscribed(venue) as client:
            ack, *frames = await read_all(client)
        assert msgspec.json.decode(ack) == {"result": None, "id": 1}
        assert len(frames) == 3_144
        assert frames == expected
        assert venue.is_played
    async with SimulatedVenue("binance", frames=RECORDED, state=tmp_path) as venue:
        assert venue.is_played
        async with subscribed(venue) as client:
            assert len(await read_all(client)) == 1
        assert len(await ids(http, venue, "BTCUSDT")) == 3_144
        answer = await http.get(
            venue.rest_url + "/api/v3/klines",
            params={"symbol": "BTCUSDT", "interval": "5m", "startTime": 1_680_652_800_000},
        )
        _, opened, high, low, close, volume, _, _, count, *_ = answer.json()[0]
        assert [float(each) for each in (opened, high, low, close, volume)] == [
            28165.47,
            28168.76,
            28155.21,
            28156.07,
            83.42189,
        ]
        assert count == 2_363


async def test_a_tape_starts_when_its_symbol_is_first_subscribed(two_tapes: Path) -> None:
    async with SimulatedVenue("binance", frames=two_tapes) as venue:
        async with subscribed(venue, ["ETHUSDT"]) as client:
            assert len(await read_all(client)) == 1_001
        assert venue.world.histories[0].last_id is None
        async with subscribed(venue, ["BTCUSDT"]) as client:
            assert await client.trades(1_000) == [("BTCUSDT", n) for n in range(1, 1_001)]


async def test_a_second_run_goes_on_behind_the_last_frame_sent(
    two_tapes: Path, tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    def venue_again() -> SimulatedVenue:
        return SimulatedVenue("binance", frames=two_tapes, speed=1.0, state=tmp_path / "state")

    async with venue_again() as venue, subscribed(venue, ["BTCUSDT"]) as client:
        first = await client.trades(100)
    async with venue_again() as venue:
        seen = await ids(http, venue, "BTCUSDT")
        assert seen == list(range(1, len(seen) + 1))
        assert len(seen) >= 100
        async with subscribed(venue, ["BTCUSDT"]) as client:
            second = await client.trades(1_000 - len(seen))
    assert first[0][1] == 1
    assert second == [("BTCUSDT", n) for n in range(len(seen) + 1, 1_001)]


async def test_what_is_sent_with_no_socket_open_is_served_by_rest(
    two_tapes: Path, http: httpx2.AsyncClient
) -> None:
    async with SimulatedVenue("binance", frames=two_tapes, speed=5.0) as venue:
        async with subscribed(venue, ["BTCUSDT"]) as client:
            await client.trades(10)
        await until(lambda: venue.world.histories[0].last_id == 1_000)
        assert await ids(http, venue, "BTCUSDT") == list(range(1, 1_001))


async def test_at_full_speed_a_tape_waits_for_a_socket(two_tapes: Path) -> None:
    async with SimulatedVenue("binance", frames=two_tapes) as venue:
        async with subscribed(venue, ["BTCUSDT"]) as client:
            await client.trades(1)
        async with subscribed(venue, ["BTCUSDT", "ETHUSDT"]) as client:
            assert (await client.trades(1_000, "ETHUSDT"))[-1] == ("ETHUSDT", 1_000)


async def test_a_recording_can_have_faults_too(two_tapes: Path, http: httpx2.AsyncClient) -> None:
    faults = [
        Fault(fault="gap", count=3, symbol="BTCUSDT"),
        Fault(fault="duplicate", count=2, symbol="ETHUSDT"),
    ]
    venue = SimulatedVenue("binance", frames=two_tapes, faults=faults)
    async with venue, subscribed(venue) as client:
        await client.message()
        frames = [msgspec.json.decode(frame)["data"] for frame in await read_all(client)]
        missing = set(range(1, 1_001)) - {each["t"] for each in frames if each["s"] == "BTCUSDT"}
        assert len(missing) == 3
        assert sum(each["s"] == "ETHUSDT" for each in frames) == 1_002
        assert missing < set(await ids(http, venue, "BTCUSDT"))


async def test_a_cut_replay_goes_on_and_rest_has_what_was_lost(
    two_tapes: Path, http: httpx2.AsyncClient
) -> None:
    venue = SimulatedVenue("binance", frames=two_tapes, speed=1.0)
    async with venue, subscribed(venue, ["BTCUSDT"]) as client:
        before = [trade_id for _, trade_id in await client.trades(50)]
        venue.inject(Fault(fault="abort"))
        await client.closed()
        async with subscribed(venue, ["BTCUSDT"]) as again:
            after = [trade_id for _, trade_id in await again.trades(50)]
        assert after == list(range(after[0], after[0] + 50))
        assert after[0] > before[-1]
        assert set(range(1, after[-1] + 1)) <= set(await ids(http, venue, "BTCUSDT"))


async def test_raw_sockets_get_the_unwrapped_frames(two_tapes: Path) -> None:
    async with (
        SimulatedVenue("binance", frames=two_tapes) as venue,
        connect(venue.ws_url + "/ws/btcusdt@trade", close_timeout=1) as socket,
    ):
        first = msgspec.json.decode(await socket.recv())
        assert (first["e"], first["t"]) == ("trade", 1)


async def test_a_slow_sole_reader_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "frames.txt"
    with path.open("w") as file:
        for number in range(40_000):  # about 7 MB: more than sockets and buffers swallow
            file.write(frame("BTCUSDT", number + 1, 1_680_652_800_000 + number) + "\n")
    async with SimulatedVenue("binance", frames=path) as venue, subscribed(venue) as client:
        await client.message()
        client.socket.transport.pause_reading()
        previous = -1
        while venue.stats.trades_sent != previous:
            previous = venue.stats.trades_sent
            await asyncio.sleep(0.3)
        assert not venue.is_played
        client.socket.transport.resume_reading()
        assert (await client.trades(39_000))[-1][1] >= 39_000
