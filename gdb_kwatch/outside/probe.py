"""Run by gdb itself (`gdb -x probe.py`): prints what its Python is and which libraries it lacks.

It may know nothing but the file of places.py, which it finds by its own location: importing the
package would load kwatch.
"""

from __future__ import annotations

import json
import os
import runpy
import sys

MARK = "kwatch-probe: "
LIBRARIES = ("pygments", "tabulate")


def lacking() -> list[str]:
    """Those of LIBRARIES that cannot be imported, set-up's own folders included."""
    here = os.path.dirname(os.path.realpath(__file__))
    places = runpy.run_path(os.path.join(os.path.dirname(here), "places.py"))
    sys.path.extend(places["site_dirs"]())
    missing = []
    for name in LIBRARIES:
        try:
            __import__(name)
        except Exception:  # a broken library is as good as none
            missing.append(name)
    return missing


if __name__ == "__main__":
    print(MARK + json.dumps({"python": sys.version_info[:2], "lacking": lacking()}))
