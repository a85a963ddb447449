"""The service under load on loopback: 20,000 requests, 64 at once, every hundredth of them broken; none may be lost.

Its throughput against the bare batched tower, which gets the same images decoded and transformed, in the same batches;
at least 0.70 is wanted. Both use all cores and take turns. The load comes from a process of its own, which shares these
cores. Memory is that of the service before the first round that counts, and after each.

    MMOOD_REAL_DATA=FOLDER python tests/benchmarks/bench_serve.py [REQUESTS] [AT ONCE] [ROUNDS]
"""

import asyncio
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from detectors import read_images, real_data, write_detectors

from mmood.detector.detector import Detector

BROKEN = b"\xff\xd8 no JPEG"
BATCH = 32
WARM_UP = 2000


class Bare:
    """The tower alone, and decoding and transforming alone, over the same images in batches."""

    def __init__(self, folder: Path, images: list[bytes]) -> None:
        self.detector = Detector.load(folder, "cpu")
        self.images = images
        pixels = [self.detector.prepared(image) for image in images]
        self.batches = [np.stack(pixels[first : first + BATCH]) for first in range(0, len(pixels), BATCH)]

    def tower(self) -> float:
        """Images a second of the tower."""
        start = time.perf_counter()
        for batch in self.batches:
            self.detector.scorer.score(batch)
        return len(self.images) / (time.perf_counter() - start)

    def preparation(self) -> float:
        """Images a second of decoding and transforming, on one core."""
        start = time.perf_counter()
        for image in self.images:
            self.detector.prepared(image)
        return len(self.images) / (time.perf_counter() - start)


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
        json.loads(await reader.readexactly(length))
        found.append((number, int(answer.split()[1]), time.perf_counter() - start))
    writer.close()


def load(port: int, images: list[bytes], requests: int, at_once: int, out: "multiprocessing.Queue") -> None:
    """Send requests from a process of its own, and tell how long they took together and each."""

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


class Service:
    """`mmood serve` in a process of its own."""

    def __init__(self, folder: Path, at_once: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "mmood", "serve", str(folder), "--port", str(self.port)]
        self.process = subprocess.Popen([*command, "--max_requests", str(at_once)], stdout=subprocess.DEVNULL)
        self.at_once = at_once
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert self.process.poll() is None, "the service ended"
            time.sleep(0.1)

    def round(self, images: list[bytes], requests: int) -> tuple[float, list[tuple[int, int, float]]]:
        """Return how long this many requests took, and number, status and latency of each."""
        out: multiprocessing.Queue = multiprocessing.Queue()
        process = multiprocessing.Process(target=load, args=(self.port, images, requests, self.at_once, out))
        process.start()
        found = out.get()
        process.join()
        return found

    def memory(self) -> float:
        """Resident MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def end(self) -> int:
        """End the service and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def main(requests: int = 20_000, at_once: int = 64, rounds: int = 5) -> None:
    """Print the findings as JSON."""
    data = real_data()
    with tempfile.TemporaryDirectory() as temporary:
        images = read_images(data, 640)
        _, folder = write_detectors(data, Path(temporary), images)
        bare, service = Bare(folder, images), Service(folder, at_once)
        try:
            service.round(images, min(WARM_UP, requests))  # what is made once is no leak
            memory, towers, rates, answers = [service.memory()], [], [], []
            for number in range(rounds):
                towers.append(bare.tower())
                seconds, found = service.round(images, requests // rounds)
                rates.append(requests // rounds / seconds)
                answers += found
                memory.append(service.memory())
                print(f"round {number}: {rates[-1]:7.1f} images/s served, bare tower {towers[-1]:7.1f}", flush=True)
        finally:
            code = service.end()
    expected = sum(number % 100 == 99 for number, _, _ in answers)
    latencies = np.array([latency for _, _, latency in answers]) * 1000
    result = {
        "tower_images_s": round(statistics.median(towers), 1),
        "prepared_images_s_and_core": round(bare.preparation(), 1),
        "served_images_s": round(statistics.median(rates), 1),
        "ratio": round(statistics.median(rate / tower for rate, tower in zip(rates, towers, strict=True)), 3),
        "p50_ms": round(float(np.median(latencies)), 1),
        "p99_ms": round(float(np.quantile(latencies, 0.99)), 1),
        "requests": rounds * (requests // rounds),
        "lost": rounds * (requests // rounds) - len(answers),
        "broken": [sum(status == 422 for _, status, _ in answers), expected],
        "decided": sum(status == 200 for _, status, _ in answers),
        "memory_mib": [round(value) for value in memory],
        "memory_ratio": round(memory[-1] / memory[0], 3),
        "exit": code,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
