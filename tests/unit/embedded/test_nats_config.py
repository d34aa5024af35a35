"""Rules for the configuration text of an embedded nats-server."""

from market_ingestor.embedded.nats_config import NatsSettings, NatsUser, render


def settings(*users: NatsUser, store_dir: str = "/data/nats") -> NatsSettings:
    return NatsSettings(
        host="127.0.0.1", port=4333, server_name="one", store_dir=store_dir, users=users
    )


def test_it_listens_on_loopback_only() -> None:
    assert 'listen: "127.0.0.1:4333"' in render(settings()).splitlines()


def test_without_users_nobody_is_asked_for_a_password() -> None:
    assert "authorization" not in render(settings())


def test_a_folder_with_quotes_and_blanks_stays_one_string() -> None:
    assert 'store_dir: "/a \\"b\\" c"' in render(settings(store_dir='/a "b" c'))


def test_allowed_subjects_are_listed() -> None:
    user = NatsUser(name="save", password="p", publish=("a.>", "b"), subscribe=("c.*",))
    text = render(settings(user))
    assert 'publish: { allow: ["a.>", "b"] }' in text
    assert 'subscribe: { allow: ["c.*"] }' in text


def test_no_allowed_subject_means_none_and_not_all() -> None:
    user = NatsUser(name="reader", password="p", publish=(), subscribe=("a",))
    assert 'publish: { deny: [">"] }' in render(settings(user))
