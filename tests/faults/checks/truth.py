"""Every trade that happened is stored once, digit for digit, or its loss is excused and said."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from tests.faults.journal import Disturbance

CHUNK: Final = 50_000
BYBIT: Final = "sim-bybit"
BYBIT_REST: Final = 60  # trades its history has
# Ten instruments are asked for one after the other, ten a second, once jumps in ids are gaps.
BYBIT_ASKED_US: Final = 3_000_000
EXAMPLES: Final = 5

_TABLES: Final = """
DROP SCHEMA IF EXISTS truth CASCADE;
CREATE SCHEMA truth;
CREATE UNLOGGED TABLE truth.lines (
    exchange text COLLATE "C", symbol text COLLATE "C", id numeric, price text, amount text,
    side text, time_us bigint, is_sent boolean, is_in_rest boolean
);
"""
_COLUMNS: Final = (
    "exchange", "symbol", "id", "price", "amount", "side", "time_us", "is_sent", "is_in_rest",
)  # fmt: skip
# A trade that was sent twice on purpose has two lines.
_TRADES: Final = """
CREATE UNLOGGED TABLE truth.trades AS SELECT DISTINCT ON (exchange, symbol, id) *
FROM truth.lines ORDER BY exchange, symbol, id, is_sent DESC;
CREATE UNIQUE INDEX ON truth.trades (exchange, symbol, id);
DROP TABLE truth.lines;
ANALYZE truth.trades
"""

# What its venue gave on no socket and lists nowhere happened to nobody outside: it is denied, as an
# id that does not exist. A gap was found there, but it may be filled, and a candle complete.
# From the first stored trade of each instrument on: what happened before we listened is not ours.
_BEGUN: Final = """
CREATE TABLE truth.begun AS
SELECT exchange, symbol, min(trade_id::numeric) AS first FROM market_trades GROUP BY 1, 2
"""
_MISSING: Final = """
CREATE TABLE truth.missing AS
SELECT t.*, NOT t.is_sent AND NOT t.is_in_rest AS is_denied, later.time_us AS gone_us,
    EXISTS (
        SELECT FROM market_gaps AS g
        WHERE (g.exchange, g.symbol) = (t.exchange, t.symbol)
            AND (g.state = 'unfillable' OR NOT t.is_sent AND NOT t.is_in_rest)
            AND g.after_id::numeric < t.id AND t.id < g.before_id::numeric
    ) AS is_said
FROM truth.trades AS t
JOIN truth.begun AS b ON (b.exchange, b.symbol) = (t.exchange, t.symbol) AND t.id >= b.first
LEFT JOIN market_trades AS m
    ON (m.exchange, m.symbol, m.trade_id) = (t.exchange, t.symbol, t.id::text)
LEFT JOIN LATERAL (
    SELECT time_us FROM truth.trades AS n
    WHERE (n.exchange, n.symbol) = (t.exchange, t.symbol) AND n.id >= t.id + $1
    ORDER BY n.id LIMIT 1
) AS later ON m.trade_id IS NULL
WHERE m.trade_id IS NULL
"""
_DOUBLED: Final = """
SELECT exchange, symbol, trade_id, count(*) AS rows FROM market_trades
GROUP BY 1, 2, 3 HAVING count(*) > 1
"""
_OTHER: Final = """
SELECT m.exchange, m.symbol, m.trade_id, m.price::text AS price, m.amount::text AS amount, m.side,
    (extract(epoch FROM m.time) * 1000000)::bigint AS time_us, t.price AS true_price,
    t.amount AS true_amount, t.side AS true_side, t.time_us AS true_time_us
FROM market_trades AS m
LEFT JOIN truth.trades AS t
    ON (t.exchange, t.symbol, t.id) = (m.exchange, m.symbol, m.trade_id::numeric)
WHERE (m.price::text, m.amount::text, m.side,
        (extract(epoch FROM m.time) * 1000000)::bigint)
    IS DISTINCT FROM (t.price, t.amount, t.side, t.time_us)
"""
_GAPS: Final = """
SELECT g.exchange, g.symbol, g.after_id, g.before_id, g.state FROM market_gaps AS g
JOIN truth.begun AS b ON (b.exchange, b.symbol) = (g.exchange, g.symbol)
WHERE g.before_id::numeric > b.first AND (g.state = 'open'
    OR g.state = 'unfillable' AND NOT EXISTS (
        SELECT FROM truth.missing AS t WHERE (t.exchange, t.symbol) = (g.exchange, g.symbol)
            AND t.id > g.after_id::numeric AND t.id < g.before_id::numeric
    ))
