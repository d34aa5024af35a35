"""Simulated venues under load: ``python -m benchmarks.load --venue binance --symbols 100``.

Sockets, protocol and REST are the simulator's; only the trades come from here, because making up a
market costs more than half of what the service may use for it. Ids are consecutive, times are now,
symbols come in random order, which is the worst case for batching per symbol. Two kinds:

- stamped, any venue: each amount is the instant at which its frame was written, in 10 us units
  within 1,000 s, so that whoever gets the trade knows how long it took (`stamp`, `age_us`);
- prebuilt, Binance only: one trade a frame, made beforehand but for id and time. About 1 us each.

No history is kept. What a socket loses stays lost, and shows as rows that are missing.
"""

import asyncio
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from itertools import cycle, islice
from typing import Final

import click
import uvloop

from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.connection import Connection, frame
from market_ingestor.simulator.feeds import RatedFeed
from market_ingestor.simulator.hub import Chunk, Hub, now_us
from market_ingestor.simulator.protocol import US_PER_MS, US_PER_S
from market_ingestor.simulator.tape import Fill, Tape

STEP_S: Final = 0.005
CATCH_UP_S: Final = 0.5  # of a pause of the process this much is made up for
ORDER: Final = 20_000  # trades until the order of symbols repeats
STAMP_US: Final = 10
STAMP_PLACES: Final = 2  # digits behind the point that every venue has for made-up pairs
STAMPS: Final = 1_000 * US_PER_S // STAMP_US
IDLE_S: Final = 0.05


def load_symbols(number: int) -> tuple[str, ...]:
    """Return so many pairs; made-up ones, which all venues trade in the same steps."""
    return tuple(f"L{index:03d}-USDT" for index in range(number))


def stamp(at_us: int) -> int:
    """Return an instant as the amount of a trade, in units of its second digit; never 0."""
    return at_us // STAMP_US % STAMPS + 1


def age_us(amount: str, at_us: int) -> int:
    """Return how long before ``at_us`` a trade with this amount was stamped, microseconds."""
    units = round(float(amount) * 10**STAMP_PLACES)
    return (stamp(at_us) - units) % STAMPS * STAMP_US


class LoadFeed:
    """Paces trades while a socket wants those of every market.

    Attributes:
        rate: Trades per second.
    """

    def __init__(self, hub: Hub) -> None:
        self.rate = 0.0
        self.hub = hub
        markets = hub.world.markets
        start_s = hub.started_us // US_PER_S
        self.next_ids = [hub.front.first_id(each.index, start_s) for each in markets]

    async def run(self) -> None:
        """Trade until cancelled."""
        last_us, due = now_us(), 0.0
        while True:
            await asyncio.sleep(STEP_S if self.rate else IDLE_S)
            at_us = now_us()
            due += self.rate * min((at_us - last_us) / US_PER_S, CATCH_UP_S)
            last_us = at_us
            readers = [each for each in self.hub.connections if self._is_reader(each, at_us)]
            if readers:  # else nothing happens: a trade that nobody gets proves nothing
                self.send(int(due), readers, at_us)
                self.hub.stats.trades_made += int(due)
            due -= int(due)

    def close(self) -> None:
        """Give free what it holds: nothing."""

    def send(self, count: int, readers: Sequence[Connection], at_us: int) -> None:
        """Write the next trades to sockets."""
        raise NotImplementedError

    def _is_reader(self, connection: Connection, at_us: int) -> bool:
        wanted = connection.markets()
        return connection.takes_data(at_us) and len(wanted) == len(self.hub.world.markets)


class StampedFeed(LoadFeed):
    """Trades whose amounts tell when they were sent."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        markets = hub.world.markets
        dice = random.Random(hub.name)
        self._order = cycle(dice.choices(range(len(markets)), k=ORDER))
        self._unit = [10 ** (each.amount_places - STAMP_PLACES) for each in markets]

    def send(self, count: int, readers: Sequence[Connection], at_us: int) -> None:
        front, markets = self.hub.front, self.hub.world.markets
        time_us = at_us - at_us % front.time_step_us
        amount = stamp(at_us)
        fills = []
        for number in islice(self._order, count):
            trade_id = self.next_ids[number]
            self.next_ids[number] = trade_id + 1
            price = markets[number].start_price + trade_id % 100
            units = amount * self._unit[number]
            fills.append(Fill(number, trade_id, price, units, trade_id % 2 == 0, time_us))
        chunks = {
            variant: Chunk(front.encode(variant, fills, at_us))
            for each in readers
            for variant in each.session.wanted
        }
        self.hub.deliver(
            lambda each: [
                (chunks[variant], each.wanted(variant))
                for variant in each.session.wanted
                if variant in chunks
            ],
            at_us,
        )


class PrebuiltFeed(LoadFeed):
    """Trades of Binance in frames that lack only ids and times."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._frames: cycle[tuple[int, bytes]] | None = None

    def send(self, count: int, readers: Sequence[Connection], at_us: int) -> None:
        if self._frames is None:
            self._frames = cycle(self._templates(next(iter(readers[0].session.wanted)), at_us))
        time_ms, next_ids, parts = at_us // US_PER_MS, self.next_ids, []
        for number, template in islice(self._frames, count):
            trade_id = next_ids[number]
            next_ids[number] = trade_id + 1
            parts.append(template % (time_ms, trade_id, time_ms))
        data = b"".join(parts)
        for reader in readers:
            reader.write(data, at_us)
        self.hub.stats.trades_sent += count * len(readers)
        self.hub.stats.frames_sent += count * len(readers)

    def _templates(self, variant: str, at_us: int) -> list[tuple[int, bytes]]:
        """Return frames in which event time, id and trade time are left out, in that order."""
        time_us = at_us - at_us % US_PER_MS
        tape = Tape(
            self.hub.world.markets,
            seed="load",
            time_step_us=US_PER_MS,
            first_ids=self.next_ids,
        )
        fills = tape.take(ORDER, time_us - 1, time_us)
        templates = []
        for fill in fills:
            own = Fill(
                fill.market, self.next_ids[fill.market], fill.price, fill.amount, fill.is_buy,
                time_us,
            )  # fmt: skip
            ((number, payload, _),) = self.hub.front.encode(variant, [own], time_us)
            template = frame(payload).replace(b"%", b"%%")
            template = template.replace(b":%d," % (time_us // US_PER_MS), b":%d,")
            templates.append((number, template.replace(b":%d," % own.id, b":%d,")))
        return templates


async def serve(venues: Sequence[str], symbols: int, make_feed: Callable[[Hub], RatedFeed]) -> None:
    """Serve venues until cancelled, and print where; their rates are set from outside."""
    async with AsyncExitStack() as stack:
        for name in venues:
            venue = SimulatedVenue(
                name, load_symbols(symbols), rate=0, has_limits=False, make_feed=make_feed
            )
            await stack.enter_async_context(venue)
            sys.stdout.write(f"{name} {venue.ws_url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


@click.command()
@click.option("--venue", "venues", multiple=True, default=("binance",))
@click.option("--symbols", type=click.IntRange(min=1, max=1_000), default=100, help="Per venue.")
@click.option("--prebuilt", is_flag=True)
def main(*, venues: tuple[str, ...], symbols: int, prebuilt: bool) -> None:
    """Serve simulated venues under load until interrupted."""
    uvloop.run(serve(venues, symbols, PrebuiltFeed if prebuilt else StampedFeed))


if __name__ == "__main__":
    main()
