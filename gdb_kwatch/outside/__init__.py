"""What kwatch does outside gdb: set-up, the demo, the tests, the start-up file.

Standard library and gdb_kwatch.places only: this code runs before anything is installed, with
whatever Python 3.9 or later is on PATH, and never inside gdb (probe.py is the one exception).
"""
