"""Every subscription ends up confirmed, refused or given up; never merely quiet."""

from market_ingestor.connectors.subscriptions import (
    AGAIN_FIRST_S,
    AGAIN_MAX_S,
    AGAIN_PAUSE_S,
    ATTEMPTS_MAX,
    CONFIRM_S,
    Memory,
    Subscriptions,
)


def subscriptions(*symbols: str, batch_max: int = 3, memory: Memory | None = None) -> Subscriptions:
    return Subscriptions(symbols, batch_max=batch_max, memory=memory or Memory())


def ask(subs: Subscriptions, now: float = 0.0) -> tuple[str, ...]:
    request = subs.next_request(now)
    return request.venue_symbols if request else ()


def test_symbols_are_asked_for_in_batches() -> None:
    subs = subscriptions("A", "B", "C", "D")
    assert [ask(subs), ask(subs), ask(subs)] == [("A", "B", "C"), ("D",), ()]


def test_an_answer_without_names_confirms_its_request() -> None:
    subs = subscriptions("A", "B", "C", "D")
    first, second = subs.next_request(0.0), subs.next_request(0.0)
    assert first is not None
    assert second is not None
    assert subs.confirm(second.request_id, ()) == ["D"]
    assert subs.confirm(first.request_id, ()) == ["A", "B", "C"]
    assert subs.is_settled


def test_an_answer_per_symbol_settles_when_the_last_one_came() -> None:
    subs = subscriptions("A", "B")
    request = subs.next_request(0.0)
    assert request is not None
    settled = []
    for answer in (("A",), ("A", "B")):
        subs.confirm(request.request_id, answer)
        settled.append(subs.is_settled)
    assert settled == [False, True]


def test_an_answer_that_names_no_request_belongs_to_the_oldest() -> None:
    subs = subscriptions("A", "B", "C", "D")
    ask(subs)
    ask(subs)
    assert subs.confirm(None, ()) == ["A", "B", "C"]


def test_a_refusal_by_name_concerns_that_symbol_alone() -> None:
    memory = Memory()
    subs = subscriptions("A", "B", memory=memory)
    ask(subs)
    assert subs.refuse(None, ("B",), "no such thing", 0.0) == ["B"]
    subs.confirm(None, ("A",))
    assert subs.is_settled
    assert memory.refused == {"B": "no such thing"}


def test_a_request_refused_as_a_whole_is_asked_again_one_by_one() -> None:
    memory = Memory()
    subs = subscriptions("A", "B", "C", memory=memory)
    ask(subs)
    assert subs.refuse(None, (), "bad topic", 0.0) == []
    assert ask(subs) == ("A",)
    subs.confirm(None, ())
    assert ask(subs) == ("B",)
    assert subs.refuse(None, (), "bad topic", 0.0) == ["B"]
    assert ask(subs) == ("C",)
    subs.confirm(None, ())
    assert ask(subs) == ()
    assert subs.confirmed == {"A", "C"}
    assert memory.refused.keys() == {"B"}


def test_a_connection_cut_over_a_refusal_leaves_its_suspects_to_the_next() -> None:
    memory = Memory()
    subs = subscriptions("A", "B", memory=memory)
    ask(subs)
    subs.refuse(None, (), "malformed", 0.0)
    again = subscriptions("A", "B", "C", memory=memory)
    assert [ask(again), ask(again), ask(again)] == [("A",), ("B",), ("C",)]


def test_a_refused_symbol_is_asked_for_again_less_and_less_often() -> None:
    memory = Memory()
    subs = subscriptions("A", "B", memory=memory)
    ask(subs)
    subs.confirm(None, ("A",))
    now, waits = 0.0, []
    subs.refuse(None, ("B",), "unknown", now)
    for _ in range(8):
        began = now
        while not subs.ask_again(now):
            assert ask(subs, now) == ()
            assert memory.missing == ["B"]
            now += 1
        waits.append(now - began)
        assert ask(subs, now) == ("B",)
        assert memory.missing == ["B"]  # still told while it is asked for
        subs.refuse(None, (), "unknown", now)
    assert waits == [AGAIN_FIRST_S * 2**n for n in range(5)] + [AGAIN_MAX_S] * 3


