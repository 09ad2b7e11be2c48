"""The program that runs on the device.

Standard library and one runtime, Python 3.9 syntax, no other vitprof package: it is shipped as a zip to boards
that have nothing of vitprof. Read `__main__.py`, then `loop.py`.
"""
