"""LiteRT.js, the runtime that pages load: fetched by npm, kept in the cache under its version and hash.

    <cache>/litertjs/2.5.3-<hash of both packages>/    the modules, as pages are served them

Its own file because the versions and their hashes stand here and nowhere else. Nothing of it is in vitprof's wheel.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vitprof.errors import UnreachableError, UsageError, VitprofError
from vitprof.folders import made_whole

VERSION = "2.5.3"
# As the npm registry states them (`npm view @litertjs/core@2.5.3 dist.integrity`).
_PACKAGES: Mapping[str, str] = {
    "core": "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    "wasm-utils": "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
}
# Of each package: its own module, and the folder with the compiled runtime.
_MODULE = "dist/index.js"
_WASM_FOLDER = "wasm"
_NPM_TIMEOUT_S = 300
# A worker has no import map: the one bare name in the modules becomes an address.
_BARE_NAME, _ADDRESS = '"@litertjs/wasm-utils"', '"./wasm-utils.js"'


@dataclass(frozen=True)
class LitertJs:
    """Where it lies, flat: `core.js`, `wasm-utils.js` and the files of the compiled runtime."""

    folder: Path
    version: str

    def files(self) -> dict[str, Path]:
        """By their names in addresses; nothing else of the folder is ever served."""
        return {path.name: path for path in self.folder.iterdir() if path.suffix in (".js", ".wasm")}


def litert_js(cache_root: Path, given: Path | None = None) -> LitertJs:
    """LiteRT.js out of the cache, fetched by npm where it is not there; or out of a folder that was `given`.

    `given` is where `npm install @litertjs/core` was run. `UnreachableError` where there is no npm.
    """
    if given is not None:
        return _from_folder(given, cache_root)
    folder = folder_of(cache_root)
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(prefix="vitprof-") as scratch:
            sources = {name: _fetched(name, Path(scratch)) for name in _PACKAGES}
            _keep(sources, folder)
    return LitertJs(folder, VERSION)


def is_ready(cache_root: Path) -> bool:
    return folder_of(cache_root).is_dir()


def folder_of(cache_root: Path) -> Path:
    content = hashlib.sha256("\n".join((_ADDRESS, *_PACKAGES.values())).encode()).hexdigest()[:12]
    return cache_root / "litertjs" / f"{VERSION}-{content}"


def _from_folder(given: Path, cache_root: Path) -> LitertJs:
    roots = (given / "node_modules" / "@litertjs", given / "@litertjs", given)
    root = next((one for one in roots if (one / "core" / _MODULE).is_file()), None)
    if root is None or not (root / "wasm-utils" / _MODULE).is_file():
        raise UsageError(
            f"no LiteRT.js in {given}",
            remedy=f"give the folder where you ran: npm install @litertjs/core@{VERSION}",
            stage="serve",
        )
    sources = {name: root / name for name in _PACKAGES}
    content = hashlib.sha256()
    for name, source in sources.items():
        for path in (source / _MODULE, *sorted((source / _WASM_FOLDER).glob("*"))):
            content.update(f"{name}/{path.name}".encode() + hashlib.sha256(path.read_bytes()).digest())
    try:
        version = str(json.loads((root / "core" / "package.json").read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{root / 'core' / 'package.json'} names no version", remedy="install it again with npm", stage="serve"
        ) from error
    folder = cache_root / "litertjs" / f"given-{content.hexdigest()[:12]}"
    if not folder.is_dir():
        _keep(sources, folder)
    return LitertJs(folder, version)


def _fetched(name: str, scratch: Path) -> Path:
    """The unpacked package `@litertjs/<name>`; the folder holds what npm gave and what its hash vouches for."""
    package = f"@litertjs/{name}@{VERSION}"
    npm = shutil.which("npm")
    if npm is None:
        raise UnreachableError(
            f"browsers need {package}, which npm fetches, and npm is not installed",
            remedy="install Node.js with npm, or give --litert FOLDER: where npm install @litertjs/core was run",
            stage="serve",
        )
    target = scratch / name
    target.mkdir()
    command = [npm, "pack", package, "--silent", "--pack-destination", str(target)]
    try:
        done = subprocess.run(command, cwd=target, capture_output=True, text=True, timeout=_NPM_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _not_fetched(package, str(error)) from error
    [*_, archive] = [None, *target.glob("*.tgz")]
    if done.returncode or archive is None:
        raise _not_fetched(package, (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1])
    digest = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != _PACKAGES[name]:
        raise VitprofError(
            f"{package} has the hash {digest[:23]}…, expected {_PACKAGES[name][:23]}…",
            remedy="check which registry npm asks: npm config get registry",
            stage="serve",
        )
    with tarfile.open(archive) as opened:
        if hasattr(tarfile, "data_filter"):
            opened.extractall(target, filter="data")
        else:
            # Python before 3.11.4, as Debian 12 has it; what is unpacked is known by its hash.
            opened.extractall(target)  # noqa: S202
    return target / "package"


def _not_fetched(package: str, why: str) -> UnreachableError:
    return UnreachableError(
        f"npm could not fetch {package}: {why}",
        remedy="check the network, or give --litert FOLDER: where npm install @litertjs/core was run",
        stage="serve",
    )


def _keep(sources: Mapping[str, Path], folder: Path) -> None:
    """Puts what pages need into `folder`, which appears whole or not at all."""
    with made_whole(folder, "serve") as making:
        for name, source in sources.items():
            text = (source / _MODULE).read_text(encoding="utf-8").replace(_BARE_NAME, _ADDRESS)
            (making / f"{name}.js").write_text(text, encoding="utf-8")
            for path in (source / _WASM_FOLDER).glob("*"):
                shutil.copyfile(path, making / path.name)
