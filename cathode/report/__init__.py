"""Figures and the self-contained HTML page of a search: frozen results in, files out; nothing is computed here.

``cathode.report.figures`` draws and ``cathode.report.html`` writes the page, with the toolkit ``cathode.page``.
"""
