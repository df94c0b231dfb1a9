"""The scripts of examples/python and examples/automation, against a real server with a simulated fleet."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROGRAMS, Release, Server

EXAMPLES = Path(__file__).parents[3] / "examples"


def run(server: Server | None, *command: str, fails: bool = False) -> str:
    environment = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    if server is not None:
        environment |= {"FLEETI_SERVER": server.url, "FLEETI_TOKEN_FILE": server.token_file}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (ran.returncode != 0) == fails, ran
    return ran.stderr if fails else ran.stdout


def script(name: str) -> list[str]:
    path = EXAMPLES / name
    return [sys.executable, str(path)] if path.suffix == ".py" else [str(path)]


def test_a_pipeline_pushes_a_staged_rollout_with_each_tool(server: Server) -> None:
    """Each begins with another release, which the devices then run."""
    for version, name in (("3", "push.py"), ("4", "push.sh")):
        said = run(server, *script(f"automation/{name}"), server.release(version), "demo")
        assert f"kiosk@{version}" in said, said
    # It needs a published release.
    said = run(server, *script("automation/push-curl.sh"), "kiosk@4", "demo")
    assert said == "kiosk@4 runs in demo\n"
    assert {device.boot.running for device in server.client().devices.list() if device.boot} == {"kiosk@4"}


def test_a_pipeline_fails_if_the_rollout_does(server: Server, release: Release) -> None:
    said = run(server, *script("automation/push.py"), str(release.dir), "demo", fails=True)
    assert "ConflictError" in said and "never changes" in said
    for name, argument in (("push.sh", str(release.dir)), ("push-curl.sh", "kiosk@99")):
        assert run(server, *script(f"automation/{name}"), argument, "demo", fails=True)


def test_each_script_has_ten_lines_of_substance_at_most() -> None:
    for path in sorted((EXAMPLES / "automation").iterdir()):
        text = path.read_text()
        if path.suffix == ".py":
            text = text.split('"""', 2)[2]
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("#", "set -", "import "))]
        assert len(lines) <= 12, (path.name, len(lines))


@pytest.mark.parametrize(
    ("name", "says"),
    [("issue_device.py", "dev-1 True"), ("plan_rollout.py", "wave 3: 36 devices")],
)
def test_an_example_that_needs_nothing(name: str, says: str) -> None:
    assert says in run(None, *script(f"python/{name}"))


def test_the_examples_with_arguments(server: Server, release: Release) -> None:
    profile = str(EXAMPLES / "profiles/kiosk.toml")
    assert "description" in run(None, *script("python/check_profile.py"), profile)
    verified = run(None, *script("python/verify_release.py"), str(release.dir), str(release.trust))
    assert verified.startswith("kiosk@1: ")
    assert "do not use it" in run(None, *script("python/verify_release.py"), str(release.dir), profile, fails=True)


def test_a_quote_is_appraised_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    subprocess.run([PROGRAMS / "appraise_quote", "--make", tmp_path], check=True)
    said = run(None, *script("python/appraise_quote.py"), str(tmp_path))
    assert said.endswith("kiosk@1\n"), said
    for name in ("quote", "signature", "firmware.log", "pcr-7"):
        path = tmp_path / name
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        said = run(None, *script("python/appraise_quote.py"), str(tmp_path), fails=True)
        assert "do not believe it" in said, (name, said)
        path.write_bytes(good)
