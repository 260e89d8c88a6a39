"""The user's terminal: ``remote-gym check-connection``. Which step of a connection fails, and what to do about it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from remote_gym.addresses import join_address, split_address, unix_path
from remote_gym.cli.dialing import (
    URL_VARIABLE,
    add_credentials,
    address_or_variable,
    credentials_paths,
    words_of_who_dials,
)
from remote_gym.cli.kinds import SECONDS
from remote_gym.cli.terminal import GREEN, RED, UsageError, paint
from remote_gym.cli.wording import Word, translated, words_of_a_client
from remote_gym.client.carriers.carrier import CarrierEnded
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.connecting import NotDirect
from remote_gym.client.carriers.describe import describe
from remote_gym.client.carriers.dialing import DirectDialer
from remote_gym.client.diagnosis.steps import Diagnosis, Step, diagnose
from remote_gym.client.servers import checked_name, paths_from_variables
from remote_gym.client.tokens import token_for
from remote_gym.credentials import load_client_pem
from remote_gym.errors import ConnectError, ProtocolError, RefusedError
from remote_gym.messages import Description
from remote_gym.wire.codec import common_protocol

DESCRIPTION = (
    "Dial a server step by step: address, tcp, tls, certificate name, client certificate, server version, and whether "
    "steps get a connection of their own (the direct carrier) or travel over gRPC. "
    "Without an ADDRESS, or without certificates, it takes those of a client's variables, as a trainer does, and the "
    "token of REMOTE_GYM_TOKEN. "
    "Tells what each step has shown and, at the first one that fails, what to do. Exit code 0 if none fails, else 1."
)

VERSION_STEP = "server version"
CARRIER_STEP = "direct carrier"

_MARKS = {True: ("ok", GREEN), False: ("FAILED", RED), None: ("-", "")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "address", nargs="?", metavar="ADDRESS",
        help=f"HOST, HOST:PORT (default port: 56765) or unix:/PATH (default: ${URL_VARIABLE})",
    )  # fmt: skip
    add_credentials(parser)
    parser.add_argument(
        "--timeout", type=SECONDS.argument, default=10.0, metavar=SECONDS.metavar,
        help="how long it may take (default: %(default)g)",
    )  # fmt: skip


def words(arguments: argparse.Namespace) -> list[Word]:
    """Return what this command calls the arguments of a client."""
    return words_of_who_dials(arguments, arguments.address)


def run(arguments: argparse.Namespace) -> int:
    """Take every step and print it; return 0 if none failed."""
    host, port = split_address(address_or_variable(arguments.address))
    paths = credentials_paths(arguments)
    if paths is None and unix_path(host) is None:
        paths = paths_from_variables()
    pem = load_client_pem(paths)
    if arguments.tls_name is not None:
        if pem is None:
            raise UsageError("--tls-name is checked against a certificate: it goes with --root-certificate")
        pem = replace(pem, server_name=checked_name(arguments.tls_name))
    address = Address(host, port, pem, token=token_for(None, host, pem is not None, False))
    print(f"{join_address(host, port)} {_manner(host, pem is not None)}")

    diagnosis = diagnose(host, port, pem, arguments.timeout)
    for step in diagnosis.steps:
        _print_step(step)
    if not diagnosis.ok:
        for name in (VERSION_STEP, CARRIER_STEP):
            _print_step(Step(name, None, "not reached"))
        _print_causes(diagnosis.causes)
        return 1
    step, causes = _version_step(address, arguments.timeout, diagnosis)
    _print_step(step)
    if not step.ok:
        _print_step(Step(CARRIER_STEP, None, "not reached"))
        _print_causes(causes)
        return 1
    step, causes = _carrier_step(address, arguments.timeout)
    _print_step(step)
    _print_causes(causes)
    return 0 if step.ok is not False else 1


def _manner(host: str, tls: bool) -> str:
    if unix_path(host) is not None:
        return "on this machine"
    return "over TLS" if tls else "in plaintext (no --root-certificate)"


def _version_step(address: Address, timeout_seconds: float, diagnosis: Diagnosis) -> tuple[Step, tuple[str, ...]]:
    """Ask the server what it is; return the step and, if it failed, the likely causes."""
    try:
        described = describe(address, timeout_seconds)
        protocol = common_protocol((described.protocol_min, described.protocol_max), "server")
    except ConnectError as error:
        return Step(VERSION_STEP, False, error.summary), error.causes or diagnosis.causes
    except (ProtocolError, RefusedError) as error:
        return Step(VERSION_STEP, False, translated(str(error), words_of_a_client())), ()
    return Step(VERSION_STEP, True, _summary(described, protocol)), ()


def _carrier_step(address: Address, timeout_seconds: float) -> tuple[Step, tuple[str, ...]]:
    """Ask for the direct carrier, which is not to be had everywhere; return the step and, if it failed, the causes."""
    dialer = DirectDialer(address)
    try:
        dialer.reach(timeout_seconds)
    except NotDirect as other:
        return Step(CARRIER_STEP, None, f"gRPC only: {other}"), ()
    except ConnectError as error:
        return Step(CARRIER_STEP, False, error.summary), error.causes
    except (CarrierEnded, ProtocolError, RefusedError) as error:
        return Step(CARRIER_STEP, False, str(error)), ()
    finally:
        dialer.close()
    return Step(CARRIER_STEP, True, "answers: each session gets a connection of its own"), ()


def _summary(described: Description, protocol: int) -> str:
    state = ", draining: it takes no new sessions" if described.draining else ""
    return (
        f"remote-gym {described.version}, protocol {protocol}; {described.num_workers} workers, "
        f"{described.envs} of {described.max_envs} environments in {described.sessions} sessions{state}"
    )


def _print_step(step: Step) -> None:
    mark, colour = _MARKS[step.ok]
    padded = f"{mark:<6}"
    print(f"  {step.name + ' ':.<20} {paint(padded, colour, sys.stdout) if colour else padded} {step.detail}")


def _print_causes(causes: tuple[str, ...]) -> None:
    if causes:
        print("\nLikely causes:")
    for cause in causes:
        print(f"  - {translated(cause, words_of_a_client())}")
