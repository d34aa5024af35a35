"""Which fault comes when: a pure function of a seed.

Kinds are dealt like cards: shuffled, each once, then shuffled again. So every kind comes about
equally often, and in a run that is long enough each of them. An episode holds some faults
that do not concern the same part; the next begins when the system has recovered. How many there
are is decided by the clock of the run.
"""

import random
from collections.abc import Iterator
from typing import Final

import msgspec

from market_ingestor.simulator.markets import VENUES
from tests.faults.kinds.bus import BucketPoison, Poison, RawFull
from tests.faults.kinds.clients import HostileClients
from tests.faults.kinds.database import (
    ConnectionsTaken,
    Deadlock,
    DiskFull,
    StatementsCancelled,
    TableLocked,
)
from tests.faults.kinds.fault import EVERYTHING, Fault
from tests.faults.kinds.folder import SecondDemo
from tests.faults.kinds.network import LinkCut, LinkRefused, LinkSlow, LinkStalled
from tests.faults.kinds.processes import Doubled, Ended, Killed, Paused
from tests.faults.kinds.servers import (
    AllKilled,
    DurablesForgotten,
    ServerEnded,
    ServerKilled,
    ServerPaused,
)
from tests.faults.kinds.venue import misdeeds
from tests.faults.venues import SYMBOLS
from tests.faults.world import ROLES, SECONDS

LONG_MINUTES: Final = 5.0  # from here on there is time for every kind, also for slow ones
TOGETHER: Final = (1, 3)  # faults of an episode, in a long run
CROWDED: Final = (2, 6)  # and in a short one, which must show much in little time
APART_S: Final = 1.5  # between the begins of two faults of an episode, at most
PAST_ACK_WAIT_S: Final = 8.0  # a saver's messages come again after six
FULL_QUEUE_S: Final = 9.0  # ingest pauses its sockets for five, then closes them
JANITOR_S: Final = 14.0  # savers make room in a full stream every ten
PAST_TIMEOUT_S: Final = 23.0  # a statement may take twenty


class Planned(msgspec.Struct, frozen=True):
    """A fault and when it begins, seconds after its episode."""

    at_s: float
    fault: Fault


Episode = tuple[Planned, ...]


def schedule(seed: int, minutes: float, only: str = "") -> Iterator[Episode]:
    """Give episodes without end; equal arguments, equal plan.

    Args:
        minutes: How long the run will be: a short one is crowded.
        only: Faults whose kind has this text in it, all by default.

    Raises:
        ValueError: There is no such kind.
    """
    dice = random.Random(f"faults/{seed}")
    is_long = minutes >= LONG_MINUTES
    dealer = _dealt(dice, only, is_long=is_long)
    held: list[Fault] = []
    while True:
        yield _episode(dice, dealer, held, TOGETHER if is_long else CROWDED)


def _episode(
    dice: random.Random, dealer: Iterator[Fault], held: list[Fault], together: tuple[int, int]
) -> Episode:
    """Take the next faults; one that does not go with the others is held for the next."""
    chosen: list[Fault] = []
    for _ in range(dice.randint(*together)):
        fault = held.pop() if held else next(dealer)
        taken = frozenset[str]().union(*(each.touches for each in chosen))
        if chosen and (fault.touches & taken or EVERYTHING in fault.touches | taken):
            held.append(fault)
            break
        chosen.append(fault)
    begins = [0.0, *(round(dice.uniform(0, APART_S), 2) for _ in chosen[1:])]
    return tuple(Planned(at_s, fault) for at_s, fault in zip(begins, chosen, strict=True))


def _dealt(dice: random.Random, only: str, *, is_long: bool) -> Iterator[Fault]:
    while True:
        deck = [*_processes(dice), *_servers(dice), *_network(dice), *_venues(dice)]
        deck += [DiskFull(seconds=3), ConnectionsTaken(seconds=3), StatementsCancelled(seconds=3)]
        deck += [TableLocked(seconds=PAST_TIMEOUT_S if is_long else 3), Deadlock()]
        deck += [Poison(), BucketPoison(seconds=2), RawFull(seconds=JANITOR_S if is_long else 4)]
        deck += [HostileClients(seconds=3), SecondDemo(seconds=0)]
        dice.shuffle(deck)
        chosen = [each for each in deck if only in each.kind]
        if not chosen:
            raise ValueError(f"no fault is called {only!r}")
        yield from chosen


def _processes(dice: random.Random) -> list[Fault]:
    deck: list[Fault] = [AllKilled(seconds=1)]
    for role in ROLES:
        deck.append(Killed(role=role, seconds=_span(dice, 0, 3)))
        deck.append(Ended(role=role, seconds=_span(dice, 0, 2)))
        is_saver = role == "save"
        deck.append(Paused(role=role, seconds=PAST_ACK_WAIT_S if is_saver else _span(dice, 1, 6)))
    deck += [Doubled(role=role, seconds=_span(dice, 1, 3)) for role in SECONDS]
    return deck


def _servers(dice: random.Random) -> list[Fault]:
    deck: list[Fault] = []
    for server in ("nats", "postgres"):
        deck.append(ServerKilled(server=server, seconds=_span(dice, 0, 3)))
        deck.append(ServerEnded(server=server, seconds=_span(dice, 0, 2)))
        deck.append(ServerPaused(server=server, seconds=_span(dice, 1, 5)))
    deck.append(DurablesForgotten(seconds=_span(dice, 0, 3)))
    return deck


def _network(dice: random.Random) -> list[Fault]:
    links = [f"{role}>{server}" for role in ROLES for server in ("nats", "postgres")]
    links += [f"ingest>{dice.choice(VENUES)}", "client>push"]
    ways = [LinkCut, LinkRefused, LinkStalled, LinkSlow]
    deck: list[Fault] = [
        dice.choice(ways)(link=link, seconds=_span(dice, 0.5, 4)) for link in links
    ]
    # One of each way at least, and the one that fills the publisher's queue.
    deck += [way(link=dice.choice(links), seconds=_span(dice, 1, 3)) for way in ways]
    deck.append(LinkStalled(link="ingest>nats", seconds=FULL_QUEUE_S))
    return deck


def _venues(dice: random.Random) -> list[Fault]:
    """Return every misdeed once, each at a venue of chance."""
    menus = {venue: misdeeds(venue, dice, list(SYMBOLS)) for venue in VENUES}
    longest = max(len(menu) for menu in menus.values())
    able = [[menu[at] for menu in menus.values() if at < len(menu)] for at in range(longest)]
    return [dice.choice(each) for each in able]


def _span(dice: random.Random, least: float, most: float) -> float:
    return round(dice.uniform(least, most), 1)
