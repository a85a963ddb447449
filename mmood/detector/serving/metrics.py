"""What a service counts, for Prometheus; a registry of its own, so that two services in a process do not mix."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mmood.detector.decisions import Decision

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_SHARES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1)


class Metrics:
    """Counters and histograms of a service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "mmood_requests", "Requests to /v1/detect by status of the answer", ["status"], registry=self.registry
        )
        self.images = Counter("mmood_images", "Images by decision", ["decision"], registry=self.registry)
        self.seconds = Histogram(
            "mmood_request_seconds", "From a request to its answer", buckets=_SECONDS, registry=self.registry
        )
        self.batch = Histogram("mmood_batch_images", "Images of a batch", buckets=_SIZES, registry=self.registry)
        self.p_value = Histogram("mmood_p_value", "p-values of images", buckets=_SHARES, registry=self.registry)
        self.in_flight = Gauge("mmood_requests_in_flight", "Requests being answered", registry=self.registry)

    def decided(self, decision: Decision) -> None:
        """Count a decision."""
        broken = decision.status != "ok"
        self.images.labels("broken" if broken else "accepted" if decision.accepted else "rejected").inc()
        if decision.p_value is not None:
            self.p_value.observe(decision.p_value)

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry)
