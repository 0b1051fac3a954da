"""`make bench`: every performance figure of the project, each beside its reference in the same run."""

import sys

from benchmarks import explain, ledger, record

REPORTS = {"explain": explain.report, "ledger": ledger.report, "record": record.report}

for name in sys.argv[1:] or REPORTS:
    REPORTS[name]()
