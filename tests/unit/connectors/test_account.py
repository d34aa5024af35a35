"""Every trade read is accounted for, at every moment."""

from hypothesis import given
from hypothesis import strategies as st

from market_ingestor.connectors.account import Account

STEPS = st.lists(st.tuples(st.sampled_from("rdtpx"), st.integers(min_value=1, max_value=9)))


@given(STEPS)
def test_received_is_published_duplicate_rejected_or_in_flight(
    steps: list[tuple[str, int]],
) -> None:
    account = Account()
    for kind, count in steps:
        match kind:
            case "r":
                account.reject("bad_json")
            case "d":
                account.drop(count)
            case "t":
                account.take(count)
            case "p":
                account.deliver(min(count, account.in_flight))
            case _:
                account.refuse(min(count, account.in_flight))
        assert account.balances


def test_a_trade_lost_on_the_way_unbalances_it() -> None:
    account = Account()
    account.take(2)
    account.in_flight -= 1
    assert not account.balances