"""
_CLAIMED: Final = """
SELECT DISTINCT k.exchange, k.symbol, k.period, k.open_time FROM truth.missing AS t
JOIN market_klines AS k ON (k.exchange, k.symbol) = (t.exchange, t.symbol)
    AND k.open_time = date_bin('1 minute', to_timestamp(t.time_us / 1e6), 'epoch')
WHERE k.period = '1m' AND k.complete AND NOT t.is_denied
"""


class Made(msgspec.Struct, frozen=True):
    """A line of the simulators' record."""

    exchange: str
    symbol: str
    id: str
    price: str
    amount: str
    side: str
    time_us: int
    sent: bool
    rest: bool


class Found(msgspec.Struct):
    """What the comparison came to.

    Attributes:
        trades: That happened since the first one stored of each instrument.
        excused: Missing ones nobody could have had.
        problems: What must not be, one clause each.
    """

    trades: int = 0
    excused: int = 0
    problems: list[str] = []


def read(path: Path) -> Iterator[list[tuple[Any, ...]]]:
    """Give the record in chunks of rows."""
    decode = msgspec.json.Decoder(Made).decode
    rows: list[tuple[Any, ...]] = []
    with path.open("rb") as lines:
        for line in lines:
            each = decode(line)
            rows.append((each.exchange, each.symbol, Decimal(each.id), each.price, each.amount,
                         each.side, each.time_us, each.sent, each.rest))  # fmt: skip
            if len(rows) == CHUNK:
                yield rows
                rows = []
    yield rows


async def load(session: asyncpg.Connection, path: Path) -> None:
    """Put the record into tables beside ours."""
    await session.execute(_TABLES)
    for rows in read(path):
        await session.copy_records_to_table(
            "lines", schema_name="truth", records=rows, columns=_COLUMNS
        )
    await session.execute(_TRADES)


async def compare(session: asyncpg.Connection, disturbances: Sequence[Disturbance]) -> Found:
    """Compare tables and record as they are at one moment; `load` came before."""
    async with session.transaction(isolation="repeatable_read"):
        await session.execute("DROP TABLE IF EXISTS truth.missing, truth.begun")
        await session.execute("ANALYZE market_trades")
        await session.execute(_BEGUN)
        await session.execute(_MISSING.replace("$1", str(BYBIT_REST)))
        missing = await session.fetch("SELECT * FROM truth.missing ORDER BY exchange, symbol, id")
        found = Found(trades=await session.fetchval("SELECT count(*) FROM truth.trades"))
        unexcused = [row for row in missing if not is_excused(row, disturbances)]
        silent = [row for row in missing if not row["is_said"]]
        found.excused = len(missing) - len(unexcused)
        _tell(found, "trades are missing without excuse", unexcused)
        _tell(found, "trades are missing and no gap says so", silent)
        _tell(found, "trades are stored twice", await session.fetch(_DOUBLED))
        other = [row for row in await session.fetch(_OTHER) if not _is_same_number(row)]
        _tell(found, "stored trades are not what happened", other)
        _tell(found, "gaps are open or over nothing missing", await session.fetch(_GAPS))
        claimed = await session.fetch(_CLAIMED)
        _tell(found, "candles over missing trades claim to be complete", claimed)
    return found


def is_excused(trade: Any, disturbances: Sequence[Disturbance]) -> bool:
    """Tell whether nobody could have had a trade.

    No socket got it and REST never listed it; or, at the one venue with a short history, its
    reader was away, no second reader was there, and sixty others had pushed it out before the
    venue could be asked.
    """
    if trade["is_denied"]:
        return True
    if trade["exchange"] != BYBIT or trade["gone_us"] is None:
        return False
    at_us, gone_us = trade["time_us"], trade["gone_us"]
    if any(each.spared and each.spared[0] <= at_us <= each.spared[1] for each in disturbances):
        return False
    return any(
        each.start_us <= gone_us
        and at_us <= each.end_us
        and gone_us <= each.end_us + BYBIT_ASKED_US
        for each in disturbances
    )


def _is_same_number(row: Any) -> bool:
    """Tell whether only zeros at the end differ, where one venue does not keep them."""
    if row["true_price"] is None or row["exchange"] != "sim-kraken":
        return False
    ours = Decimal(row["price"]), Decimal(row["amount"]), row["side"], row["time_us"]
    true = Decimal(row["true_price"]), Decimal(row["true_amount"]), row["true_side"]
    return ours == (*true, row["true_time_us"])


def _tell(found: Found, what: str, rows: Sequence[Any]) -> None:
    if rows:
        examples = "; ".join(str(dict(row)) for row in rows[:EXAMPLES])
        found.problems.append(f"{len(rows)} {what}: {examples}")
