"""The paper, one formula group per file: feature map in, similarity of two photos out.

Reading order: ``vlad`` (soft assignment, residuals, the global descriptor), ``patches`` (the same
over p x p windows; ``integral`` is the published way to sum them, for comparison), ``pca`` (the
projection of both), ``local`` (what the default method does with features before ``vlad``),
``matching`` (mutual nearest neighbours of two patch sets), the scorers ``ransac``, ``spatial`` and
``displacement`` (do the matches agree?), ``fusion`` (the scores of several patch sizes as one) and
``ranking`` (the order of the answers).

Everything is NumPy on plain arrays, without state and without files; only ``ransac`` calls OpenCV.
Source: Hausler, Garg, Xu, Milford and Fischer, "Patch-NetVLAD: Multi-Scale Fusion of
Locally-Global Descriptors for Place Recognition", CVPR 2021.
"""
