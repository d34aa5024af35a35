"""The command line: what ends with which exit status, and what it says."""

import json
import re
import signal
import socket
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner

from market_ingestor.cli import main
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.storage.migrate import migrate
from tests.support.processes import command
from tests.support.servers import DatabaseMaker, NatsHandle
from tests.support.terminal import in_terminal
from tests.support.tools import run

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "database.dsn: is missing"),
        (
            '[database]\ndsn = "postgresql://h/d"\n[save]\nbatch_sise = 1\n',
            "save.batch_sise: is not a known key; did you mean 'batch_size'?",
        ),
        ('[database]\ndsn = "postgresql://h/d"\n[save]\nbatch_size = "many"\n', "save.batch_size"),
        ("[[", "is not TOML"),
    ],
)
async def test_a_wrong_setting_ends_with_2_and_its_name(
    tmp_path: Path, text: str, says: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    for name in ("run", "check", "config", "verify", "migrate"):
        async with command(name, "--config", str(config), log=tmp_path / "log") as running:
            assert await running.ended(30) == 2
            assert says in running.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "cook"),
        ("run", "--shard", "3/2"),
        ("demo", "--frames", "binance"),
        ("nonsense",),
        ("run", "--config", "/nowhere/config.toml"),
    ],
)
async def test_bad_usage_ends_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    env = {"MARKET_INGESTOR_DATABASE__DSN": "postgresql://127.0.0.1:1/x"}
    async with command(*arguments, log=tmp_path / "log", env=env) as running:
        assert await running.ended(30) == 2, running.output


def test_settings_are_shown_with_their_source_and_without_secrets(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[database]\ndsn = "postgresql://u:hidden@h/d"\n[save]\nbatch_size = 7\n'
        '[nats]\nservers = ["nats://u:hidden@h:4222"]\n[api]\ncontrol_tokens = ["hidden"]\n'
        '[exchanges.binance]\ntoken = "hidden"\nrest_url = "https://u:hidden@proxy"\n'
    )
    shown = CliRunner().invoke(main, ["config", "--config", str(config)])
    assert shown.exit_code == 0
    assert f"save.batch_size = 7  # {config}" in shown.output
    assert "save.batch_size_max = 5000  # default" in shown.output
    assert "hidden" not in shown.output


async def test_check_names_what_cannot_be_reached(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[nats]\nservers = ["nats://127.0.0.1:1"]\n'
        '[database]\ndsn = "postgresql://127.0.0.1:1/x"\n'
        '[exchanges.binance]\nrest_url = "http://127.0.0.1:1"\n'
    )
    async with command("check", "--config", str(config), log=tmp_path / "log") as running:
        assert await running.ended(60) == 1
        for name in ("nats:", "database:", "exchanges.binance:"):
            assert name in running.output


async def test_check_says_what_is_there_and_not_as_it_must_be(
    nats_server: NatsHandle, make_database: DatabaseMaker, tmp_path: Path
) -> None:
    empty, full = make_database(), make_database()
    await migrate(full)
    config = tmp_path / "config.toml"
    async with SimulatedVenue("okx") as venue:

        async def checked(
            dsn: str, symbol: str, ws_url: str, mode: str = "test"
        ) -> tuple[int, str]:
            config.write_text(
                f'[nats]\nservers = ["{nats_server.url}"]\n[database]\ndsn = "{dsn}"\n'
                f'[exchanges.sim-okx]\nsymbols = ["{symbol}"]\nrest_url = "{venue.rest_url}"\n'
                f'ws_url = "{ws_url}"\n'
            )
            arguments = ("check", "--config", str(config), "--mode", mode)
            async with command(*arguments, log=tmp_path / "log") as running:
                return await running.ended(60), running.output

        status, text = await checked(full, "btc-usdt", venue.ws_url)
        assert (status, text.splitlines()[-3:]) == (
            0,
            ["nats: ok", "database: ok", "exchanges.sim-okx: ok"],
        )
        status, text = await checked(empty, "NOPEUSDT", venue.ws_url)
        assert status == 1
        assert "database: answers, and has no schema" in text
        assert "exchanges.sim-okx: not listed: NOPEUSDT" in text
        status, text = await checked(full, "BTCUSDT", "ws://127.0.0.1:1")
        assert status == 1
        assert "exchanges.sim-okx: trades:" in text
        status, text = await checked(full, "BTCUSDT", venue.ws_url, "live")
        assert status == 1
        assert "none is enabled for mode 'live'" in text


