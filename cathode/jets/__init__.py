"""Jets: clustering, substructure, features from raw particles, and a generator of LHC Olympics-like events."""
