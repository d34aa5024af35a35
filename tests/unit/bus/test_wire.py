"""NATS over the wire: statuses, commands, and what is no protocol at all."""

import pytest

from market_ingestor.bus.wire import Handler, MessageCutter, publication, status


def unused(problem: Exception) -> None:
    raise AssertionError(problem)


def test_a_heartbeat_and_the_end_of_a_request_are_told_from_a_message() -> None:
    assert status(b"") is None
    assert status(b"NATS/1.0\r\nStatus: 100\r\n\r\n") is None
    heartbeat = status(b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 5\r\n\r\n")
    assert heartbeat is not None
    assert (heartbeat.code, heartbeat.description) == ("100", "Idle Heartbeat")
    assert heartbeat.fields == {"Nats-Last-Consumer": "5"}
    bare = status(b"NATS/1.0 503\r\n\r\n")
    assert bare is not None
    assert (bare.code, bare.description, bare.fields) == ("503", "", {})


def test_commands_are_what_the_server_reads() -> None:
    assert publication("a.b", b"xyz") == b"PUB a.b  3\r\nxyz\r\n"
    assert publication("a.b", b"", reply="r.1") == b"PUB a.b r.1 0\r\n\r\n"
    assert publication("a.b", b"xyz", reply="r.1", headers={"Nats-Msg-Id": "m"}) == (
        b"HPUB a.b r.1 28 31\r\nNATS/1.0\r\nNats-Msg-Id: m\r\n\r\nxyz\r\n"
    )


@pytest.mark.parametrize("text", ["one\r\nX: two", "one\nX: two", "one\rX: two"])
def test_a_header_stays_one_line(text: str) -> None:
    command = publication("a", b"", reply="r", headers={"Reason": text, "Other": "plain"})
    assert command.split(b"\r\n")[1:4] == [
        b"NATS/1.0",
        b"Reason: " + text.replace("\r", " ").replace("\n", " ").encode(),
        b"Other: plain",
    ]


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0\r\n", "a\tb"])
def test_what_would_be_another_command_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match="not a subject"):
        publication(subject, b"")
    if subject:
        with pytest.raises(ValueError, match="not a subject"):
            publication("a", b"", reply=subject)


@pytest.mark.parametrize("line", [b"MSG a 1 x\r\n", b"MSG\r\n", b"HMSG a\r\n", b"MSG a 1 -9\r\n"])
def test_what_is_no_message_goes_to_who_can_complain(line: bytes) -> None:
    cutter = MessageCutter(unused)
    assert cutter.feed(b"PING\r\n" + line) == b"PING\r\n" + line


def test_a_new_connection_does_not_begin_with_the_rest_of_the_old_one() -> None:
    cutter = MessageCutter(unused)
    assert cutter.feed(b"MSG a 1 100\r\nhalf of it") == b""
    cutter.restart()
    assert cutter.feed(b"PONG\r\n") == b"PONG\r\n"


def test_subjects_that_are_no_text_are_handed_over_all_the_same() -> None:
    subjects: list[str] = []
    cutter = MessageCutter(unused)
    cutter.handlers[b"1"] = lambda subject, *_: subjects.append(subject)
    assert cutter.feed(b"MSG a\xff 1 1\r\nx\r\n") == b""
    assert subjects == ["a�"]


def test_what_servers_take_for_letters_ends_no_subject() -> None:
    """Or whoever may publish would choose whom a message is for, or end all connections."""
    heard: list[tuple[int, str, str, bytes]] = []

    def listener(number: int) -> Handler:
        def take(subject: str, reply: str, _: bytes, payload: bytes) -> None:
            heard.append((number, subject, reply, payload))

        return take

    cutter = MessageCutter(unused)
    cutter.handlers = {b"1": listener(1), b"7": listener(7)}
    ours = b"MSG a\x0b7\x0cq 1 r\x0b1  2\r\nhi\r\n"
    assert cutter.feed(ours + b"MSG a\x0b7 2 2\r\nhi\r\nPING\r\n") == b"PING\r\n"
    assert heard == [(1, "a\x0b7\x0cq", "r\x0b1", b"hi")]
