"""The front-end library: its pins, how it is fetched, and packages with and without it."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from esxiproxy.admin import page_library
from esxiproxy.web import npm_files
from esxiproxy.web.npm_files import FetchError, PinnedFile, PinnedPackage, fetch, missing, pinned_by
from tests.support.admin_double import PAGE, page_files
from tests.support.programs import ROOT, environment, need

TEXT = b"export const html = 1;\n"


def pinned(version: str = "1.0.0", text: bytes = TEXT) -> PinnedPackage:
    digest = hashlib.sha256(text).hexdigest()
    return PinnedPackage("@scope/lib", version, (PinnedFile("dist/lib.js", "lib.js", digest),))


def archive(text: bytes = TEXT, name: str = "package/dist/lib.js") -> bytes:
    """Return an npm package with one file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as opened:
        member = tarfile.TarInfo(name)
        member.size = len(text)
        opened.addfile(member, io.BytesIO(text))
    return packed.getvalue()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Run a registry of one package, on a machine without npm."""
    state = SimpleNamespace(answer=archive(), asked=[])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            if state.answer is None:
                return self.send_error(404)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(state.answer)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_address[1]}/npm/")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield state
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_a_package_is_fetched_once_and_only_its_pinned_files(
    registry: SimpleNamespace, tmp_path: Path
) -> None:
    folder = tmp_path / "page" / "library"
    assert missing(folder, [pinned()]) == ["lib.js"]
    fetch(folder, [pinned()])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"lib.js": TEXT}
    fetch(folder, [pinned()])
    assert registry.asked == ["/npm/@scope/lib/-/lib-1.0.0.tgz"]
    assert missing(folder, [pinned()]) == []


def test_another_file_in_its_place_is_fetched_again(registry: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "lib.js").write_text("alert(1)")
    assert missing(tmp_path, [pinned()]) == ["lib.js"]
    fetch(tmp_path, [pinned()])
    assert (tmp_path / "lib.js").read_bytes() == TEXT


def test_files_keep_their_folders_and_stand_in_a_list_of_sums(
    registry: SimpleNamespace, tmp_path: Path
) -> None:
    sums = tmp_path / "lib.sha256"
    sums.write_text(f"{hashlib.sha256(TEXT).hexdigest()}  dist/lib.js\n")
    package = pinned_by(sums, "lib", "1.0.0")
    assert missing(tmp_path, [package]) == ["dist/lib.js"]
    fetch(tmp_path, [package])
    assert (tmp_path / "dist" / "lib.js").read_bytes() == TEXT
    assert missing(tmp_path, [package]) == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (archive(b"export const html = 2;\n"), "and .* is pinned"),
        (archive(name="package/dist/other.js"), "not the package that is pinned"),
        (archive()[:60], "not the package that is pinned"),
        (b"<html>log in</html>", "not the package that is pinned"),
        (b"", "not the package that is pinned"),
        (None, "cannot be fetched: Not Found"),
    ],
    ids=["other content", "other file", "cut", "a page", "nothing", "404"],
)
def test_what_is_not_pinned_is_not_taken(
    registry: SimpleNamespace, tmp_path: Path, answer: bytes | None, message: str
) -> None:
    registry.answer = answer
    with pytest.raises(FetchError, match=message):
        fetch(tmp_path, [pinned()])
    assert list(tmp_path.iterdir()) == []


def test_an_answer_without_an_end_is_given_up(
    registry: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npm_files, "_MAX_PACKAGE", 100)
    with pytest.raises(FetchError, match="longer than 100 bytes"):
        fetch(tmp_path, [pinned()])


def test_a_registry_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:1")
    with pytest.raises(
        FetchError, match=r"http://127\.0\.0\.1:1/@scope/lib/-/lib-1\.0\.0\.tgz cannot be fetched"
    ):
        fetch(tmp_path, [pinned()])


def test_npm_is_asked_where_the_machine_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    (tmp_path / "lib.tgz").write_bytes(archive())
    npm.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\ncp {tmp_path}/lib.tgz "$4/scope-lib-1.0.0.tgz"\n'
    )
    npm.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: str(npm))
    fetch(tmp_path / "library", [pinned()])
    assert (tmp_path / "library/lib.js").read_bytes() == TEXT
    assert (tmp_path / "calls").read_text().startswith("pack @scope/lib@1.0.0 --pack-destination ")
    npm.write_text("#!/bin/sh\necho 'npm ERR! no way to the registry' >&2\nexit 1\n")
    with pytest.raises(
        FetchError, match=r"npm pack @scope/lib@1\.0\.0 failed: npm ERR! no way to the registry"
    ):
        fetch(tmp_path / "other", [pinned()])


def test_the_pinned_files_are_those_of_npm(tmp_path: Path) -> None:
    """The registry's packages of these versions have the files that are pinned, with their licences."""
    try:
        fetch(tmp_path, page_library.LIBRARY)
    except FetchError as error:
        assert "is pinned" not in str(error), error
        need("htm", "npm, and a way to its registry")
    assert missing(tmp_path, page_library.LIBRARY) == []
    found = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert set(found) == {"htm-preact.js", "LICENSE.htm.txt", "LICENSE.preact.txt"}
    assert "export{" in found["htm-preact.js"] and len(found["htm-preact.js"]) < 16_000
    assert "Apache License" in found["LICENSE.htm.txt"] and "The MIT License" in found["LICENSE.preact.txt"]


