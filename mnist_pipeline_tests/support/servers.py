"""Real servers on loopback and the processes of a deployment; for tests and for benchmarks.

PostgreSQL, Redis, workers, daemon, code server and webserver, each with a folder of its own, as
`deploy/` configures them. Plain context managers: whatever they started is gone at their end.
"""

import contextlib
import datetime as dt
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mnist_pipeline.config.settings import PROJECT
from mnist_pipeline_tests.support.processes import Processes
from mnist_pipeline_tests.support.webserver import Webserver, until

DEPLOY = PROJECT / "deploy"
PASSWORD = "s3cret-of-the-tests"
QUICK: dict[str, dict[str, Any]] = {
    "run_coordinator": {"config": {"dequeue_interval_seconds": 1}},
    "run_monitoring": {
        "poll_interval_seconds": 1,
        "start_timeout_seconds": 60,
        "cancel_timeout_seconds": 10,
    },
}
"""What the tests have no patience for."""


def missing() -> str | None:
    """Name the servers that are not installed, or return None."""
    wanted = {"PostgreSQL (initdb)": _postgres_bin(), "redis-server": shutil.which("redis-server")}
    absent = [name for name, found in wanted.items() if not found]
    return f"not installed: {', '.join(absent)}" if absent else None


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def self_signed(folder: Path, host: str = "localhost") -> Path:
    """Write a certificate of a host and its key into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file = folder / f"{host}.pem"
    file.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, *plain))
    return file


@dataclass
class Server:
    """A server process that can be stopped, killed and started again where it was.

    `url` is what clients need.
    """

    url: str
    port: int
    command: list[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._answers, seconds=30, pause=0.05)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Stop it, by default as a machine does that loses its power."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, how)
            self.process.wait(30)

    def log(self) -> str:
        """What it has printed."""
        return (self.folder / "log").read_text(errors="replace")

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True


class _Postgres(Server):
    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Crash it: its children, which are no group of its own, end with it."""
        super().stop(how)

    def _answers(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self.url.replace("+psycopg2", "")).close()
        except psycopg2.Error:
            return False
        return True


@contextlib.contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def postgres() -> Iterator[Server]:
    """Run a PostgreSQL server with one user, one password and the database `dagster`."""
    programs = _postgres_bin()
    assert programs is not None
    # it refuses to be root's, and no other user may look into pytest's folders
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    try:
        password = folder / "password"
        password.write_text(PASSWORD)
        if as_user:
            shutil.chown(folder, "postgres", "postgres")
            shutil.chown(password, "postgres", "postgres")
        data, port = folder / "data", free_port()
        made = [f"--pgdata={data}", "--username=dagster", f"--pwfile={password}", "--no-sync"]
        subprocess.run(
            [*as_user, f"{programs}/initdb", *made, "--auth=scram-sha-256", "--locale=C.UTF-8"],
            cwd=folder,
            capture_output=True,
            check=True,
            timeout=60,
        )
        settings = {"port": port, "listen_addresses": "127.0.0.1", "fsync": "off"}
        settings |= {"unix_socket_directories": "", "synchronous_commit": "off"}
        options = [f"-c{name}={value}" for name, value in settings.items()]
        server = _Postgres(
            f"postgresql+psycopg2://dagster:{PASSWORD}@127.0.0.1:{port}/postgres",
            port,
            [*as_user, f"{programs}/postgres", "-D", str(data), *options],
            folder,
        )
        with _running(server):
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[Server]:
    """Run a Redis server that keeps what it has over a restart."""
    folder.mkdir(parents=True)
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes"]
    command = ["redis-server", *options, "--requirepass", PASSWORD]
    with _running(Server(f"redis://:{PASSWORD}@127.0.0.1:{port}/0", port, command, folder)) as it:
        yield it


@contextlib.contextmanager
def s3(folder: Path, bucket: str = "digits") -> Iterator[Server]:
    """Run moto's S3 server with a bucket; `url` is the endpoint."""
    import boto3

    folder.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(Server(f"http://127.0.0.1:{port}", port, command, folder)) as it:
        client = boto3.client("s3", endpoint_url=it.url, region_name="us-east-1", **S3_KEYS)
        client.create_bucket(Bucket=bucket)
        yield it


S3_KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


@dataclass
class Machine:
    """A machine of the deployment: a working directory and a DAGSTER_HOME, and its processes."""

    folder: Path
    environment: dict[str, str]
    started: list[Server] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return Path(self.environment["DAGSTER_HOME"])

    def start(self, name: str, *command: str, port: int = 0) -> Server:
        """Start a Python module with arguments; with a port, return when it listens there."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        line = [sys.executable, "-m", *command]
        server = _Process("", port, line, folder, self.environment)
        self.started.append(server)
        server.start()
        return server

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `mnist-pipeline` here, forked."""
        commands = self.folder / "commands" / uuid.uuid4().hex
        command = Processes(commands, self.environment).start(*arguments)
        status = command.status()
        return subprocess.CompletedProcess(list(arguments), status, command.out, command.err)


