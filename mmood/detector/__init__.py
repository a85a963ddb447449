"""What ships: a detector decides whether images belong to the ID classes, outside of any evaluation.

`detector.Detector` takes images and returns `decisions.Decision`. It combines a `manifest.Manifest`, which is what
`detector.json` says, with a `scorer.Scorer`, which computes the scores. Around it:

* `calibration`: from the scores of ID images to a threshold and p-values.
* `backends`: the two scorers, of torch and of onnxruntime.
* `building`: how detector folders come about, by `mmood calibrate` and `mmood export`.
* `detection`: `mmood detect`, from many inputs to a file of decisions.
* `serving`: `mmood serve`, a detector behind HTTP.
* `monitoring`: `mmood monitor`, decisions of today against the calibration.
* `streams`: the same for a score that learns from what it sees; `loading` reads a folder of either kind.
"""
