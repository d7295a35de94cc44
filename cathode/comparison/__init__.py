"""Are two samples drawn from the same distribution?  Classifier tests, marginals, distances; knows no physics."""
