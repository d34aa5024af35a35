"""Binance's REST interface over the candles and trades of any exchange."""
