"""What a simulation really did, for tests to compare with: every trade, every fault.

Owns the record file (JSON lines) and, beside it, ``<file>.faults``. A trade's line is written when
its fate is known: ``sent`` says whether it was handed to any open socket, ``rest`` whether REST has
it (as long as the venue's REST remembers at all).
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from market_ingestor.model.exchange import simulated_name
from market_ingestor.simulator.markets import Market
from market_ingestor.simulator.tape import Fill


class TruthLog:
    """Writes the record; one for all venues of a simulation. Lines reach the OS once a tick."""

    def __init__(self, path: Path) -> None:
        """Append to ``path``, so that the record of a restarted simulator goes on."""
        self._trades: BinaryIO = path.open("ab")
        self._faults: BinaryIO = path.with_name(path.name + ".faults").open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._trades.close()
        self._faults.close()

    def trade(
        self, venue: str, market: Market, fill: Fill, *, is_sent: bool, is_in_rest: bool
    ) -> None:
        """Record one trade: digits as on the wire, ``side`` the taker's."""
        side = "buy" if fill.is_buy else "sell"
        line = (
            f'{{"exchange":"{simulated_name(venue)}","symbol":"{market.symbol}","id":"{fill.id}",'
            f'"price":"{market.price_text(fill.price)}",'
            f'"amount":"{market.amount_text(fill.amount)}","side":"{side}",'
            f'"time_us":{fill.time_us},"sent":{"true" if is_sent else "false"},'
            f'"rest":{"true" if is_in_rest else "false"}}}\n'
        )
        self._trades.write(line.encode())

    def event(self, venue: str, time_us: int, what: str, details: Mapping[str, object]) -> None:
        """Record a fault or a socket's end."""
        line = {"exchange": simulated_name(venue), "time_us": time_us, "event": what, **details}
        self._faults.write(msgspec.json.encode(line) + b"\n")
        self._faults.flush()

    def flush(self) -> None:
        """Hand the lines so far to the operating system."""
        self._trades.flush()
