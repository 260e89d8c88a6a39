"""A small cluster without Kubernetes: a pod is a network namespace with a cable to a bridge; DNS is Debian's dnsmasq.

What runs in a pod is what the manifests say: their command line, their variables, certificates of the names that they
ask for, in a secret's files. The resolver is asked as in a pod of Kubernetes, by a short name and search domains. Needs
root, iproute2, util-linux and dnsmasq.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from deploy.manifests import KUBERNETES, base, command, files_of, load, mounted, only, variables
from helpers import wait_until

from remote_gym.certificates import Authority

T = TypeVar("T")

NETWORK = "198.18.7"
"""Of the block for tests between networks (RFC 2544); only ever inside the namespaces."""

DOMAIN = "rl.svc.cluster.local"
PORT = 56765
METRICS_PORT = 9464
CLONE_NEWNET = 0x40000000

BY_NAME = pytest.mark.skipif(
    not os.environ.get("REMOTE_GYM_TEST_NAMESPACES"), reason="takes minutes: only by `tox run -e namespaces`"
)
"""Of the tests of which one is enough for every run of all."""

STARTS_SECONDS = 60.0
"""How long a server may take to be ready on a busy machine."""

SERVERS = only(base(), "Deployment")
TRAINER = only(load(KUBERNETES / "trainer.yaml"), "Job")

_serial = itertools.count()


def why_not() -> str | None:
    """Return why there are no namespaces here; None: there are."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    missing = [
        name for name in ("ip", "dnsmasq", "setpriv", "unshare", "mount", "hostname") if shutil.which(name) is None
    ]
    if missing:
        return f"{', '.join(missing)} is not installed (Debian: iproute2, dnsmasq-base, util-linux, hostname)"
    name = f"rg{os.getpid()}try"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    return f"no network namespace can be made: {done.stderr.strip()}" if done.returncode else None


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


