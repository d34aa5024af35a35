"""Whatever is sent, Binance's parameters are read or refused in Binance's words."""

import contextlib
import re
from decimal import Decimal

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from market_ingestor.api.binance import rows
from market_ingestor.api.binance.params import LIMIT_MAX, BinanceParams
from market_ingestor.api.binance.problems import BinanceFailure, BinanceProblemError, failure
from market_ingestor.api.errors import ApiProblemError
from market_ingestor.api.params import TIME_MS_MAX
from market_ingestor.model.period import PERIOD_MS
from market_ingestor.model.trade import TRADE_ID_MAX

NAMES = (
    "symbol", "symbols", "interval", "limit", "startTime", "endTime", "fromId", "timeZone",
    "timeUnit", "type",
)  # fmt: skip

values = st.one_of(
    st.text(max_size=40),
    st.text("0123456789", max_size=25),
    st.sampled_from(["BTCUSDT", "XBT/USD", "1m", '["A","B"]', "1d", "0", "-1", "14:00", "\x00"]),
    st.integers().map(str),
    st.floats().map(str),
)
queries = st.lists(st.tuples(st.one_of(st.sampled_from(NAMES), st.text(max_size=9)), values))


@given(queries, st.one_of(st.none(), st.text(max_size=12)))
@example([("limit", "9" * 5_000)], None)
@example([("symbols", "[" * 8_000)], None)
@example([("symbols", '["\ud800"]')], None)
@example([("timeZone", "9" * 60)], None)
def test_every_request_is_read_or_refused(given: list[tuple[str, str]], unit: str | None) -> None:
    try:
        params = BinanceParams(given, NAMES[:-2], unit)
    except BinanceProblemError as problem:
        told(problem)
        return
    for read in (params.symbol, params.symbols, params.period, params.limit, params.from_id,
                 params.time_range):  # fmt: skip
        try:
            found = read()
        except BinanceProblemError as problem:
            told(problem)
            continue
        if read == params.limit:
            assert isinstance(found, int)
            assert 1 <= found <= LIMIT_MAX
        elif read == params.from_id and found is not None:
            assert isinstance(found, int)
            assert 0 <= found <= TRADE_ID_MAX
        elif read == params.time_range:
            assert isinstance(found, tuple)
            assert all(each is None or 0 <= each < TIME_MS_MAX for each in found)
    for period in PERIOD_MS:
        with contextlib.suppress(BinanceProblemError):
            params.require_utc(period)


def told(problem: ApiProblemError) -> None:
    """Check that a refusal can be told to anybody."""
    status, body = failure(problem)
    assert 400 <= status < 600
    assert re.fullmatch(rb'\{"code":-[0-9]{4},"msg":".+"\}', msgspec.json.encode(body))
    assert len(body.msg) < 400


@given(st.integers(400, 599), st.text(max_size=9), st.text(max_size=99))
def test_every_failure_has_a_body(status: int, code: str, message: str) -> None:
    status, body = failure(ApiProblemError(status, code, message))
    assert 400 <= status < 600
    assert isinstance(body, BinanceFailure)
    assert body.code < 0


prices = st.decimals("0.0000000001", "1e20", allow_nan=False, places=10)


@given(prices, prices, st.booleans())
@example(Decimal("1e-40"), Decimal("9e39"), True)
@example(Decimal("9e39"), Decimal("1e-40"), False)
def test_a_days_change_is_exact_and_its_share_rounded(
    opened: Decimal, last: Decimal, is_micro: bool
) -> None:
    day = rows.Day(
        open=format(opened, "f"), high="1", low="1", last=format(last, "f"), volume="0",
        quote_volume="0", trade_count=2,
    )  # fmt: skip
    found = rows.ticker("S", day, 86_400_000_000, is_micro=is_micro)
    assert isinstance(found.price_change, str)
    assert Decimal(found.price_change) == last - opened
    assert isinstance(found.price_change_percent, str)
    assert re.fullmatch(r"-?[0-9]+\.[0-9]{3}", found.price_change_percent)
    assert found.weighted_avg_price is None
    assert found.open_time == 0
