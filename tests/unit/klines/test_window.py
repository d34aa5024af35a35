"""Rules of `klines.window`."""

from decimal import Decimal

from market_ingestor.klines.columns import Columns
from market_ingestor.klines.window import WINDOW_INTERVALS_MAX, Fold, Window
from tests.unit.klines.build import T0, columns


def values(fold: Fold | None) -> dict[str, object]:
    assert fold is not None
    return {name: getattr(fold, name) for name in Fold.__slots__}


def test_fold_computes_every_field() -> None:
    fold = Fold.of(columns((3, 0, "10", "2"), (4, 5, "12", "0.5"), (5, 9, "9", "1")))
    assert values(fold) == {
        "first_id": 3,
        "last_id": 5,
        "open": Decimal(10),
        "high": Decimal(12),
        "low": Decimal(9),
        "close": Decimal(9),
        "volume": Decimal("3.5"),
        "quote_volume": Decimal(35),
        "buy_volume": Decimal(3),
        "buy_quote_volume": Decimal(29),
        "count": 3,
    }


def test_open_and_close_are_those_of_the_lowest_and_highest_id_not_of_the_times() -> None:
    fold = Fold.of(columns((9, 0, "1"), (10, 0, "2"), (8, 500, "3")))
    assert (fold.open, fold.close) == (Decimal(3), Decimal(2))


def test_ids_are_ordered_as_numbers() -> None:
    fold = Fold.of(columns((100, 0, "2"), (99, 0, "1")))
    assert (fold.open, fold.close) == (Decimal(1), Decimal(2))


def test_merge_equals_the_fold_of_both() -> None:
    rows = [(1, 0, "5", "1"), (2, 1, "7", "2"), (3, 2, "4", "3"), (4, 3, "6", "4")]
    left, right = Fold.of(columns(rows[0], rows[3])), Fold.of(columns(rows[1], rows[2]))
    left.absorb(right)
    assert values(left) == values(Fold.of(columns(*rows)))


def test_flat_folds_disappear_in_a_merge() -> None:
    flat, real = Fold.flat(Decimal(7)), Fold.of(columns((1, 0, "5")))
    flat.absorb(real)
    assert values(flat) == values(real)
    real.absorb(Fold.flat(Decimal(9)))
    assert values(flat) == values(real)


def test_sums_stay_exact_where_28_digits_would_round() -> None:
    price = "123456789012345678.123456789012345678"
    fold = Fold.of(columns((1, 0, price, price), (2, 0, "0.000000000000000001", "1")))
    assert fold.volume == Decimal("123456789012345679.123456789012345678")
    assert fold.quote_volume == Decimal(price) * Decimal(price) + Decimal("1e-18")


def test_a_part_is_exchanged_for_one_with_more_trades() -> None:
    old, rest = Fold.of(columns((5, 0, "10"))), Fold.of(columns((6, 0, "11")))
    total = old.copy()
    total.absorb(rest)
    total.exchange_part(old, Fold.of(columns((4, 0, "20"), (5, 0, "10"))))
    assert values(total) == values(Fold.of(columns((4, 0, "20"), (5, 0, "10"), (6, 0, "11"))))


def taken(window: Window, trades: Columns, sequence: int) -> int:
    fresh = window.take(trades, sequence)
    return 0 if fresh is None else len(fresh.ids)


def test_a_window_takes_each_id_once() -> None:
    window = Window(T0, 7)
    assert taken(window, columns((1, 0), (2, 0), (3, 0)), 7) == 3
    assert taken(window, columns((2, 0), (3, 0), (4, 0)), 8) == 1
    assert taken(window, columns((1, 0), (2, 0)), 9) == 0
    assert taken(window, columns((9, 0), (7, 0), (9, 0)), 10) == 2
    assert window.fold is not None
    assert window.fold.count == 6
    assert (window.first_sequence, window.last_sequence) == (7, 10)


def test_a_batch_that_is_not_contiguous_although_its_ends_look_so_is_taken_id_by_id() -> None:
    window = Window(T0, 1)
    assert taken(window, columns((1, 0), (1, 0), (3, 0)), 1) == 2


def test_a_window_that_forgets_ids_is_doubtful() -> None:
    window = Window(T0, 1)
    window.take(columns(*((number, 0) for number in range(0, 2 * WINDOW_INTERVALS_MAX, 2))), 1)
    assert not window.is_doubtful
    window.take(columns((10**9, 0)), 2)
    assert window.is_doubtful
