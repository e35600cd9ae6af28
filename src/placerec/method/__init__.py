"""The paper, one file a formula group: feature map in, similarity of two photos out.

Reading order: ``vlad`` (soft assignment, residuals, the global descriptor), ``patches`` (the same
over p x p windows; ``integral`` is the published way to sum them, for comparison), ``pca`` (both
are projected), ``matching`` (mutual nearest neighbours of two patch sets), the scorers ``ransac``,
``spatial`` and ``displacement`` (do the matches agree?), and ``fusion`` (several patch sizes, one
number). Pure NumPy on plain arrays, no state, no files; ``ransac`` alone calls OpenCV.
Source: Hausler, Garg, Xu, Milford and Fischer, "Patch-NetVLAD:
Multi-Scale Fusion of Locally-Global Descriptors for Place Recognition", CVPR 2021.
"""
