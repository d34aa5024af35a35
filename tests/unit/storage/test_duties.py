"""The advisory locks by which savers share their duties."""

from market_ingestor.storage import gap_keeper, listings, migrate, saver


def test_no_two_duties_keep_each_other_waiting() -> None:
    keys = [
        value
        for module in (gap_keeper, listings, migrate, saver)
        for name, value in vars(module).items()
        if name.endswith("_DUTY") or name == "LOCK_KEY"
    ]
    assert len(keys) >= 6
    assert len(set(keys)) == len(keys)
