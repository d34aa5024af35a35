"""The passwords of embedded servers: made once, kept with the data they guard.

Owns ``secrets.json`` of a data folder. It must never hand a password to a log or a command line.
"""

import secrets
from pathlib import Path

import msgspec

from market_ingestor.embedded.errors import EmbeddedError
from market_ingestor.embedded.folder import write_private

PASSWORD_BYTES = 24  # 192 random bits; as text 32 characters that need no quoting anywhere


def password_for(folder: Path, account: str) -> str:
    """Return the password of ``account``, made at the first call and the same from then on.

    The caller holds the folder's lock.

    Raises:
        EmbeddedError: The file is not what we wrote; guessing would lock us out of the data.
    """
    path = folder / "secrets.json"
    try:
        known = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        known = {}
    except (OSError, msgspec.MsgspecError) as error:
        raise EmbeddedError(f"{path} cannot be read: {error}") from error
    if account not in known:
        known[account] = secrets.token_urlsafe(PASSWORD_BYTES)
        write_private(path, msgspec.json.format(msgspec.json.encode(known)))
    return known[account]
