"""How often the right place is found: a data set, its ground truth, recall.

``dataset`` reads a folder, ``metrics`` counts, ``evaluate`` runs a model over it, exactly as an
index of the database photos would be built and queried.
"""
