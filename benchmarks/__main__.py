"""`python -m benchmarks [name…]` runs the named benchmarks, or all: one module and one line here each."""

import sys
from importlib import import_module

from benchmarks.measure import machine

BENCHMARKS = {
    "core": "benchmarks.core",
    "memory": "benchmarks.memory",
    "decode": "benchmarks.decode",
    "indicators": "benchmarks.indicators",
    "latency": "benchmarks.latency",
    "gateway": "benchmarks.gateway",
    "backtest": "benchmarks.backtest",
    "importing": "benchmarks.importing",
    "archiving": "benchmarks.archiving",
    "account": "benchmarks.account",
}
BAD_USE = 2


def main(names: list[str]) -> int:
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"benchmarks: {unknown[0]!r} is none, expected some of {', '.join(BENCHMARKS)}", file=sys.stderr)
        return BAD_USE
    print(machine(), flush=True)
    for name in names or BENCHMARKS:
        import_module(BENCHMARKS[name]).main()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
