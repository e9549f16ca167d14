"""A process that has imported the package and forks for every command, so that hundreds of them cost one import.

``python tests/forking.py`` reads one job as JSON a line and answers with ``{"code", "out", "err"}``. The child ends as
any interpreter does, with what it does to its streams at its end.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import importlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import warnings
from typing import Any

HEAVY = ("numpy", "scipy.stats", "pandas", "matplotlib.figure", "rich.table", "rmbench.gate",
         "rmbench.export.tables", "rmbench.report.html", "rmbench.report.latex", "rmbench.report.plots")  # fmt: skip
PIPE = 1 << 20
"""Bytes that a pipe holds: no command here says more, so that nobody has to read while it runs."""


class Forking:
    """``Forking().run(args, cwd=..., env=...)``: exit code, standard output, standard error."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, args: tuple[str, ...], **job: Any) -> tuple[int, bytes, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"args": args, **job}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["code"], base64.b64decode(answer["out"]), base64.b64decode(answer["err"]).decode()

    def close(self) -> None:
        self._process.communicate(timeout=60)


def serve() -> None:
    """Until its input ends."""
    import rmbench.cli

    # Modules of a child that runs as another user are read as that user.
    for name in (*HEAVY, *(f"rmbench.cli.{name}_" for name in rmbench.cli.COMMANDS)):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    sys.modules["torch"] = None  # type: ignore[assignment] # seconds for every doctor, who must say that it is broken
    for line in sys.stdin:
        job = json.loads(line)
        pipes = [os.pipe(), os.pipe()]
        for _, write in pipes:
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy has threads, which a child that is about to end does not miss
            pid = os.fork()
        if pid == 0:
            child(job, pipes)
            return
        _, status = os.waitpid(pid, 0)
        said = []
        for read, write in pipes:
            os.close(write)
            with open(read, "rb") as file:
                said.append(base64.b64encode(file.read()).decode())
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "out": said[0], "err": said[1]}), flush=True)


def child(job: dict[str, Any], pipes: list[tuple[int, int]]) -> None:
    """Runs the command in this process, which ends with it. ``stdout`` and ``stderr``: pipe, full, gone or closed."""
    from rmbench.cli import main

    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    for number, name in ((1, "stdout"), (2, "stderr")):
        how = job.get(name, "pipe")
        if how == "closed":
            os.close(number)
            setattr(sys, name, None)
            continue
        if how == "gone":
            read, target = os.pipe()
            os.close(read)
        else:
            target = os.open("/dev/full", os.O_WRONLY) if how == "full" else pipes[number - 1][1]
        os.dup2(target, number)
        encoding = job["env"].get("PYTHONIOENCODING", "utf-8")
        errors = "strict" if number == 1 else "backslashreplace"
        raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
        made = io.TextIOWrapper(raw, encoding=encoding, errors=errors, line_buffering=number == 2)
        setattr(sys, name, made)
    if limit := job.get("limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if job.get("stranger"):
        become_a_stranger()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    tempfile.tempdir = None  # to be found anew, in the environment of the job
    sys.argv = ["rmbench", *job["args"]]
    warnings.simplefilter("error")
    main(job["args"], prog_name="rmbench")


def become_a_stranger() -> None:
    """A user without a name and a home, who may not write what is marked as not to be written, as root may.

    (Not by another uid: the interpreter may lie where only its owner can read it.)
    """
    import ctypes
    import pwd

    def nobody(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    pwd.getpwuid = nobody  # type: ignore[assignment]
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    override = 0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if libc.capget(header, held) == 0:
        for place in range(3):
            held[place] &= ~override
        libc.capset(header, held)


if __name__ == "__main__":
    serve()
