"""``./cmd/faults``: the long form of the suite, and the replay of a failing seed."""

import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

import click

from market_ingestor.model import decimals
from market_ingestor.runtime.bar import progress_bar
from tests.faults.run import Report, run
from tests.faults.world import Size

SEED_BYTES = 4


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=30.0)
@click.option("--seed", type=int, help="Of the plan; a fresh one is chosen and printed.")
@click.option("--rate", type=click.FloatRange(min=1), default=400.0, help="Trades/s per venue.")
@click.option("--patience", type=click.FloatRange(min=1), default=1.0, help="Factor on limits.")
@click.option("--only", default="", help="Faults whose kind has this text in it.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Folder for logs.")
def main(
    *, minutes: float, seed: int | None, rate: float, patience: float, only: str, keep: Path | None
) -> None:
    """Break everything for MINUTES and check that nothing was lost."""
    chosen = int.from_bytes(secrets.token_bytes(SEED_BYTES)) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="market-faults-")) if keep is None else keep
    folder.mkdir(parents=True, exist_ok=True)
    click.echo(f"seed {chosen}; logs and records in {folder}")
    decimals.install()
    size = Size(rate=rate, patience=patience)
    with progress_bar("seconds of faults") as step:
        report: Report = asyncio.run(
            run(folder, seed=chosen, minutes=minutes, size=size, only=only, step=step)
        )
    click.echo(str(report))
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
