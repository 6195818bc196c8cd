"""Reads a time a line from standard input, answers with what CudaCards sees then, one JSON object a line."""

from __future__ import annotations

import json
import sys

from jobs.errors import Unavailable
from workers.gpus import CudaCards


def main() -> None:
    cards: CudaCards | None = None
    for line in sys.stdin:
        try:
            cards = cards or CudaCards()
        except Unavailable as error:
            print(json.dumps({"error": str(error)}), flush=True)
            continue
        samples = cards.sample(float(line))
        answer = {
            "infos": {info.uuid: info.model_dump() for info in cards.infos()},
            "samples": {sample.uuid: sample.model_dump() for sample in samples},
        }
        print(json.dumps(answer), flush=True)
    if cards is not None:
        cards.close()


if __name__ == "__main__":
    main()
