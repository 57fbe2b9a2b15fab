"""kwatch outside gdb: `python3 -m gdb_kwatch VERB`, or `gdb-kwatch VERB` where it is installed.

Only the command line is here; each verb is a module of gdb_kwatch.outside. Nothing but the
standard library is needed.
"""

import sys

if sys.version_info < (3, 9):  # noqa: UP036 - python3 may be any
    sys.exit("kwatch: Python 3.9 or later is needed, this is " + sys.version.split()[0])

from gdb_kwatch.outside.verbs import main

if __name__ == "__main__":
    sys.exit(main())
