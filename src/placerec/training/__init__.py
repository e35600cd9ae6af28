"""Two recipes of training; ``placerec.schedule`` states every number with its reason.

``loop`` contains the whole training as in the paper, from photos with positions to a model file.
``datasets`` reads photos and positions. ``mining`` finds triplets. ``network`` turns photos into
descriptors. ``validation`` computes the recall. ``model`` holds the model before and after.

``invariance`` contains the whole training on photos alone, from an ONNX trunk to another one.
``unlabelled`` reads photos and trunk. ``views`` draws the random views. ``trainable`` makes a
PyTorch module of the trunk. ``judge`` says what a trunk finds.

Both share ``checkpoint``, which lets a killed run resume, ``journal`` and ``run_folder``.
"""

from importlib.util import find_spec

from placerec.errors import MissingExtra

if find_spec("torch") is None:
    raise MissingExtra("training", "torch")
