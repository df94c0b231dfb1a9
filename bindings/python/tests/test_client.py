import hashlib
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import fleeti
import pytest
from conftest import Release, Server


def test_devices_are_what_the_server_knows(server: Server) -> None:
    devices = list(fleeti.Client(server.url, server.token).devices.list())
    assert len(devices) == 3
    assert [d.id for d in devices] == sorted(d.id for d in devices)
    for device in devices:
        assert device.boot is not None
        assert (device.fleet, device.boot.running, device.desired) == ("demo", "kiosk@2", "kiosk@2")
        assert device.online and not device.revoked
        assert len(device.certificate_sha256) == 64
        assert device.certificate_not_after_s > device.last_seen_s > 0


def test_a_wrong_token_is_refused_with_a_hint(server: Server) -> None:
    with pytest.raises(fleeti.AuthenticationError) as caught:
        fleeti.Client(server.url, "a guess").accounts.get_me()
    assert (caught.value.code, caught.value.status) == ("unauthenticated", 401)
    assert caught.value.hint is not None and "admin.token" in caught.value.hint
    assert isinstance(caught.value, fleeti.RefusedError)


def test_a_server_that_is_not_there_is_a_connection_error() -> None:
    with pytest.raises(fleeti.ConnectionError) as caught:
        fleeti.Client("http://127.0.0.1:1", "x").accounts.get_me()
    assert caught.value.hint is not None and "running" in caught.value.hint


def test_a_token_leaves_this_machine_without_tls_only_if_the_caller_says_so() -> None:
    with pytest.raises(fleeti.ConnectionError) as caught:
        fleeti.Client("http://192.0.2.1:1", "x")
    assert caught.value.hint is not None and "insecure=True" in caught.value.hint
    fleeti.Client("http://192.0.2.1:1", "x", insecure=True)


def test_a_server_is_known_by_its_fingerprint_alone(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    san = ["-subj", "/CN=fleeti", "-addext", "subjectAltName=IP:127.0.0.1"]
    openssl("req", "-x509", *curve, *san, "-keyout", str(key), "-out", str(certificate))
    spki = openssl("pkey", "-in", str(key), "-pubout", "-outform", "DER")
    fingerprint = "sha256:" + hashlib.sha256(spki).hexdigest()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                connection, _ = listener.accept()
                try:
                    with context.wrap_socket(connection, server_side=True) as tls:
                        tls.recv(65536)
                        tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]")
                        return
                except OSError:
                    continue  # a client that did not trust the certificate

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        for wrong in (None, "sha256:" + "0" * 64):
            with pytest.raises(fleeti.ConnectionError):
                fleeti.Client(url, "x", fingerprint=wrong).workers.list()
        assert fleeti.Client(url, "x", fingerprint=fingerprint).workers.list() == []
        thread.join()
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        fleeti.Client(url, "x", fingerprint="sha256:00")


def openssl(*arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


def test_the_interpreter_runs_on_while_the_network_is_waited_for(server: Server) -> None:
    # A listener in this interpreter responds, which deadlocks if the lock is held.
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]")

        thread = threading.Thread(target=answer)
        thread.start()
        assert fleeti.Client(f"http://127.0.0.1:{listener.getsockname()[1]}", "x").workers.list() == []
        thread.join()


def test_a_client_does_not_show_its_token(server: Server) -> None:
    assert server.token not in repr(fleeti.Client(server.url, server.token))


def test_a_staged_rollout_is_started_and_waited_for(server: Server) -> None:
    client = fleeti.Client(server.url, server.token)
    plan = fleeti.planning.plan("1", "50%", "100%")
    rollout = client.rollouts.start(release="kiosk@2", fleet="demo", plan=plan)
    done = client.rollouts.wait(rollout.id, timeout_s=60)
    assert (done.phase, done.counts.succeeded) == ("succeeded", 3)
    # The server fills in the defaults of the rest.
    assert done.plan is not None and done.plan.waves == plan.waves
    pages = list(client.rollouts.get_pages(rollout.id))
    assert [device.wave for page in pages for device in page.devices].count(0) == 1


def test_a_refusal_raises_the_class_of_its_code_with_everything_that_is_wrong(server: Server) -> None:
    client = fleeti.Client(server.url, server.token)
    with pytest.raises(fleeti.NotFoundError, match="nobody"):
        client.devices.get("nobody")
    with pytest.raises(fleeti.errors.InvalidRequestError) as caught:
        client.profiles.save({"schema": 1, "name": "web", "architecture": "x86_64", "software": {"packages": ["A!", "B!"]}})
    assert [error["path"] for error in caught.value.errors] == ["software.packages[0]", "software.packages[1]"]


def test_the_audit_log_is_read_to_its_end(server: Server) -> None:
    client = fleeti.Client(server.url, server.token)
    lines = list(client.audit.list_entries())
    assert lines[3:] == list(client.audit.list_entries(from_=3))[: len(lines) - 3]


def test_a_release_is_published_once(server: Server, release: Release) -> None:
    # It has the name of one that the server has. `test_examples` publishes new ones.
    with pytest.raises(fleeti.ConflictError, match="kiosk@1 is published and never changes"):
        fleeti.Client(server.url, server.token).releases.publish_directory(release.dir)


def test_the_environment_names_the_server(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(server.token + "\n")
    monkeypatch.delenv("FLEETI_TOKEN", raising=False)
    monkeypatch.setenv("FLEETI_SERVER", server.url)
    monkeypatch.setenv("FLEETI_TOKEN_FILE", str(tmp_path / "token"))
    assert fleeti.Client.from_environment().accounts.get_me().name == "bootstrap"
    monkeypatch.delenv("FLEETI_TOKEN_FILE")
    with pytest.raises(KeyError, match="FLEETI_TOKEN_FILE"):
        fleeti.Client.from_environment()
