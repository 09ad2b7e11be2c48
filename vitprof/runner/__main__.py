"""The runner: read a Plan, load the model, then answer one request at a time until the lease ends.

Between requests the process sleeps in a read: nothing polls or spins while another model is being timed.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import time
import traceback

from vitprof.runner import hold, processor
from vitprof.runner.backends import SMALLER, BackendError, backend_module, is_out_of_memory
from vitprof.runner.energy import source_of
from vitprof.runner.lease import Lease, Wire
from vitprof.runner.options import gpu_index
from vitprof.runner.serve import Server
from vitprof.runner.wire import (
    OUT_OF_MEMORY,
    EndRequest,
    Failure,
    Hold,
    Message,
    Plan,
    line_from_message,
    message_from_line,
)

_HASH_CHUNK_BYTES = 1 << 20


def main() -> None:
    wire = Wire()
    lease = Lease()

    def say(message: Message) -> None:
        wire.write(line_from_message(message))

    stage = "plan"
    try:
        plan = message_from_line(lease.next_line())
        if isinstance(plan, Hold):
            lease.end_after(plan.deadline_s)
            hold.serve(plan, lambda: message_from_line(lease.next_line()), say, lease.end_after)
            return
        if not isinstance(plan, Plan):
            raise BackendError("plan", f"the first message is a {type(plan).__name__}, not a Plan", "upgrade vitprof")
        lease.end_after(plan.deadline_s)
        stage = "load"
        if plan.options.get("cores"):
            # Before the runtime starts threads: they inherit it.
            processor.pin(str(plan.options["cores"]))
        _check_artifact(plan)
        _check_driver(plan)
        backend = backend_module(plan.backend)
        source = source_of(plan) if plan.with_energy else None
        server = Server(plan, backend.load, backend.version(), time.perf_counter_ns, source)
        # No collection may run inside a block; what exists by now lives as long as the process.
        gc.collect()
        gc.freeze()
        gc.disable()
        say(server.ready)
        stage = "run"
        while not isinstance(request := message_from_line(lease.next_line()), EndRequest):
            say(server.answer(request))
        say(server.end())
    except BackendError as error:
        say(Failure(error.stage, str(error), error.remedy, traceback.format_exc(), error.kind))
    except Exception as error:
        # The border of the device: whatever a runtime raises becomes a Failure with its traceback.
        say(failure_from_error(stage, error))


def failure_from_error(stage: str, error: Exception) -> Failure:
    """What whoever measures can do about an error that a runtime or the device raised."""
    text, remedy = f"{type(error).__name__}: {error}", "run again with --debug to see the whole traceback"
    if is_out_of_memory(error):
        return Failure(stage, f"out of memory: {error}", SMALLER, traceback.format_exc(), OUT_OF_MEMORY)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" (writing {error.filename})" if error.filename else ""
        text, remedy = f"no space is left on the device{where}", "free some there, then run again"
    elif isinstance(error, ImportError):
        remedy = "what the runtime needs is missing there, or made for another machine: install it there anew"
    return Failure(stage, text, remedy, traceback.format_exc())


def _check_driver(plan: Plan) -> None:
    """Before the runtime is imported, which takes seconds and says less clearly what is missing."""
    index = gpu_index(plan)
    if index is not None:
        from vitprof.runner.cuda import driver_facts

        driver_facts(index)


def _check_artifact(plan: Plan) -> None:
    """The file or folder is the one that was exported: a torn copy must not be timed."""
    if not plan.artifact_sha256:
        return
    try:
        found = _sha256(plan.artifact)
    except OSError as error:
        message = f"cannot read {plan.artifact}: {error.strerror}"
        raise BackendError("load", message, "run again to export it anew") from error
    if found != plan.artifact_sha256:
        raise BackendError(
            "load",
            f"{plan.artifact} has sha256 {found[:12]}…, expected {plan.artifact_sha256[:12]}…",
            f"delete the folder {os.path.dirname(plan.artifact)} and run again",
        )


def _sha256(path: str) -> str:
    """As the host hashes an artifact: of a folder one hash over those of its files, in the order of their paths."""
    if not os.path.isdir(path):
        return _sha256_of_file(path)
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    hashes = [_sha256_of_file(file) for file in sorted(files, key=lambda file: file.split(os.sep))]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _sha256_of_file(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_HASH_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
    # A runtime's threads must not keep the process, nor run destructors that hang.
    os._exit(0)
