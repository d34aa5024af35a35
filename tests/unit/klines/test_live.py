"""How long klines tells nothing of open candles after it told of them."""

import pytest

from market_ingestor.klines.live import REST_S_MAX, SHARE, rest_s


@pytest.mark.parametrize("took_s", [0.0, 0.001, 0.4])
def test_telling_takes_a_share_of_time(took_s: float) -> None:
    assert took_s == pytest.approx(SHARE * (took_s + rest_s(took_s)))


def test_a_round_that_waited_for_a_frozen_server_makes_no_silence() -> None:
    assert rest_s(25.0) == REST_S_MAX
