"""kwatch in gdb's DAP server (``gdb -i=dap``, gdb 14 and later), for editors.

Each module is named by the protocol noun that it serves.  They import gdb's own ``gdb.dap``, so
nothing here is loaded unless gdb runs as DAP.  What gdb's server has itself stays its own.
"""

from __future__ import annotations

import sys


def running() -> bool:
    """Whether this gdb serves DAP: its interpreter imports the package before any script runs."""
    return "gdb.dap.server" in sys.modules
