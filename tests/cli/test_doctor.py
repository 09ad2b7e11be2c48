from __future__ import annotations

import subprocess
import sys


def test_the_doctor_names_what_works_and_how_steady_the_machine_is() -> None:
    done = subprocess.run([sys.executable, "-m", "vitprof", "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("Python", "torch", "onnxruntime", "processor", "governor", "load", "backend ort", "device local"):
        assert f" {name} " in done.stdout
    assert "the loop adds" in done.stdout and "its blocks spread by" in done.stdout
    # A device that is absent is a doubt with what to write where, not a broken installation.
    assert 'host = "user@server"' in done.stdout
