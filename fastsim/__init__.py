"""Fast calorimeter simulation on the density core of :mod:`cathode`.

Nothing is built here yet: the generators, geometry and evaluation will stand on ``cathode.density`` and
``cathode.training``, which already handle voxel vectors and masked point sets.
"""
