"""How good are generated showers?  Observables, two-sample metrics, classifiers, the leaderboard."""
