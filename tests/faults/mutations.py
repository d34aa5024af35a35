"""What happens without each safeguard: a test that is named here must fail.

``python -m tests.faults.mutations [WORDS]`` takes each safeguard away in a copy of the project, or
those whose name has all the words in it, and runs its test there. The tests leave no other layer
to cover for the one removed.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

PROJECT: Final = Path(__file__).parents[2]
COPIED: Final = ("market_ingestor", "tests", "sql", "deploy", "pyproject.toml")
TIMEOUT_S: Final = 300


class Mutation(NamedTuple):
    """One safeguard removed.

    Attributes:
        safeguard: What is taken away.
        path: Of the file it is in.
        before: What stands there, once.
        after: What stands there instead.
        caught_by: The test that fails then.
    """

    safeguard: str
    path: str
    before: str
    after: str
    caught_by: str


SAVER: Final = "tests/integration/storage/test_saver.py"
SAVED: Final = "tests/integration/storage/test_saved.py"
WRITERS: Final = "tests/integration/storage/test_writers.py"
CORRECTIONS: Final = "tests/integration/klines/test_corrections.py"
HOLES: Final = "tests/integration/connectors/test_holes.py"
DEATH: Final = "tests/integration/connectors/test_after_a_death.py"
STREAMING: Final = "tests/integration/connectors/test_streaming.py"
BUS: Final = "tests/integration/bus/test_jetstream.py"

MUTATIONS: Final = (
    Mutation(
        "ack after commit",
        "market_ingestor/storage/lane.py",
        "            dead = await self._store(batch)\n",
        "            await self._reader.ack(batch.messages)\n"
        "            dead = await self._store(batch)\n",
        f"{SAVER}::test_stopping_without_a_database_ends_in_time_and_loses_nothing",
    ),
    Mutation(
        "resend what is not acknowledged",
        "market_ingestor/bus/ack_window.py",
        "        return messages\n",
        "        return messages[:0]\n",
        f"{BUS}::test_a_killed_server_loses_nothing_and_stores_nothing_twice",
    ),
    Mutation(
        "go-back-N: all of a subject again, in order",
        "market_ingestor/bus/ack_window.py",
        "for each in self._by_subject[subject].values()], now",
        "for each in [next(iter(self._by_subject[subject].values()))]], now",
        "tests/unit/bus/test_ack_window.py",
    ),
    Mutation(
        "dedupe within a feed",
        "market_ingestor/connectors/intake.py",
        "            if not lane.is_new(trade_id):\n",
        "            if not lane.is_new(trade_id) and trade_id < 0:\n",
        f"{STREAMING}::test_copies_within_a_feed_and_reordering_change_nothing",
    ),
    Mutation(
        "dedupe of resends by message id",
        "market_ingestor/bus/publisher.py",
        '        headers = {"Nats-Msg-Id": outgoing.message_id}\n',
        "        headers: dict[str, str] = {}\n",
        f"{BUS}::test_what_is_sent_again_is_stored_once",
    ),
    Mutation(
        "dedupe of folded trades",
        "market_ingestor/klines/window.py",
        "        fresh = self._fresh(columns)\n",
        "        fresh: Columns | None = columns\n",
        "tests/unit/klines/test_window.py",
    ),
    Mutation(
        "dedupe of trades folded before",
        "market_ingestor/klines/aggregator.py",
        "        fresh = self._unseen(opened, columns, sequence)\n",
        "        fresh: Columns | None = columns\n",
        "tests/unit/klines/test_late_trades.py",
    ),
    Mutation(
        "dedupe of stored rows by key",
        "market_ingestor/storage/queries.sql",
        "    ORDER BY exchange, symbol, trade_id, time\n    ON CONFLICT DO NOTHING\n",
        "    ORDER BY exchange, symbol, trade_id, time\n",
        f"{WRITERS}::test_a_row_that_another_writer_is_about_to_commit_is_a_duplicate",
    ),
    Mutation(
        "a copied batch that meets another's commit is looked up row by row",
        "market_ingestor/storage/writers.py",
        "                if problem.sqlstate != UNIQUE_VIOLATION:\n                    raise\n",
        "                raise\n",
        f"{WRITERS}::test_a_row_that_another_writer_is_about_to_commit_is_a_duplicate",
    ),
    Mutation(
        "only a batch without stored ids is copied",
        "market_ingestor/storage/writers.py",
        "            if may_append and not await self._any_stored(session, spans, bounds):\n",
        "            if may_append:\n",
        WRITERS,
    ),
    Mutation(
        "dedupe of stored rows by id, whatever their time",
        "market_ingestor/storage/queries.sql",
        "    WHERE NOT is_stored\n",
        "    WHERE true\n",
        WRITERS,
    ),
    Mutation(
        "a record of another stream is not believed",
        "market_ingestor/storage/saved.py",
        "        return self._known.get((stream, created), _NOTHING)\n",
        "        return next((v for k, v in self._known.items() if k[0] == stream), _NOTHING)\n",
        f"{SAVED}::test_a_record_of_another_stream_is_not_believed",
    ),
    Mutation(
        "a sequence given out again is another message",
        "market_ingestor/storage/saved.py",
        " and message.stored_us <= self.stored_us\n",
        "\n",
        "tests/unit/storage/test_saved.py",
    ),
    Mutation(
        "gap fill",
        "market_ingestor/connectors/refill.py",
        "        self._put(Hole(track=track, gap=finding))\n",
        "",
        f"{HOLES}::test_what_the_socket_skipped_is_refilled_next_to_its_neighbours",
    ),
    Mutation(
        "holes of a dead process are looked for at a start",
        "market_ingestor/connectors/fleet.py",
        "        track.finder.restore("
        "stored.intervals, stored.time_us, now, given_up, begin=stored.begin)\n",
        "        del now, given_up\n",
        f"{DEATH}::test_after_a_death_the_hole_up_to_the_first_live_id_is_refilled",
    ),
    Mutation(
        "replay on restart from the oldest open window",
        "market_ingestor/klines/resume.py",
        "    firsts = (each.first_sequence() for each in aggregators)\n",
        "    firsts = iter(())\n",
        "tests/unit/klines/test_resume.py",
    ),
    Mutation(
        "ack-floor gate of corrections",
        "market_ingestor/klines/closed.py",
        " and raw_floor >= dirty.sequence",
        "",
        f"{CORRECTIONS}::test_a_correction_waits_until_the_saver_has_what_it_is_for",
    ),
    Mutation(
        "fenced publication",
        "market_ingestor/klines/publication.py",
        "expected_sequence=expected",
        "expected_sequence=None",
        "tests/integration/klines/test_publication.py",
    ),
    Mutation(
        "folder lock",
        "market_ingestor/embedded/folder.py",
        "        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "        fcntl.flock(lock, fcntl.LOCK_UN)\n",
        "tests/integration/embedded/test_embedded_folder.py",
    ),
    Mutation(
        "only a row's own fault is bisected",
        "market_ingestor/storage/faults.py",
        "sqlstate[:2] in _ROW_CLASSES and sqlstate != NO_PARTITION",
        "len(sqlstate) > 0",
        "tests/unit/storage/test_faults.py",
    ),
    Mutation(
        "a dead letter needs a neighbour that succeeds",
        "market_ingestor/storage/batch.py",
        "        if not self._chunks and self._suspects and self._has_neighbour:\n",
        "        if not self._chunks and self._suspects:\n",
        f"{SAVER}::test_a_lone_poison_row_waits_for_a_neighbour",
    ),
)


def is_caught(mutation: Mutation) -> bool:
    """Run the test of a mutation where it was made; return whether it fails."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for name in COPIED:
            place = PROJECT / name
            if place.is_dir():
                shutil.copytree(place, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(place, copy / name)
        mutated = copy / mutation.path
        text = mutated.read_text(encoding="utf-8")
        assert text.count(mutation.before) == 1, f"{mutation.path} has changed"
        mutated.write_text(text.replace(mutation.before, mutation.after), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, mutation.caught_by],
            cwd=copy, check=False, capture_output=True, text=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        said = done.stdout.strip().splitlines()
        print("   ", said[-1] if said else done.stderr[-500:], flush=True)  # noqa: T201 - a report
        return done.returncode == 1  # tests ran, and one failed


def main(words: list[str]) -> int:
    """Try the chosen mutations; return how many no test caught."""
    missed = 0
    for mutation in MUTATIONS:
        if all(word in mutation.safeguard for word in words):
            print(f"without: {mutation.safeguard}", flush=True)  # noqa: T201 - a report
            if not is_caught(mutation):
                missed += 1
                print("    NOT CAUGHT by", mutation.caught_by, flush=True)  # noqa: T201 - a report
    return missed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
