"""How long `cct compare` and `cct report` take for many runs, and how large the page is.

    python benchmarks/compare.py [--runs 1000] [--report_runs 150]
"""  # fmt: skip

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import conditions, write
from benchmarks.synthetic_runs import write_runs


def cpu_seconds(*words: str) -> float:
    """Return the CPU time of a whole command, start of Python included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "cct_lightning", *words], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--report_runs", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    measured_on = conditions("pandas", "pyyaml", "scipy", "numpy")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        many, some, page = Path(place, "many"), Path(place, "some"), Path(place, "page.html")
        write_runs(many, count=options.runs, epochs=1, images=0)
        write_runs(some, count=options.report_runs)
        for words, count, limit in (
            (("compare", str(many), "--format=csv"), options.runs, "5 s"),
            (("report", str(some), f"--out={page}"), options.report_runs, "4 s, 2 MB"),
        ):
            seconds = statistics.median(cpu_seconds(*words) for _ in range(options.repeats))
            row = {"what": f"cct {words[0]}, {count} runs of 50 variants", "CPU time, s": round(seconds, 2)}
            size = f"{page.stat().st_size / 1e6:.2f}" if words[0] == "report" else ""
            rows.append({**row, "page, MB": size, "asked, at most": limit})
    notes = (
        f"CPU time of the whole command, start of Python included; median of {options.repeats}. The runs are "
        "synthetic: 100 epochs of metrics and 10,000 test predictions each for the report."
    )
    print(write("compare", "Comparing many runs", notes, rows, measured_on))


if __name__ == "__main__":
    main()
