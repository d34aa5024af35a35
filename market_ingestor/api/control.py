"""Changes what is wanted, and waits until every living ingest process has done it. SHELL."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

import msgspec
import structlog

from market_ingestor.api.errors import (
    CONFLICT,
    NOT_FOUND,
    TIMED_OUT,
    UNAVAILABLE,
    ApiProblemError,
    unknown_symbol,
)
from market_ingestor.bus import subjects
from market_ingestor.bus.control import ControlBoard, ControlFollower
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.errors import StaleSequenceError
from market_ingestor.model.control import (
    ControlState,
    Member,
    Mode,
    SymbolAnswer,
    SymbolQuestion,
    TooManyChangesError,
)

_log = structlog.get_logger(__name__)

APPLY_S_MAX: Final = 10.0  # below the age at which a silent process is taken for gone
ANSWER_S_MAX: Final = 6.0  # for the meaning of a symbol, a venue's list included
CAS_ATTEMPTS: Final = 30  # others write too; each loses to one that wins
CAS_WAIT_S: Final = 0.05  # at most between attempts, at random
HURRY_S: Final = 0.1  # between two looks at the members while somebody waits
LOOK_S: Final = 2.0  # while nobody does
RETRY_AFTER_S: Final = 2

Members = Mapping[str, Member | None]


class Control:
    """The operator's side of the two buckets.

    `run` must be running.

    Args:
        mode: As configured, until the operator said otherwise.
        modes: Those this process knows exchanges for; asked when no ingest process lives.
        apply_s_max: How long a change may take before it is said who has not made it.
    """

    def __init__(
        self,
        bus: Bus,
        board: ControlBoard,
        *,
        mode: Mode = "live",
        modes: Collection[Mode] = (),
        apply_s_max: float = APPLY_S_MAX,
    ) -> None:
        self._bus = bus
        self._board = board
        self._configured_mode = mode
        self._modes = modes
        self._apply_s_max = apply_s_max
        self._follower = ControlFollower(board)
        self._members: Members | None = None
        self._looked = asyncio.Event()
        self._hurry = asyncio.Event()
        self._waiting = 0
        self._writing = asyncio.Lock()

    @property
    def mode(self) -> Mode:
        """Return the mode that is wanted."""
        return self._follower.mode(self._configured_mode)

    @property
    def state(self) -> ControlState | None:
        """Return what is wanted, None while nothing was ever asked for."""
        return self._follower.state

    @property
    def problem(self) -> str | None:
        """Return why the wishes cannot be read, None when they can."""
        return self._follower.problem

    @property
    def living(self) -> Mapping[str, Member] | None:
        """Return the living processes as last seen, None before the first look."""
        return None if self._members is None else _living(self._members)

    async def read(self) -> None:
        """Return when the wishes were read once."""
        while not self._follower.is_read:
            self._follower.changed.clear()
            await self._follower.changed.wait()

    async def run(self) -> None:
        """Follow the wishes and the processes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follower.run())
            tasks.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            self._hurry.clear()
            try:
                self._members = await self._board.members()
            except TROUBLE as problem:
                _log.info("members_unknown", error=str(problem) or repr(problem))
            looked, self._looked = self._looked, asyncio.Event()
            looked.set()
            if self._waiting:
                await asyncio.sleep(HURRY_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._hurry.wait()

    async def members(self) -> Mapping[str, Member]:
        """Return the living processes as they are now.

        Raises:
            ApiProblemError: The bus cannot answer.
        """
        with _bus_trouble():
            return _living(await self._board.members())

    async def switch(self, mode: Mode) -> ControlState:
        """Let every ingest process run the exchanges of a mode; return when all do.

        Raises:
            ApiProblemError: One has no exchange for it, or has not followed in time.
        """
        members = await self.members()
        without = [name for name, each in members.items() if mode not in each.modes]
        if without or (not members and mode not in self._modes):
            where = f" in {', '.join(without)}" if without else ""
            raise ApiProblemError(
                CONFLICT,
                "mode_not_configured",
                f"no exchange is configured for mode {mode}{where}",
                members=without,
            )
        return await self._change(lambda state: state.with_mode(mode), members)

    async def subscribe(self, exchange: str, symbol: str) -> ControlState:
        """Have a symbol, in our spelling, carried; return when it is.

        Raises:
            ApiProblemError: It has not been done in time.
        """
        members = await self.members()
        return await self._change(lambda state: state.with_symbol(exchange, symbol), members)

    async def unsubscribe(self, exchange: str, symbol: str) -> ControlState:
        """Have a symbol, in our spelling, no longer carried; return when it is not.

        Raises:
            ApiProblemError: It has not been done in time.
        """
        members = await self.members()
        return await self._change(lambda state: state.without_symbol(exchange, symbol), members)

    async def symbol_of(self, exchange: str, spelling: str) -> str:
        """Return the symbol a person means; an ingest process knows the venue's list.

        Raises:
            ApiProblemError: There is no such exchange or symbol, or nobody can tell.
        """
        question = msgspec.json.encode(SymbolQuestion(exchange=exchange, symbol=spelling))
        try:
            with _bus_trouble(TimeoutError):
                payload = await self._bus.ask_core(
                    subjects.CONTROL_SYMBOL, question, timeout_s=ANSWER_S_MAX
                )
        except TimeoutError:
            silent = sorted(await self.members())
            raise _not_applied(f"no answer from {', '.join(silent)}", silent) from None
        if payload is None:
            raise _unavailable("no_ingest", "no ingest process is there to carry it")
        answer = msgspec.json.decode(payload, type=SymbolAnswer)
        if answer.symbol is not None:
            return answer.symbol
        match answer.problem:
            case "unknown_exchange":
                raise ApiProblemError(
                    NOT_FOUND, "unknown_exchange", f"no exchange {exchange} is configured"
                )
            case "not_ready":
                raise _unavailable("not_ready", f"the list of {exchange} is not loaded yet")
            case _:
                raise unknown_symbol(f"{spelling} on {exchange}")

    async def _change(
        self, change: Callable[[ControlState], ControlState], members: Mapping[str, Member]
    ) -> ControlState:
        """Write a change; return when every process that lives has made it."""
        with _bus_trouble():
            async with self._writing:  # many requests at once do not race each other
                state = await self._write(change)
        self._follower.take(state)
        await self._until_applied(state, members.keys())
        return state

    async def _write(self, change: Callable[[ControlState], ControlState]) -> ControlState:
        for _ in range(CAS_ATTEMPTS):
            entry = await self._board.read()
            before = entry.state or self._follower.state or ControlState.initial()
            try:
                state = change(before)
            except TooManyChangesError as problem:
                raise ApiProblemError(CONFLICT, "too_many_symbols", str(problem)) from None
            if state is before and entry.state is not None:
                return state
            try:
                await self._board.write(state, entry)
            except StaleSequenceError:
                await asyncio.sleep(random.uniform(0, CAS_WAIT_S))
            else:
                _log.info("control_changed", revision=state.revision, mode=state.mode)
                return state
        raise _unavailable("busy", "too many changes at once")

    async def _until_applied(self, state: ControlState, asked: Collection[str]) -> None:
        """Wait for the processes that lived when it was asked, and for those that came since."""
        late: dict[str, str] = {}
        self._waiting += 1
        self._hurry.set()
        try:
            async with asyncio.timeout(self._apply_s_max):
                while True:
                    looked = self._looked
                    late = self._late(state, asked)
                    if not late:
                        return
                    await looked.wait()
        except TimeoutError:
            text = "; ".join(f"{name}: {why}" for name, why in late.items())
            raise _not_applied(
                f"revision {state.revision} is stored, and not applied yet by {text}", sorted(late)
            ) from None
        finally:
            self._waiting -= 1

    def _late(self, state: ControlState, asked: Collection[str]) -> dict[str, str]:
        """Return who has not applied what is wanted, and what is known about why."""
        if self._members is None:
            return dict.fromkeys(asked, "not heard")
        late: dict[str, str] = {}
        for name in sorted({*asked, *_living(self._members)}):
            member = self._members.get(name)
            if member is not None:
                if not member.has_applied(state):
                    late[name] = member.problem or member.delay or "under way"
            elif name not in self._members:
                late[name] = "gone without a word"  # one that ended in order has left a mark
        return late


def _living(members: Members) -> dict[str, Member]:
    return {name: member for name, member in members.items() if member is not None}


@contextlib.contextmanager
def _bus_trouble(*passed: type[Exception]) -> Iterator[None]:
    """Say that the bus cannot answer, whatever it is."""
    try:
        yield
    except passed:
        raise
    except TROUBLE as problem:
        _log.info("control_waits", error=str(problem) or repr(problem))
        raise _unavailable("bus_unavailable", "NATS cannot answer now") from problem


def _unavailable(code: str, message: str) -> ApiProblemError:
    return ApiProblemError(UNAVAILABLE, code, message, retry_after_s=RETRY_AFTER_S)


def _not_applied(message: str, members: Collection[str]) -> ApiProblemError:
    return ApiProblemError(TIMED_OUT, "not_applied", message, members=list(members))
