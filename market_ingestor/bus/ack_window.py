"""The sender's memory: what was published and is not yet acknowledged. Pure.

Owns the rule "a sender forgets a message only when JetStream has it". Per subject it is
go-back-N: when one message misses its deadline, everything of that subject that is still
unacknowledged is due again, in order, before anything newer. A killed server loses a stretch in
the middle of what was pipelined, so a lone resend of the overdue message would not do.
"""

import itertools
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

DEADLINE_S: Final = 2.0  # a healthy server answers within milliseconds; a restart takes seconds


class PubAck(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """JetStream has the message: its sequence, and whether it was there already."""

    sequence: int
    is_duplicate: bool


Outcome = PubAck | Exception


class Outgoing(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """One message on its way, byte-identical at every resend.

    Attributes:
        token: Tells its acknowledgement; grows by one per message.
        expected_sequence: Fence: the last sequence of the subject at which it may be stored.
        due_at: Monotonic seconds at which it must be sent again.
        on_done: Called once, with the acknowledgement or the final refusal.
    """

    token: int
    subject: str
    message_id: str
    payload: bytes
    expected_sequence: int | None
    headers: dict[str, str] | None
    on_done: Callable[[Outcome], None] | None
    due_at: float = 0.0


class AckWindow:
    """Bounded set of unacknowledged messages in order of first sending.

    Args:
        items_max: Most messages in flight.
        bytes_max: Most payload bytes in flight; one message may overshoot it.
        deadline_s: Time an acknowledgement may take.
    """

    def __init__(self, *, items_max: int, bytes_max: int, deadline_s: float = DEADLINE_S) -> None:
        self.items_max = items_max
        self.bytes_max = bytes_max
        self.deadline_s = deadline_s
        self.bytes = 0
        self._token = 0
        self._pending: dict[int, Outgoing] = {}
        self._by_subject: dict[str, dict[int, Outgoing]] = {}
        self._deadlines: deque[tuple[float, int]] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def has_room(self) -> bool:
        """Return whether another message may be added."""
        return len(self._pending) < self.items_max and self.bytes < self.bytes_max

    def add(
        self,
        subject: str,
        payload: bytes,
        message_id: str,
        *,
        now: float,
        expected_sequence: int | None = None,
        headers: dict[str, str] | None = None,
        on_done: Callable[[Outcome], None] | None = None,
    ) -> Outgoing:
        """Remember a message that is about to be sent; the caller checked `has_room`."""
        self._token += 1
        outgoing = Outgoing(
            token=self._token,
            subject=subject,
            message_id=message_id,
            payload=payload,
            expected_sequence=expected_sequence,
            headers=headers,
            on_done=on_done,
        )
        self._pending[outgoing.token] = outgoing
        self._by_subject.setdefault(subject, {})[outgoing.token] = outgoing
        self.bytes += len(payload)
        self._expect(outgoing, now + self.deadline_s)
        return outgoing

    def _expect(self, outgoing: Outgoing, due_at: float) -> None:
        outgoing.due_at = due_at
        self._deadlines.append((due_at, outgoing.token))

    def get(self, token: int) -> Outgoing | None:
        """Return the unacknowledged message with this token, None when it is done."""
        return self._pending.get(token)

    @property
    def newest(self) -> int:
        """Return the token of the message added last, 0 before the first."""
        return self._token

    def behind(self, token: int) -> list[Outgoing]:
        """Return the unacknowledged messages that were added after one, in order."""
        newest_first = reversed(self._pending.values())
        return list(itertools.takewhile(lambda each: each.token > token, newest_first))[::-1]

    def remove(self, token: int) -> Outgoing | None:
        """Forget a message that is acknowledged or refused for good; None when it was done."""
        outgoing = self._pending.pop(token, None)
        if outgoing is None:
            return None
        siblings = self._by_subject[outgoing.subject]
        del siblings[token]
        if not siblings:
            del self._by_subject[outgoing.subject]
        self.bytes -= len(outgoing.payload)
        return outgoing

    def postpone(self, subject: str, due_at: float) -> None:
        """Send everything of a subject again at ``due_at``: the server refuses it for now."""
        siblings = self._by_subject.get(subject)
        if not siblings:
            return
        oldest, newest = next(iter(siblings.values())), next(reversed(siblings.values()))
        if oldest.due_at == newest.due_at == due_at:
            return  # thousands in flight may be refused one by one
        for outgoing in siblings.values():
            self._expect(outgoing, due_at)

    def delay(self, outgoing: Outgoing, due_at: float) -> None:
        """Send one message not before ``due_at``; for one that was just added."""
        self._expect(outgoing, due_at)

    def overdue(self, now: float) -> list[Outgoing]:
        """Return what must be sent again now, per subject everything unacknowledged in order.

        Each returned message gets a new deadline. The deque is ordered only roughly, since a
        refusal postpones by less than the deadline; a message is at most that much late.
        """
        late: dict[str, None] = {}
        while self._deadlines and self._deadlines[0][0] <= now:
            due_at, token = self._deadlines.popleft()
            outgoing = self._pending.get(token)
            if outgoing is None or outgoing.due_at > due_at:
                continue  # done, or due later: another entry stands for it
            late[outgoing.subject] = None
        return self._again(
            [each for subject in late for each in self._by_subject[subject].values()], now
        )

    def everything(self, now: float) -> list[Outgoing]:
        """Return all unacknowledged messages in order, with new deadlines: after a reconnect."""
        self._deadlines.clear()
        return self._again(list(self._pending.values()), now)

    def _again(self, messages: list[Outgoing], now: float) -> list[Outgoing]:
        for outgoing in messages:
            self._expect(outgoing, now + self.deadline_s)
        return messages
