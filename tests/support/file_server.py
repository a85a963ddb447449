"""A web server of files with the faults of real ones."""

import http.server
import threading


class FileServer(http.server.ThreadingHTTPServer):
    """Serves a folder while it is a context.

    Attributes:
        faults: a fault for each of the next requests: a status code, "silent", "break" (after half of the bytes), a
            number of bytes after which to break as a float, or None.
        seen: the headers of each request, and `path`.
        sent: bytes of content sent for each path.
        ranges: whether it answers requests for a part of a file.
        tag: the ETag, None to send none.
        redirects: path -> where it went.
        pause: seconds between pieces.
    """

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.faults, self.seen, self.sent = folder, [], [], {}
        self.ranges, self.tag, self.redirects, self.pause, self.lengths = True, '"1"', {}, 0.0, True
        self.over = threading.Event()
        self._thread = threading.Thread(target=lambda: self.serve_forever(0.02), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request, client_address):
        """Say nothing: clients that leave early are what is tried here."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def paths(self):
        """The paths asked for, in order."""
        return [request["path"] for request in self.seen]


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.seen.append({**dict(self.headers), "path": self.path})
        if self.path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int):
            self.send_error(fault)
            return
        if fault == "silent":
            server.over.wait(20)
            return
        path = server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        self._send(path.read_bytes(), fault)

    def _send(self, content, fault):
        server, start = self.server, 0
        wanted = self.headers.get("Range")
        if server.ranges and wanted and self.headers.get("If-Range", server.tag) == server.tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start > len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        if server.tag is not None:
            self.send_header("ETag", server.tag)
        self.end_headers()
        rest = content[start:]
        end = len(rest)
        if fault == "break":
            end = len(rest) // 2
        elif isinstance(fault, float):
            end = min(end, int(fault))
        step = end if not server.pause else max(1, end // 5)
        for begin in range(0, end, step or 1):
            piece = rest[begin : min(begin + step, end)]
            self.wfile.write(piece)
            server.sent[self.path] = server.sent.get(self.path, 0) + len(piece)
            if server.pause:
                server.over.wait(server.pause)
