"""Simulated venues over real sockets: streams, REST, restarts, the record of the truth."""

import asyncio
import sys
from collections import defaultdict
from pathlib import Path

import httpx2
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from market_ingestor.errors import ConfigError
from market_ingestor.simulator import (
    VENUES,
    SimulatedVenue,
    SimulateOptions,
    Simulation,
    simulate,
)
from market_ingestor.simulator.truth import TruthLog
from tests.integration.simulator.conftest import PATHS, Client, request, subscribed, until

pytestmark = pytest.mark.anyio

SYMBOLS = {
    venue: ["BTC-USD", "ETH-USD"] if venue in {"coinbase", "kraken"} else ["BTC-USDT", "ETH-USDT"]
    for venue in VENUES
}


def by_symbol(trades: list[tuple[str, int]]) -> dict[str, list[int]]:
    grouped: dict[str, list[int]] = defaultdict(list)
    for symbol, trade_id in trades:
        grouped[symbol].append(trade_id)
    return grouped


def assert_contiguous(trades: list[tuple[str, int]]) -> None:
    for ids in by_symbol(trades).values():
        assert ids == list(range(ids[0], ids[0] + len(ids)))


@pytest.mark.parametrize("name", VENUES)
async def test_every_venue_streams_contiguous_ids(name: str) -> None:
    async with (
        SimulatedVenue(name, SYMBOLS[name], rate=500) as venue,
        subscribed(venue) as client,
    ):
        trades = await client.trades(100)
        assert_contiguous(trades)
        assert len(by_symbol(trades)) == 2
        assert venue.stats.trades_sent >= 100
        assert venue.stats.connections_open == 1


@pytest.mark.parametrize("name", VENUES)
async def test_ids_and_rest_history_go_on_after_a_restart(name: str, tmp_path: Path) -> None:
    first = SimulatedVenue(name, SYMBOLS[name], seed=1, rate=1_000, state=tmp_path)
    async with first, subscribed(first) as client:
        await client.trades(50)
    ends = [history.last_id for history in first.world.histories]
    starts = [history.first_id for history in first.world.histories]
    second = SimulatedVenue(name, SYMBOLS[name], seed=1, rate=1_000, state=tmp_path)
    async with second, subscribed(second) as client:
        assert [history.first_id for history in second.world.histories] == starts
        assert_contiguous(await client.trades(50))
    for history, end in zip(second.world.histories, ends, strict=True):
        assert end is not None
        page = history.starting(end - 5, 11)
        assert [fill.id for fill in page] == list(range(end - 5, end + 6))
        times = [fill.time_us for fill in page]
        assert times == sorted(times)


async def test_a_killed_simulator_never_repeats_an_id_and_still_has_what_it_sent(
    tmp_path: Path,
) -> None:
    script = tmp_path / "simulator.py"
    script.write_text(
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from market_ingestor.simulator import SimulateOptions, simulate\n"
        "options = SimulateOptions(venues=('okx',), symbols=('BTCUSDT',), rate=5000,\n"
        "    state=Path(sys.argv[1]))\n"
        "asyncio.run(simulate(options, lambda all: print(all.venues['okx'].ws_url, flush=True)))\n"
    )
    seen: list[int] = []
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), str(tmp_path / "state"), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with connect(url + PATHS["okx"], close_timeout=1) as socket:
            client = Client("okx", socket)
            await socket.send(msgspec.json.encode(request("okx", ["BTC-USDT"])).decode())
            seen += [trade_id for _, trade_id in await client.trades(300)]
            process.kill()
            await process.wait()
    assert len(set(seen)) == len(seen)
    async with SimulatedVenue("okx", ["BTCUSDT"], rate=0, state=tmp_path / "state") as venue:
        kept = [fill.id for fill in venue.world.histories[0].starting(0, 1_000_000)]
    assert kept == list(range(kept[0], kept[-1] + 1))
    assert set(seen) <= set(kept)


async def test_without_a_folder_ids_never_come_back() -> None:
    lasts = []
    for _ in range(2):
        async with (
            SimulatedVenue("okx", ["BTCUSDT"], rate=1_000) as venue,
            subscribed(venue) as client,
        ):
            lasts.append(await client.trades(5))
        await asyncio.sleep(1)  # the first id is made from the second of the start
    assert lasts[1][0][1] > lasts[0][-1][1]


async def test_the_same_seed_trades_the_same(tmp_path: Path) -> None:
    def told(folder: Path) -> list[tuple[str, str, str, str]]:
        lines = (folder / "truth").read_bytes().splitlines()
        rows = [msgspec.json.decode(line) for line in lines]
        return [(row["symbol"], row["price"], row["amount"], row["side"]) for row in rows[:200]]

    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        with TruthLog(folder / "truth") as truth:
            async with (
                SimulatedVenue("okx", seed=5, rate=5_000, truth=truth) as venue,
                subscribed(venue) as client,
            ):
                await client.trades(300)
    assert told(folders[0]) == told(folders[1])


