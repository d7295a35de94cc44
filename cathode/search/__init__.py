"""Resonance searches: background template, gate, classifier, significance, and what truth says afterwards."""
