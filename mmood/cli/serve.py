"""`mmood serve`: a detector behind HTTP."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import os
import signal
from pathlib import Path

from mmood.configuration.tools import ToolParser
from mmood.errors import MmoodError
from mmood.files import read_text
from mmood.output.printing import say

_EXAMPLES = """\
examples:
  mmood serve det                                   on 127.0.0.1:8000, for this machine alone
  curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/v1/detect
  curl -F image=@a.jpg -F image=@b.jpg http://127.0.0.1:8000/v1/detect
  mmood serve det --host 0.0.0.0 --token_file token for others; clients send 'Authorization: Bearer TOKEN'

/ is a page to drop an image on, /openapi.json describes the interface, /metrics is for Prometheus, /healthz and /readyz
for whoever starts and stops it. At SIGTERM it answers what it has taken and ends.
"""


def main(argv: list[str]) -> int:
    """Run `mmood serve` with the arguments after the command's name and return the exit code.

    Raises:
        MmoodError: the detector is not there, a limit is impossible, a package is missing, or others could use it
            without a token.
    """
    options = _parser().parse_args(argv)
    _require_packages()
    token = None if options.token_file is None else _token(options.token_file)
    if token is None and not _is_loopback(options.host):
        raise MmoodError(
            f"--host {options.host} lets other machines in, so it needs --token_file; the default, 127.0.0.1, does not."
        )
    import uvicorn

    from mmood.detector.detector import Detector
    from mmood.detector.serving import Batching, Limits, build_app

    limits = Limits(
        bytes=options.max_bytes,
        pixels=options.max_pixels,
        images=options.max_images,
        seconds=options.max_seconds,
        requests=options.max_requests,
    )
    batching = Batching(options.max_batch, options.max_wait_ms / 1000, options.threads or os.cpu_count() or 1)
    app = build_app(Detector.load(options.detector, options.device), limits, batching, token)
    say(f"Serving {options.detector} on http://{options.host}:{options.port}/")
    # uvicorn ends gracefully at these, and then raises them once more for whoever listened before it: nobody.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=int(options.max_seconds) + 5,
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "serve",
        "Answer over HTTP whether images belong to the classes of a detector.",
        usage="DETECTOR [--host HOST --token_file FILE] [--port PORT]",
        examples=_EXAMPLES,
    )
    parser.add_argument("detector", type=Path, metavar="DETECTOR", help="folder of `mmood calibrate` or `mmood export`")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--token_file", type=Path, metavar="FILE", help="file with the token that clients must send")
    parser.add_argument("--max_batch", type=int, default=32, help="images at a time (default: %(default)s)")
    parser.add_argument(
        "--max_wait_ms", type=float, default=5, help="milliseconds that an image waits for others (default: 5)"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="threads that decode images (default: one for each core)"
    )
    parser.add_argument(
        "--max_bytes", type=int, default=20 * 2**20, help="bytes of a request, at most (default: 20 MiB)"
    )
    parser.add_argument(
        "--max_pixels", type=int, default=2**25, help="pixels of an image, at most (default: %(default)s)"
    )
    parser.add_argument(
        "--max_images", type=int, default=16, help="images of a request, at most (default: %(default)s)"
    )
    parser.add_argument(
        "--max_seconds", type=float, default=30, help="seconds until an answer, at most (default: %(default)s)"
    )
    parser.add_argument(
        "--max_requests", type=int, default=64, help="requests in flight, at most (default: %(default)s)"
    )
    parser.add_argument("--device", help="torch device, such as cuda or cpu (default: a GPU if there is one)")
    return parser


def _require_packages() -> None:
    needed = {"fastapi": "fastapi", "uvicorn": "uvicorn", "prometheus_client": "prometheus_client"}
    needed["python_multipart"] = "python-multipart"
    missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MmoodError(f"`mmood serve` needs {', '.join(missing)}; pip install 'mmood[serve]'.")


def _token(path: Path) -> str:
    token = read_text(path, f"The token file {path}").strip()
    if len(token) < 16 or not token.isascii() or not token.isprintable():
        raise MmoodError(f"The token file {path} needs one token of at least 16 printable ASCII characters.")
    return token


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
