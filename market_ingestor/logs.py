"""Structured logs on stderr: readable on a terminal, JSON otherwise.

Only changes of state are logged, never each message; whoever may repeat itself limits its rate.
"""

import logging
import sys
from typing import Final

import structlog

_LEVEL: Final = logging.INFO


def configure(*, level: int = _LEVEL) -> None:
    """Set up structlog, and the standard library's loggers for what others say."""
    is_terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *([] if is_terminal else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    for name in ("nats", "websockets", "httpx2", "uvicorn"):
        logging.getLogger(name).setLevel(logging.ERROR)
