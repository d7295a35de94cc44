"""Figures and the self-contained HTML page of a search: frozen results in, files out; nothing is computed here.

``cathode.report.figures`` draws, ``cathode.report.html`` writes the page, and ``cathode.report.page`` is the toolkit
without any physics that other reports build on.
"""
