#!/usr/bin/env python3
"""One Apache Kafka broker for development, tests and benchmarks: fetched, started and stopped by one command.

    python deploy/kafka/broker.py start      fetch it (once), start it, wait until it answers, tell its address
    python deploy/kafka/broker.py status     is it running? ends with 0 if so, else 3
    python deploy/kafka/broker.py stop       stop it; --wipe deletes what it holds
    python deploy/kafka/broker.py run        start it and stay until Ctrl-C

It needs Java 17 and, the first time, Maven. One JVM in KRaft mode, about 550 MB, listening on loopback only.
Everything it writes is in its folder; nothing but Python's standard library is needed to run this file.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import ctypes
import fcntl
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEFAULT_FOLDER = HERE / ".broker"
DEFAULT_PORT = 19_092
JARS_VARIABLE = "SEGUE_BROKER_JARS"
LISTENERS = ("plaintext", "sasl", "tls")

JAVA_VERSION_MIN = 17
START_SECONDS_MAX = 120  # after kill -9 with 700 MB of log it needed 14
STOP_SECONDS_MAX = 20
LOOPBACK = "127.0.0.1"
PORTS = range(
    20_000, 32_000
)  # below those the system hands out to clients: a port stays free while a broker is down
PORTS_APART = {"plaintext": 0, "controller": 1, "sasl": 2, "tls": 3}
LOG_LINES_SHOWN = 15
_PR_SET_PDEATHSIG = 1
_METADATA = 3  # API key
_RECORD = "broker.json"
# half of the heap for what is new: a collection, which stops the broker for 20 to 40 ms where cores are few, comes
# every ten seconds and not twice a second, and none goes through all of it (100 ms and more)
_STEADY = ("-XX:+UseG1GC", "-XX:NewRatio=1")


class BrokerError(Exception):
    """The broker can't be had; the text says why and what to do."""


class MissingToolError(BrokerError):
    """Java or Maven is not there."""


def java() -> str:
    """Path of a Java that is new enough."""
    home = os.environ.get("JAVA_HOME")
    path = shutil.which("java", path=os.path.join(home, "bin") if home else None) or shutil.which("java")
    how = f"install Java {JAVA_VERSION_MIN} or later (Debian, Ubuntu: apt install openjdk-17-jre-headless)"
    if path is None:
        raise MissingToolError(f"no java found\n  hint: {how}, or set JAVA_HOME")
    told = subprocess.run([path, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    if told.returncode or version is None:
        raise MissingToolError(
            f"{path} does not start: {(told.stderr or told.stdout).strip()[:200]}\n  hint: {how}"
        )
    if int(version[1]) < JAVA_VERSION_MIN:
        raise MissingToolError(f"{path} is Java {version[1]}\n  hint: {how}, or point JAVA_HOME to it")
    return path


def kafka_version() -> str:
    """The version that pom.xml names."""
    found = re.search(r"<kafka\.version>([^<]+)<", (HERE / "pom.xml").read_text(encoding="utf-8"))
    if found is None:
        raise BrokerError(f"{HERE / 'pom.xml'} names no kafka.version")
    return found[1]


def jars() -> Path:
    """Folder of the broker's jars; fetched by Maven if nobody on this machine has had them before."""
    given = os.environ.get(JARS_VARIABLE)
    if given:
        if not list(Path(given).glob("kafka_*.jar")):
            raise BrokerError(
                f'{JARS_VARIABLE} is "{given}": no kafka_*.jar in it\n  hint: unset it to fetch them'
            )
        return Path(given).resolve()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segue"
    folder = cache / f"kafka-{kafka_version()}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingToolError(
            "no mvn found: Maven fetches the broker's jars (43 MB, once)\n"
            f"  hint: install it (apt install maven), or set {JARS_VARIABLE} to a folder that holds them"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=f"{folder.name}.") as scratch:
        print(
            f"fetching Kafka {kafka_version()} with Maven, once (about a minute) …",
            file=sys.stderr,
            flush=True,
        )
        fetched = Path(scratch) / "libs"
        command = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={fetched}", "-DincludeScope=runtime"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not list(fetched.glob("kafka_*.jar")):
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-LOG_LINES_SHOWN:])
            raise BrokerError(
                f"Maven could not fetch the jars:\n{said}\n  hint: is a Maven repository reachable?"
            )
        with contextlib.suppress(OSError):  # somebody else was first
            fetched.rename(folder)
    return folder


