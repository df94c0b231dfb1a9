"""Profiles, plans and certificates: what needs no server."""

from pathlib import Path

import fleeti
import pytest
from fleeti import pki, planning, profiles

KIOSK = Path(__file__).parents[3] / "examples/profiles/kiosk.toml"
WEB = 'schema = 1\nname = "web"\narchitecture = "x86_64"\nsoftware.packages = ["nginx"]\n'


def test_a_profile_is_loaded_and_written() -> None:
    profile = profiles.load(KIOSK)
    assert profile.name == "kiosk"
    assert profiles.resolve(profiles.to_toml(profile)).profile == profile


def test_a_wrong_profile_says_everything_that_is_wrong() -> None:
    text = WEB.replace("nginx", "Nginx!") + 'identity.hostname = "a b"\n'
    findings = profiles.check(text)
    assert [(f.path, f.line, f.severity) for f in findings] == [
        ("software.packages[0]", 4, "error"),
        ("identity.hostname", 5, "error"),
    ]
    with pytest.raises(fleeti.ProfileError, match="and 1 more") as caught:
        profiles.resolve(text)
    assert list(caught.value.findings) == findings and caught.value.hint == findings[0].remedy


def test_a_difference_has_its_path() -> None:
    before = profiles.resolve(WEB).profile
    after = profiles.resolve(WEB.replace("nginx", "caddy")).profile
    assert [(c.path, c.before, c.after) for c in profiles.diff(before, after)] == [
        ("software.packages", "nginx", None),
        ("software.packages", None, "caddy"),
    ]
    with pytest.raises(fleeti.InvalidError, match="profile"):
        profiles.diff(before, before.replace(architecture="z80"))


def test_the_schema_is_that_of_profiles() -> None:
    assert "architecture" in str(profiles.schema()["properties"])


def test_a_plan_is_checked_as_the_server_does() -> None:
    with pytest.raises(fleeti.InvalidError, match="last wave must be 100%"):
        planning.plan("1", "10%")
    with pytest.raises(fleeti.InvalidError, match="not larger"):
        planning.plan("10%", "5%", "100%")
    with pytest.raises(fleeti.InvalidError, match="number of devices"):
        planning.plan("many")


def test_each_device_is_in_one_wave_of_a_preview() -> None:
    devices = [f"device-{n}" for n in range(100)]
    plan = planning.plan("devices:device-7,device-8", "5", "10%", "100%")
    waves = planning.preview(plan, "rollout-1", devices)
    assert [len(wave) for wave in waves] == [2, 3, 5, 90]
    assert waves[0] == ["device-7", "device-8"]
    assert sorted(sum(waves, [])) == sorted(devices)
    rest = sum(waves[1:], [])
    assert rest == sorted(rest, key=lambda device: planning.cohort("rollout-1", device))
    assert planning.preview(plan, "rollout-2", devices) != waves
    budgeted = planning.plan("100%", budget="site:80%")
    assert budgeted.budget is not None and budgeted.budget.group_by == "site"
    with pytest.raises(fleeti.InvalidError):
        planning.plan("100%", budget="site")


class Signer:
    """A key of Python, as a token or a service would be."""

    algorithm: pki.Algorithm = "p384"

    def __init__(self) -> None:
        self.key = pki.SoftKey.generate("p384")
        self.public_key_der = self.key.public_key_der
        self.signed = 0

    def sign(self, message: bytes) -> bytes:
        self.signed += 1
        return self.key.sign(message)


def test_a_signer_of_python_issues_a_certificate_that_others_accept(tmp_path: Path) -> None:
    import subprocess

    ca_key, device_key = Signer(), pki.SoftKey.generate("p256")
    root = pki.self_signed_root(ca_key, valid_s=86_400)
    ca_of_devices = Signer()
    ca = pki.issue_intermediate("device", pki.create_request(ca_of_devices), root, ca_key, valid_s=86_400)
    certificate = pki.issue_device("dev-1", pki.create_request(device_key), ca, ca_of_devices, valid_s=3600)
    assert (pki.device_of(certificate), ca_key.signed, ca_of_devices.signed) == ("dev-1", 2, 2)
    assert pki.is_signed_by(certificate, ca) and not pki.is_signed_by(certificate, root)
    for name, pem in (("root", root), ("ca", ca), ("device", certificate)):
        (tmp_path / name).write_text(pem)
    chain = ["-CAfile", str(tmp_path / "root"), "-untrusted", str(tmp_path / "ca"), str(tmp_path / "device")]
    subprocess.run(["openssl", "verify", "-x509_strict", *chain], check=True, capture_output=True)


def test_a_request_of_another_key_is_untrusted() -> None:
    key, other = pki.SoftKey.generate("p384"), pki.SoftKey.generate("p384")
    root = pki.self_signed_root(key, valid_s=3600)
    request = pki.create_request(pki.SoftKey.generate("p256"))
    with pytest.raises(fleeti.UntrustedError, match="not that of the issuer"):
        pki.issue_device("dev-1", request, root, other, valid_s=3600)
    lines = request.splitlines()
    lines[2] = ("B" if lines[2][0] == "A" else "A") + lines[2][1:]
    with pytest.raises(fleeti.FleetiError):
        pki.issue_device("dev-1", "\n".join(lines), root, key, valid_s=3600)
    with pytest.raises(fleeti.InvalidError):
        pki.issue_device("No Id", request, root, key, valid_s=3600)


def test_an_exception_of_a_signer_is_that_of_the_call() -> None:
    class Broken(Signer):
        def sign(self, message: bytes) -> bytes:
            raise OSError("the token was removed")

    with pytest.raises(OSError, match="the token was removed"):
        pki.create_request(Broken())
