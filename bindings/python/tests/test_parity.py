"""Every operation of the OpenAPI document has a method, which sends the request of the document."""

import asyncio
import inspect
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fleeti
import pytest
from fleeti.client import OPERATIONS

DOCUMENT = json.loads((Path(__file__).parents[3] / "fleeti-server/openapi.json").read_text())
BY_ID = {
    operation["operationId"]: (method.upper(), path)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}


class Recorder(ThreadingHTTPServer):
    """Refuses every request, and keeps its method and path."""

    daemon_threads = True
    seen: list[tuple[str, str]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def refuse(self) -> None:
        assert isinstance(self.server, Recorder)
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.seen.append((self.command, self.path.split("?")[0]))
        problem = {"type": "urn:fleeti:problem:conflict", "status": 409, "detail": "recorded"}
        body = json.dumps(problem).encode()
        self.send_response(409)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = refuse

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder(("127.0.0.1", 0), Handler)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def sample(parameter: inspect.Parameter, file: Path) -> object:
    hint = str(parameter.annotation)
    if "PathLike" in hint:
        return file
    return 1 if hint == "int" else {} if "Mapping" in hint else "x1"


def arguments(method: Any, file: Path) -> tuple[list[object], dict[str, object]]:
    positional: list[object] = []
    named: dict[str, object] = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            if parameter.default is inspect.Parameter.empty:
                named[name] = sample(parameter, file)
        else:
            positional.append(sample(parameter, file))
    return positional, named


def method_of(client: object, operation: str) -> Any:
    resource, name = OPERATIONS[operation].split(".")
    return getattr(getattr(client, resource), name)


def is_request_of(seen: tuple[str, str], operation: str) -> bool:
    method, template = BY_ID[operation]
    pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
    return seen[0] == method and re.fullmatch(pattern, seen[1]) is not None


def test_the_operations_are_those_of_the_document() -> None:
    assert sorted(OPERATIONS) == sorted(BY_ID)


def test_each_method_sends_its_request(recorder: Recorder, tmp_path: Path) -> None:
    client = fleeti.Client(f"http://127.0.0.1:{recorder.server_port}", "TOKEN")
    file = tmp_path / "file"
    file.write_bytes(b"content")
    for operation in BY_ID:
        method = method_of(client, operation)
        positional, named = arguments(method, file)
        with pytest.raises(fleeti.ConflictError, match="recorded"):
            answer = method(*positional, **named)
            next(answer)
        assert is_request_of(recorder.seen[-1], operation), (operation, recorder.seen[-1])


def test_each_method_for_asyncio_sends_its_request(recorder: Recorder, tmp_path: Path) -> None:
    client = fleeti.AsyncClient(f"http://127.0.0.1:{recorder.server_port}", "TOKEN")
    file = tmp_path / "file"
    file.write_bytes(b"content")

    async def all_of_them() -> None:
        for operation in BY_ID:
            method = method_of(client, operation)
            positional, named = arguments(method, file)
            with pytest.raises(fleeti.ConflictError, match="recorded"):
                answer = method(*positional, **named)
                await (answer if inspect.isawaitable(answer) else anext(answer))
            assert is_request_of(recorder.seen[-1], operation), (operation, recorder.seen[-1])

    asyncio.run(all_of_them())


def test_a_name_cannot_leave_its_place_in_a_path(recorder: Recorder) -> None:
    client = fleeti.Client(f"http://127.0.0.1:{recorder.server_port}", "TOKEN")
    for name in ("", ".", ".."):
        with pytest.raises(ValueError, match="is no name"):
            client.devices.get(name)
    for name in ("a/../b", "a?b", "a#b", "a%2fb", "ä"):
        with pytest.raises(fleeti.ConflictError):
            client.devices.get(name)
        assert is_request_of(recorder.seen[-1], "get_device"), recorder.seen[-1]
