"""connectors.registry: exchange names and their venues."""

from market_ingestor.connectors.registry import VENUES, venue_for


def test_every_venue_is_listed_under_its_own_name() -> None:
    assert {name: venue.name for name, venue in VENUES.items()} == {name: name for name in VENUES}


def test_simulated_exchange_speaks_the_protocol_of_the_real_one() -> None:
    assert venue_for("sim-okx") is venue_for("okx") is VENUES["okx"]


def test_exchange_without_venue_has_none() -> None:
    assert venue_for("exchange1") is None
    assert venue_for("sim-") is None
    assert venue_for("") is None
