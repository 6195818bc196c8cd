"""`python -m orchestrator.api.openapi_file [--check]`: the OpenAPI document as a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from orchestrator.api.app import routes
from orchestrator.api.openapi import document

TARGET = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"


def main() -> int:
    """Write the document; with --check, say whether it is up to date."""
    text = json.dumps(document(routes()), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if sys.argv[1:] == ["--check"]:
        fresh = TARGET.exists() and TARGET.read_text(encoding="utf-8") == text
        print(f"{TARGET} is {'up to date' if fresh else 'stale: run `make openapi` and commit it'}")
        return 0 if fresh else 1
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