def test_a_relisted_symbol_is_refused_no_more() -> None:
    memory = Memory()
    subs = subscriptions("A", memory=memory)
    ask(subs)
    subs.refuse(None, ("A",), "unknown", 0.0)
    assert subs.ask_again(AGAIN_FIRST_S)
    ask(subs, AGAIN_FIRST_S)
    assert subs.confirm(None, ("A",)) == ["A"]
    assert memory.missing == []
    assert memory.again_at is None
    subs.refuse(None, ("A",), "gone once more", 100.0)
    assert memory.again_at == 100.0 + AGAIN_FIRST_S  # it begins anew


def test_many_refused_symbols_are_asked_for_one_at_a_time() -> None:
    memory = Memory()
    subs = subscriptions("A", "B", memory=memory)
    ask(subs)
    subs.refuse(None, ("A",), "unknown", 0.0)
    subs.refuse(None, ("B",), "unknown", 0.0)
    assert subs.ask_again(AGAIN_FIRST_S)
    assert not subs.ask_again(AGAIN_FIRST_S + AGAIN_PAUSE_S - 1)
    assert subs.ask_again(AGAIN_FIRST_S + AGAIN_PAUSE_S)
    assert [ask(subs), ask(subs)] == [("A",), ("B",)]  # each alone: one may spoil a batch


def test_the_next_connection_asks_for_nothing_refused_before_its_time() -> None:
    memory = Memory()
    memory.refuse("B", "unknown", 0.0)
    subs = subscriptions("A", "B", memory=memory)
    assert [ask(subs), ask(subs)] == [("A",), ()]
    assert not subs.ask_again(AGAIN_FIRST_S - 1)
    assert subs.ask_again(AGAIN_FIRST_S)
    assert ask(subs) == ("B",)


def test_symbols_no_longer_wanted_are_forgotten() -> None:
    memory = Memory()
    memory.refuse("A", "unknown", 0.0)
    memory.refuse("B", "unknown", 0.0)
    memory.forget(["B"])
    assert memory.missing == ["B"]


def test_a_trade_confirms_what_its_answer_did_not_yet() -> None:
    subs = subscriptions("A", "B")
    ask(subs)
    assert subs.confirm(None, ("A",)) == ["A"]
    assert subs.refuse(None, (), "bad topic", 0.0) == []  # the whole request, but A evidently flows
    assert ask(subs) == ("B",)


def test_unanswered_subscriptions_are_asked_again_and_then_given_up() -> None:
    memory = Memory()
    subs = subscriptions("A", "B", memory=memory)
    now = 0.0
    assert ask(subs, now) == ("A", "B")
    subs.confirm(None, ("A",))
    assert subs.expire(CONFIRM_S - 1) == []
    for _ in range(ATTEMPTS_MAX):
        now += CONFIRM_S
        assert subs.expire(now) == ["B"]
        ask(subs, now)
    assert subs.is_settled
    assert memory.missing == ["B"]
    assert not subs.ask_again(now)
    assert subs.ask_again(now + AGAIN_FIRST_S)
    assert ask(subs) == ("B",)
    subs.confirm(None, ("B",))
    assert memory.missing == []


def test_foreign_symbols_in_answers_are_ignored() -> None:
    subs = subscriptions("A")
    ask(subs)
    assert subs.confirm(None, ("X",)) == []
    assert subs.refuse(None, ("X",), "?", 0.0) == ["A"]  # names nothing of ours: the request itself


def test_more_can_be_asked_for_later() -> None:
    subs = subscriptions("A")
    assert ask(subs) == ("A",)
    subs.confirm(None, ["A"])
    settled = [subs.is_settled]
    subs.add(["B", "A"])
    settled.append(subs.is_settled)
    assert ask(subs) == ("B",)
    assert subs.confirm(None, ["B"]) == ["B"]
    assert [*settled, subs.is_settled] == [True, False, True]
