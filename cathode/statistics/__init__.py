"""From counts and scores to numbers with uncertainties: p-values, mass fits, efficiencies, SIC, trials,
histograms.
"""
