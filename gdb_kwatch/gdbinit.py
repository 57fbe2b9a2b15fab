"""The one file that .gdbinit sources: builds the objects and connects them to gdb.

source /path/to/gdb_kwatch/gdbinit.py
"""

import os
import sys


def _load() -> None:
    package = os.path.dirname(os.path.realpath(__file__))
    root = os.path.dirname(package)
    if root not in sys.path:
        sys.path.append(root)
    from gdb_kwatch import places

    for folder in places.site_dirs():
        if folder not in sys.path and os.path.isdir(folder):
            sys.path.append(folder)
    from gdb_kwatch.ui import plugin

    plugin.load()


if sys.version_info < (3, 9):  # noqa: UP036 - gdb may embed any Python
    print("kwatch needs a gdb with Python 3.9 or later; this one has " + sys.version.split()[0])
else:
    _load()
del _load
