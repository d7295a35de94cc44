"""Figures and the page of an evaluation of jets: frozen results in, files out; nothing is computed here."""
