"""The journal: ids and history go on after a restart, within a bound."""

from pathlib import Path

import pytest

from market_ingestor.errors import ConfigError
from market_ingestor.simulator.journal import Journal
from market_ingestor.simulator.markets import build
from market_ingestor.simulator.tape import Fill, Position

MARKETS = build("okx", ["BTCUSDT", "ETHUSDT"])


def trades(first: int, last: int, market: int = 0) -> list[Fill]:
    return [
        Fill(market, number, 1_000 + number, 5, bool(number % 2), number * 1_000)
        for number in range(first, last + 1)
    ]


def test_trades_come_back_as_they_were_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "okx", MARKETS)
    assert journal.load() == ([], [])
    written = trades(1, 50) + trades(900, 905, market=1)
    journal.append(written)
    journal.close()
    again = Journal(tmp_path, "okx", MARKETS)
    assert again.load() == (written, [])
    assert again.positions() == {
        0: Position(last_id=50, price=1_050),
        1: Position(last_id=905, price=1_905),
    }
    again.close()


def test_removed_trades_stay_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "okx", MARKETS)
    journal.load()
    journal.append(trades(1, 5))
    journal.remove(trades(2, 3))
    journal.close()
    again = Journal(tmp_path, "okx", MARKETS)
    _, removed = again.load()
    assert [fill.id for fill in removed] == [2, 3]
    assert again.positions()[0].last_id == 5
    again.close()


def test_a_torn_record_at_the_end_is_ignored(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "okx", MARKETS)
    journal.load()
    journal.append(trades(1, 5))
    journal.close()
    (path,) = tmp_path.glob("*.journal")
    path.write_bytes(path.read_bytes()[:-7])
    again = Journal(tmp_path, "okx", MARKETS)
    fills, _ = again.load()
    assert [fill.id for fill in fills] == [1, 2, 3, 4]
    again.close()


def test_old_files_go_but_the_id_of_a_quiet_market_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "okx", MARKETS, bytes_max=40_000)
    journal.load()
    journal.append(trades(900, 900, market=1))
    for start in range(1, 5_000, 100):
        journal.append(trades(start, start + 99))
    journal.close()
    assert sum(path.stat().st_size for path in tmp_path.glob("*.journal")) <= 40_000
    again = Journal(tmp_path, "okx", MARKETS)
    fills, _ = again.load()
    assert fills[-1].id == 5_000
    assert fills[0].id > 1
    assert again.positions()[1].last_id == 900
    again.close()


def test_a_market_that_was_left_out_for_a_run_goes_on_with_its_ids(tmp_path: Path) -> None:
    first = Journal(tmp_path, "okx", MARKETS)
    first.load()
    first.append(trades(900, 910, market=1))
    first.close()
    without = Journal(tmp_path, "okx", MARKETS[:1])
    without.load()
    without.append(trades(1, 3))
    without.close()
    third = Journal(tmp_path, "okx", MARKETS)
    third.load()
    assert third.positions()[1].last_id == 910
    third.close()


def test_a_folder_serves_one_simulator_at_a_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "okx", MARKETS)
    with pytest.raises(ConfigError, match="another simulator of okx"):
        Journal(tmp_path, "okx", MARKETS)
    Journal(tmp_path, "kraken", MARKETS).close()
    journal.close()
    Journal(tmp_path, "okx", MARKETS).close()
