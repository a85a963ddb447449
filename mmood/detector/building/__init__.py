"""How detector folders come about: `calibrate` from the settings of a test, `export` as an ONNX graph.

There is nothing to import from here: `calibrate` builds a module as `mmood test` does, which takes seconds of imports
that `export` does not need.
"""
