"""Models: trunk, fitted tensors and settings, as one thing with a name and a fingerprint.

``model`` describes a photo, ``fit`` learns from photos, ``files`` saves and loads, ``named`` reads
what ``--model`` means.
"""
