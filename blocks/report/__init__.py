"""A run's folder to PNGs and one self-contained page."""

from blocks.report.write import write_report

__all__ = ["write_report"]
