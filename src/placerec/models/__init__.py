"""Models: a trunk, fitted tensors and settings, with a name and a fingerprint.

``model`` describes a photo, ``fit`` learns from feature maps, ``photo_source`` reads photos for
both, ``model_file`` saves and loads, ``checkpoints`` reads and writes the published files
(``tensors`` checks the content of both), ``resolve`` says what ``model`` means.
"""
