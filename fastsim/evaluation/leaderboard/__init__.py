"""The published results of the CaloChallenge, and where a generator would rank among them."""

from fastsim.evaluation.leaderboard.public import check_public
from fastsim.evaluation.leaderboard.ranking import METRICS, MetricRank, ParetoPosition, Ranking, rank
from fastsim.evaluation.leaderboard.tables import SOURCE, Leaderboard, Submission, leaderboard

__all__ = [
    "METRICS",
    "SOURCE",
    "Leaderboard",
    "MetricRank",
    "ParetoPosition",
    "Ranking",
    "Submission",
    "check_public",
    "leaderboard",
    "rank",
]
