"""What every layer may use: errors, progress, threads, seeds, atomic files, provenance.  Imports no other layer."""
