"""A small server of the OpenAI-compatible chat protocol, which answers what a test wants and fails as real ones do."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text: object, finish: str = "stop") -> bytes:
    """The body of a chat completion with this answer."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return json.dumps({"id": "x", "model": "parrot-1", "choices": [choice], "usage": usage}).encode()


class ChatServer:
    """Answers each request with `answer(body)`, or with the next fault while there is one.

    Attributes:
        url: the base address.
        bodies: what was asked, in order; faulty tries included.
        answered: what was answered to its end.
        headers: of each request, names in lower case.
        faults: those to come.
    """

    def __init__(self, answer: Callable[[dict], str | bytes], faults: Iterable[str]) -> None:
        self.answer = answer
        self.faults = list(faults)
        self.bodies: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answered: list[dict] = []
        self.closing = threading.Event()
        self.held = threading.Semaphore(0)
        self.released = threading.Event()
        self.released.set()
        self.last = 0
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    @property
    def asked(self) -> list[str]:
        """The last text of each request."""
        return [_text(body["messages"][-1]) for body in self.bodies]

    def hold_after(self, requests: int) -> None:
        """Answer so many requests, and let those after them wait."""
        self.last = requests
        self.released.clear()

    def until_held(self, requests: int) -> None:
        """Return when so many requests wait: then their clients have taken all answers before."""
        assert all(self.held.acquire(timeout=60) for _ in range(requests))

    def release(self) -> None:
        """Answer requests again, apart from those that wait, whose clients are gone."""
        self.released.set()

    def take(self, path: str, headers: dict[str, str], body: dict) -> str | None:
        """Note a request; return the fault that it meets."""
        with self.lock:
            self.paths.append(path)
            self.headers.append(headers)
            self.bodies.append(body)
            held = not self.released.is_set() and len(self.bodies) > self.last
            fault = "held" if held else self.faults.pop(0) if self.faults else None
        if held:
            self.held.release()
        return fault


@contextlib.contextmanager
def chat_server(answer: Callable[[dict], str | bytes], faults: Iterable[str] = ()) -> Iterator[ChatServer]:
    """A server for the length of a block."""
    chat = ChatServer(answer, faults)
    threading.Thread(target=chat.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield chat
    finally:
        chat.closing.set()
        chat.server.shutdown()
        chat.server.server_close()


def _text(message: dict) -> str:
    content = message["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def _handler(chat: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            fault = chat.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            try:
                if fault is None:
                    answered = chat.answer(body)
                    self.reply(answered if isinstance(answered, bytes) else completion(answered))
                    chat.answered.append(body)
                else:
                    FAULTS[fault](self, chat)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def handle(self) -> None:
            with contextlib.suppress(ConnectionResetError):  # a client that was killed
                super().handle()

        def reply(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _error(text: str) -> bytes:
    return json.dumps({"error": {"message": text, "type": "x"}}).encode()


def _cut(handler, chat) -> None:
    content = completion("never read to its end")
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[:40])
    handler.close_connection = True


def _too_short(handler, chat) -> None:
    handler.reply(completion("x"), 200, {"Content-Length": "30"})
    handler.close_connection = True  # the rest would be taken for the beginning of the next response


def _flood(handler, chat, status=200) -> None:
    handler.send_response(status)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while not chat.closing.is_set():
        handler.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


def _drip(handler, chat) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while not chat.closing.wait(0.05):
        handler.wfile.write(b"1\r\n \r\n")
        handler.wfile.flush()


FAULTS: dict[str, Callable] = {
    "429": lambda handler, chat: handler.reply(_error("slow down"), 429, {"Retry-After": "0.1"}),
    "429 for a day": lambda handler, chat: handler.reply(_error("slow down"), 429, {"Retry-After": "86400"}),
    "500": lambda handler, chat: handler.reply(_error("out of memory"), 500, {"Retry-After": "0.05"}),
    "500 in HTML": lambda handler, chat: handler.reply(b"<html>Bad gateway</html>", 502),
    "400": lambda handler, chat: handler.reply(_error("'max_tokens' is not supported with this model"), 400),
    "401": lambda handler, chat: handler.reply(_error(f"wrong key {handler.headers['authorization'][7:]}"), 401),
    "404": lambda handler, chat: handler.reply(b"", 404),
    "redirect": lambda handler, chat: handler.reply(b"", 307, {"Location": "http://127.0.0.1:9/elsewhere"}),
    "no JSON": lambda handler, chat: handler.reply(b'{"choices": ['),
    "no choices": lambda handler, chat: handler.reply(b'{"choices": []}'),
    "another type": lambda handler, chat: handler.reply(completion(["a", "list"])),
    "cut": _cut,
    "drip": _drip,
    "flood": _flood,
    "flood of an error": lambda handler, chat: _flood(handler, chat, 500),
    "held": lambda handler, chat: chat.released.wait(60),
    "silence": lambda handler, chat: chat.closing.wait(30),
    "announces a terabyte": lambda handler, chat: handler.reply(b"{}", 200, {"Content-Length": str(10**12)}),
    "gzip": lambda handler, chat: handler.reply(b"\x1f\x8b", 200, {"Content-Encoding": "gzip"}),
    "shorter than it is": _too_short,
}
