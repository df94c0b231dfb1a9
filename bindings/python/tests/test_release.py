from pathlib import Path

import fleeti
import pytest
from conftest import Release


def test_a_good_release_says_what_it_is(release: Release) -> None:
    verified = fleeti.verify_release(release.dir, str(release.trust))
    assert (verified.release, verified.line, verified.version) == ("kiosk@1", "kiosk", "1")
    assert verified.root_hash == release.manifest["root_hash"]
    assert [(a.path, a.size, a.sha256) for a in verified.artifacts] == [
        (a["path"], a["size"], a["sha256"]) for a in release.manifest["artifacts"]
    ]
    assert repr(verified) == 'VerifiedRelease("kiosk@1")'


def test_a_changed_file_is_untrusted(release: Release) -> None:
    path = release.dir / release.manifest["artifacts"][0]["path"]
    path.write_bytes(b"X" + path.read_bytes()[1:])
    with pytest.raises(fleeti.UntrustedError, match="manifest has") as caught:
        fleeti.verify_release(release.dir, release.trust)
    assert isinstance(caught.value, fleeti.FleetiError)
    assert caught.value.hint is None


def test_a_changed_manifest_is_untrusted(release: Release) -> None:
    path = release.dir / "manifest.json"
    path.write_text(path.read_text().replace("kiosk@1", "kiosk@9"))
    with pytest.raises(fleeti.UntrustedError):
        fleeti.verify_release(release.dir, release.trust)


def test_a_missing_key_is_named(release: Release, tmp_path: Path) -> None:
    with pytest.raises(fleeti.UntrustedError, match="release.pem"):
        fleeti.verify_release(release.dir, tmp_path / "nowhere")


def test_a_verified_release_cannot_be_made_up() -> None:
    with pytest.raises(TypeError):
        fleeti.VerifiedRelease()


def test_the_files_of_a_release_are_those_to_upload(release: Release) -> None:
    name, files = fleeti._fleeti.release_files(release.dir)
    artifacts = [a["path"] for a in release.manifest["artifacts"]]
    assert name == "kiosk@1" and files[0] == "manifest.json" and files[-len(artifacts) :] == artifacts
