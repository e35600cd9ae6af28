"""How often the right place is found, and how sure that is.

Read in this order:

1. ``dataset``       the records: photos, who answers whom, by which protocol (and its hash)
2. ``datasets``      a layout a file, from a folder to these records; ``places``: who is near whom
3. ``lists``         which queries are asked; distractors; ``leakage``: queries in the database
4. ``methods``       by name: what makes the shortlist, what re-ranks it; ``engines`` do it
5. ``evaluate``      the two phases; ``predictions``: the file between them; ``identity``: what a
                     run rests on; ``run``: what it says of itself
6. ``scoring``       what each answer was worth; measures, intervals, comparison of runs
7. ``results``       a run's folder; ``report``: its page; ``exchange``: other programs' forms
"""
