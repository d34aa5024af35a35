"""A simulated venue's protocol without sockets: its world, its trades, its answers as values."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from market_ingestor.simulator.binance import BinanceFront
from market_ingestor.simulator.bybit import BybitFront
from market_ingestor.simulator.coinbase import CoinbaseFront
from market_ingestor.simulator.kraken import KrakenFront
from market_ingestor.simulator.markets import build
from market_ingestor.simulator.okx import OkxFront
from market_ingestor.simulator.protocol import Front, HttpReply, HttpRequest, Outgoing, Session
from market_ingestor.simulator.tape import Fill, Tape
from market_ingestor.simulator.world import World

FRONTS: dict[str, Callable[[World], Front]] = {
    "binance": BinanceFront,
    "okx": OkxFront,
    "bybit": BybitFront,
    "coinbase": CoinbaseFront,
    "kraken": KrakenFront,
}
START_US = 1_795_132_800_000_000  # 2026-11-20T00:00:00Z
FIRST_ID = 1_000


class Venue:
    """One venue with trades of two markets in its past, and a client's view of it."""

    def __init__(self, name: str, trades: int = 300) -> None:
        quote = "USD" if name in {"coinbase", "kraken"} else "USDT"
        self.world = World(build(name, [f"BTC-{quote}", f"ETH-{quote}"]))
        self.front = FRONTS[name](self.world)
        self.tape = Tape(
            self.world.markets,
            seed="test",
            time_step_us=self.front.time_step_us,
            first_ids=[FIRST_ID, FIRST_ID],
        )
        self.now_us = START_US
        self.trade(trades)

    def trade(self, count: int, seconds: int = 100) -> list[Fill]:
        """Let ``count`` trades happen over the next ``seconds``."""
        from_us, self.now_us = self.now_us, self.now_us + seconds * 1_000_000
        fills = self.tape.take(count, from_us, self.now_us)
        self.world.append(fills)
        return fills

    def last_id(self, market: int = 0) -> int:
        """Return the newest id of a market."""
        last = self.world.histories[market].last_id
        assert last is not None
        return last

    def connect(self, path: str, **query: str) -> Session:
        """Open a session."""
        session = self.front.accept(path, query, self.now_us)
        assert session is not None
        return session

    def ask(self, session: Session, message: object) -> list[Any]:
        """Send a message and return the answers, JSON decoded."""
        text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
        return [_value(each) for each in session.receive(text, self.now_us)]

    def frames(self, session: Session, fills: Sequence[Fill]) -> list[Any]:
        """Return the data frames a session gets of ``fills``."""
        return [
            msgspec.json.decode(payload)
            for variant, markets in session.wanted.items()
            for market, payload, _ in self.front.encode(variant, fills, self.now_us)
            if market in markets
        ]

    def get(self, path: str, headers: dict[str, str] | None = None, /, **query: Any) -> HttpReply:
        """Ask REST."""
        texts = {name: str(value) for name, value in query.items()}
        sent = {"user-agent": "test", **(headers or {})}
        return self.front.rest(HttpRequest(path=path, query=texts, headers=sent), self.now_us)

    def get_json(self, path: str, **query: Any) -> Any:
        """Ask REST and return the decoded body."""
        return msgspec.json.decode(self.get(path, **query).body)


def _value(outgoing: Outgoing) -> Any:
    if not isinstance(outgoing, str):
        return outgoing
    try:
        return msgspec.json.decode(outgoing)
    except msgspec.DecodeError:
        return outgoing


@pytest.fixture
def venue() -> type[Venue]:
    """Return the maker of venues: ``venue("okx")``."""
    return Venue


@pytest.fixture
def shape() -> Callable[[object], object]:
    """Return a function that keeps names, their order, nesting and types, and drops the values."""

    def shape_of(value: object) -> object:
        match value:
            case dict():
                return [(name, shape_of(each)) for name, each in value.items()]
            case list():
                return [shape_of(value[0])] if value else []
            case _:
                return type(value).__name__

    return shape_of
