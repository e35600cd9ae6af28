"""The second phase of an evaluation: predictions against the ground truth.

``outcomes`` describes what happened to each query and computes the scores, ``metrics`` defines
every measure, and ``intervals`` estimates its uncertainty.
"""
