"""Carries out the faults of one simulated venue, each where it belongs.

Owns the way from a fault to what it changes: sockets at once, windows for handshakes and REST,
the routers of the feeds, the list of instruments. When a fault is due is the timetable's.
"""

from typing import assert_never

import msgspec

from market_ingestor.simulator.connection import Connection, frame
from market_ingestor.simulator.faults import Fault
from market_ingestor.simulator.feeds import ReplayFeed, TapeFeed
from market_ingestor.simulator.hub import Hub, now_us
from market_ingestor.simulator.protocol import US_PER_S, Close


class Injector:
    """Hurts one venue."""

    def __init__(
        self, hub: Hub, tape: TapeFeed | None, replay: ReplayFeed | None, made: int
    ) -> None:
        """Act on ``hub`` and its feeds; markets from index ``made`` on are recorded ones."""
        self._hub = hub
        self._tape = tape
        self._replay = replay
        self._made = made

    def inject(self, fault: Fault, market: int | None) -> None:
        """Let a fault happen now.

        Args:
            fault: Its cue has come.
            market: Index of ``fault.symbol``, None for all.
        """
        self._hub.stats.faults += 1
        told = {**msgspec.to_builtins(fault), "last_ids": self._last_ids(fault)}
        self._hub.note(fault.fault, told)
        match fault.fault:
            case "delist" | "relist" | "stop" | "start":
                self._switch_market(fault, market)
            case "skew" | "hold" | "refuse" | "slow_handshake" | "deaf" | "max_life":
                self._hub.windows.begin(fault, market, self._hub.elapsed_s())
            case "rest_error" | "rest_slow" | "rest_delay":
                self._hub.windows.begin(fault, None, self._hub.elapsed_s())
            case "gap" | "duplicate" | "reorder" | "absurd":
                self._spoil_trades(fault, market)
            case (
                "cut" | "abort" | "half_open" | "stall"
                | "garbage" | "truncated" | "unknown" | "notice"
            ):  # fmt: skip
                for connection in self._chosen(fault):
                    self._hurt(connection, fault)
            case never:
                assert_never(never)

    def _chosen(self, fault: Fault) -> list[Connection]:
        is_open = [each for each in self._hub.connections if each.is_open]
        return is_open[:1] if fault.sockets == "one" else is_open

    def _hurt(self, connection: Connection, fault: Fault) -> None:
        at_us = now_us()
        until_us = at_us + int(fault.duration_s * US_PER_S)
        match fault.fault:
            case "cut":
                connection.end(Close(fault.code))
            case "abort":
                connection.abort()
            case "half_open":
                connection.go_silent(until_us)
            case "stall":
                connection.stalled_until_us = until_us
            case "garbage":
                connection.write_garbage(at_us)
            case "truncated":
                text = self._hub.front.unknown_message(at_us).encode()
                connection.write(frame(text[: len(text) // 2]), at_us)
            case "unknown":
                text = self._hub.front.unknown_message(at_us).encode()
                connection.write(frame(text), at_us)
            case _:  # notice: the last of the faults that concern sockets
                warning, lead_s = connection.session.notice(at_us)
                if warning is not None:
                    connection.write(frame(warning.encode()), at_us)
                lead_s = lead_s if fault.delay_s is None else fault.delay_s
                connection.cut_at_us = at_us + int(lead_s * US_PER_S)

    def _spoil_trades(self, fault: Fault, market: int | None) -> None:
        if fault.fault == "gap" and fault.sockets == "one":
            chosen = self._chosen(fault)
            if len(self._hub.connections) > 1 and chosen:  # others get them: not a gap of the venue
                chosen[0].skips[market] = fault.count
                return
        is_recorded = market is not None and market >= self._made
        if self._tape is not None and not is_recorded:
            self._tape.router.add(fault, market)
        if self._replay is not None and (market is None or is_recorded):
            self._replay.router.add(fault, market)

    def _switch_market(self, fault: Fault, market: int | None) -> None:
        chosen = range(len(self._hub.world.markets)) if market is None else [market]
        stopped = set() if self._tape is None else self._tape.stopped
        for index in chosen:
            if fault.fault in {"delist", "stop"}:
                stopped.add(index)
            else:
                stopped.discard(index)
            if fault.fault == "delist":
                self._hub.world.delisted.add(index)
            elif fault.fault == "relist":
                self._hub.world.delisted.discard(index)

    def _last_ids(self, fault: Fault) -> dict[str, str]:
        """Return the newest id per symbol, for faults that may lose what is in flight."""
        if fault.fault not in {"cut", "abort", "half_open"}:
            return {}
        histories = self._hub.world.histories
        newest = ((each.symbol, histories[each.index].last_id) for each in self._hub.world.markets)
        return {symbol: str(last) for symbol, last in newest if last is not None}
