"""Rules of `klines.clock`."""

from market_ingestor.klines.clock import StreamClock

S = 1_000_000


def test_it_follows_the_times_messages_were_stored_at() -> None:
    clock = StreamClock()
    for second in range(11):
        clock.delivered(second * S)
    assert clock.now_us == 10 * S


def test_an_outage_of_the_bus_is_no_silence() -> None:
    clock = StreamClock()
    clock.delivered(0)
    clock.delivered(90 * S)
    assert clock.now_us == S


def test_a_stopped_process_is_no_silence() -> None:
    clock = StreamClock()
    clock.waited(90 * S)
    assert clock.now_us == S


def test_waiting_at_the_end_of_the_stream_counts_once() -> None:
    clock = StreamClock()
    clock.delivered(0)
    clock.waited(S // 2)
    clock.delivered(S // 2)
    assert clock.now_us == S // 2


def test_it_never_goes_back() -> None:
    clock = StreamClock()
    clock.delivered(5 * S)
    clock.delivered(1 * S)
    clock.waited(-S)
    assert clock.now_us == 0
