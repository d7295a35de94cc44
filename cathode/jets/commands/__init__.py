"""The commands ``cathode jets …``: what each takes, and what it does; registered in :mod:`cathode.run.cli`."""
