"""PDF reports for auditors. Builders take frozen content and a path; they know no database."""

from traceai_reports.audit import audit_report
from traceai_reports.decision import decision_report

__all__ = ["audit_report", "decision_report"]
