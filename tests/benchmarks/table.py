"""Print the results of a benchmark run (JSON of pytest-benchmark) as a Markdown table."""

from __future__ import annotations

import json
import sys


def main(path: str) -> None:
    """Print one row for each benchmark that recorded a ratio or a figure."""
    with open(path) as stream:
        runs = json.load(stream)["benchmarks"]
    print("| what | this package | raw library | ratio | gate |\n|---|---|---|---|---|")
    for run in runs:
        info = run["extra_info"]
        if "ratio" in info:
            cells = (f"{info['ours_ms']:g} ms", f"{info['raw_ms']:g} ms", f"{info['ratio']:.2f}")
        else:
            cells = (str(info.get("figure", "")), str(info.get("raw_figure", "")), "")
        print(f"| {info.get('what', run['name'])} | {' | '.join(cells)} | {info.get('gate', '')} |")


if __name__ == "__main__":
    main(sys.argv[1])
