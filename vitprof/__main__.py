"""`python -m vitprof` is the same program as `vitprof`."""

from vitprof.cli import main

if __name__ == "__main__":
    main()
