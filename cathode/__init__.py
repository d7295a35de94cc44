"""Model-agnostic resonance searches and background templates on a shared density-estimation core."""
