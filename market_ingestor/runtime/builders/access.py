"""Who may come in through a listener, as configured."""

from pydantic import SecretStr

from market_ingestor.access import AccessPolicy
from market_ingestor.config import Listener


def access_policy(
    listener: Listener,
    *,
    control_tokens: tuple[SecretStr, ...] = (),
    trusted_proxies: tuple[str, ...] = (),
) -> AccessPolicy:
    """Return the policy of a listener."""
    return AccessPolicy(
        tokens=tuple(token.get_secret_value() for token in listener.tokens),
        control_tokens=tuple(token.get_secret_value() for token in control_tokens),
        origins=listener.origins,
        trusted_proxies=trusted_proxies,
    )
