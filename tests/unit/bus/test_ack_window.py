"""The window of unacknowledged messages: bounded, per subject in order, never forgetting."""

from hypothesis import given
from hypothesis import strategies as st

from market_ingestor.bus.ack_window import AckWindow, Outgoing


def window(items_max: int = 100, bytes_max: int = 1_000) -> AckWindow:
    return AckWindow(items_max=items_max, bytes_max=bytes_max, deadline_s=2.0)


def ids(messages: list[Outgoing]) -> list[str]:
    return [message.message_id for message in messages]


def test_room_ends_at_the_item_limit() -> None:
    sent = window(items_max=2)
    room = []
    for number in range(3):
        room.append(sent.has_room)
        sent.add("a", b"", str(number), now=0)
    assert room == [True, True, False]
    sent.remove(1)
    sent.remove(2)
    assert sent.has_room


def test_room_ends_at_the_byte_limit() -> None:
    sent = window(bytes_max=10)
    first = sent.add("a", b"0123456789", "1", now=0)
    had_room = sent.has_room
    sent.remove(first.token)
    assert (had_room, sent.has_room, sent.bytes) == (False, True, 0)


def test_nothing_is_due_before_its_deadline() -> None:
    sent = window()
    sent.add("a", b"", "1", now=0)
    assert sent.overdue(1.9) == []


def test_a_missed_deadline_resends_everything_of_that_subject_in_order() -> None:
    sent = window()
    sent.add("a", b"", "a1", now=0)
    sent.add("b", b"", "b1", now=1)
    sent.add("a", b"", "a2", now=1.5)
    assert ids(sent.overdue(2.0)) == ["a1", "a2"]


def test_acknowledged_messages_are_not_resent() -> None:
    sent = window()
    first = sent.add("a", b"", "a1", now=0)
    sent.add("a", b"", "a2", now=0)
    sent.remove(first.token)
    assert ids(sent.overdue(2.0)) == ["a2"]


def test_what_was_added_behind_a_message_is_told_in_order() -> None:
    sent = window()
    for number in range(4):
        sent.add("ab"[number % 2], b"", str(number), now=0)
    known = sent.newest - 2
    sent.remove(sent.newest)
    assert ids(sent.behind(known)) == ["2"]
    assert (ids(sent.behind(0)), ids(sent.behind(sent.newest))) == (["0", "1", "2"], [])


def test_a_resend_gets_a_new_deadline() -> None:
    sent = window()
    sent.add("a", b"", "a1", now=0)
    assert sent.overdue(2.0)
    assert sent.overdue(3.9) == []
    assert ids(sent.overdue(4.0)) == ["a1"]


def test_a_refused_subject_waits_as_a_whole_and_keeps_its_order() -> None:
    sent = window()
    sent.add("a", b"", "a1", now=0)
    sent.add("a", b"", "a2", now=0)
    sent.postpone("a", 5.0)
    assert sent.overdue(2.0) == []
    assert ids(sent.overdue(5.0)) == ["a1", "a2"]


def test_after_a_reconnect_everything_is_sent_again_in_first_order() -> None:
    sent = window()
    for number in range(5):
        sent.add("ab"[number % 2], b"", str(number), now=0)
    acknowledged = sent.get(3)
    assert acknowledged is not None
    sent.remove(acknowledged.token)
    assert ids(sent.everything(0.5)) == ["0", "1", "3", "4"]


def test_an_acknowledgement_counts_once() -> None:
    sent = window()
    message = sent.add("a", b"x", "1", now=0)
    assert sent.remove(message.token) is message
    assert sent.remove(message.token) is None
    assert sent.bytes == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "ack", "tick", "reconnect"]), st.integers(0, 9)),
        max_size=60,
    )
)
def test_no_sequence_of_events_loses_an_unacknowledged_message(
    steps: list[tuple[str, int]],
) -> None:
    sent = window(items_max=1_000)
    unacknowledged: dict[int, str] = {}
    now = 0.0
    for step, number in steps:
        now += 0.5
        if step == "add":
            message = sent.add(f"s{number % 3}", b"x", f"{now}", now=now)
            unacknowledged[message.token] = message.message_id
        elif step == "ack" and unacknowledged:
            token = sorted(unacknowledged)[number % len(unacknowledged)]
            sent.remove(token)
            del unacknowledged[token]
        elif step == "tick":
            sent.overdue(now)
        else:
            sent.everything(now)
    assert len(sent) == len(unacknowledged) == sent.bytes
    assert sorted(ids(sent.overdue(now + 10))) == sorted(unacknowledged.values())
