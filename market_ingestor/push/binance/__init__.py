"""The streams Binance's own clients ask for, over the candles and trades of any exchange."""
