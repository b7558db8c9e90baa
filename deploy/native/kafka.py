"""Apache Kafka as one KRaft node, broker and controller, from its jars on Maven Central."""

import contextlib
import hashlib
import os
import re
import signal
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

from deploy.native import cache, java
from deploy.native.ports import HOST, free_port
from deploy.native.server import Server

POM = Path(__file__).with_name("kafka-pom.xml")
LOGGING = Path(__file__).with_name("kafka-log4j2.xml")
CLUSTER_ID = "dGFwZXN0cmVhbS0wMDAwMA"  # base64 of 16 bytes; one node, so it need not differ between clusters
START_LIMIT_S = 60.0  # 3 s measured when new, 5 s after a kill; the rest is for a busy machine
PROBE_S = 1.0

SETTINGS = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",  # 50 by default: 50 files to open at each start, for one broker's few groups
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # After a kill the controller waits until the old session has run out before it lets the broker in again: 12 s with the default of 9 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",  # 3 s by default, which every test with a consumer group would wait
    "auto.create.topics.enable": "false",  # a misspelt topic is an error, not an empty topic
    # 1 MB by default, and a checkpoint of one key with all its waiting rows (4,096) can exceed it. Four leaves room without hiding a
    # record that grew by mistake; clients must raise max_request_size and fetch sizes alike.
    "message.max.bytes": str(4 * 1024 * 1024),
    "replica.fetch.max.bytes": str(4 * 1024 * 1024),
    "log.retention.check.interval.ms": "60000",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),  # 128 MB by default, out of a heap of 512
}


class Kafka(Server):
    """A broker on 127.0.0.1 whose data lies in `directory`; start() after stop() or kill() keeps data and port.

    port 0 takes a free one at the first start. `settings` are added to, and win over, SETTINGS, e.g. {"log.retention.ms": "60000"}.
    """

    def __init__(self, directory: Path, port: int = 0, heap: str = "512m", settings: Mapping[str, str] | None = None) -> None:
        super().__init__("kafka", directory, port)
        self.heap = heap
        self.settings = dict(settings or {})
        self._controller_port = 0

    @property
    def bootstrap(self) -> str:
        """The address for clients, host:port."""
        return f"{HOST}:{self.port}"

    def start(self) -> "Kafka":
        """Start the broker and return when it answers clients."""
        libraries, runtime = fetch(), java.find_java()
        self._prepare()
        self._controller_port = self._controller_port or free_port()
        properties = self.directory / "server.properties"
        properties.write_text(self._properties())
        logging = f"-Dlog4j2.configurationFile={LOGGING.as_uri()}"
        command = [runtime, f"-Xmx{self.heap}", "-XX:+UseSerialGC", logging, "-cp", f"{libraries}/*"]
        if not (self.directory / "data" / "meta.properties").exists():
            cache.run("kafka", [*command, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", properties], limit_s=START_LIMIT_S)
        self._process.start([*command, "kafka.Kafka", properties], lambda: answers(self.port), START_LIMIT_S, cwd=self.directory)
        return self

    def pause(self) -> None:
        """Let the broker hang (SIGSTOP): connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused broker go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _properties(self) -> str:
        own = {
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "log.dirs": str(self.directory / "data"),
        }
        return "".join(f"{name}={value}\n" for name, value in (SETTINGS | own | self.settings).items())


def kafka_version() -> str:
    """Return the version that the pom pins."""
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", POM.read_text())
    assert found, f"{POM} names no kafka.version"
    return found[1]


def part() -> str:
    """Return the name of the broker's folder in the cache."""
    return f"kafka-{kafka_version()}-{hashlib.sha256(POM.read_bytes()).hexdigest()[:8]}"


def fetch() -> Path:
    """Return the folder of the broker's jars (54 MB), fetched once."""
    return cache.fill(part(), _download) / "libs"


def answers(port: int) -> bool:
    """Return whether a broker answers on the port: an ApiVersions request (key 18, version 0), which needs no client library."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), PROBE_S) as connection:
        connection.settimeout(PROBE_S)
        connection.sendall(struct.pack(">i", len(request)) + request)
        return len(connection.recv(8)) > 0
    return False


def _download(target: Path) -> None:
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={target / 'libs'}", "-DincludeScope=runtime"]
    cache.run("kafka", ["mvn", "-q", "-B", "-f", POM, *goal], limit_s=600)
