import hashlib
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import fleeti
import pytest
from conftest import Server


def test_devices_are_what_the_server_knows(server: Server) -> None:
    devices = fleeti.Client(server.url, server.token).devices()
    assert len(devices) == 3
    assert [d.id for d in devices] == sorted(d.id for d in devices)
    for device in devices:
        assert (device.fleet, device.running, device.desired) == ("demo", "kiosk@2", "kiosk@2")
        assert device.online and not device.revoked
        assert len(device.certificate_sha256) == 64
        assert device.certificate_not_after_s > device.last_seen_s > 0


def test_a_wrong_token_is_refused_with_a_hint(server: Server) -> None:
    with pytest.raises(fleeti.AuthenticationError) as caught:
        fleeti.Client(server.url, "a guess").devices()
    assert (caught.value.code, caught.value.status) == ("unauthenticated", 401)
    assert caught.value.hint is not None and "admin.token" in caught.value.hint
    assert isinstance(caught.value, fleeti.RefusedError)


def test_a_server_that_is_not_there_is_a_connection_error() -> None:
    with pytest.raises(fleeti.ConnectionError) as caught:
        fleeti.Client("http://127.0.0.1:1", "x").devices()
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
                fleeti.Client(url, "x", fingerprint=wrong).devices()
        assert fleeti.Client(url, "x", fingerprint=fingerprint).devices() == []
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
        assert fleeti.Client(f"http://127.0.0.1:{listener.getsockname()[1]}", "x").devices() == []
        thread.join()


def test_a_client_does_not_show_its_token(server: Server) -> None:
    assert server.token not in repr(fleeti.Client(server.url, server.token))
