"""A trainer that records: ``python traced_trainer.py ADDRESS FILE TRANSPORT CA CERTIFICATE KEY``."""

from __future__ import annotations

import sys

import numpy as np
from opentelemetry import trace

from remote_gym import RemoteVectorEnv
from remote_gym.otel import to_file


def main() -> None:
    address, file, transport, *credentials = sys.argv[1:]
    provider = to_file(file, "trainer")
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("training")
    with (
        tracer.start_as_current_span("update"),
        RemoteVectorEnv(address, num_envs=4, client_credentials_paths=credentials, transport=transport) as envs,
    ):
        envs.reset(seed=1)
        for _ in range(3):
            envs.step(np.zeros(4, np.int64))
        envs.get_attr("gravity")
    provider.shutdown()


if __name__ == "__main__":
    main()
