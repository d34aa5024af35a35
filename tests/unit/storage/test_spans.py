"""Rules of `storage.spans`."""

from market_ingestor.storage.rows import Row
from market_ingestor.storage.spans import Span, spans_of


def row(symbol: str, trade_id: str, time_us: int) -> Row:
    return Row(("okx", symbol, trade_id), "", None, time_us, 1)


def test_each_length_of_ids_is_a_span_of_its_own() -> None:
    rows = [
        row("A", "10", 7),
        row("A", "100", 9),
        row("A", "12", 5),
        row("A", "9", 6),
        row("A", "99", 8),
        row("B", "10", 1),
    ]
    assert spans_of(rows) == {
        ("okx", "A", 2): Span("10", "99", 3, 5, 8),
        ("okx", "A", 3): Span("100", "100", 1, 9, 9),
        ("okx", "A", 1): Span("9", "9", 1, 6, 6),
        ("okx", "B", 2): Span("10", "10", 1, 1, 1),
    }
