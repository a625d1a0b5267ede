"""
A process that forks the programs that tests start.

Most of the time of such a program goes into imports. They are done here once,
and each program begins after them, as a process of its own.
"""

import gc
import importlib
import json
import os
import runpy
import site
import socket
import sys

from typing import Any


#: The most bytes of a request.
LIMIT = 1 << 17


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """
    Fork a process for each request.

    Returns:
        The request, in the new process; `None` at the end.
    """
    while True:
        data, streams, _, _ = socket.recv_fds(connection, LIMIT, 3)
        if not data:
            return None
        read, write = os.pipe()
        middle = os.fork()
        if not middle:
            child = os.fork()
            if child:
                os.write(write, b"%d" % child)
                # The tests adopt the child of a process that has ended.
                os._exit(0)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
        for fd in write, *streams:
            os.close(fd)
        if middle:
            os.waitpid(middle, 0)
            connection.send(os.read(read, 20))
        os.close(read)
        if not middle:
            request: dict[str, Any] = json.loads(data)
            return request


def prepare(request: dict[str, Any]) -> None:
    """Set up what a new interpreter takes from its parent process."""
    if request["start_new_session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if new := [path for path in paths if path and path not in sys.path]:
        sys.path[:0] = new
        sys.modules.pop("sitecustomize", None)
        site.execsitecustomize()
    if request["cwd"] is not None:
        os.chdir(request["cwd"])
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    for number, name, errors in (
        (1, "stdout", "strict"),
        (2, "stderr", "backslashreplace"),
    ):
        stream = open(  # noqa: SIM115
            number,
            "w",
            # A line at a time on stderr and on terminals.
            buffering=1 if number == 2 or os.isatty(number) else -1,
            errors=errors,
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def main() -> None:
    """Serve, and become a program in each new process."""
    if not sys.flags.safe_path:
        # The folder of this file, which is none of a program's.
        sys.path.pop(0)
    fd, *modules = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    # Else a collection would copy all that the processes share.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(fd)) as connection:
        request = serve(connection)
    if request is None:
        return
    prepare(request)
    option, *words = request["words"]
    if option == "-m":
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [option, *words]
        runpy.run_path(option, run_name="__main__")


if __name__ == "__main__":
    main()
