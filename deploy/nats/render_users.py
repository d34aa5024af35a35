"""Writes users.conf anew from what each role needs: ``python deploy/nats/render_users.py``."""

from pathlib import Path

from market_ingestor.bus.rights import ROLE_RIGHTS, SETUP_RIGHTS, RoleRights

HEAD = """\
# What each role may do: the least it needs. Written by render_users.py from bus/rights.py.
# Passwords come from the environment of nats-server. Its parser reads them as configuration:
# begin with a letter and use letters and digits only.
"""


def user(name: str, rights: RoleRights) -> str:
    """Return one entry of the list of users."""

    def allowed(subjects: tuple[str, ...]) -> str:
        return "\n".join(f'          "{subject}"' for subject in subjects)

    return f"""\
    {{
      user: "{name}"
      password: $NATS_PASSWORD_{name.upper()}
      permissions {{
        publish: [
{allowed(rights.publish)}
        ]
        subscribe: [
{allowed(rights.subscribe)}
        ]
      }}
    }}
"""


def rendered() -> str:
    """Return the file's text."""
    users = {"setup": SETUP_RIGHTS, **ROLE_RIGHTS}
    entries = "".join(user(name, rights) for name, rights in users.items())
    return f"{HEAD}authorization {{\n  users: [\n{entries}  ]\n}}\n"


if __name__ == "__main__":
    (Path(__file__).parent / "users.conf").write_text(rendered(), encoding="utf-8")
