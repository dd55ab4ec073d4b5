"""Names for an unlabelled CT: vertebrae and large organs estimated from procedural patients, each with a confidence.

The spine is found first (:mod:`canal`), its vertebrae are told apart by what lies around each (:mod:`levels`), and the
organs of several patients are registered to the scan (:mod:`registration`). What they agree on is believed.
"""
