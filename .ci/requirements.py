"""What pyproject.toml asks for, as pip takes it: all of it, or its lowest versions, or locked with hashes.

python .ci/requirements.py lowest            constraints: the lowest version that each line allows
python .ci/requirements.py lock FILE         FILE: what `make setup` installs, one version and hash each
python .ci/requirements.py name              the name of the lock for this Python and platform
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = ("dev", "offline", "optuna", "joblib", "slurm")  # the extras of `make setup`
FREE = ("dev",)  # of no interest to who uses the package
HEADER = "# Written by `make lock` with {python} on {platform}: hashes are those of the files that fit there.\n"


def asked() -> dict[str, list[str]]:
    """The lines of pyproject.toml: of the package itself ("") and of the extras that are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": project["dependencies"], **{extra: project["optional-dependencies"][extra] for extra in INSTALLED}}


def lowest() -> Iterator[str]:
    """`name==version` for every line that has a floor, but for tools."""
    from packaging.requirements import Requirement  # not there yet in a new environment, which asks for the name alone

    for extra, lines in asked().items():
        for requirement in map(Requirement, lines if extra not in FREE else []):
            floors = [each.version for each in requirement.specifier if each.operator in (">=", "==", "~=")]
            if floors:
                yield f"{requirement.name}=={floors[0]}"


def locked() -> Iterator[str]:
    """`name==version` with its hash for every package that pip resolves under the constraints, as it installs them."""
    pip = (sys.executable, "-m", "pip", "lock", "--quiet", "--constraint", str(ROOT / ".ci" / "constraints.txt"))
    with tempfile.TemporaryDirectory() as folder:
        wanted, lock = Path(folder) / "wanted.txt", Path(folder) / "pylock.toml"
        wanted.write_text("\n".join(line for lines in asked().values() for line in lines))
        subprocess.run([*pip, "--requirement", wanted, "--output", lock], check=True)
        packages = tomllib.loads(lock.read_text())["packages"]
    for package in packages:  # without their addresses: a mirror serves the same files
        files = package.get("wheels") or [package["sdist"]]
        hashes = sorted(file["hashes"]["sha256"] for file in files)
        yield f"{package['name']}=={package['version']}" + "".join(f" --hash=sha256:{each}" for each in hashes)


def name() -> str:
    """Of the lock: a wheel's hash is good for one Python and platform."""
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    return f"lock-{version}-{sys.platform}-{platform.machine()}.txt"


def main() -> None:
    """Do what the first argument says."""
    match sys.argv[1:]:
        case ["lowest"]:
            print("\n".join(lowest()))
        case ["lock", path]:
            head = HEADER.format(python=platform.python_version(), platform=platform.platform(terse=True))
            Path(path).write_text(head + "\n".join(locked()) + "\n")
        case ["name"]:
            print(name())
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
