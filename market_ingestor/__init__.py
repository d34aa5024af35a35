"""Records live trades from exchanges and turns them into candles that can be trusted."""

__version__ = "0.1.0"
