"""Server process: Prometheus metrics over HTTP, on a thread of their own; beside them, whether the server is well.

============  ==========================================================================================
path          answer
============  ==========================================================================================
``/metrics``  the metrics, as Prometheus reads them
``/livez``    200 while the event loop answers, else 503: the server is to be started anew
``/readyz``   200 while new sessions are taken, else 503: it is not there yet, drains, or does not answer
============  ==========================================================================================

They need the library prometheus-client (extra ``server``). Nothing is counted here: at each scrape the server's
`statistics` are read and written out, so a server that nobody scrapes pays nothing. Each server has a registry of its
own; several in one process do not mix.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from remote_gym.addresses import is_loopback, join_address
from remote_gym.distribution import install
from remote_gym.errors import MisuseError
from remote_gym.server.scraping import ScrapeServer

logger = logging.getLogger("remote_gym.server")

Statistics = Mapping[str, Any]

LIVE, READY = "/livez", "/readyz"
"""Of Kubernetes' own servers, whose names these are."""

GAUGES = {
    "sessions": "Sessions held, attached or not",
    "max_sessions": "Sessions the server holds at most",
    "envs": "Environments held",
    "max_envs": "Environments the server holds at most",
    "workers": "Worker processes",
    "env_step_seconds": "One environment's step in a worker, lately: the mean over the workers; 0: not known",
    "draining": "1 while the server drains, else 0",
    "stored_reply_bytes": "Answers kept until their client has proven to have read them",
    "event_loop_lag_last_seconds": "How late the event loop was when last measured",
    "max_held_bytes": "Bytes of each kind that are held for clients at most",
    "episode_returns": "Sum of the returns of all episodes that have ended; it may fall",
}
"""Name in the statistics, which is also the metric's without ``remote_gym_``, and its meaning."""

COUNTERS = {
    "opened_sessions": "Sessions opened",
    "env_steps": "Environment steps answered",
    "worker_restarts": "Workers replaced after they died or hung",
    "attaches": "Streams attached to a session that existed",
    "replayed_answers": "Answers sent again after an attach",
    "received_bytes": "Bytes of messages received, before TLS and HTTP/2",
    "sent_bytes": "Bytes of messages sent, before TLS and HTTP/2",
    "episodes": "Episodes that have ended",
    "lost_episodes": "Episodes broken off by the end of their worker",
}
"""The metric ends in ``_total``."""

LABELLED = {
    "requests": ("kind", "Requests admitted"),
    "refusals": ("limit", "Sessions and requests refused, by the limit or rule"),
}

LABELLED_GAUGES = {
    "held_bytes": ("kind", "Bytes held for clients: kwargs, unfinished messages, results of calls"),
    "principal_sessions": ("principal", "Sessions of each principal that the owner has named, and of all others"),
    "principal_envs": ("principal", "Their environments"),
    "principal_connections": ("principal", "Their connections that carry a session, or are about to"),
    "principal_held_bytes": ("principal", "Bytes held for them, of all kinds"),
}

HISTOGRAMS = {
    "step_seconds": "From a step request's arrival to its last answer",
    "event_loop_lag_seconds": "How late the event loop was",
    "episode_return": "Sum of an episode's rewards",
    "episode_length": "Steps of an episode",
    "episode_seconds": "From an episode's reset to its last step",
}


class MetricsServer:
    """An HTTP server that answers as above.

    Attributes:
        port: The port, also when 0 was asked for.
        address: ``host:port``.
    """

    def __init__(self, url: str, port: int, read: Callable[[], Statistics], is_serving: Callable[[], bool]) -> None:
        """Listen on `url`.

        Args:
            url: A host.
            port: 0: any free one.
            read: Returns the statistics; may be called from any thread.
            is_serving: Likewise, whether new sessions are taken.

        Raises:
            MisuseError: prometheus-client is not installed.
            OSError: The address or port cannot be used.
        """
        try:
            import prometheus_client
        except ImportError:
            raise MisuseError(f"metrics_port needs prometheus-client: {install('server')}") from None
        registry = prometheus_client.CollectorRegistry()
        registry.register(_Collector(read))
        prometheus_client.ProcessCollector(registry=registry)  # memory, CPU and descriptors of the server process
        address = join_address(url, port)
        try:
            application = _beside(prometheus_client.make_wsgi_app(registry), is_serving)
            self._http = ScrapeServer(url, port, application)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {address} for metrics: {error.strerror or error}") from error
        self._http.start()
        self.port: int = self._http.server_port
        self.address = join_address(url, self.port)
        if not is_loopback(url):
            logger.warning("metrics on %s travel in plaintext: whoever reaches the port can read them", self.address)

    def close(self) -> None:
        """Free the port."""
        self._http.close()


def _beside(metrics: Any, is_serving: Callable[[], bool]) -> Callable[..., Any]:
    """Return the application that says how the server is, and gives all else to `metrics`."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ.get("PATH_INFO")
        if path not in (LIVE, READY):
            return metrics(environ, start_response)
        try:
            said = "ready" if is_serving() else "takes no new sessions"
        except Exception:  # the loop did not answer in time, or the server has stopped
            said = "does not answer"
        well = said == "ready" or (path == LIVE and said != "does not answer")
        status = "200 OK" if well else "503 Service Unavailable"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
        return [f"{said}\n".encode()]

    return answer


class _Collector:
    """Writes statistics out as metrics; called by prometheus-client at each scrape."""

    def __init__(self, read: Callable[[], Statistics]) -> None:
        self._read = read

    def describe(self) -> list[Any]:
        return []  # or registering would take a first reading

    def collect(self) -> Iterator[Any]:
        from prometheus_client import core

        seen = self._read()
        for name, meaning in GAUGES.items():
            yield core.GaugeMetricFamily(f"remote_gym_{name}", meaning, value=seen[name])
        for name, meaning in COUNTERS.items():
            yield core.CounterMetricFamily(f"remote_gym_{name}", meaning, value=seen[name])
        for families, kind in ((LABELLED, core.CounterMetricFamily), (LABELLED_GAUGES, core.GaugeMetricFamily)):
            for name, (label, meaning) in families.items():
                family = kind(f"remote_gym_{name}", meaning, labels=[label])
                for value, count in seen[name].items():
                    family.add_metric([value], count)
                yield family
        for name, meaning in HISTOGRAMS.items():
            buckets = [
                ("+Inf" if bound == float("inf") else str(bound), count) for bound, count in seen[name]["buckets"]
            ]
            yield core.HistogramMetricFamily(
                f"remote_gym_{name}", meaning, buckets=buckets, sum_value=seen[name]["sum"]
            )
