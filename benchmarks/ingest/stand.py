"""A venue, the ingest role that reads it, and others who read the same: one number of symbols.

Owns the rounds: who is sent which trades, and what that cost in processor time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.batches import EXCHANGE
from benchmarks.batches import symbols as names
from benchmarks.children import Child, module
from benchmarks.ingest.stored import Stored
from benchmarks.race import Round
from benchmarks.roles import Around, Running, running

PATH: Final = "/stream"  # as the project asks for it
USUAL_RATE: Final = 100_000.0  # trades/s that the trades' times of a saturated round look like


class Stand:
    """The rounds of one number of symbols.

    Args:
        symbols: How many.
        url: Of the venue's WebSocket.
    """

    def __init__(self, symbols: int, venue: Child, url: str, ingest: Running) -> None:
        self.symbols = symbols
        self._venue = venue
        self._url = url
        self._role, self._nats_url, bus, self._portal = ingest
        self._stored = Stored(bus)
        self._has_got: set[str] = set()
        self._made: tuple[int, float] = (0, 0.0)

    def send(self, path: str, trades: int, rate: float = 0.0) -> float:
        """Have trades sent that this reader has not got yet; returns the seconds it took.

        All readers get the same trades before the next ones are made.

        Args:
            rate: Trades a second, 0 for as many as are read.
        """
        if path in self._has_got or self._made != (trades, rate):
            self._venue.ask(f"make {trades} {rate or USUAL_RATE}")
            self._made = trades, rate
            self._has_got.clear()
        self._has_got.add(path)
        return float(self._venue.ask(f"send {path} {rate}"))

    def ours(
        self, trades: int, rate: float = 0.0, on_sent: Callable[[float], object] = lambda _: None
    ) -> Round:
        """Return a round of the ingest role: its processor time until all are stored."""

        def round_() -> float:
            position = self._portal.call(self._stored.position)
            began = self._role.cpu_s
            on_sent(self.send(PATH, trades, rate))
            self._portal.call(self._stored.await_trades, position, trades)
            return self._role.cpu_s - began

        return round_

    @contextmanager
    def reader(self, who: str, trades: int, rate: float = 0.0) -> Iterator[Round]:
        """Give the rounds of somebody else's process: its processor time until it is done."""
        path = f"{PATH}?reader={who}"
        arguments = who, self._url + path, self._nats_url
        with module("benchmarks.ingest.readers", *arguments) as process:
            assert process.answer() == "ready"

            def round_() -> float:
                before = self._portal.call(self._stored.messages)
                began = process.cpu_s
                process.tell(str(trades))
                self.send(path, trades, rate)
                assert process.answer() == "done"
                seconds = process.cpu_s - began
                if who == "peer":
                    assert self._portal.call(self._stored.messages) - before >= trades
                return seconds

            yield round_


@contextmanager
def standing(count: int, around: Around) -> Iterator[Stand]:
    """Run a venue of so many symbols and the ingest role that has subscribed all of them."""
    with module("benchmarks.ingest.venue", str(count)) as venue:
        place = f"127.0.0.1:{venue.answer()}"
        config = (
            f'[ingest]\nmode = "test"\n[exchanges.{EXCHANGE}]\nsymbols = {names(count)}\n'
            f'ws_url = "ws://{place}"\nrest_url = "http://{place}"\n'
        )
        with running("ingest", config, around) as ingest:
            ingest.role.until(lambda health: _is_subscribed(health, count))
            yield Stand(count, venue, f"ws://{place}", ingest)


def _is_subscribed(health: dict[str, Any], count: int) -> bool:
    feed = health["feeds"].get(EXCHANGE, {})
    return feed.get("symbols") == count and not feed["pending"]
