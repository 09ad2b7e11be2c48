"""The runner: read a Plan, load the model, then answer one request at a time until the lease ends.

Between requests the process sleeps in a read: nothing polls or spins while another model is being timed.
"""

from __future__ import annotations

import gc
import hashlib
import os
import time
import traceback

from vitprof.runner.backends import BACKENDS, BackendError, backend_module, is_out_of_memory
from vitprof.runner.lease import Lease, Wire
from vitprof.runner.serve import Server
from vitprof.runner.wire import EndRequest, Failure, Message, Plan, line_from_message, message_from_line

_HASH_CHUNK_BYTES = 1 << 20


def main() -> None:
    wire = Wire()
    lease = Lease()

    def say(message: Message) -> None:
        wire.write(line_from_message(message))

    stage = "plan"
    try:
        plan = message_from_line(lease.next_line())
        if not isinstance(plan, Plan):
            raise BackendError("plan", f"the first message is a {type(plan).__name__}, not a Plan", "upgrade vitprof")
        lease.end_after(plan.deadline_s)
        stage = "load"
        _check_artifact(plan)
        _check_driver(plan)
        backend = backend_module(plan.backend)
        server = Server(plan, backend.load, backend.version(), time.perf_counter_ns)
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
        say(Failure(error.stage, str(error), error.remedy, traceback.format_exc()))
    except Exception as error:
        # The border of the device: whatever a runtime raises becomes a Failure with its traceback.
        if is_out_of_memory(error):
            text = f"out of memory: {error}"
            say(Failure(stage, text, "use a smaller model, --batch or --size", traceback.format_exc()))
            return
        text = f"{type(error).__name__}: {error}"
        say(Failure(stage, text, "run again with --debug to see the whole traceback", traceback.format_exc()))


def _check_driver(plan: Plan) -> None:
    """Before the runtime is imported, which takes seconds and says less clearly what is missing."""
    entry = BACKENDS.get(plan.backend)
    if (entry and entry.needs_nvidia) or str(plan.options.get("device", "")).startswith("cuda"):
        from vitprof.runner.cuda import driver_facts
        from vitprof.runner.options import run_options

        driver_facts(run_options(plan).index)


def _check_artifact(plan: Plan) -> None:
    """The file is the one that was exported: a torn copy must not be timed."""
    if not plan.artifact_sha256:
        return
    digest = hashlib.sha256()
    try:
        with open(plan.artifact, "rb") as file:
            for chunk in iter(lambda: file.read(_HASH_CHUNK_BYTES), b""):
                digest.update(chunk)
    except OSError as error:
        message = f"cannot read {plan.artifact}: {error.strerror}"
        raise BackendError("load", message, "run again to export it anew") from error
    if digest.hexdigest() != plan.artifact_sha256:
        raise BackendError(
            "load",
            f"{plan.artifact} has sha256 {digest.hexdigest()[:12]}…, expected {plan.artifact_sha256[:12]}…",
            f"delete the folder {os.path.dirname(plan.artifact)} and run again",
        )


if __name__ == "__main__":
    main()
    # A runtime's threads must not keep the process, nor run destructors that hang.
    os._exit(0)
