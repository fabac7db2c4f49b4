"""What Prometheus reads: requests, their durations, the queue, the model, memory."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from medgan.core.errors import EnvironmentFailure
from medgan.deployment.followed_model import Following

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds."""


def check_extra() -> None:
    """Whether the packages of the extra `serve` are there.

    Raises:
        EnvironmentFailure: E_EXTRA.
    """
    for module, name in (("prometheus_client", "prometheus-client"),
                         ("python_multipart", "python-multipart")):  # fmt: skip
        try:
            import_module(module)
        except ImportError:
            raise EnvironmentFailure(
                "E_EXTRA", name, "not installed, and the server needs it",
                "run pip install 'medgan[serve]'",
            ) from None  # fmt: skip


class Metrics:
    """Counters of a server of their own, so that two of them in one process do not mix.

    Args:
        state: of the followed model.
        waiting, results: numbers of now.
    """

    def __init__(
        self, state: Callable[[], Following], waiting: Callable[[], int],
        results: Callable[[], int],
    ) -> None:  # fmt: skip
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        from prometheus_client.process_collector import ProcessCollector

        self._state = state
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "medgan_requests", "answers, by route and status", ("route", "status"),
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "medgan_request_seconds", "from the request to the end of its answer", ("route",),
            buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        gauges = (
            ("medgan_queue_length", "requests that wait for the model", waiting),
            ("medgan_results", "results that are kept", results),
        )
        for name, text, value in gauges:
            Gauge(name, text, registry=registry).set_function(value)
        registry.register(self)

    def count(self, route: str, status: int, seconds: float) -> None:
        """Counts an answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def collect(self) -> "Iterable[Metric]":
        """What is known of the model, asked at each reading."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        state = self._state()
        yield InfoMetricFamily("medgan_model", "in use", {"version": state.version})
        yield CounterMetricFamily("medgan_model_loads", "models loaded", state.loads)
        failures = CounterMetricFamily(
            "medgan_model_failures", "by what failed: the look at the alias, or the load",
            labels=("what",),
        )  # fmt: skip
        failures.add_metric(("check",), state.failed_checks)
        failures.add_metric(("load",), state.failed_loads)
        yield failures
        yield GaugeMetricFamily(
            "medgan_model_follows", "1 while the last look at the alias and load went well",
            int(state.failure is None),
        )  # fmt: skip

    def text(self) -> bytes:
        """In Prometheus' format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)
