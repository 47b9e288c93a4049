"""The report: one self-contained page for a person who has to trust the result."""

from sciinv.report.markup import spoken
from sciinv.report.page import write_report
from sciinv.report.parts import Problem

__all__ = ["Problem", "spoken", "write_report"]
