"""The search on constituents: background events with all their particles, and a classifier that sees them as sets.

It follows the search on features stage by stage.  The density has two parts: kinematics and multiplicities of both jets
given the dijet mass, as a density of vectors in coordinates without edges
(:mod:`cathode.jets.dijets`), and the constituents of a jet given its kinematics and multiplicity
(:mod:`cathode.jets.generators`), both learned in the sidebands.  Generated events have exactly the mass that was
drawn.  What is left between them and sideband data can be taken away by a reweighting that other sideband events judge
(:mod:`cathode.search.constituents.reweighting`).  The gate looks at observables recomputed from the generated
constituents.  Idea: Buhmann et al., "Full phase
space resonant anomaly detection", arXiv 2310.06897.
"""
