"""An Android device for one process alone: its lock, and its screen at a known point, both given back whatever happens.

Its own file because both belong to a script that lives on the device: it sleeps in a read of its standard input and
puts everything back when that ends, be it by vitprof's own will, by Ctrl-C, by a crash of the computer or a pulled
cable. The lock is the kernel's, on an open file; a device without `flock` is used without one.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from vitprof.devices.adb_client import Adb, Running
from vitprof.devices.android_facts import FACTS_ARGUMENTS, FACTS_SCRIPT, environment_from_text
from vitprof.devices.transports import RunnerFailed
from vitprof.errors import VitprofError
from vitprof.runner.hold import IN_USE_STAGE
from vitprof.runner.wire import Facts, FactsRequest, Failure, Hold, Message

_HELD, _BUSY, _WITHOUT = "== vitprof held", "== vitprof busy", "== vitprof without a lock"
_POLL_S = 0.02
# $1 the lock's file, $2 who asks, $3 seconds until it is given back unless it is renewed, $4 `look` or `hold`.
# No HUP: adbd sends it when the link is cut, before what is to be put back is. `9>&9`: Android's shell does not give
# an open file of its own to a program unless told.
_SCRIPT = r"""
trap '' HUP
exec 3<&0 </dev/null
mkdir -p "${1%/*}"
if command -v flock >/dev/null; then
  exec 9>>"$1"
  if ! flock -n 9 9>&9; then echo '== vitprof busy'; cat "$1"; exit 0; fi
else
  echo '== vitprof without a lock'
fi
if [ "$4" = look ]; then echo '== vitprof held'; exit 0; fi
printf '%s\n' "$2" >"$1"
stay=$(settings get global stay_on_while_plugged_in 2>/dev/null)
awake=$(dumpsys power 2>/dev/null | grep -m1 -o 'mWakefulness=[A-Za-z]*')
if [ -n "$stay" ]; then svc power stayon true; fi
case $awake in *Asleep|*Dozing) input keyevent KEYCODE_WAKEUP ;; esac
echo '== vitprof held'
# Android's shell can be told how long to wait for a line.
renewed() { if [ -n "$KSH_VERSION" ]; then read -t "$1" -r line <&3; else read -r line <&3; fi; }
while renewed "$3"; do :; done
case $stay in
  '') ;;
  null) settings delete global stay_on_while_plugged_in ;;
  *) settings put global stay_on_while_plugged_in "$stay" ;;
esac
case $awake in *Asleep|*Dozing) input keyevent KEYCODE_SLEEP ;; esac
: >"$1"
"""


class AdbHold:
    """Answers a Hold; the device is given back with `close`, or when this process ends."""

    def __init__(self, adb: Adb, task: Hold, lock: str, runtimes: dict[str, str | None]) -> None:
        self._adb = adb
        self._task = task
        self._runtimes = runtimes
        self._has_answered = False
        self._requests: deque[FactsRequest] = deque([FactsRequest()])
        mode = "look" if task.only_look else "hold"
        # Whole seconds: not every `timeout` takes fractions.
        limit = str(max(1, round(task.deadline_s)))
        self._running: Running = adb.start(_SCRIPT, lock, one_line(task.who), limit, mode)

    def send(self, message: Message) -> None:
        if isinstance(message, FactsRequest):
            self._running.renew()
            self._requests.append(message)

    def receive(self, timeout_s: float) -> Message:
        held_by = None if self._has_answered else self._taken(timeout_s)
        self._has_answered = True
        if not self._task.only_look and self._running.is_over:
            raise self._failed("the device was given back: the link to it was cut, or its time was over")
        try:
            environment = facts(self._adb)
        except VitprofError as error:
            self.close()
            raise RunnerFailed(Failure("device", error.message, error.remedy)) from error
        if held_by:
            environment["held_by"] = held_by
        if self._requests.popleft().with_runtimes:
            environment["runtimes"] = self._runtimes
        return Facts(environment)

    def close(self) -> None:
        self._running.close()

    def _taken(self, timeout_s: float) -> str | None:
        """Who else has it, where that is only looked for; a Failure where it is wanted."""
        end_s = time.monotonic() + timeout_s
        while not self._is_decided():
            if time.monotonic() > end_s:
                raise self._failed(f"no answer within {timeout_s:g} s")
            time.sleep(_POLL_S)
        text = self._running.text
        if _BUSY in text:
            who = one_line(text.partition(_BUSY)[2]) or "a process that does not say who it is"
            if self._task.only_look:
                return f"by {who}"
            self.close()
            raise RunnerFailed(Failure(IN_USE_STAGE, f"in use by {who}", "wait until it is free, or end that process"))
        if _HELD not in text:
            raise self._failed(f"cannot be held: {one_line(text) or 'not a word'}")
        return None

    def _is_decided(self) -> bool:
        # A busy one's holder stands after the word: complete when the script has ended.
        return _HELD in self._running.text or self._running.is_over

    def _failed(self, why: str) -> RunnerFailed:
        self.close()
        return RunnerFailed(Failure("device", f"Android device {self._adb.serial}: {why}", "look with: adb devices"))


def facts(adb: Adb) -> dict[str, Any]:
    """How the device stands; `UnreachableError` where it is gone."""
    return environment_from_text(adb.shell(FACTS_SCRIPT, *FACTS_ARGUMENTS).stdout)


def one_line(text: str) -> str:
    """Of a text from outside its words, in one line of bearable length."""
    return " ".join(text.split())[:200]
