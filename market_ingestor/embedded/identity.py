"""As whom PostgreSQL runs: itself it refuses to run as root.

Owns the ways around that, in the order of preference, each tried before it is chosen:

1. Not root: as we are.
2. A user namespace in which our root is an ordinary user. Nothing changes its owner, every folder
   that root owns can be used. Containers often forbid it.
3. Another user who may pass every folder all the same (the ambient capability ``dac_override``):
   a clone in ``/root`` or in a private temporary folder is out of an ordinary user's reach.
4. Another user, with the data in a folder that this user can reach.

It must never know what is in the data beyond who owns it.
"""

import enum
import hashlib
import os
import pwd
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import structlog

from market_ingestor.embedded.child import run_tool
from market_ingestor.embedded.errors import EmbeddedError

log = structlog.get_logger(__name__)

NAMESPACE_ID = 1000  # any number but 0 will do: nobody outside the namespace ever sees it
PROBE_TIMEOUT_S = 30.0  # a shell that writes one file; more only from a cold disk
# Succeeds for a user that is not root, may run the server and may write in the folder.
PROBE_SCRIPT = 'test "$(id -u)" -ne 0 && "$1" --version && : > "$2" && rm -f "$2"'
# Both exist wherever PostgreSQL or anything else was packaged; the first is meant for this.
USERS = ("postgres", "nobody")
# Everybody may enter it and it outlives a reboot; whose folder is found there is checked.
OUTSIDE = Path("/var/tmp")  # noqa: S108  # as said above


class Way(enum.Enum):
    """How a process comes to be somebody else."""

    SELF = "as we are"
    NAMESPACE = "in a user namespace"
    AMBIENT = "as another user who may pass every folder"
    DROPPED = "as another user"


class Identity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """As whom, and how.

    Attributes:
        way: How.
        uid: Who owns the data, as seen from here.
        gid: The group that owns it.
    """

    way: Way
    uid: int
    gid: int

    @property
    def user(self) -> str | None:
        """What ``Command.user`` must be, the rest being done by :meth:`wrap`."""
        return f"{self.uid}:{self.gid}" if self.way is Way.DROPPED else None

    def wrap(self, argv: Sequence[str], death_signal: signal.Signals) -> list[str]:
        """Return the command line that runs ``argv`` this way.

        Args:
            argv: The program, as an absolute path, and its arguments.
            death_signal: What it gets when its parent ends; a change of user forgets this, so
                whoever changes the user must ask for it again.
        """
        match self.way:
            case Way.SELF | Way.DROPPED:
                return list(argv)
            case Way.NAMESPACE:
                ids = (f"--map-user={NAMESPACE_ID}", f"--map-group={NAMESPACE_ID}")
                return [_tool("unshare"), "--user", *ids, "--", *argv]
            case Way.AMBIENT:
                return [
                    _tool("setpriv"),
                    *("--reuid", str(self.uid), "--regid", str(self.gid), "--clear-groups"),
                    *("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"),
                    *("--pdeathsig", death_signal.name.removeprefix("SIG")),
                    "--",
                    *argv,
                ]


class Home(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where PostgreSQL lives.

    Attributes:
        identity: As whom it runs.
        base: The folder of everything it owns.
    """

    identity: Identity
    base: Path

    @property
    def data(self) -> Path:
        """Its data directory; it exists once the cluster was made completely."""
        return self.base / "data"


def find_base(base: Path) -> Path:
    """Return where the data of ``base`` really is: there, or where a former start had to put it."""
    try:
        return Path((base / "location").read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return base


async def choose_home(base: Path, postgres: Path) -> Home:
    """Find a way to run PostgreSQL on ``base`` and make everything there belong to that identity.

    Args:
        base: The folder of everything it shall own; made if it is not there.
        postgres: The program.

    Raises:
        EmbeddedError: We are root and there is no way.
    """
    _make(base)
    if os.geteuid() != 0:
        return Home(identity=Identity(way=Way.SELF, uid=os.geteuid(), gid=os.getegid()), base=base)
    owner = _data_owner(base)
    for identity in _candidates(owner):
        if await _works(identity, base, postgres):
            _give(base, identity)
            return Home(identity=identity, base=base)
    return await _move_out(base, postgres)


async def _move_out(base: Path, postgres: Path) -> Home:
    """Use a folder that an ordinary user can reach, for want of anything better, and say so."""
    if (base / "data").exists():
        raise EmbeddedError(f"no user can be found who may use {base}: run as its owner, not root")
    other = _other_user()
    identity = Identity(way=Way.DROPPED, uid=other.pw_uid, gid=other.pw_gid)
    name = hashlib.sha256(os.fsencode(base)).hexdigest()[:16]
    outside = OUTSIDE / f"market-ingestor-{name}"
    _make(outside)
    if outside.is_symlink() or outside.stat().st_uid not in {0, identity.uid}:
        raise EmbeddedError(f"{outside} belongs to somebody else: remove it, or do not run as root")
    if not await _works(identity, outside, postgres):
        raise EmbeddedError("PostgreSQL refuses to run as root: run as an ordinary user")
    (base / "location").write_text(f"{outside}\n", encoding="utf-8")
    log.warning("postgres_data_elsewhere", folder=str(outside), user=other.pw_name)
    return Home(identity=identity, base=outside)


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _candidates(owner: int | None) -> Iterator[Identity]:
    """Yield the ways for root to be somebody else, those that need no change of owner first."""
    own = Identity(way=Way.NAMESPACE, uid=0, gid=0)
    if not owner:
        yield own
    other = _other_user(owner)
    yield Identity(way=Way.AMBIENT, uid=other.pw_uid, gid=other.pw_gid)
    yield Identity(way=Way.DROPPED, uid=other.pw_uid, gid=other.pw_gid)
    if owner:
        yield own


def _other_user(owner: int | None = None) -> pwd.struct_passwd:
    if owner:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            pass  # a user of another machine or container: its files get a new owner
    for name in USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedError("PostgreSQL refuses to run as root: run as an ordinary user")


def _data_owner(base: Path) -> int | None:
    data = base / "data"
    return data.stat().st_uid if data.exists() else None


async def _works(identity: Identity, base: Path, postgres: Path) -> bool:
    """Try it; this makes ``base`` itself, not yet what is in it, belong to ``identity``."""
    os.chown(base, identity.uid, identity.gid)
    shell = ["/bin/sh", "-c", PROBE_SCRIPT, "sh", str(postgres), str(base / "probe")]
    argv = identity.wrap(shell, signal.SIGKILL)
    return await run_tool(argv, user=identity.user, timeout_s=PROBE_TIMEOUT_S) is not None


def _give(base: Path, identity: Identity) -> None:
    """Make everything in ``base`` belong to ``identity``, unless the data does already."""
    if _data_owner(base) in {None, identity.uid}:
        return
    for folder, _, files in os.walk(base):
        os.chown(folder, identity.uid, identity.gid)
        for file in files:
            os.chown(Path(folder) / file, identity.uid, identity.gid, follow_symlinks=False)


def _tool(name: str) -> str:
    """Return the absolute path of a system tool; a probe will find out when it is missing."""
    return shutil.which(name) or f"/usr/bin/{name}"
