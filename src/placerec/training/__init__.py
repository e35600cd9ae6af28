"""Training as the paper has it: photos with positions in, a model file out.

Read ``loop`` first: it is the training on one page. ``schedule`` holds every number with its
reason, ``datasets`` (with ``msls``, ``pittsburgh`` and ``matlab``) reads photos and positions,
``mining`` finds triplets, ``network`` and ``features`` turn photos into descriptors,
``validation`` counts recall, ``checkpoint`` lets a killed run go on to the bit, ``finish`` fits the
PCA and writes the model.
"""

from importlib.util import find_spec

from placerec.errors import MissingExtra

if find_spec("torch") is None:
    raise MissingExtra("training", "torch")
