"""A primary and replicas of Redis with a real Sentinel, which makes a replica the primary."""

import subprocess
from pathlib import Path

from tests.support.programs import environment, free_ports, need, until
from tests.support.redis_server import Client, RedisServer, answers

SERVICE = "lab-1"
PASSWORD = "pa55word"
SENTINEL_PASSWORD = "s3ntinel"
"""Another one than that of the servers, as the Sentinels may have."""


class Sentinel:
    """One Sentinel, whose own vote is enough for a failover, of the primary at a port.

    With ``tls``, a certificate and its authority, it connects with TLS and listens at ``tls_port``, too.  A
    failover that takes longer than ``failover_timeout`` is given up, and begun again after twice that time.
    """

    def __init__(self, folder, primary, password="", own_password="", tls=None, failover_timeout=1.0):
        self._program = need("redis-server", "redis-server")
        self.port, self.tls_port = free_ports(2)
        self._own_password = own_password
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"logfile {folder / 'sentinel.log'}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 1",
            f"sentinel down-after-milliseconds {SERVICE} 500",
            f"sentinel failover-timeout {SERVICE} {failover_timeout * 1000:.0f}",
            *([f"sentinel auth-pass {SERVICE} {password}"] if password else []),
            *(_tls_lines(self.tls_port, *tls) if tls else []),
            *([f"requirepass {own_password}"] if own_password else []),
        ]
        self._config = Path(folder) / f"sentinel-{self.port}.conf"
        self._config.write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            [self._program, str(self._config), "--sentinel"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        until(lambda: answers(self.port), "a Sentinel that answers", 20.0)
        self.call("SENTINEL", "DEBUG", "INFO-PERIOD", "200")  # without it a replica is found after 10 s
        self.call(
            "SENTINEL", "DEBUG", "TILT-TRIGGER", "60000"
        )  # it rests for 30 s after it was not run for 2 s

    def call(self, *words):
        """Return the reply to a command."""
        client = Client(self.port)
        try:
            if self._own_password:
                assert client.call("AUTH", self._own_password) == b"OK"
            return client.call(*words)
        finally:
            client.close()

    def primary(self):
        """Return the port of the primary that the Sentinel names."""
        _host, port = self.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(port)

    def has_replica(self):
        """Return whether the Sentinel may make a replica the primary."""
        for fields in self.call("SENTINEL", "REPLICAS", SERVICE):
            found = dict(zip(fields[::2], fields[1::2], strict=True))
            if found[b"flags"] == b"slave" and found[b"master-link-status"] == b"ok":
                return True
        return False

    def stop(self):
        """Kill the program, as SIGKILL does."""
        self.process.kill()
        self.process.wait(20.0)
        self.process.stdout.close()


def _tls_lines(port, own, authority):
    files = {"cert-file": own.path, "key-file": own.key_path, "ca-cert-file": authority.path}
    options = {"port": port, **files, "auth-clients": "no", "replication": "yes"}
    return [f"tls-{name} {value}" for name, value in options.items()]


class ReplicatedRedis:
    """Two servers with a password, the second a replica of the first, and their Sentinel."""

    def __init__(self, folder, failover_timeout=1.0):
        self.servers = []
        for number in range(2):
            (folder / f"redis{number}").mkdir()
            options = ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"]
            if self.servers:
                options += ["--replicaof", "127.0.0.1", str(self.servers[0].port)]
            self.servers.append(RedisServer(folder / f"redis{number}", *options))
        self.sentinel = Sentinel(
            folder, self.servers[0].port, PASSWORD, SENTINEL_PASSWORD, failover_timeout=failover_timeout
        )
        self.wait_for_replica()
        self.password_file = folder / "redis-password"
        self.password_file.write_text(f"{PASSWORD}\n")
        self.sentinel_password_file = folder / "sentinel-password"
        self.sentinel_password_file.write_text(f"{SENTINEL_PASSWORD}\n")

    def wait_for_replica(self):
        """Wait until a failover is possible."""
        until(self.sentinel.has_replica, "a replica that follows the primary", 30.0)

    @property
    def primary(self):
        """The server that the Sentinel names now."""
        port = self.sentinel.primary()
        return next(server for server in self.servers if server.port == port)

    def stop(self):
        """Kill all programs that run."""
        self.sentinel.stop()
        for server in self.servers:
            if server.process.poll() is None:
                server.stop()
