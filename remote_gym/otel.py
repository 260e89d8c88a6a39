"""Traces to files, and the server's SDK: the one module that imports OpenTelemetry's SDK, the extra `otel`.

A file holds a line per batch of spans, each the JSON of an OTLP request, which is what OpenTelemetry's Collector reads
(its receiver `otlpjsonfile`) and what `remote-gym trace` draws.
The source is https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from remote_gym.errors import MisuseError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

REMEDY = 'install it with `pip install "remote-gym-pool[otel]"`'

_EXPORTERS = "opentelemetry_traces_exporter"
"""The group of entry points by which packages offer exporters."""

_OTLP = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}


def to_file(path: str | os.PathLike[str], service_name: str = "remote-gym") -> TracerProvider:
    """Return a provider of tracers that appends what is recorded to the file at `path`.

    What is sampled, and what else its resource says, the variables OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG,
    OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES decide. Give it to `opentelemetry.trace.set_tracer_provider` in a
    trainer; `shutdown` writes what is left and closes the file, which the end of the interpreter does, too.

    Args:
        path: Of the file; made if there is none, readable by its owner alone.
        service_name: What the process is called in traces, where the variable does not say.

    Raises:
        MisuseError: The SDK is not installed, or the file cannot be written.
    """
    try:
        from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    except ImportError as error:
        raise MisuseError(f"OpenTelemetry's SDK, which writes traces, is not there ({error}): {REMEDY}") from error

    class FileExporter(SpanExporter):
        """Appends spans; called by one thread of the SDK's, and at its end by the one that ends it."""

        def __init__(self) -> None:
            self._lock = threading.Lock()
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            except (OSError, ValueError) as error:
                raise MisuseError(f"traces cannot be written to {os.fspath(path)!r}: {error}") from error
            self._file = os.fdopen(descriptor, "w", encoding="ascii")

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            with self._lock:
                if self._file.closed:
                    return SpanExportResult.FAILURE
                self._file.write(json.dumps(as_otlp(spans), separators=(",", ":")) + "\n")
                self._file.flush()
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            with self._lock:
                self._file.close()

    return _provider(FileExporter(), service_name)


def from_environment(service_name: str = "remote-gym") -> TracerProvider:
    """Return a provider of tracers whose exporters and sampler the variables OTEL_... name, as for any program.

    OTEL_TRACES_EXPORTER is ``otlp`` (the default), ``console``, ``none`` or what an installed package offers, several
    with commas; OTEL_EXPORTER_OTLP_PROTOCOL ``grpc`` (the default) or ``http/protobuf``.

    Raises:
        MisuseError: The SDK is not installed, or the package of an exporter.
    """
    names = [one.strip() for one in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")]
    exporters = [_exporter(name) for name in names if name and name != "none"]
    return _provider(exporters, service_name)


def _exporter(name: str) -> Any:
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        name = _OTLP.get(protocol or "grpc", "otlp_proto_http")
    found = list(importlib.metadata.entry_points(group=_EXPORTERS, name=name))
    if not found:
        package = f"opentelemetry-exporter-{name.replace('_', '-')}"
        raise MisuseError(f"OTEL_TRACES_EXPORTER: no installed package exports to {name!r}; maybe {package} does")
    return found[0].load()()


def _provider(exporters: Any, service_name: str) -> TracerProvider:
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MisuseError(f"OpenTelemetry's SDK, which records traces, is not there ({error}): {REMEDY}") from error
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service_name}
    provider = TracerProvider(resource=Resource.create(named))
    for exporter in exporters if isinstance(exporters, list) else [exporters]:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


# Spans -> the JSON of OTLP. Numbers of 64 bits are strings there, ids are in hexadecimal.


def as_otlp(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """Return `spans`, which are of one provider, as the JSON of an OTLP request."""
    resource = _attributes(spans[0].resource.attributes)
    scopes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for span in spans:
        scope = span.instrumentation_scope
        key = ("", "") if scope is None else (scope.name, scope.version or "")
        scopes.setdefault(key, []).append(_span(span))
    listed = [{"scope": {"name": name, "version": version}, "spans": own} for (name, version), own in scopes.items()]
    return {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": listed}]}


def _span(span: ReadableSpan) -> dict[str, Any]:
    context, parent = span.get_span_context(), span.parent
    status = {"code": span.status.status_code.value}
    if span.status.description:
        status["message"] = span.status.description
    return {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        **({} if parent is None else {"parentSpanId": f"{parent.span_id:016x}"}),
        "name": span.name,
        "kind": span.kind.value + 1,  # OTLP's 0 says nothing
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes),
        "events": [
            {"timeUnixNano": str(event.timestamp), "name": event.name, "attributes": _attributes(event.attributes)}
            for event in span.events
        ],
        "links": [
            {"traceId": f"{link.context.trace_id:032x}", "spanId": f"{link.context.span_id:016x}"}
            for link in span.links
        ],
        "status": status,
    }


def _attributes(attributes: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in (attributes or {}).items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    return {"stringValue": str(value)}
