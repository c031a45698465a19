"""Print the requirements in pyproject.toml as pip constraints, or write a lock file with hashes.

python .ci/requirements.py lowest            print the lowest version that each requirement allows
python .ci/requirements.py lock FILE         write FILE: one version and its hashes per package of `make setup`
python .ci/requirements.py name              print the name of the lock file for this Python and platform
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
EXTRAS = (
    "dev",
    "docs",
    "export",
    "faces",
    "offline",
    "optuna",
    "joblib",
    "packed",
    "serve",
    "slurm",
)  # installed by `make setup`
TOOLS = ("dev", "docs")  # their lower bounds do not concern users of the package
HEADER = "# Written by `make lock` with {python} on {platform}; the hashes belong to the files for this platform.\n"


def read_requirements() -> dict[str, list[str]]:
    """Return the requirements of the package (key "") and of each extra that `make setup` installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": project["dependencies"], **{extra: project["optional-dependencies"][extra] for extra in EXTRAS}}


def lowest_versions() -> Iterator[str]:
    """Yield `name==version` for each requirement with a lower bound, except for the tools."""
    from packaging.requirements import Requirement  # `name` also runs where packaging is not installed

    for extra, lines in read_requirements().items():
        for requirement in map(Requirement, lines if extra not in TOOLS else []):
            bounds = [each.version for each in requirement.specifier if each.operator in (">=", "==", "~=")]
            if bounds:
                yield f"{requirement.name}=={bounds[0]}"


def locked_versions() -> Iterator[str]:
    """Yield `name==version` with its hashes for each package that pip resolves under the constraints."""
    pip = (sys.executable, "-m", "pip", "lock", "--quiet", "--constraint", str(ROOT / ".ci" / "constraints.txt"))
    with tempfile.TemporaryDirectory() as folder:
        wanted, lock = Path(folder) / "wanted.txt", Path(folder) / "pylock.toml"
        wanted.write_text("\n".join(line for lines in read_requirements().values() for line in lines))
        subprocess.run([*pip, "--requirement", wanted, "--output", lock], check=True)
        packages = tomllib.loads(lock.read_text())["packages"]
    for package in packages:  # without URLs: any mirror serves the same files
        files = package.get("wheels") or [package["sdist"]]
        hashes = sorted(file["hashes"]["sha256"] for file in files)
        yield f"{package['name']}=={package['version']}" + "".join(f" --hash=sha256:{each}" for each in hashes)


def lock_name() -> str:
    """Return the lock's file name, which contains Python version, system and processor: hashes differ between them."""
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    return f"lock-{version}-{sys.platform}-{platform.machine()}.txt"


def main() -> None:
    """Run the subcommand in `sys.argv`."""
    match sys.argv[1:]:
        case ["lowest"]:
            print("\n".join(lowest_versions()))
        case ["lock", path]:
            head = HEADER.format(python=platform.python_version(), platform=platform.platform(terse=True))
            Path(path).write_text(head + "\n".join(locked_versions()) + "\n")
        case ["name"]:
            print(lock_name())
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
