"""The service under load on loopback, against the bare batched tower in the same run: ratio, latencies, nothing lost.

    python tests/benchmarks/load_serve.py DETECTOR IMAGES [REQUESTS] [AT_ONCE]

IMAGES is a folder or a folder of shards; every hundredth request is broken on purpose. The load comes from a process of its
own, which shares the cores, as the bare tower's loop does not.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from mmood.detector.detection import find_images_of
from mmood.detector.detector import Detector

BROKEN = b"\xff\xd8 no JPEG"


def contents(inputs: str, count: int) -> list[bytes]:
    found, _ = find_images_of([inputs], [])
    return [image.content for image in found.read(0, min(count, len(found))) if image.content is not None]


def bare(detector: Detector, images: list[bytes], batch: int = 32) -> float:
    """Images a second of decode + transform + tower in batches, without anything around it."""
    start = time.perf_counter()
    for first in range(0, len(images), batch):
        pixels = [detector.prepared(image) for image in images[first : first + batch]]
        detector.scorer.score(np.stack(pixels))
    return len(images) / (time.perf_counter() - start)


async def client(
    port: int, images: list[bytes], numbers: "asyncio.Queue[int]", found: list[tuple[int, int, float]]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while not numbers.empty():
        number = numbers.get_nowait()
        body = BROKEN if number % 100 == 99 else images[number % len(images)]
        start = time.perf_counter()
        head = f"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(answer.lower().split("content-length:")[1].split("\r\n")[0])
        await reader.readexactly(length)
        found.append((number, int(answer.split()[1]), time.perf_counter() - start))
    writer.close()


def load(port: int, images: list[bytes], requests: int, at_once: int, out: "multiprocessing.Queue") -> None:
    async def run() -> list[tuple[int, int, float]]:
        numbers: asyncio.Queue[int] = asyncio.Queue()
        for number in range(requests):
            numbers.put_nowait(number)
        found: list[tuple[int, int, float]] = []
        await asyncio.gather(*(client(port, images, numbers, found) for _ in range(at_once)))
        return found

    start = time.perf_counter()
    found = asyncio.run(run())
    out.put((time.perf_counter() - start, found))


def resident(pid: int) -> float:
    """MiB of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(folder: str, inputs: str, requests: int = 20_000, at_once: int = 64) -> None:
    images = contents(inputs, 500)
    rate = bare(Detector.load(folder, "cpu"), images)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mmood", "serve", folder, "--port", str(port), "--max_requests", str(at_once)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.1)
        out: multiprocessing.Queue = multiprocessing.Queue()
        # A first round, so that what is made once is not taken for a leak.
        memory = []
        for count in (min(2000, requests), requests):
            memory.append(resident(server.pid))
            process = multiprocessing.Process(target=load, args=(port, images, count, at_once, out))
            process.start()
            seconds, found = out.get()
            process.join()
        memory.append(resident(server.pid))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    latencies = np.array([latency for _, _, latency in found]) * 1000
    expected = {number: 422 if number % 100 == 99 else 200 for number in range(requests)}
    wrong = sum(expected.pop(number) != status for number, status, _ in found)
    result = {
        "bare_images_s": round(rate, 1),
        "served_images_s": round(requests / seconds, 1),
        "ratio": round(requests / seconds / rate, 3),
        "p50_ms": round(float(np.median(latencies)), 1),
        "p99_ms": round(float(np.quantile(latencies, 0.99)), 1),
        "lost": len(expected),
        "wrong_status": wrong,
        "memory_mib": [round(value) for value in memory],
        "exit": server.returncode,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
