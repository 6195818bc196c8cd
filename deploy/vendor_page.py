"""Fetches what other people wrote for the page, from the npm registry: `python -m deploy.vendor_page`.

Each file is taken as it is published, except that bare names in its imports become paths, for a browser without an
import map knows no others. `vendor.json` lists versions, licences and digests (SHA-256), which
tests/api/edge/test_page.py compares.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "orchestrator" / "web" / "page" / "vendor"
# name: version, files of the package -> here
PACKAGES = {
    "preact": ("11.2.0", {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "hooks.js"}),
    "htm": ("3.1.1", {"dist/htm.mjs": "htm.js"}),
    "@preact/signals-core": ("1.14.5", {"dist/signals-core.mjs": "signals-core.js"}),
    "@preact/signals": ("2.11.4", {"dist/signals.mjs": "signals.js"}),
    "uplot": ("1.6.32", {"dist/uPlot.iife.min.js": "uplot.js", "dist/uPlot.min.css": "uplot.css"}),
}
IMPORTS = {
    "preact": "./preact.js",
    "preact/hooks": "./hooks.js",
    "@preact/signals-core": "./signals-core.js",
}


def main() -> None:
    """Write the folder anew."""
    TARGET.mkdir(exist_ok=True)
    listed, terms = [], ""
    with tempfile.TemporaryDirectory() as scratch:
        for name, (version, files) in PACKAGES.items():
            packed = subprocess.run(
                ["npm", "pack", f"{name}@{version}", "--silent"],
                cwd=scratch,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            with tarfile.open(Path(scratch) / packed) as archive:
                read = {one.name: archive.extractfile(one) for one in archive.getmembers() if one.isfile()}
                told = json.loads(_bytes(read["package/package.json"]))
                licence = next(path for path in read if re.fullmatch(r"package/LICENSE(\.\w+)?", path))
                whose = ""
                if told["license"] == "MIT":
                    whose, text = _parts(_bytes(read[licence]).decode())
                    if terms not in ("", text):
                        raise SystemExit(f"{name}: the words of its licence are others")
                    terms = text
                listed.append(
                    {
                        "name": name,
                        "version": version,
                        "licence": told["license"],
                        "copyright": whose,
                        "files": {
                            here: _write(here, _bytes(read[f"package/{there}"]))
                            for there, here in files.items()
                        },
                    }
                )
    lines = ",\n".join(json.dumps(one) for one in listed)
    (TARGET / "vendor.json").write_text(f'{{"packages": [\n{lines}\n],\n"MIT": {json.dumps(terms)}}}\n')


def _parts(text: str) -> tuple[str, str]:
    """Of an MIT licence: whose copyright it is, and the terms, which are the same for all."""
    head, _, rest = text.partition("Permission is hereby granted")
    (whose,) = re.findall(r"^Copyright .*$", head, re.MULTILINE)
    return whose, " ".join(f"Permission is hereby granted{rest}".split())


def _write(name: str, body: bytes) -> str:
    """Writes a file and returns its digest."""
    text = re.sub(rb"\n?//# sourceMappingURL=.*\n?", b"\n", body)
    for bare, path in IMPORTS.items():
        text = re.sub(
            rb'(from|import)\s*"' + re.escape(bare).encode() + rb'"', rb'\1"' + path.encode() + rb'"', text
        )
    if name == "uplot.js":
        text += b"export default uPlot;\n"
    (TARGET / name).write_bytes(text)
    return hashlib.sha256(text).hexdigest()


def _bytes(found: object) -> bytes:
    assert hasattr(found, "read")
    body: bytes = found.read()
    return body


if __name__ == "__main__":
    main()