@dataclass
class Pod:
    """A namespace with an address, and the process in it."""

    name: str
    address: str
    cable: str  # the bridge's end
    lab: Lab
    process: subprocess.Popen[str] | None = None
    log: Path = field(default_factory=Path)

    @property
    def server(self) -> str:
        return f"{self.address}:{PORT}"

    def start(
        self, line: list[str], environment: Mapping[str, str], bare: bool = True, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command in it; `bare`: without any privilege. It has a /dev/shm, and a host name, of its own."""
        privileges = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"] if bare else []
        script = 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && hostname "$1" && shift && exec "$@"'
        apart = ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-ec", script, "sh", self.hostname]
        command = [*apart, *privileges, *line]
        self.process = subprocess.Popen(command, text=True, env={**os.environ, **environment}, **options)
        return self.process

    @property
    def hostname(self) -> str:
        """What it calls itself."""
        return f"node{self.address.rpartition('.')[2]}"

    def probe(self, path: str) -> int:
        """Ask as kubelet does, from the node; 0: nobody answers."""

        def ask() -> int:
            url = f"http://{self.address}:{METRICS_PORT}{path}"
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with opener.open(url, timeout=5.0) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                error.close()
                return error.code
            except OSError:
                return 0

        return self.lab.from_the_node(ask)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pull_the_cable(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        ip("-n", self.lab.node, "link", "set", self.cable, "down")

    def plug_it_in(self) -> None:
        ip("-n", self.lab.node, "link", "set", self.cable, "up")


class Lab:
    """The cluster. A context manager: at its end nothing of it is left.

    Attributes:
        node: The namespace with the bridge and the DNS server.
        journals: The journal of each server's environments, by the server's address.
    """

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self._folder = folder
        self._prefix = f"rg{os.getpid()}n{next(_serial)}"
        self._numbers = itertools.count(11)
        self._stack = contextlib.ExitStack()
        self.node = f"{self._prefix}node"
        self.pods: list[Pod] = []
        self.journals: dict[str, Path] = {}
        self._hosts = folder / "hosts"
        authority = Authority.new()
        certificates = [one["spec"] for one in base() if one["kind"] == "Certificate"]
        for one in certificates:
            if one.get("isCA"):
                continue
            names = one.get("dnsNames")
            leaf = authority.server(names) if names else authority.client(one["commonName"])
            (secret := folder / one["secretName"]).mkdir()
            (secret / "tls.crt").write_bytes(leaf.certificate)
            (secret / "tls.key").write_bytes(leaf.private_key)
            (secret / "ca.crt").write_bytes(authority.certificate)

    def __enter__(self) -> Lab:
        with contextlib.ExitStack() as stack:
            stack.callback(subprocess.run, ["ip", "netns", "delete", self.node], capture_output=True)
            ip("netns", "add", self.node)
            ip("-n", self.node, "link", "add", "bridge", "type", "bridge")
            ip("-n", self.node, "addr", "add", f"{NETWORK}.1/24", "dev", "bridge")
            for device in ("lo", "bridge"):
                ip("-n", self.node, "link", "set", device, "up")
            self._hosts.touch()
            line = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=", "--pid-file=",
                    "--user=root", "--bind-interfaces", f"--listen-address={NETWORK}.1", "--local=/cluster.local/",
                    "--local-ttl=0", f"--addn-hosts={self._hosts}", "--log-facility=-"]  # fmt: skip
            with open(self._folder / "dnsmasq.log", "w") as log:
                self._dns = subprocess.Popen(["ip", "netns", "exec", self.node, *line], stdout=log, stderr=log)
            stack.callback(end, self._dns)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def from_the_node(self, function: Callable[[], T]) -> T:
        """Call a function in a thread that is in the node's namespace."""
        answer: list[T] = []
        libc = ctypes.CDLL(None, use_errno=True)

        def run() -> None:
            with open(f"/run/netns/{self.node}") as namespace:
                assert libc.setns(namespace.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            answer.append(function())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return answer[0]

    def pod(self) -> Pod:
        """Make one, with nothing in it yet."""
        number = next(self._numbers)
        pod = Pod(f"{self._prefix}p{number}", f"{NETWORK}.{number}", f"cable{number}", self)
        pod.log = self._folder / f"{pod.name}.log"
        resolver = Path("/etc/netns") / pod.name
        with contextlib.ExitStack() as stack:
            stack.callback(subprocess.run, ["ip", "netns", "delete", pod.name], capture_output=True)
            stack.callback(shutil.rmtree, resolver, ignore_errors=True)
            stack.callback(lambda: pod.process and end(pod.process))
            resolver.mkdir(parents=True)
            search = f"search {DOMAIN} svc.cluster.local cluster.local\noptions ndots:5\n"
            (resolver / "resolv.conf").write_text(f"nameserver {NETWORK}.1\n{search}")
            ip("netns", "add", pod.name)
            ip("-n", pod.name, "link", "add", "eth0", "type", "veth", "peer", "name", pod.cable, "netns", self.node)
            ip("-n", pod.name, "addr", "add", f"{pod.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", pod.name, "link", "set", device, "up")
            ip("-n", self.node, "link", "set", pod.cable, "master", "bridge", "up")
            self._stack.push(stack.pop_all())
        self.pods.append(pod)
        return pod

    def secret(self, workload: Any, pod: Pod) -> str:
        """Return the folder of a pod that shows a secret's files as the manifest says."""
        volume = mounted(workload)["/certificates"]
        folder = self._folder / f"{pod.name}-certificates"
        folder.mkdir()
        for path, key in files_of(volume).items():
            shutil.copyfile(self._folder / volume["secret"]["secretName"] / key, folder / path)
        return str(folder)

    def environment(self, workload: Any, pod: Pod) -> dict[str, str]:
        """Return the variables of a pod; only the path of the certificates is another."""
        return {
            name: value.replace("/certificates/", f"{folder}/")
            for folder in [self.secret(workload, pod)]
            for name, value in variables(workload).items()
        }

    def serve(self, entrypoint: str | None = None, kwargs: str | None = None, wait: bool = True) -> Pod:
        """Start a server in a pod of its own, as the Deployment has it; `entrypoint` is the image's user's."""
        pod = self.pod()
        program, serve, hosted = command(SERVERS)
        assert program == "remote-gym"
        settings = self.environment(SERVERS, pod)
        settings["REMOTE_GYM_SERVE_NUM_WORKERS"] = "1"  # of `limits.cpu: 1`
        if kwargs is not None:
            self.journals[pod.server] = journal = self._folder / f"{pod.name}.journal"
            settings["REMOTE_GYM_SERVE_ENTRYPOINT_KWARGS"] = kwargs.replace("JOURNAL", str(journal))
        with open(pod.log, "w") as log:
            line = [sys.executable, "-m", "remote_gym", serve, entrypoint or hosted]
            pod.start(line, settings, stdout=log, stderr=log, cwd=self._folder)
        if wait:
            self.wait_for(pod)
        return pod

    def wait_for(self, *pods: Pod) -> None:
        """Wait until servers are ready, as the readiness probe has it."""
        for pod in pods:
            wait_until(lambda pod=pod: pod.probe("/readyz") == 200, STARTS_SECONDS, pod.log.read_text())

    def publish(self, *pods: Pod) -> None:
        """Let the name have these addresses, and no others."""
        self.record({f"remote-gym.{DOMAIN}": [pod.address for pod in pods]})

    def record(self, names: Mapping[str, Iterable[str]]) -> None:
        """Let these names have these addresses, and all others none."""
        records = [f"{address} {name}\n" for name, addresses in names.items() for address in addresses]
        self._hosts.write_text("".join(records))
        self._dns.send_signal(signal.SIGHUP)


def end(process: subprocess.Popen[Any]) -> None:
    """End a process, at once if it does not end by itself."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with Lab(tmp_path) as lab:
        yield lab
