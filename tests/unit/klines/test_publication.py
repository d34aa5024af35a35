"""Which version follows which: rules of `klines.publication`."""

import pytest

from market_ingestor.klines.completeness import Evidence
from market_ingestor.klines.publication import is_complete, next_version
from market_ingestor.klines.versions import Version
from market_ingestor.klines.window import Fold
from market_ingestor.model.kline import Kline, Reason
from tests.unit.klines.build import T0, Course, columns

OLD = Fold.of(columns((1, 0)))
NEW = Fold.of(columns((1, 0), (2, 1)))


def following(
    fold: Fold, known: Version | None, evidence: Evidence, reason: Reason = "late"
) -> Kline | None:
    aggregator = Course().aggregator
    return next_version(aggregator, "1m", T0, fold, known, evidence=evidence, reason=reason)


def published(evidence: Evidence = Evidence.PROVEN) -> Version:
    kline = following(OLD, None, evidence, "close")
    assert kline is not None
    return Version.of(kline, 9)


def test_the_first_version_has_revision_one() -> None:
    kline = following(OLD, None, Evidence.PROVEN, "close")
    assert kline is not None
    assert (kline.revision, kline.reason, kline.complete) == (1, "close", True)


def test_an_equal_version_is_never_published() -> None:
    assert following(OLD, published(), Evidence.PROVEN) is None


def test_another_content_is_the_next_revision() -> None:
    kline = following(NEW, published(), Evidence.PROVEN)
    assert kline is not None
    assert (kline.revision, kline.reason) == (2, "late")


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [(Evidence.PROVEN, Evidence.HOLED, "gap"), (Evidence.HOLED, Evidence.PROVEN, "repair")],
)
def test_a_change_of_completeness_names_itself(
    before: Evidence, after: Evidence, reason: str
) -> None:
    kline = following(NEW, published(before), after)
    assert kline is not None
    assert kline.reason == reason


@pytest.mark.parametrize("reason", ["gap", "repair"])
def test_a_change_of_trades_alone_is_late_whatever_it_was_looked_at_for(reason: Reason) -> None:
    kline = following(NEW, published(), Evidence.PROVEN, reason)
    assert kline is not None
    assert kline.reason == "late"


@pytest.mark.parametrize("reason", ["gap", "repair", "recompute", "close"])
def test_a_first_version_closes_for_whatever_reason(reason: Reason) -> None:
    kline = following(OLD, None, Evidence.PROVEN, reason)
    assert kline is not None
    assert kline.reason == "close"


@pytest.mark.parametrize("evidence", [Evidence.UNKNOWN, Evidence.UNCONFIRMED])
def test_who_does_not_know_leaves_the_word_of_whoever_published_before(
    evidence: Evidence,
) -> None:
    assert is_complete(evidence, published(Evidence.PROVEN))
    assert not is_complete(evidence, published(Evidence.HOLED))
    assert not is_complete(evidence, None)
