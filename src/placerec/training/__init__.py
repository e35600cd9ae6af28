"""Training as in the paper: from photos with positions to a model file.

Read ``loop`` first; it contains the whole training. ``placerec.schedule`` states every number with
its reason. ``datasets`` reads photos and positions. ``mining`` finds triplets. ``network`` turns
photos into descriptors. ``validation`` computes the recall. ``checkpoint`` lets a killed run
resume. ``model`` holds the model before and after the training.
"""

from importlib.util import find_spec

from placerec.errors import MissingExtra

if find_spec("torch") is None:
    raise MissingExtra("training", "torch")
