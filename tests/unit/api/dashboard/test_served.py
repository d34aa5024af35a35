"""The page as it is served: which addresses it may use, and how its files travel."""

import gzip
import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from market_ingestor.api.dashboard import charts, install
from market_ingestor.api.dashboard.files import FOLDER, load, static_file
from market_ingestor.api.dashboard.page import PushAddress, policy, rendered
from market_ingestor.api.dashboard.routes import dashboard_routes
from market_ingestor.config import GatewaySettings

LIBRARY = b"// drawn with this"


def client(*, has_charts: bool = False) -> TestClient:
    files = {name: each for name, each in load().items() if name != charts.LOCAL_NAME}
    if has_charts:
        files[charts.LOCAL_NAME] = static_file(LIBRARY, "text/javascript")
    return TestClient(Starlette(routes=dashboard_routes(PushAddress(port=8081), files)))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost:8080", "ws://localhost:8081/ws"),
        ("192.0.2.7:8080", "ws://192.0.2.7:8081/ws"),
        ("market.example", "ws://market.example:8081/ws"),
        ("[::1]:8080", "ws://[::1]:8081/ws"),
        (None, "ws://127.0.0.1:8081/ws"),
        ("a;script-src *", "ws://127.0.0.1:8081/ws"),
        ('"><script>', "ws://127.0.0.1:8081/ws"),
        ("user@host", "ws://127.0.0.1:8081/ws"),
    ],
)
def test_the_page_subscribes_at_the_host_it_came_from(host: str | None, url: str) -> None:
    assert PushAddress(port=8081).url(host) == url


def test_a_public_address_counts_before_the_host() -> None:
    push = PushAddress(public_url="wss://push.example/ws", port=8081)
    assert push.url("localhost:8080") == "wss://push.example/ws"
    assert "ws://push.example wss://push.example" in policy(push.url(None), has_local_charts=True)


@pytest.mark.parametrize("url", ["http://x/ws", "ws://x/ws; script-src *", "ws://u:p@x/ws", "ws:"])
def test_a_public_address_is_one(url: str) -> None:
    with pytest.raises(ValueError, match="public_url"):
        GatewaySettings(public_url=url)


def test_the_policy_allows_the_page_what_it_needs_and_no_more() -> None:
    local = policy("ws://h:1/ws", has_local_charts=True)
    assert "script-src 'self';" in local
    assert "unpkg" not in local
    assert "connect-src 'self' ws://h:1 wss://h:1;" in local
    assert "unsafe" not in local
    public = policy("ws://[::1]:1/ws", has_local_charts=False)
    assert f"script-src 'self' {charts.ADDRESS};" in public
    assert "connect-src 'self' ws: wss:;" in public


def test_without_the_library_browsers_get_its_address_and_hash() -> None:
    text = rendered("<script $charts></script>$push_url", "ws://h/ws", has_local_charts=False)
    assert f'src="{charts.ADDRESS}" crossorigin="anonymous"' in text
    assert f'integrity="{charts.INTEGRITY}"' in text
    assert charts.VERSION in charts.ADDRESS


def test_everything_the_page_refers_to_is_there() -> None:
    served = client(has_charts=True)
    page = served.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "$" not in page.text
    for address in re.findall(r'(?:href|src)="(dashboard/[^"]+)"', page.text):
        assert served.get(f"/{address}").status_code == 200, address
    for name in load():
        if not name.endswith(".js") or name == charts.LOCAL_NAME:
            continue
        text = served.get(f"/dashboard/{name}").text
        for imported in re.findall(r'^import .* from "\./(.+)";$', text, re.MULTILINE):
            assert served.get(f"/dashboard/{imported}").status_code == 200, f"{name}: {imported}"


@pytest.mark.parametrize("name", ["../page.py", "index.html", "nothing.js", "", "%2e%2e/page.py"])
def test_nothing_else_is_served(name: str) -> None:
    assert client().get(f"/dashboard/{name}").status_code == 404


def test_files_travel_compressed_and_are_kept() -> None:
    served = client()
    first = served.get("/dashboard/main.js", headers={"Accept-Encoding": "gzip"})
    assert first.headers["content-encoding"] == "gzip"
    assert first.content == (FOLDER / "main.js").read_bytes()
    assert served.get("/dashboard/main.js", headers={"Accept-Encoding": "br"}).content == (
        first.content
    )
    tag = first.headers["etag"]
    again = served.get("/dashboard/main.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag


def test_a_library_that_is_not_the_pinned_one_is_not_served(tmp_path: Path) -> None:
    place = tmp_path / charts.LOCAL_NAME
    place.parent.mkdir()
    place.write_bytes(LIBRARY)
    assert charts.LOCAL_NAME not in load(tmp_path)


def test_compression_gives_the_same_bytes_each_time() -> None:
    one, other = (static_file(b"x" * 100, "text/plain") for _ in range(2))
    assert one == other
    assert gzip.decompress(one.compressed) == one.content


def test_without_npm_the_set_up_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install, "TARGET", tmp_path / "vendor" / "charts.js")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install.install() == "npm is missing"


def test_the_set_up_refuses_a_package_with_another_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(install, "TARGET", tmp_path / "vendor" / "charts.js")
    monkeypatch.setattr(install, "_packed", lambda _npm, _folder: LIBRARY)
    monkeypatch.setattr(install, "which", lambda _name: "npm")
    assert "is not the file that is pinned" in str(install.install())
    assert not install.TARGET.exists()
