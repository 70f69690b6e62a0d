"""Servers on free ports of loopback for the programs that compare leasehold with memcached."""

import os
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path

TWEMPROXY = """\
pool:
  listen: {address}
  hash: one_at_a_time
  distribution: modula
  timeout: 60000
  preconnect: true
  server_connections: 1
  servers:
    - {first}:1
    - {second}:1
"""


class Servers:
    """Programs and a folder for their files. On exit the programs are stopped and the folder is removed."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.programs = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for program in self.programs:
            program.terminate()
        for program in self.programs:
            program.wait()
        self.folder.cleanup()

    def start(self, server, *options):
        """Starts `leasehold` or `memcached`. Returns its address."""
        ports = self.path("ports")

        def address():
            found = ports.exists() and re.search(r"TCP INET6?: (\d+)\n", ports.read_text())
            return found and f"127.0.0.1:{found[1]}"

        here = [] if "-l" in options else ["-l", "127.0.0.1"]
        command = [program(server), "-u", "root", *here, "-p", "-1", *options]
        return self.run(command, address, MEMCACHED_PORT_FILENAME=str(ports))

    def start_unix(self, server, *options):
        """Starts `leasehold` or `memcached` on a Unix socket. Returns its path."""
        path = self.path("socket")
        return self.run([program(server), "-u", "root", "-s", path, *options], lambda: path.is_socket() and str(path))

    def start_twemproxy(self, first, second):
        """Starts a proxy for these two servers, with one connection to each. Returns its address."""
        address, statistics = f"127.0.0.1:{free_port()}", free_port()
        path = self.path("configuration")
        path.write_text(TWEMPROXY.format(address=address, first=first, second=second))
        command = ["/usr/sbin/nutcracker", "-c", path, "-a", "127.0.0.1", "-s", str(statistics), "-o", "/dev/stderr"]
        return self.run(command, lambda: is_listening(address) and address)

    def run(self, command, address, **environment):
        """Starts a program, and waits until `address` returns one."""
        path = self.path("log")
        with open(path, "wb") as log:
            self.programs.append(subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment))
        while not (found := address()):
            if self.programs[-1].poll() is not None:
                raise SystemExit(f"{command[0]} does not start: {path.read_text()}")
            time.sleep(0.01)
        return found

    def path(self, name):
        return Path(self.folder.name, f"{name}{len(self.programs)}")


def program(server):
    return os.environ["LEASEHOLD"] if server == "leasehold" else os.environ.get("MEMCACHED_PROGRAM", server)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def is_listening(address):
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port))).close()
        return True
    except OSError:
        return False
