"""Simulated exchanges: real WebSocket and REST servers that speak each venue's own protocol.

Connectors cannot tell them from the real ones. Deterministic from a seed, with faults on cue and a
record of the truth; see `server.SimulatedVenue` and `simulation.Simulation`.
"""

from market_ingestor.simulator.faults import Fault
from market_ingestor.simulator.markets import ALL_VENUES, VENUES, default_symbols
from market_ingestor.simulator.server import SimulatedVenue
from market_ingestor.simulator.simulation import SimulateOptions, Simulation, simulate
from market_ingestor.simulator.tcp import PriceFeed

__all__ = [
    "ALL_VENUES",
    "VENUES",
    "Fault",
    "PriceFeed",
    "SimulateOptions",
    "SimulatedVenue",
    "Simulation",
    "default_symbols",
    "simulate",
]
