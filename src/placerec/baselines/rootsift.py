"""RootSIFT at keypoints, and densely on a grid at four scales.

Sources: Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004 (OpenCV's
SIFT); Arandjelovic and Zisserman, "Three things everyone should know to improve object retrieval",
CVPR 2012 (RootSIFT). The dense form is that of the program of Torii et al., CVPR 2015, which calls
PHOW of VLFeat 0.9.20 with its defaults. All its numbers are used: bins of 4, 6, 8 and 10 pixels; a
grid of 2 pixels; upright; the photo smoothed by a sixth of a bin; gradients summed under a triangle
of two bins (VLFeat's fast, flat window); the mean of a Gaussian of 1.5 bins as weight of each bin;
values clamped at .2 and kept in whole 512ths. OpenCV's SIFT at so many points takes seconds.

PHOW gives a zero vector for a patch of low contrast. Here such a patch is omitted, so a blank photo
has no descriptor. Needs OpenCV (extra ``paper``).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from placerec.errors import import_extra
from placerec.method.vlad import normalise
from placerec.records import Array

LONGEST_SIDE = 640  # pixels; larger photos are shrunk to it
DEPTH = 128  # values of a descriptor: 4 x 4 bins of 8 directions
SIDE, DIRECTIONS = 4, 8
BIN_SIZES = (4, 6, 8, 10)  # pixels
STEP = 2  # pixels
SMOOTHING = 6  # bin size / standard deviation of the Gaussian that smooths the photo
WINDOW = 1.5  # bins: standard deviation of the Gaussian window
LEAST_CONTRAST = 0.005  # mean gradient of a patch, of pixels in 0..1
LARGEST_SHARE = 0.2  # of one bin in a descriptor of unit length
LEVELS, MOST = 512, 255
FLOOR = 1e-12


def rootsift(histograms: Array) -> Array:
    """Return the square root of the shares of SIFT histograms (N, 128): rows of unit length."""
    shares = np.asarray(histograms, np.float32)
    root: Array = np.sqrt(shares / (shares.sum(axis=1, keepdims=True) + FLOOR))
    return root


def keypoint_rootsift(pixels: Array) -> Array:
    """Return RootSIFT (N, 128) float32 at OpenCV's SIFT keypoints of (H, W, 3) uint8 RGB.

    All keypoints above OpenCV's thresholds, each at its own scale and direction; N may be 0.
    """
    cv2 = import_extra("cv2", "SIFT", "paper")
    _, histograms = cv2.SIFT_create().detectAndCompute(_grey(pixels), None)
    return np.zeros((0, DEPTH), np.float32) if histograms is None else rootsift(histograms)


def dense_rootsift(pixels: Array, bin_size: int) -> tuple[Array, Array]:
    """Return RootSIFT (N, 128) float32 on the grid, and its centres (N, 2) float32, x and y.

    ``pixels`` are (H, W, 3) uint8 RGB. Centres are in pixels of the photo shrunk to 640 pixels; for
    every bin size they begin at (15, 15) and are 2 apart. ``bin_size`` is in pixels, even, at most
    10. N is 0 if the photo is too small for the bins.
    """
    cv2 = import_extra("cv2", "dense SIFT", "paper")
    photo = _grey(pixels).astype(np.float32) / 255
    sigma = bin_size / SMOOTHING
    reach = 2 * int(np.ceil(4 * sigma)) + 1
    border = cv2.BORDER_REPLICATE
    photo = cv2.GaussianBlur(photo, (reach, reach), sigma, borderType=border)
    triangle = 1 - np.abs(np.arange(1 - bin_size, bin_size, dtype=np.float32)) / bin_size
    first = 3 * (max(BIN_SIZES) - bin_size) // 2  # pixel of the first bin's centre
    smoothed = (cv2.sepFilter2D(gradient, -1, triangle, triangle, borderType=border)
                for gradient in _directions(photo))  # fmt: skip
    sums = np.stack([gradient[first::STEP, first::STEP] for gradient in smoothed], axis=-1)
    apart = bin_size // STEP
    span = (SIDE - 1) * apart + 1
    if min(sums.shape[:2]) < span:
        return np.zeros((0, DEPTH), np.float32), np.zeros((0, 2), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(sums, (span, span), axis=(0, 1))
    bins = windows[..., ::apart, ::apart] * _window_weights(bin_size)
    row, column = np.indices(bins.shape[:2], np.float32).reshape(2, -1) * STEP + first
    centres = np.stack([column, row], axis=1) + 1.5 * bin_size
    histograms = bins.reshape(-1, DEPTH)
    contrast = histograms.sum(axis=1) / (bin_size * (SIDE - 1) + 1) ** 2
    visible = contrast >= LEAST_CONTRAST
    clamped = np.minimum(normalise(histograms[visible]), LARGEST_SHARE)
    counts = np.floor(np.minimum(normalise(clamped) * LEVELS, MOST))
    return rootsift(counts), centres[visible]


def _grey(pixels: Array) -> Array:
    """Return the grey photo (h, w) uint8, shrunk to a longer side of at most 640 pixels."""
    photo = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    scale = LONGEST_SIDE / max(photo.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in photo.size)
        photo = photo.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(photo)


def _directions(photo: Array) -> Array:
    """Return gradient lengths, split between the 2 nearest of 8 directions: (8, h, w) float32."""
    shares = np.zeros((DIRECTIONS, *photo.shape), np.float32)
    if min(photo.shape) < 2:
        return shares
    down, right = np.gradient(photo)
    length = np.hypot(right, down)
    angle = np.arctan2(down, right) * np.float32(DIRECTIONS / (2 * np.pi)) % DIRECTIONS
    lower = np.floor(angle)
    upper_share = angle - lower
    number = lower.astype(np.int64) % DIRECTIONS
    for direction in range(DIRECTIONS):
        before = (direction - 1) % DIRECTIONS
        shares[direction] = np.where(number == direction, length * (1 - upper_share), 0)
        shares[direction] += np.where(number == before, length * upper_share, 0)
    return shares


def _window_weights(bin_size: int) -> Array:
    """Return the mean of the Gaussian window on each of the 4 x 4 bins, float32."""
    offset = bin_size * (np.arange(SIDE) - (SIDE - 1) / 2)
    across = np.arange(1 - bin_size, bin_size) - offset[:, None]
    weights = np.exp(-0.5 * (across / (bin_size * WINDOW)) ** 2).mean(axis=1)
    return np.outer(weights, weights).astype(np.float32)
