"""`python -m bench NAME [--quick] [--json]`: measure posthouse beside its peers and print the ratios."""

import argparse
import importlib
import sys
from collections.abc import Sequence

NAMES = ["smtp", "relay", "queue", "memory", "slow", "imap"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark; 0 when every row met its target."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=NAMES, help="what to measure")
    parser.add_argument("--quick", action="store_true", help="fewer messages and runs; ends within a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(argv)
    report = importlib.import_module(f"bench.{options.name}").measure(quick=options.quick)
    print(report.as_json() if options.json else report.as_table())
    return 0 if all(row.met for row in report.rows) else 1


sys.exit(main())
