"""The image and the compose stack: whole, confined, and with settings that every role accepts."""

import fnmatch
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from market_ingestor.bus.rights import ROLE_RIGHTS
from market_ingestor.config import Settings, load
from tests.support.tools import needs

PROJECT = Path(__file__).parents[3]
DEPLOY = PROJECT / "deploy"
COMPOSE = DEPLOY / "compose"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
STACK: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
ROLES = tuple(ROLE_RIGHTS)


def environment(service: str, secrets: Path) -> dict[str, str]:
    """Return a service's variables, with secrets where ``up.sh`` has put them."""
    given = SERVICES[service]["environment"]
    return {name: value.replace("/run/secrets", str(secrets)) for name, value in given.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of the stack's folder in which ``up.sh`` ran, without starting anything."""
    deploy = tmp_path_factory.mktemp("deploy")
    shutil.copytree(COMPOSE, deploy / "compose", ignore=shutil.ignore_patterns("secrets"))
    shutil.copytree(DEPLOY / "nats", deploy / "nats")
    for _ in range(2):  # the second run finds everything made
        subprocess.run(
            ["bash", deploy / "compose" / "up.sh"],
            check=True,
            env={"COMPOSE": "true", "PATH": "/usr/bin:/bin"},
            capture_output=True,
        )
    return deploy / "compose"


@needs("openssl", "bash")
def test_every_secret_and_file_of_the_stack_is_made_or_there(made: Path) -> None:
    named = {each["file"] for each in STACK["secrets"].values()}
    named |= {file for service in SERVICES.values() for file in service.get("env_file", ())}
    for service in SERVICES.values():
        assert set(service.get("secrets", ())) <= set(STACK["secrets"])
        named |= {
            volume.split(":")[0]
            for volume in service.get("volumes", ())
            if volume.startswith(("./secrets", "./config"))
        }
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("../"):
                assert (COMPOSE / source).exists(), source
            elif not source.startswith("."):
                assert source in STACK["volumes"], source
    for file in named:
        assert (made / file).stat().st_size > 0, file
    assert (made / "secrets").stat().st_mode & 0o077 == 0


@needs("openssl", "bash")
@pytest.mark.parametrize("role", ["setup", *ROLES])
def test_every_role_accepts_its_settings(made: Path, role: str) -> None:
    env = environment(role, made / "secrets")
    settings: Settings = load(made / "config.toml", env=env, env_file=made / "none").settings
    (server,) = settings.nats.servers
    assert re.fullmatch(rf"tls://{role}:p[0-9a-f]{{48}}@nats:4222", server)
    assert "NATS_PASSWORD_" + role.upper() + "=" + server.split(":")[2].split("@")[0] in (
        (made / "secrets" / "nats.env").read_text()
    )
    assert "@database:5432/market" in settings.database.dsn.get_secret_value()
    assert settings.nats.tls_ca is not None
    mounted = [volume.split(":")[1] for volume in SERVICES[role]["volumes"]]
    assert settings.nats.tls_ca in mounted
    assert bool(settings.api.control_tokens) is (role == "api")
    assert settings.run.shutdown_grace_s < int(SERVICES[role]["stop_grace_period"].rstrip("s"))


def test_every_role_runs_confined_and_after_the_set_up() -> None:
    for role in ROLES:
        service = SERVICES[role]
        assert service["command"] == ["run", role]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["restart"] == "unless-stopped"
        assert service["depends_on"]["setup"]["condition"] == "service_completed_successfully"
        assert not service.get("healthcheck", {}).get("disable")


def test_nothing_is_reachable_from_other_machines() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
        if name in {"nats", "database", "klines", "save", "setup"}:
            assert service["networks"] == ["inside"], name
    assert STACK["networks"]["inside"]["internal"] is True


def test_images_of_others_are_pinned() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    for image in images:
        if not image.startswith("market-ingestor:"):
            assert re.search(r":v?\d+\.\d+", image), image


def test_prometheus_scrapes_every_role_of_the_stack() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    targets = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert {target.split(":")[0] for target in targets} == set(ROLES)


def test_the_image_runs_as_nobody_in_particular_and_says_how_it_is() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    assert len(stages) == 2
    final = stages[1]
    (user,) = re.findall(r"^USER (\S+)$", final, re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert "HEALTHCHECK" in final
    assert "pip" not in final  # neither tools nor caches of the build
    assert re.search(r'^ENTRYPOINT \["', final, re.MULTILINE)
    assert "ADD " not in DOCKERFILE
    for install in re.findall(r"pip \S* ?\S* ?install ([^&\n]*)", DOCKERFILE):
        assert "--require-hashes" in install or "--no-index" in install, install


def test_what_the_image_copies_exists_and_reaches_the_build() -> None:
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (PROJECT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), source
