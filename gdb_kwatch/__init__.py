"""kwatch: hardware watchpoints in gdb that miss no hit.

gdb sources ``gdbinit.py``; ``python3 -m gdb_kwatch`` sets it up.
"""
