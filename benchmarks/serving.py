"""
The other side: nginx with a static answer, or our own server.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import trustme

from .contenders import Target
from .report import ROOT
from .server import BODY


# Debian 12 and later keep the program in `nginx`, on which `nginx-light`
# depends; before, in `nginx-light` itself.
_PACKAGES: Final = ("nginx", "nginx-light")
_NGINX: Final = """
daemon off;
pid {home}/pid;
error_log {home}/log crit;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  default_type application/json;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  ssl_certificate {certificate};
  ssl_certificate_key {certificate};
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{tls} ssl;
    location / {{ return 200 '{body}'; }}
  }}
}}
"""


@attrs.frozen(kw_only=True)
class Service:
    """
    A running server.

    Attributes:
        name: Which, for the report.
        plain: Its address without TLS.
        tls: With TLS.
    """

    name: str
    plain: Target
    tls: Target


@contextmanager
def serve() -> Iterator[Service]:
    """Run nginx where it can be had, else our own server."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        home = Path(name)
        certificate, ca_file = _write_certificates(home)
        nginx = _find_nginx(home)
        running = (
            _run_ours(certificate, ca_file)
            if nginx is None
            else _run_nginx(nginx, home, certificate, ca_file)
        )
        with running as service:
            yield service


@contextmanager
def serve_ours(delay: float = 0.0) -> Iterator[Target]:
    """Run our own server, which answers *delay* seconds after a request."""
    with _run_own("--delay", str(delay)) as port:
        yield local_target(port)


def local_target(port: int, ca_file: Path | None = None) -> Target:
    """Return the target at a port of this machine."""
    scheme = "http" if ca_file is None else "https"
    return Target(
        base_url=f"{scheme}://127.0.0.1:{port}/bank-connect",
        ca_file=None if ca_file is None else str(ca_file),
    )


def _write_certificates(home: Path) -> tuple[Path, Path]:
    authority = trustme.CA()
    certificate, ca_file = home / "server.pem", home / "ca.pem"
    authority.issue_cert(
        "127.0.0.1"
    ).private_key_and_cert_chain_pem.write_to_path(str(certificate))
    authority.cert_pem.write_to_path(str(ca_file))
    return certificate, ca_file


@contextmanager
def _run_ours(certificate: Path, ca_file: Path) -> Iterator[Service]:
    with (
        _run_own() as plain,
        _run_own("--certificate", str(certificate)) as tls,
    ):
        yield Service(
            name="the bundled asyncio server (no nginx here)",
            plain=local_target(plain),
            tls=local_target(tls, ca_file),
        )


@contextmanager
def _run_own(*arguments: str) -> Iterator[int]:
    server = Path(__file__).with_name("server.py")
    with run_server(str(server), *arguments) as (process, port):
        yield port
        assert process.stdin is not None
        process.stdin.close()


@contextmanager
def run_server(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a program that prints its port, and serves until stdin ends."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())


@contextmanager
def _run_nginx(
    program: str, home: Path, certificate: Path, ca_file: Path
) -> Iterator[Service]:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=1024) as plain,
        socket.create_server(("127.0.0.1", 0), backlog=1024) as tls,
    ):
        ports = [each.getsockname()[1] for each in (plain, tls)]
        config = home / "nginx.conf"
        config.write_text(
            _NGINX.format(
                home=home,
                certificate=certificate,
                plain=ports[0],
                tls=ports[1],
                body=BODY.decode(),
            )
        )
        # nginx takes over sockets that listen already, as it does when its
        # own program is replaced: no port can be lost to somebody else, and
        # nobody has to wait until it is ready.
        inherited = [each.fileno() for each in (plain, tls)]
        process = subprocess.Popen(
            [
                program,
                "-p",
                str(home),
                "-c",
                str(config),
                "-e",
                str(home / "log"),
            ],
            env=os.environ
            | {"NGINX": "".join(f"{number};" for number in inherited)},
            pass_fds=inherited,
        )
    try:
        yield Service(
            name=_version(program),
            plain=local_target(ports[0]),
            tls=local_target(ports[1], ca_file),
        )
        assert process.poll() is None, (home / "log").read_text()
    finally:
        process.terminate()
        process.wait()


def _version(program: str) -> str:
    done = subprocess.run(
        [program, "-v"], capture_output=True, text=True, check=True
    )
    return done.stderr.strip().removeprefix("nginx version: ")


def _find_nginx(home: Path) -> str | None:
    # Debian keeps it where only root looks.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    return shutil.which("nginx", path=path) or _unpack_nginx(home)


def _unpack_nginx(home: Path) -> str | None:
    """
    Unpack Debian's nginx, which is not installed and needs no rights.

    Installing it would start a server on port 80 of many machines.
    """
    if shutil.which("apt-get") is None:
        return None
    print("benchmarks: no nginx on the PATH, asking Debian for one")
    if not _download(home) and hasattr(os, "geteuid") and os.geteuid() == 0:
        _runs("apt-get", "-qq", "update", cwd=home)
        _download(home)
    for package in home.glob("*.deb"):
        _runs("dpkg-deb", "-x", package.name, ".", cwd=home)
    program = home / "usr/sbin/nginx"
    works = program.exists() and _runs(str(program), "-v", cwd=home)
    return str(program) if works else None


def _download(home: Path) -> bool:
    results = [
        _runs("apt-get", "-qq", "download", name, cwd=home)
        for name in _PACKAGES
    ]
    return any(results)


def _runs(*command: str, cwd: Path) -> bool:
    with contextlib.suppress(OSError):
        done = subprocess.run(
            command,
            cwd=cwd,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode == 0
    return False
