"""Classifiers of data against a template: tree and network ensembles, cross-fitting, and weights for the template."""