async def test_a_port_in_use_ends_with_2_and_the_key(
    nats_server: NatsHandle, postgres_dsn: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = tmp_path / "config.toml"
        config.write_text(
            f'[nats]\nservers = ["{nats_server.url}"]\n[database]\ndsn = "{postgres_dsn}"\n'
            f"[api]\nport = {taken.getsockname()[1]}\n[metrics]\nport = 0\n"
        )
        async with command("run", "api", "--config", str(config), log=tmp_path / "log") as running:
            assert await running.ended(30) == 2, running.output
            assert "api.port: cannot listen" in running.output
            assert "Traceback" not in running.output


async def test_a_database_that_is_away_at_the_start_stops_nobody(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[nats]\nservers = ["{nats_server.url}"]\n'
        '[database]\ndsn = "postgresql://127.0.0.1:1/x"\nmigrate_on_start = true\n'
        "[metrics]\nport = 0\n[exchanges]\n"
    )
    arguments = ("run", "ingest", "klines", "save", "--config", str(config))
    async with command(*arguments, log=tmp_path / "log") as running:
        await running.until(lambda: "klines_started" in running.output, 30)
        await running.until(lambda: "database_awaited" in running.output, 30)
        running.send(signal.SIGTERM)
        assert await running.ended(12) == 0, running.output


async def test_an_unknown_exchange_ends_with_2_and_its_name(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[nats]\nservers = ["{nats_server.url}"]\n[database]\ndsn = "postgresql://h/d"\n'
        "[metrics]\nport = 0\n[exchanges.foo]\n"
    )
    async with command("run", "ingest", "--config", str(config), log=tmp_path / "log") as running:
        assert await running.ended(30) == 2, running.output
        assert "exchanges.foo" in running.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell: str) -> None:
    script = CliRunner().invoke(main, ["completion", shell])
    assert script.exit_code == 0
    assert "_MARKET_INGESTOR_COMPLETE" in script.output
    if shell == "bash":
        run("bash", "-n", text=script.output)


async def test_completion_knows_commands_and_options(tmp_path: Path) -> None:
    env = {"_MARKET_INGESTOR_COMPLETE": "bash_complete", "COMP_WORDS": "market-ingestor ver",
           "COMP_CWORD": "1"}  # fmt: skip
    async with command(log=tmp_path / "log", env=env) as running:
        assert await running.ended(30) == 0
        assert "plain,verify" in running.output


def test_every_example_of_the_help_is_a_command_with_such_options() -> None:
    shown = 0
    for name, each in main.commands.items():
        text = CliRunner().invoke(main, [name, "--help"]).output
        for line in re.findall(r"^\s+market-ingestor (.*)$", text, re.MULTILINE):
            words = re.split(r" [|>] ", line)[0].split()
            assert words[0] == name, line
            options = {option for parameter in each.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= options, line
            shown += 1
    assert shown > 10


async def test_verify_names_what_was_perhaps_meant_and_answers_programs(
    nats_server: NatsHandle, make_database: DatabaseMaker, tmp_path: Path
) -> None:
    dsn = make_database()
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "INSERT INTO market_trades (exchange, symbol, trade_id, time, price, amount, received_at)"
        " VALUES ('binance', 'BTCUSDT', '1', now(), 1, 1, now())"
    )
    await connection.close()
    config = tmp_path / "config.toml"
    config.write_text(
        f'[nats]\nservers = ["{nats_server.url}"]\n[database]\ndsn = "{dsn}"\n[exchanges]\n'
    )
    base = ("verify", "--config", str(config))
    async with command(*base, "--exchange", "binanse", log=tmp_path / "log") as running:
        assert await running.ended(30) == 2
        assert "did you mean 'binance'?" in running.output
    async with command(*base, "--symbol", "BTCUSD", log=tmp_path / "log") as running:
        assert await running.ended(30) == 2
        assert "did you mean 'BTCUSDT'?" in running.output
    async with command(*base, "--json", log=tmp_path / "log") as running:
        assert await running.ended(30) == 0, running.output
        assert json.loads(running.output)["differences"] == []  # and no bar around it
    async with in_terminal(*base) as terminal:
        assert await terminal.process.wait() == 0
        await terminal.shows("0 candles compared, 0 differ")
        await terminal.shows("nothing is shown by that")  # this minute has not ended
        assert b"recomputing candles" in terminal.raw
