"""The configuration file of an embedded nats-server, as text.

Owns its syntax and what is set in it. It must never read or write a file or know a port by itself.
"""

import json
from collections.abc import Sequence

import msgspec

MAX_PAYLOAD_BYTES = 1024 * 1024  # nats-server's own default, written down
# The server's own default is three quarters of the free disk, and a stream whose byte limit is
# above that cannot be made: a small disk would not even start. The streams' own limits guard it.
MAX_STORE_BYTES = 1024 * 1024 * 1024 * 1024
MAX_MEMORY_BYTES = 64 * 1024 * 1024  # every stream is kept in files; nothing here needs memory


class NatsUser(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who may connect, and what for.

    Attributes:
        name: The user name.
        password: The password, in plain text.
        publish: Subjects (wildcards allowed) to publish to; none means nothing may be published.
        subscribe: Subjects to subscribe to; none means nothing may be.
    """

    name: str
    password: str
    publish: Sequence[str] = (">",)
    subscribe: Sequence[str] = (">",)


class NatsSettings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything an embedded nats-server is told.

    Attributes:
        host: The address to listen on.
        port: The port to listen on.
        server_name: What it calls itself to clients.
        store_dir: Where JetStream keeps its data.
        max_payload_bytes: The largest message it takes.
        max_store_bytes: How much the streams may be promised together on disk.
        users: Who may connect; with none, everybody may.
    """

    host: str
    port: int
    server_name: str
    store_dir: str
    max_payload_bytes: int = MAX_PAYLOAD_BYTES
    max_store_bytes: int = MAX_STORE_BYTES
    users: Sequence[NatsUser] = ()


def render(settings: NatsSettings) -> str:
    """Return the file's text, in words that every release since 2.9 understands."""
    lines = [
        f"listen: {_quoted(f'{settings.host}:{settings.port}')}",
        f"server_name: {_quoted(settings.server_name)}",
        f"max_payload: {settings.max_payload_bytes}",
        "jetstream {",
        f"  store_dir: {_quoted(settings.store_dir)}",
        f"  max_memory_store: {MAX_MEMORY_BYTES}",
        f"  max_file_store: {settings.max_store_bytes}",
        "}",
    ]
    if settings.users:
        lines += ["authorization {", "  users = ["]
        lines += [_user(user) for user in settings.users]
        lines += ["  ]", "}"]
    return "\n".join(lines) + "\n"


def _user(user: NatsUser) -> str:
    return (
        f"    {{ user: {_quoted(user.name)}, password: {_quoted(user.password)},"
        f" permissions: {{ publish: {_subjects(user.publish)},"
        f" subscribe: {_subjects(user.subscribe)} }} }}"
    )


def _subjects(allowed: Sequence[str]) -> str:
    """Return a permission; an empty list of allowed subjects would allow every subject."""
    if not allowed:
        return '{ deny: [">"] }'
    return f"{{ allow: [{', '.join(_quoted(subject) for subject in allowed)}] }}"


def _quoted(text: str) -> str:
    """Return a quoted string; its escapes for quotes and backslashes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)
