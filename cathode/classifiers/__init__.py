"""Classifiers of data against a background template: tree and network ensembles, and cross-fitting."""
