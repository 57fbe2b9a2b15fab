"""How this machine reaches packages: its apt and pip settings, read so that a root can share them.

No address stands in this repository: the mirror is the one that this machine's own apt uses, or
$KWATCH_MIRROR where that is no Debian.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from collections.abc import Iterable
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

from checkout import processes, say

PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")
# Of apt's own settings only those that say how to fetch; the rest is the root's own affair.
APT_FETCHING = re.compile(r"Acquire::(https?|Retries|Check-|ForceIPv|Languages)\b")
PIP_FETCHING = (
    *("index-url", "extra-index-url", "trusted-host", "proxy"),
    *("cert", "timeout", "default-timeout", "retries"),
)
LOCAL_AUTHORITIES = Path("/usr/local/share/ca-certificates")


@dataclass(frozen=True)
class Repository:
    """One component of one release that apt is set up to use."""

    uri: str
    release: str
    component: str
    origin: str
    label: str


def repositories() -> list[Repository]:
    """What `apt-get indextargets` knows; [] where there is no apt.

    `origin` and `label` are empty until apt-get update has been run.
    """
    fields = ("REPO_URI", "RELEASE", "COMPONENT", "ORIGIN", "LABEL")
    shape = "\t".join(f"$({field})" for field in fields)
    lines = _said(["apt-get", "indextargets", "--format", shape, "Created-By: Packages"])
    rows = [line.split("\t") for line in lines]
    return list(dict.fromkeys(Repository(*row) for row in rows if len(row) == len(fields)))


def mirror() -> str:
    """The Debian mirror to make roots from."""
    if chosen := os.environ.get("KWATCH_MIRROR"):
        return chosen
    known = repositories()
    named = [each.uri for each in known if (each.origin, each.label) == ("Debian", "Debian")]
    alike = [each.uri for each in known if each.uri.rstrip("/").endswith("/debian")]
    for uri in (*named, *alike):
        return uri.rstrip("/")
    raise say.Stop(
        "no Debian mirror stands in this machine's apt sources: name one in $KWATCH_MIRROR",
        say.USER_MUST_ACT,
    )


def proxies() -> dict[str, str]:
    """The proxy variables of this environment."""
    return {name: value for name, value in os.environ.items() if name.lower() in PROXIES}


def lend_network(root: Path) -> None:
    """Let apt and pip inside `root` fetch as this machine's do: names, certificates, settings."""
    for path in ("/etc/hosts", "/etc/resolv.conf"):
        if Path(path).exists():
            _write(root, path, Path(path).read_text(encoding="utf-8"))
    settings = [line for line in _said(["apt-config", "dump"]) if APT_FETCHING.match(line)]
    _write(root, "/etc/apt/apt.conf.d/90host", "\n".join(settings) + "\n")
    for authority in LOCAL_AUTHORITIES.glob("*.crt"):
        _copy(root, str(authority))
    config = pip_config(_said([sys.executable, "-m", "pip", "config", "list"]))
    if config.has_option("global", "cert"):
        _copy(root, config["global"]["cert"])
    with open(root / "etc" / "pip.conf", "w", encoding="utf-8") as file:
        config.write(file)


def pip_config(listed: Iterable[str]) -> ConfigParser:
    """The fetching part of what `pip config list` printed; indexes on this machine's disk left out.

    >>> pip_config(["global.index-url='https://index.example/simple'"])["global"]["index-url"]
    'https://index.example/simple'
    """
    config = ConfigParser(interpolation=None)
    config["global"] = {}
    # ":env:" overrides every file, wherever in the list it stands.
    for line in sorted(listed, key=lambda line: line.startswith(":env:")):
        found = re.match(r"[\w:-]+\.(?P<name>[\w-]+)=(?P<value>['\"].*)$", line)
        if found and found["name"] in PIP_FETCHING:
            words = str(ast.literal_eval(found["value"])).split()
            remote = [word for word in words if not word.startswith("file:")]
            if remote:
                config["global"][found["name"]] = "\n".join(remote)
    return config


def _said(argv: list[str]) -> list[str]:
    if not shutil.which(argv[0]):
        return []
    ended = processes.run(argv, seconds=60)
    return ended.output.splitlines() if ended.fine else []


def _write(root: Path, path: str, text: str) -> None:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # it may be a link to a file of a resolver's
    target.write_text(text, encoding="utf-8")


def _copy(root: Path, path: str) -> None:
    if Path(path).is_file():
        _write(root, path, Path(path).read_text(encoding="utf-8"))