def test_the_library_is_no_part_of_the_repository() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "esxiproxy/admin"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    assert "esxiproxy/admin/page/index.html" in listed.stdout
    assert "library/" not in listed.stdout


@pytest.mark.parametrize("reachable", [True, False], ids=["with the registry", "offline"])
def test_a_wheel_has_the_page_and_its_library_if_that_can_be_fetched(tmp_path: Path, reachable: bool) -> None:
    """The build succeeds without a network; then it says what is missing and how to get it."""
    source = tmp_path / "source"
    for path in (
        ROOT / "setup.py",
        ROOT / "setup.cfg",
        ROOT / "README.md",
        ROOT / "LICENSE",
        *package_files(),
    ):
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    variables = {"NPM_CONFIG_REGISTRY": "http://127.0.0.1:1"} | ({} if reachable else {"PATH": os.devnull})
    if reachable:
        if page_library.missing():
            need("htm", "npm, and a way to its registry")
        library = source / page_library.FOLDER.relative_to(ROOT)
        library.mkdir()
        for path in page_library.FOLDER.iterdir():
            (library / path.name).write_bytes(path.read_bytes())
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", tmp_path / "built"],
        cwd=source,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    page = tmp_path / "built" / PAGE.relative_to(ROOT)
    found = {path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file()}
    wanted = {path.relative_to(PAGE).as_posix() for path in page_files()}
    if reachable:
        wanted |= {f"library/{name}" for name in ("htm-preact.js", "LICENSE.htm.txt", "LICENSE.preact.txt")}
    assert found == wanted
    said = "esxiproxy is built without the library of its admin page" in built.stderr
    assert said is not reachable
    assert (page_library.HOW in built.stderr) is not reachable


def package_files() -> list[Path]:
    """Return the files that the build of the admin page needs."""
    parts = [ROOT / "esxiproxy/__init__.py", *(ROOT / "esxiproxy/web").glob("*.py")]
    return [*parts, *(ROOT / "esxiproxy/admin").glob("*.py"), *page_files()]


def test_the_command_fetches_and_says_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(page_library, "fetch", lambda: calls.append("fetch"))
    assert page_library.main() == 0 and calls == ["fetch"]

    def fail() -> None:
        raise FetchError("no way to npm")

    monkeypatch.setattr(page_library, "fetch", fail)
    assert page_library.main() == 1
    assert capsys.readouterr().err.endswith("page/library: no way to npm\n")
