"""The operator's wishes and the living processes, kept in two buckets. SHELL.

A reader never trusts a subscription alone: a message on the bucket's subject wakes it, and every
few seconds it asks all the same. So it survives servers that restart and buckets that are deleted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from market_ingestor.bus import subjects
from market_ingestor.bus.jetstream import STREAM_NOT_FOUND, TROUBLE, ApiError, Bus
from market_ingestor.errors import StaleSequenceError
from market_ingestor.model.control import ControlState, Member, Mode

_log = structlog.get_logger(__name__)

MEMBER_AGE_S: Final = 15.0  # a process that has not reported for this long is gone
POLL_S: Final = 2.0  # between two looks when nothing woke the reader
STATE_KEY: Final = "state"

_states: Final = msgspec.json.Decoder(ControlState)
_members: Final = msgspec.json.Decoder(Member)


class ControlEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The document as it lies in its bucket.

    Attributes:
        state: None where there is none, or none that can be read.
        sequence: Of its last change, 0 without one.
        problem: Why what lies there cannot be read.
        has_bucket: Whether there is a bucket at all.
    """

    state: ControlState | None
    sequence: int
    has_bucket: bool = True
    problem: str | None = None


class ControlBoard:
    """Both buckets, over one connection.

    Args:
        replicas: Of a bucket that must be made anew.
        may_create: Whether a bucket that is gone is made anew.
    """

    def __init__(self, bus: Bus, *, replicas: int = 1, may_create: bool = True) -> None:
        self._bus = bus
        self._replicas = replicas
        self._may_create = may_create

    async def read(self) -> ControlEntry:
        """Return the document; raises `TROUBLE`."""
        subject = subjects.bucket_subject(subjects.CONTROL_BUCKET, STATE_KEY)
        try:
            stored = await self._bus.last_message(
                subjects.bucket_stream(subjects.CONTROL_BUCKET), subject
            )
        except ApiError as problem:
            if problem.code != STREAM_NOT_FOUND:
                raise
            return ControlEntry(state=None, sequence=0, has_bucket=False)
        if stored is None:
            return ControlEntry(state=None, sequence=0)
        if not stored.payload:  # the mark of a deletion
            return ControlEntry(state=None, sequence=stored.sequence)
        try:
            state = _states.decode(stored.payload)
        except (msgspec.MsgspecError, RecursionError) as problem:
            return ControlEntry(state=None, sequence=stored.sequence, problem=str(problem))
        if not state.is_sound:
            return ControlEntry(state=None, sequence=stored.sequence, problem="not of this version")
        return ControlEntry(state=state, sequence=stored.sequence)

    async def write(self, state: ControlState, instead_of: ControlEntry) -> None:
        """Replace the document that was read; raises `TROUBLE`.

        Raises:
            StaleSequenceError: Somebody else was faster: read again.
        """
        # Readers listen on the bucket's subject, so the server does not say that nobody stores it.
        if not instead_of.has_bucket:
            await self._create(subjects.CONTROL_BUCKET)
        subject = subjects.bucket_subject(subjects.CONTROL_BUCKET, STATE_KEY)
        await self._bus.put_fenced(subject, msgspec.json.encode(state), instead_of.sequence)

    async def report(self, member: Member) -> None:
        """Say that a process lives, and what it does; raises `TROUBLE`."""
        subject = subjects.bucket_subject(subjects.MEMBERS_BUCKET, member.name)
        payload = msgspec.json.encode(member)
        if not await self._bus.put_fenced(subject, payload, None):
            await self._create(subjects.MEMBERS_BUCKET, MEMBER_AGE_S)
            await self._bus.put_fenced(subject, payload, None)

    async def retire(self, name: str) -> None:
        """Say that a process ends as it should; raises `TROUBLE`."""
        await self._bus.put_fenced(
            subjects.bucket_subject(subjects.MEMBERS_BUCKET, name), b"", None
        )

    async def members(self) -> dict[str, Member | None]:
        """Return the living processes by name, None for those that ended in order lately.

        A record that cannot be read is nobody's. Raises `TROUBLE`.
        """
        stream = subjects.bucket_stream(subjects.MEMBERS_BUCKET)
        prefix = subjects.bucket_subject(subjects.MEMBERS_BUCKET, "")
        try:
            found = await self._bus.subjects_of(stream, prefix + ">")
            stored = await asyncio.gather(
                *(self._bus.last_message(stream, subject) for subject in found)
            )
        except ApiError as problem:
            if problem.code != STREAM_NOT_FOUND:
                raise
            return {}
        members: dict[str, Member | None] = {}
        for each in stored:
            if each is None:
                continue
            name = each.subject.removeprefix(prefix)
            if not each.payload:
                members[name] = None
                continue
            try:
                member = _members.decode(each.payload)
            except (msgspec.MsgspecError, RecursionError) as problem:
                _log.warning("member_unreadable", member=name, error=str(problem))
                continue
            if member.name == name:
                members[name] = member
        return members

    async def on_write(self, wake: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        """Call ``wake`` when the document was written; returns what ends that."""

        def woken(_: str, __: bytes) -> None:
            wake()

        self._bus.on_reconnect(wake)
        subject = subjects.bucket_subject(subjects.CONTROL_BUCKET, STATE_KEY)
        return await self._bus.subscribe_core(subject, woken)

    async def _create(self, bucket: str, max_age_s: float | None = None) -> None:
        if not self._may_create:
            return
        _log.warning("bucket_made_anew", bucket=bucket)
        await self._bus.bucket(bucket, max_age_s=max_age_s, replicas=self._replicas)


class ControlFollower:
    """Keeps the newest readable document, and puts it back when its bucket was emptied.

    `run` must be running.

    Args:
        puts_back: Whether this process may write.

    Attributes:
        state: The newest document, None while there never was one.
        is_read: Whether the bucket was asked with success once.
        problem: Why the newest document is not followed, None when nothing is wrong.
        changed: Set with every news; whoever waits clears it.
    """

    def __init__(self, board: ControlBoard, *, puts_back: bool = True) -> None:
        self._board = board
        self._puts_back = puts_back
        self._wake = asyncio.Event()
        self.state: ControlState | None = None
        self.is_read = False
        self.problem: str | None = None
        self.changed = asyncio.Event()

    def mode(self, configured: Mode) -> Mode:
        """Return the mode that is wanted."""
        return (self.state.mode if self.state is not None else None) or configured

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._board.on_write(self._wake.set)
        while True:
            self._wake.clear()
            try:
                await self._look()
            except StaleSequenceError:
                continue  # somebody else put it back
            except TROUBLE as trouble:
                _log.info("control_waits", error=str(trouble) or repr(trouble))
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        entry = await self._board.read()
        if entry.problem != self.problem:
            self.problem = entry.problem
            if entry.problem is not None:
                _log.error("control_unreadable", error=entry.problem)
            self.changed.set()
        if entry.state is not None:
            self.take(entry.state)
        elif entry.problem is None and self.state is not None and self._puts_back:
            _log.warning("control_put_back", revision=self.state.revision)
            await self._board.write(self.state, entry)
        if not self.is_read:
            self.is_read = True
            self.changed.set()

    def take(self, state: ControlState) -> None:
        """Follow this document from now on."""
        if state != self.state:
            self.state = state
            self.changed.set()
