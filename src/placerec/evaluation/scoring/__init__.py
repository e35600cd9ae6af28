"""The second phase of an evaluation: predictions against the ground truth.

``outcomes`` describes what happened to each query, ``metrics`` defines the measures of rankings and
``confidence`` those of how sure an answer is, ``intervals`` estimates their uncertainty, and
``scores`` computes all of them.
"""
