"""From trades to candles: pure windows, watermarks and completeness, and the role around them."""