async def test_the_record_tells_what_was_sent_with_the_digits_of_the_wire(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    with TruthLog(path) as truth:
        async with (
            SimulatedVenue("binance", ["BTCUSDT", "ETHUSDT"], rate=500, truth=truth) as venue,
            subscribed(venue, ["BTCUSDT"]) as client,
        ):
            await client.message()
            frames = [msgspec.json.decode(await client.message())["data"] for _ in range(50)]
    rows = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    recorded = {(row["symbol"], row["id"]): row for row in rows}
    assert len(recorded) == len(rows)
    for frame in frames:
        row = recorded["BTCUSDT", str(frame["t"])]
        assert (row["exchange"], row["sent"], row["rest"]) == ("sim-binance", True, True)
        assert (row["price"], row["amount"]) == (frame["p"], frame["q"])
        assert row["side"] == ("sell" if frame["m"] else "buy")
        assert row["time_us"] == frame["T"] * 1_000
    assert {row["sent"] for row in rows if row["symbol"] == "ETHUSDT"} == {False}


async def test_rest_and_websocket_share_one_port(http: httpx2.AsyncClient) -> None:
    one = SimulatedVenue("binance", ["BTCUSDT"], rate=500)
    async with one as venue, subscribed(venue) as client:
        await client.trades(10)
        answer = await http.get(
            venue.rest_url + "/api/v3/historicalTrades", params={"symbol": "BTCUSDT", "limit": 5}
        )
        assert answer.status_code == 200
        assert answer.headers["x-mbx-used-weight-1m"] == "25"
        assert len(answer.json()) == 5
        assert (await http.get(venue.rest_url + "/nonsense")).status_code == 404
        assert venue.stats.rest_requests == 2


async def test_unknown_paths_refuse_the_handshake() -> None:
    async with SimulatedVenue("kraken") as venue:
        with pytest.raises(InvalidStatus) as refused:
            await connect(venue.ws_url + "/v1")
        assert refused.value.response.status_code == 404


async def test_connections_over_the_venues_limit_are_refused() -> None:
    async with SimulatedVenue("okx") as venue:
        url = venue.ws_url + "/ws/v5/public"
        for _ in range(3):
            await (await connect(url)).close()
        with pytest.raises(InvalidStatus) as refused:
            await connect(url)
        assert refused.value.response.status_code == 429
    async with SimulatedVenue("okx", has_limits=False) as venue:
        for _ in range(10):
            await (await connect(venue.ws_url + "/ws/v5/public")).close()


async def test_stopping_says_going_away() -> None:
    async with SimulatedVenue("bybit") as venue:
        socket = await connect(venue.ws_url + "/v5/public/spot")
    await socket.wait_closed()
    assert socket.close_code == 1001


async def test_a_reader_that_stops_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("market_ingestor.simulator.connection.BUFFER_BYTES_MAX", 1_000_000)
    busy = SimulatedVenue("okx", rate=20_000)
    async with busy as venue, subscribed(venue) as slow, subscribed(venue) as quick:
        await slow.message()
        slow.socket.transport.pause_reading()
        while venue.stats.connections_open > 1:
            assert_contiguous(await quick.trades(1_000))
        slow.socket.transport.resume_reading()
        assert await slow.closed() in {4005, 1006}


async def test_stopping_does_not_wait_for_a_reader_that_takes_nothing() -> None:
    venue = SimulatedVenue("okx", rate=50_000)
    async with subscribed(await venue.__aenter__()) as client:
        await client.message()
        client.socket.transport.pause_reading()
        await until(lambda: venue.stats.trades_sent > 50_000)
        async with asyncio.timeout(8):
            await venue.__aexit__(None, None, None)


async def test_a_hundred_thousand_trades_a_second_are_offered() -> None:
    symbols = [f"S{number:03d}USDT" for number in range(100)]
    async with SimulatedVenue("bybit", symbols, rate=100_000) as venue:
        made = venue.stats.trades_made
        await asyncio.sleep(0.5)
        # The machine may be busy: what matters is that a tick's debt is paid in one chunk.
        assert venue.stats.trades_made - made > 10_000


async def test_several_venues_start_and_stop_together(tmp_path: Path) -> None:
    faults = tmp_path / "faults.jsonl"
    faults.write_text('{"fault":"stop","venue":"okx","symbol":"BTCUSDT"}\n')
    options = SimulateOptions(
        rate=100, state=tmp_path / "state", faults=faults, record=tmp_path / "r"
    )
    async with Simulation(options) as simulation:
        assert list(simulation.venues) == list(VENUES)
        async with subscribed(simulation.venues["coinbase"]) as client:
            await client.trades(5)
        assert len({venue.ws_url for venue in simulation.venues.values()}) == 5
    assert (tmp_path / "r").stat().st_size > 0


async def test_simulate_runs_until_cancelled() -> None:
    started: asyncio.Future[Simulation] = asyncio.get_running_loop().create_future()
    options = SimulateOptions(venues=("kraken",))
    task = asyncio.create_task(simulate(options, started.set_result))
    venue = (await started).venues["kraken"]
    socket = await connect(venue.ws_url + "/v2")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await socket.wait_closed()
    assert socket.close_code == 1001


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (SimulateOptions(venues=("nasdaq",)), "nasdaq is not simulated"),
        (SimulateOptions(symbols=("FOOBAR",)), "FOOBAR"),
        (SimulateOptions(faults=Path("/missing")), "faults"),
        (SimulateOptions(faults=Path(__file__)), "faults"),
        (SimulateOptions(frames={"binance": Path("/missing")}), "frames"),
    ],
)
async def test_wrong_options_are_config_errors(options: SimulateOptions, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        async with Simulation(options):
            pass


async def test_two_simulators_cannot_share_a_folder(tmp_path: Path) -> None:
    async with SimulatedVenue("okx", state=tmp_path):
        with pytest.raises(ConfigError, match="another simulator"):
            async with SimulatedVenue("okx", state=tmp_path):
                pass


async def test_binance_pings_and_the_pong_keeps_the_connection() -> None:
    async with SimulatedVenue("binance", rate=0) as venue:
        limits = msgspec.structs.replace(
            venue.front.limits, ping_interval_s=0.05, pong_deadline_s=0.2
        )
        venue.front.limits = limits
        async with subscribed(venue) as client:
            await client.message()
            await asyncio.sleep(0.5)
            assert client.socket.close_code is None
            client.socket.transport.pause_reading()  # pongs stop
            await until(lambda: not venue.stats.connections_open)
