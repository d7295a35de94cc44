"""Generator of dijet events in the LHC Olympics layouts: Pythia 8, a parametric detector, FastJet."""