def free_port() -> int:
    """The first of four ports in a row that are free, where no client's port can come to lie."""
    for _ in range(1_000):
        port = random.SystemRandom().randrange(PORTS.start, PORTS.stop - len(PORTS_APART))
        if all(_is_free(port + apart) for apart in PORTS_APART.values()):
            return port
    raise BrokerError(f"no four free ports in a row from {PORTS.start} to {PORTS.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Whether the broker at this port tells metadata: itself, and a controller."""
    body = struct.pack(">hhih5si", _METADATA, 1, 1, 5, b"segue", 0)  # version 1, of no topics
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            answer = connection.makefile("rb")
            (length,) = struct.unpack(">i", answer.read(4))
            told = answer.read(length)
        at = 8
        (brokers,) = struct.unpack_from(">i", told, 4)
        for _ in range(brokers):
            (host,) = struct.unpack_from(">h", told, at + 4)
            at += 4 + 2 + host + 4
            (rack,) = struct.unpack_from(">h", told, at)
            at += 2 + max(0, rack)
        (controller,) = struct.unpack_from(">i", told, at)
    except (OSError, struct.error):
        return False
    return brokers >= 1 and bool(controller >= 0)


def _command_of(pid: int) -> str:
    """Command line of a process; empty if there is none, or nothing but its exit code is left of it."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
    told = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
    return subprocess.run(told, capture_output=True, text=True, check=False).stdout


class Broker:
    """A broker in a folder of its own. The folder outlives the process: `start` again resumes what it holds."""

    def __init__(self, folder: str | os.PathLike[str] = DEFAULT_FOLDER) -> None:
        self.folder = Path(folder).resolve()
        self._process: subprocess.Popen[bytes] | None = None

    # what it is

    @property
    def record(self) -> dict[str, Any]:
        """What is kept about it: port, listeners, heap, properties, user and password, process id."""
        try:
            record: dict[str, Any] = json.loads((self.folder / _RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return record

    def _keep(self, **fields: Any) -> None:
        path = self.folder / _RECORD
        descriptor = os.open(path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({**self.record, **fields}, file, indent=2)
        path.with_suffix(".new").rename(path)

    def address(self, listener: str = "plaintext") -> str:
        """host:port of a listener."""
        return f"{LOOPBACK}:{self.record['port'] + PORTS_APART[listener]}"

    @property
    def brokers(self) -> str:
        """host:port of the listener without security."""
        return self.address()

    @property
    def log(self) -> Path:
        """What it said."""
        return self.folder / "broker.log"

    @property
    def ca_file(self) -> Path:
        """The certificate that TLS clients trust."""
        return self.folder / "ca.pem"

    def client_properties(self, listener: str = "plaintext") -> dict[str, str]:
        """What librdkafka needs to reach a listener."""
        properties = {"bootstrap.servers": self.address(listener)}
        if listener == "sasl":
            properties |= {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": self.record["user"],
                "sasl.password": self.record["password"],
            }
        if listener == "tls":
            properties |= {"security.protocol": "SSL", "ssl.ca.location": str(self.ca_file)}
        return properties

    @property
    def pid(self) -> int | None:
        """Of its process, while it lives."""
        if self._process is not None:
            return self._process.pid if self._process.poll() is None else None
        pid = self.record.get("pid")
        if not pid:
            return None
        # the number may have gone to another process since
        return int(pid) if str(self.folder / "server.properties") in _command_of(pid) else None

    @property
    def is_ready(self) -> bool:
        """It lives and answers."""
        return self.pid is not None and answers(self.record["port"])

    # what one does with it

    def create(
        self,
        port: int | None = None,
        listeners: Sequence[str] = (),
        heap: str = "",
        properties: Mapping[str, str] | None = None,
        throughput: bool = False,
    ) -> Broker:
        """Write its settings; what is not given stays as it was. Port 0: free ones.

        throughput  the JVM compiles with all it has, and has room: slower to start, faster and steadier afterwards
        """
        if wrong := set(listeners) - set(LISTENERS):
            raise BrokerError(f'no listener "{min(wrong)}"\n  hint: there are {", ".join(LISTENERS)}')
        if self.folder.is_dir() and any(self.folder.iterdir()) and not self.record:
            raise BrokerError(
                f'"{self.folder}" is not empty and holds no broker\n  hint: choose another --folder'
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        old = self.record
        self._keep(
            port=free_port() if port == 0 else port or old.get("port", DEFAULT_PORT),
            listeners=sorted({"plaintext", *(listeners or old.get("listeners", ()))}),
            heap=heap or old.get("heap", "2g" if throughput else "512m"),
            properties={**old.get("properties", {}), **(properties or {})},
            throughput=throughput or old.get("throughput", False),
            user=old.get("user", "segue"),
            password=old.get("password") or secrets.token_hex(16),
        )
        return self

    def start(self, *, dies_with_parent: bool = False) -> Broker:
        """Start it and wait until it answers.

        dies_with_parent  the system ends it when the thread that started it ends, however that happens (Linux only)
        """
        if not self.record:
            self.create()
        if self.pid is not None:
            raise BrokerError(f"it is running already, at {self.brokers}\n  hint: stop it first")
        record = self.record
        for listener in (*record["listeners"], "controller"):
            if not _is_free(taken := record["port"] + PORTS_APART[listener]):
                raise BrokerError(
                    f"port {taken} ({listener}) is in use\n"
                    "  hint: another broker may be running; choose another --port, or 0 for any that is free"
                )
        binary, libraries = java(), jars()
        if "tls" in record["listeners"]:
            self._make_certificate(binary)
        self._write_properties()
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(binary, libraries)
        heap = record["heap"]
        command = [binary, f"-Xmx{heap}", "-Djava.awt.headless=true"]
        if record["throughput"]:
            command += [f"-Xms{heap}", *_STEADY]
        else:
            command += ["-Xms128m", "-XX:TieredStopAtLevel=1"]
        command += ["-Dorg.slf4j.simpleLogger.showDateTime=true"]
        command += ["-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS"]
        command += ["-cp", f"{libraries}/*", "kafka.Kafka", str(self.folder / "server.properties")]
        if dies_with_parent:
            command = [sys.executable, __file__, "_bound", str(os.getpid()), *command]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        self._keep(pid=self._process.pid)
        self._wait_until_ready()
        return self

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS_MAX
        while not answers(self.record["port"]):
            code = self._process.poll()
            if code is None and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            what = (
                f"ended with code {code}" if code is not None else f"gave no answer in {START_SECONDS_MAX} s"
            )
            if code is None:
                self.kill()
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            raise BrokerError("\n".join([f"the broker {what}; its log {self.log} ends with", *lines]))

    def stop(self) -> bool:
        """End it in order; False if it was not running."""
        pid = self.pid
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
        if not self._gone(STOP_SECONDS_MAX):
            self.kill()
        return True

    def kill(self) -> None:
        """kill -9: as a machine that loses its power, except for what the system still writes."""
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._gone(STOP_SECONDS_MAX)

    def pause(self) -> None:
        """It keeps its connections and answers nothing, until `resume`."""
        if (pid := self.pid) is not None:
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """After `pause`."""
        if (pid := self.pid) is not None:
            os.kill(pid, signal.SIGCONT)

    def wipe(self) -> None:
        """Delete its folder with all it holds."""
        if self.pid is not None:
            raise BrokerError("it is running\n  hint: stop it first")
        if self.record:  # never somebody else's folder
            shutil.rmtree(self.folder)

    def _gone(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    # its files

    def _write_properties(self) -> None:
        record = self.record
        port = record["port"]
        kinds = {"plaintext": "PLAINTEXT", "sasl": "SASL_PLAINTEXT", "tls": "SSL"}
        listeners = [f"{kinds[each]}://{self.address(each)}" for each in record["listeners"]]
        controller = f"{LOOPBACK}:{port + PORTS_APART['controller']}"
        values = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join([*listeners, f"CONTROLLER://{controller}"]),
            "advertised.listeners": ",".join(listeners),
            "listener.security.protocol.map": ",".join(
                [*(f"{kinds[each]}:{kinds[each]}" for each in record["listeners"]), "CONTROLLER:PLAINTEXT"]
            ),
            "log.dirs": str(self.folder / "data"),
            "num.partitions": "4",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # after kill -9 it is let in again when its former self's session is over: 9 s if not said
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
        }
        if "sasl" in record["listeners"]:
            login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            values |= {
                "sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": login,
                # whoever comes by the open listener may do everything, a user only what an ACL allows
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
            }
        if "tls" in record["listeners"]:
            values |= {
                "listener.name.ssl.ssl.keystore.type": "PKCS12",
                "listener.name.ssl.ssl.keystore.location": str(self.folder / "server.p12"),
                "listener.name.ssl.ssl.keystore.password": record["password"],
                "listener.name.ssl.ssl.key.password": record["password"],
            }
        values |= record["properties"]
        text = "".join(f"{name}={value}\n" for name, value in values.items())
        descriptor = os.open(self.folder / "server.properties", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        for listener in set(record["listeners"]) - {"plaintext"}:
            lines = "".join(f"{name}={value}\n" for name, value in self.client_properties(listener).items())
            path = self.folder / f"client-{listener}.properties"
            path.touch(0o600)
            path.write_text(lines, encoding="utf-8")

    def _format(self, binary: str, libraries: Path) -> None:
        identity = "-"
        while identity.startswith("-"):  # it would be read as an option
            identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [binary, "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        command += ["-cp", f"{libraries}/*", "kafka.tools.StorageTool", "format", "-t", identity]
        command += ["-c", str(self.folder / "server.properties")]
        record = self.record
        if "sasl" in record["listeners"]:
            command += ["--add-scram", f"SCRAM-SHA-512=[name={record['user']},password={record['password']}]"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-LOG_LINES_SHOWN:])
            raise BrokerError(f"the broker's folder could not be formatted:\n{said}")

    def _make_certificate(self, binary: str) -> None:
        store = self.folder / "server.p12"
        if self.ca_file.exists():
            return
        tool = shutil.which("keytool", path=str(Path(binary).resolve().parent)) or shutil.which("keytool")
        if tool is None:
            raise MissingToolError("no keytool found\n  hint: it is part of every JDK; set JAVA_HOME to one")
        store.unlink(missing_ok=True)
        password = ["-storetype", "PKCS12", "-keystore", str(store), "-storepass", self.record["password"]]
        names = f"san=ip:{LOOPBACK},dns:localhost"
        make = [tool, "-genkeypair", "-alias", "broker", "-keyalg", "EC", "-groupname", "secp256r1"]
        make += ["-dname", "CN=localhost", "-validity", "3650", "-ext", names, "-ext", "bc:c", *password]
        export = [tool, "-exportcert", "-rfc", "-alias", "broker", "-file", str(self.ca_file), *password]
        for command in (make, export):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BrokerError(
                    f"keytool made no certificate: {(done.stdout + done.stderr).strip()[-300:]}"
                )


def _bound(parent: int, command: list[str]) -> None:
    """Become the command, and end when the process that asked for it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    os.execv(command[0], command)


@contextlib.contextmanager
def used(path: Path) -> Iterator[None]:
    """A shared lock on a file: see `run --while-used`. The system takes it back from a process that dies."""
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def _stay(broker: Broker, used_path: str | None) -> None:
    """Until a signal, the broker's own end, or until nobody uses it."""
    ended = [False]

    def end(number: int, frame: Any) -> None:
        ended[0] = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    while not ended[0] and broker.pid is not None:
        time.sleep(0.2)
        if used_path is not None:
            with open(used_path, "a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                # held until it is gone: who wants to use it waits, and starts another
                broker.kill()
                broker.wipe()
                return
    if not broker.stop():
        raise BrokerError(f"the broker ended; its log is {broker.log}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="broker.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="start|stop|status|run")
    for name, text in (
        ("start", "start it and come back"),
        ("run", "start it and stay"),
        ("stop", "stop it"),
        ("status", "tell whether it runs"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--folder", default=str(DEFAULT_FOLDER), help="all it writes; beside this file if not given"
        )
        if name == "stop":
            command.add_argument("--wipe", action="store_true", help="delete what it holds")
        if name in ("start", "run"):
            command.add_argument(
                "--port",
                type=int,
                help=f"{DEFAULT_PORT} or what it had; 0: any; the next three are the controller's, SASL's, TLS's",
            )
            command.add_argument(
                "--listeners", default="", help="plaintext (always), sasl, tls; with commas between"
            )
            command.add_argument(
                "--heap", default="", help="of the JVM; 512m if not given, 2g with --throughput"
            )
            command.add_argument(
                "--throughput", action="store_true", help="slower to start, faster and steadier afterwards"
            )
            command.add_argument(
                "--set", action="append", default=[], metavar="NAME=VALUE", help="a property of the broker"
            )
        if name == "run":
            command.add_argument(
                "--while-used",
                metavar="FILE",
                help="kill and wipe it when no process has a shared lock on FILE",
            )
    return parser


def _told(broker: Broker, running: str) -> str:
    lines = [f"brokers: {broker.brokers}  ({running})"]
    for listener in broker.record["listeners"]:
        if listener != "plaintext":
            path = broker.folder / f"client-{listener}.properties"
            lines.append(f"{listener}: {broker.address(listener)}  (a client's properties: {path})")
    where = "" if broker.folder == DEFAULT_FOLDER else f" --folder {broker.folder}"
    lines.append(f"stop it: python {os.path.relpath(__file__)} stop{where}   (--wipe deletes what it holds)")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["_bound"]:
        _bound(int(given[1]), given[2:])
        return 1
    options = _parser().parse_args(given)
    broker = Broker(options.folder)
    try:
        if options.command == "status":
            if not broker.is_ready:
                print("it does not answer" if broker.pid else "not running")
                return 3
            print(_told(broker, f"process {broker.pid}"))
        elif options.command == "stop":
            print("stopped" if broker.stop() else "not running")
            if options.wipe:
                broker.wipe()
                print("wiped")
        else:
            if broker.pid is not None and broker.is_ready and options.command == "start":
                print(_told(broker, "it was running already"))
                return 0
            if wrong := [each for each in options.set if "=" not in each]:
                raise BrokerError(f'--set "{wrong[0]}" is not NAME=VALUE')
            properties = dict(each.split("=", 1) for each in options.set)
            listeners = [each for each in options.listeners.split(",") if each]
            broker.create(options.port, listeners, options.heap, properties, options.throughput)
            broker.start(dies_with_parent=options.command == "run")
            print(_told(broker, f"process {broker.pid}"), flush=True)
            if options.command == "run":
                _stay(broker, options.while_used)
    except BrokerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
