"""Tells others that this process lives and what it does; answers what only it knows. SHELL."""

import asyncio
import contextlib
import re
import socket
from typing import Final

import msgspec
import structlog

from market_ingestor.bus import subjects
from market_ingestor.bus.control import ControlBoard
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.connectors.roster import FleetMaker, Roster
from market_ingestor.model.control import Member, SymbolAnswer, SymbolQuestion
from market_ingestor.model.instrument import InstrumentTable

_log = structlog.get_logger(__name__)

DELAYS_MAX: Final = 5  # told of at once
REPORT_S: Final = 5.0  # a third of the age at which a report is gone
RETRY_S: Final = 0.5
RETIRE_S: Final = 1.0  # for the last word; without it the report ages away
LIST_S: Final = 4.0  # for the list of an exchange that does not run; whoever asks waits longer
LIST_AGE_S: Final = 300.0  # then such a list is loaded again
HOST_CHARS_MAX: Final = 40

_unsafe: Final = re.compile(r"[^A-Za-z0-9-]")
_questions: Final = msgspec.json.Decoder(SymbolQuestion)


def member_name(token: str) -> str:
    """Return the name of this process: its host, and the token its feeds' names begin with."""
    host = _unsafe.sub("-", socket.gethostname())[:HOST_CHARS_MAX]
    return f"{host}-{token}"


class Membership:
    """The reports and answers of one process.

    Args:
        shard: As it is shown, ``1/2``.
        make_fleet: For the list of instruments of an exchange that does not run now.
    """

    def __init__(
        self,
        bus: Bus,
        board: ControlBoard,
        roster: Roster,
        *,
        name: str,
        shard: str,
        make_fleet: FleetMaker,
    ) -> None:
        self._bus = bus
        self._board = board
        self._roster = roster
        self._name = name
        self._shard = shard
        self._make_fleet = make_fleet
        self._lists: dict[str, tuple[float, InstrumentTable]] = {}

    async def run(self) -> None:
        """Report every few seconds, and at once when something was applied, until cancelled."""
        await self._bus.answer_core(subjects.CONTROL_SYMBOL, self._answer)
        while True:
            self._roster.settled.clear()
            wait_s = REPORT_S
            try:
                await self._board.report(self.record())
            except TROUBLE as problem:
                _log.info("report_waits", error=str(problem) or repr(problem))
                wait_s = RETRY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._roster.settled.wait()

    async def retire(self) -> None:
        """Say that this process ends as it should; never raises."""
        with contextlib.suppress(*TROUBLE):
            async with asyncio.timeout(RETIRE_S):
                await self._board.retire(self._name)

    def record(self) -> Member:
        """Return what this process says of itself."""
        roster, applied = self._roster, self._roster.applied
        return Member(
            name=self._name,
            shard=self._shard,
            mode=roster.mode,
            modes=roster.modes,
            epoch=applied.epoch if applied else "",
            revision=applied.revision if applied else 0,
            feeds={fleet.context.exchange: fleet.carried() for fleet in roster.fleets},
            problem=roster.problem,
            delay="; ".join(roster.delays[:DELAYS_MAX]) or None,
        )

    async def _answer(self, payload: bytes) -> bytes:
        try:
            question = _questions.decode(payload)
        except msgspec.MsgspecError:
            return msgspec.json.encode(SymbolAnswer(problem="unknown_symbol"))
        return msgspec.json.encode(await self._symbol(question))

    async def _symbol(self, question: SymbolQuestion) -> SymbolAnswer:
        settings = self._roster.exchange(question.exchange)
        if settings is None:
            return SymbolAnswer(problem="unknown_exchange")
        fleet = self._roster.fleet(question.exchange)
        try:
            if fleet is not None:
                symbol = fleet.symbol_of(question.symbol)
            else:
                found = (await self._list(question.exchange)).resolve(question.symbol)
                symbol = found.symbol if found else None
        except (LookupError, TimeoutError):
            return SymbolAnswer(problem="not_ready")
        return SymbolAnswer(symbol=symbol, problem=None if symbol else "unknown_symbol")

    async def _list(self, exchange: str) -> InstrumentTable:
        """Return the instruments of an exchange that does not run now."""
        now = asyncio.get_running_loop().time()
        loaded_at, table = self._lists.get(exchange, (-LIST_AGE_S, None))
        if table is None or now - loaded_at >= LIST_AGE_S:
            settings = self._roster.exchange(exchange)
            assert settings is not None  # noqa: S101 - the caller looked
            async with asyncio.timeout(LIST_S):
                table = await self._make_fleet(exchange, settings).load()
            self._lists[exchange] = (now, table)
        return table
