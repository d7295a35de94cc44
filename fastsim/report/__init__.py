"""Figures and the self-contained HTML page of an evaluation: frozen results in, files out; nothing is computed here."""
