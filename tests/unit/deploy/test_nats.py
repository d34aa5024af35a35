"""The users of NATS in `deploy` are those the code needs."""

import importlib.util
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "deploy" / "nats"


def test_users_are_what_their_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("render_users", FOLDER / "render_users.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (FOLDER / "users.conf").read_text() == script.rendered()


def test_nobody_makes_the_server_remember_where_each_message_could_be_answered() -> None:
    """Beyond some thousand deliveries that takes all of its time (`bus.subjects.ANSWERS`)."""
    assert "allow_responses" not in (FOLDER / "users.conf").read_text()
