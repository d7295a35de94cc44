"""Classifiers of sets of constituents: permutation invariant transformers on masked points.

========================  ==============================================================================================
``inputs``                :class:`SetInputs`: points, mask, jet numbers, momenta and global columns of many events
``features``              ``constituent_inputs(points, mask, axis)`` for jets and ``event_inputs(...)`` for events of
                          several jets: arrays of (pT, eta, phi) to :class:`SetInputs`
``classifier``            ``SetClassifier(members=1, *, width=64, ..., random_state=0)``: the interface of
                          :mod:`cathode.classifiers.base` on :class:`SetInputs`; kind ``"transformer"`` of the registry
``two_sample``            ``set_c2st(x, y, *, seed, folds=1, settings=None, quick=False) -> C2ST``
``pretraining``           ``pretrain(inputs, folder, ...)``, for ``SetClassifier(pretrained=folder)``; ``pretrained`` is
                          that folder
``network``               the encoder and its head; ``packing`` and ``attention`` are how it avoids padding
``training``              sets as tensors, the loss, and learning rates by layer for :func:`cathode.training.fit`
========================  ==============================================================================================
"""
