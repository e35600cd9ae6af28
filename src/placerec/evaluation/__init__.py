"""How often the right place is found, and how certain that is.

``dataset`` holds the records, which ``layouts`` reads from the files of a data set. ``methods`` and
``searchers`` answer the queries. ``runner`` does the two phases of a run, ``predictions`` is the
file between them, ``run`` is the scored run, and ``run_folder`` its files. ``scoring`` computes the
measures, ``compare`` compares two runs, and ``exchange`` reads and writes other programs' forms.
"""
