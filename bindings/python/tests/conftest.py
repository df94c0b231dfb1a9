"""A real server with a real device, by the example `fake_fleet`; a real release, by the example `verify_release`."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import fleeti
import pytest

PROGRAMS = Path(os.environ["FLEETI_PROGRAMS"])


class Server:
    def __init__(self, url: str, token_file: str, releases: Path) -> None:
        self.url = url
        self.token_file = token_file
        self.token = Path(token_file).read_text().strip()
        self.releases = releases

    def client(self) -> fleeti.Client:
        return fleeti.Client(self.url, self.token)

    def release(self, version: str) -> str:
        """A release directory that is not published: kiosk@3 or kiosk@4."""
        return str(self.releases / version)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    releases = tmp_path_factory.mktemp("releases")
    command = [str(PROGRAMS / "fake_fleet"), "--devices", "3", "--stay", "--make", str(releases)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        url, token_file = first.removeprefix("pages at ").strip().split(", token in ")
        for line in process.stdout:
            # The last line before it stays: the rollout is over.
            if " runs " in line:
                break
        yield Server(url, token_file, releases)
        process.terminate()


class Release:
    def __init__(self, dir: Path, trust: Path) -> None:
        self.dir = dir
        self.trust = trust
        self.manifest = json.loads((dir / "manifest.json").read_text())


@pytest.fixture
def release(tmp_path: Path) -> Release:
    subprocess.run([PROGRAMS / "verify_release", "--make", tmp_path], check=True, stdout=subprocess.DEVNULL)
    return Release(tmp_path / "release", tmp_path / "trust")
