"""The second phase: predictions against the truth.

``outcomes`` says what happened to each query, ``metrics`` defines every measure, ``intervals`` how
sure it is, ``files`` keeps both on disk, ``compare`` tells two runs apart.
"""
