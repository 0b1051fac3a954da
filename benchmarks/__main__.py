"""`make bench`: every performance figure of the project, each beside its reference in the same run."""

from benchmarks import explain

explain.report()
