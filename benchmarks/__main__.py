"""`make bench`: every performance figure of the project, each beside its reference in the same run."""

import sys

from benchmarks import edge, explain, inspection, ledger, outage, record

REPORTS = {
    "explain": explain.report,
    "edge": edge.report,
    "ledger": ledger.report,
    "record": record.report,
    "inspection": inspection.report,
    "outage": outage.report,
}

for name in sys.argv[1:] or REPORTS:
    REPORTS[name]()
