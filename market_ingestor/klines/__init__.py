"""From trades to candles."""
