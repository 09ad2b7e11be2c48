"""Where the program begins, as `vitprof` and as `python -m vitprof`.

Its own file because nothing may be imported before Ctrl-C is heard as people expect it.
"""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line. Ctrl-C while it is still being imported ends the process as the signal does elsewhere."""
    # A shell has programs in the background ignore it, which stays so.
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vitprof import cli

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
