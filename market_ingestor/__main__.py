"""``python -m market_ingestor``."""

from market_ingestor.cli import main

if __name__ == "__main__":
    main(prog_name="market-ingestor")
