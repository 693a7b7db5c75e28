"""OpenVINO's IR, versions 10 and 11: ``X.bin``, whose tensors are the constants of the ``X.xml`` beside it.

Each ``<layer type="Const">`` says the element type, shape, offset and size of its values, also in the bodies of `If`,
`Loop` and `TensorIterator`. Names are those of the layers. Equal constants share a range: they are one unit. Numbers
are little-endian; types below a byte are units of bytes. What `FakeQuantize` takes, and codes with the scales and zero
points that they are multiplied with and subtracted, are never lossy. Not followed: texts, versions before 10, weights
of another name, and models whose weights are in the XML.
"""