class _Process(Server):
    def _answers(self) -> bool:
        return self.port == 0 or super()._answers()


@dataclass
class Deployment:
    """Machines that share a PostgreSQL server, a Redis server and a store, and nothing else.

    Parameters
    ----------
    folder : Path
        Where their folders go.
    variables : mapping
        Settings of all of them: MNIST_DATA_DIR, MNIST_PARAMS, the store's credentials.
    patience : mapping
        What to change in `deploy/dagster.yaml`: by section, values by key.
    """

    folder: Path
    history: Server
    broker: Server
    variables: Mapping[str, str]
    slots: int = 2
    patience: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: QUICK)
    machines: list[Machine] = field(default_factory=list)

    def machine(self, name: str, **variables: str) -> Machine:
        """Set up a machine: nothing of it is another's."""
        folder = self.folder / name
        home = folder / "home"
        home.mkdir(parents=True)
        config = yaml.safe_load((DEPLOY / "dagster.yaml").read_text("utf-8"))
        for section, values in self.patience.items():
            for key, value in values.items():
                here = config[section].get(key)
                config[section][key] = here | value if isinstance(here, dict) else value
        (home / "dagster.yaml").write_text(yaml.safe_dump(config), "utf-8")
        inherited = {name: os.environ[name] for name in os.environ if name.startswith("OPENBLAS_")}
        machine = Machine(
            folder,
            inherited
            | {
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                "HOME": str(folder),
                "PYTHONPATH": f"{PROJECT}:{DEPLOY}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "DAGSTER_HOME": str(home),
                "MNIST_POSTGRES_URL": self.history.url,
                "MNIST_BROKER_URL": self.broker.url,
                "MNIST_WORKER_SLOTS": str(self.slots),
            }
            | dict(self.variables)
            | variables,
        )
        self.machines.append(machine)
        return machine

    def worker(self, name: str, *options: str, **variables: str) -> Server:
        """Start a worker with one process on a machine of its own."""
        command = ["celery", "-A", "dagster_celery.app", "worker", "--hostname", f"{name}@%h"]
        options = ("--queues", "dagster", "--concurrency", "1", "--loglevel", "INFO", *options)
        server = self.machine(name, **variables).start("worker", *command, *options)
        until(lambda: " ready." in server.log(), seconds=60, pause=0.1)
        return server

    @contextlib.contextmanager
    def head(self) -> Iterator[Webserver]:
        """Run code server, daemon and webserver on a machine of their own."""
        head = self.machine("head")
        code, port = free_port(), free_port()
        workspace = head.folder / "workspace.yaml"
        at = {"host": "127.0.0.1", "port": code, "location_name": "mnist_pipeline"}
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": at}]}))
        module = ["-m", "mnist_pipeline.definitions", "--location-name", "mnist_pipeline"]
        head.start(
            "code", "dagster", "code-server", "start", *module,
            "--host", "127.0.0.1", "--port", str(code),
        )  # fmt: skip
        head.start("daemon", "dagster._daemon", "run", "--workspace", str(workspace))
        ui = head.start(
            "webserver", "dagster_webserver", "--host", "127.0.0.1", "--port", str(port),
            "--workspace", str(workspace),
        )  # fmt: skip
        webserver = Webserver(port, ui.folder / "log")
        until(webserver.repository)
        yield webserver

    def stop(self) -> None:
        """Kill every process of every machine."""
        for machine in self.machines:
            for process in machine.started:
                process.stop()


@contextlib.contextmanager
def deployment(
    folder: Path, variables: Mapping[str, str], slots: int = 2, **more: Any
) -> Iterator[Deployment]:
    """Run PostgreSQL and Redis, and stop what is started on top of them at the end."""
    with postgres() as history, redis(folder / "redis") as broker:
        deployed = Deployment(folder, history, broker, variables, slots, **more)
        try:
            yield deployed
        finally:
            deployed.stop()


def _postgres_bin() -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: one.parts[4])
    beside = shutil.which("initdb")
    return str(found[-1].parent) if found else str(Path(beside).parent) if beside else None


def processes_of(server: Server) -> list[int]:
    """Return the process ids below a server's, its workers' forks."""
    assert server.process is not None
    parent = server.process.pid
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in text.split()]


def eventually(text: str, server: Server, seconds: float = 60) -> None:
    """Wait until a server has printed something."""
    until(lambda: text in server.log(), seconds=seconds, pause=0.1)
