"""Every way in which a simulated venue can misbehave."""

import random
from typing import Final

import msgspec

from market_ingestor.simulator.faults import Fault as Misdeed
from tests.faults.kinds.fault import Fault
from tests.faults.world import World

BANS: Final = {"binance": 418, "okx": 429, "bybit": 403, "coinbase": 429, "kraken": 429}


class VenueFault(Fault, frozen=True, kw_only=True):
    """A venue misbehaves in one way, or in ways that belong together."""

    venue: str
    misdeeds: tuple[Misdeed, ...]

    @property
    def kind(self) -> str:
        return f"venue: {'+'.join(dict.fromkeys(each.fault for each in self.misdeeds))}"

    @property
    def touches(self) -> frozenset[str]:
        return frozenset({self.venue})

    async def begin(self, world: World) -> None:
        for each in self.misdeeds:
            await world.venues.inject(self.venue, each)

    async def end(self, world: World) -> None:
        """Undo what lasts; windows end by themselves."""
        undo = {"delist": "relist", "stop": "start"}
        for each in self.misdeeds:
            if each.fault in undo:
                again = msgspec.structs.replace(each, fault=undo[each.fault])
                await world.venues.inject(self.venue, again)


def misdeeds(venue: str, dice: random.Random, symbols: list[str]) -> list[VenueFault]:
    """Return one fault of every kind for a venue, each with figures of chance."""
    symbol, ban = dice.choice(symbols), BANS[venue]
    count = dice.randint(2, 40)
    again = Misdeed(fault="abort")
    kinds: list[tuple[float, list[Misdeed]]] = [
        (0, [again]),
        (0, [Misdeed(fault="cut", code=1001)]),
        (4, [Misdeed(fault="half_open", duration_s=4.0)]),
        (2, [Misdeed(fault="stall", duration_s=2.0)]),
        (1, [Misdeed(fault="notice", delay_s=1.0)]),
        (3, [Misdeed(fault="refuse", status=503, duration_s=3.0), again]),
        (2, [Misdeed(fault="refuse", status=ban, retry_after_s=1, duration_s=2.0), again]),
        (3, [Misdeed(fault="slow_handshake", delay_s=2.0, duration_s=3.0), again]),
        (2, [Misdeed(fault="deaf", duration_s=2.0), again]),
        (3, [Misdeed(fault="max_life", delay_s=1.0, duration_s=3.0)]),
        (3, [Misdeed(fault="rest_error", status=500, duration_s=3.0), again]),
        (2, [Misdeed(fault="rest_error", status=ban, retry_after_s=1, duration_s=2.0), again]),
        (3, [Misdeed(fault="rest_slow", delay_s=1.0, duration_s=3.0), again]),
        (3, [Misdeed(fault="rest_delay", delay_s=1.0, duration_s=3.0), again]),
        (0, [Misdeed(fault="garbage")]),
        (0, [Misdeed(fault="truncated")]),
        (0, [Misdeed(fault="unknown")]),
        (1, [Misdeed(fault="gap", count=count)]),
        (1, [Misdeed(fault="gap", count=count, rest="gone")]),
        (1, [Misdeed(fault="duplicate", count=count)]),
        (1, [Misdeed(fault="reorder", count=count)]),
        (1, [Misdeed(fault="absurd", count=5, value=dice.choice(["NaN", "-1", "1e999"]))]),
        (1, [Misdeed(fault="hold", duration_s=0.5, symbol=symbol)]),
        (2, [Misdeed(fault="stop", symbol=symbol)]),
        (2, [Misdeed(fault="delist", symbol=symbol)]),
    ]
    if venue != "kraken":  # its history is by time: trades out of order in it cannot be found
        kinds.append((1, [Misdeed(fault="skew", skew_s=0.7, duration_s=0.5)]))
    return [
        VenueFault(venue=venue, misdeeds=tuple(each), seconds=seconds) for seconds, each in kinds
    ]
