"""The paper, one formula group per file: feature map in, similarity of two photos out.

Reading order: ``vlad``, ``patches`` (with ``integral``), ``pca``, ``local``, ``matching``, the
scorers ``ransac`` (with ``consensus``), ``spatial`` and ``displacement``, ``fusion``, ``ranking``.
Everything is NumPy on plain arrays, without state and without files; only ``ransac`` calls OpenCV,
and ``consensus`` is compiled by Numba.

Source: Hausler, Garg, Xu, Milford and Fischer, "Patch-NetVLAD: Multi-Scale Fusion of
Locally-Global Descriptors for Place Recognition", CVPR 2021.
"""
